"""Settings come from the environment, and say at once what is wrong with them."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from models.errors import SettingsInvalid
from models.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("PERDURE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def with_(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(f"PERDURE_{name.upper()}", value)
    return Settings()


def test_defaults(tmp_path: Path) -> None:
    settings = Settings()
    assert settings.home == tmp_path / ".perdure"
    assert settings.database_url == f"sqlite:///{tmp_path}/.perdure/perdure.db"
    assert settings.storage_url == f"file://{tmp_path}/.perdure/storage"
    assert settings.data_folder == tmp_path / ".perdure/data"
    assert (settings.lease_seconds, settings.heartbeat_seconds, settings.reconcile_seconds) == (
        15.0,
        5.0,
        2.0,
    )
    assert (settings.stall_seconds, settings.threads, settings.api_keys) == (None, None, ())
    assert settings.downloads and settings.host == "127.0.0.1"


def test_every_field_is_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = with_(
        monkeypatch, home="/h", database_url="postgresql://db/x", broker_url="redis://b", storage_url="file:///s",
        data_root="/d", api_keys="a, b,,c ", downloads="false", host="0.0.0.0", port="0", lease_seconds="30",
        heartbeat_seconds="2.5", reconcile_seconds="1", stall_seconds="7", store_patience_seconds="60",
        device="cpu", threads="3",
        loading_workers="2", start_method="spawn", drills="true", uploads_root="/u", max_upload_bytes="9",
        max_queued_jobs="8", max_stored_bytes="9000000000", requests_per_minute="60", stop_seconds="90",
        webhook_allow_hosts="hooks.internal, 127.0.0.1",
    )  # fmt: skip
    assert settings.model_dump(mode="json") == {
        "home": "/h", "database_url": "postgresql://db/x", "broker_url": "redis://b",
        "storage_url": "file:///s", "data_root": "/d", "api_keys": ["a", "b", "c"], "downloads": False,
        "host": "0.0.0.0", "port": 0, "lease_seconds": 30.0, "heartbeat_seconds": 2.5,
        "reconcile_seconds": 1.0, "stall_seconds": 7.0, "stop_seconds": 90.0,
        "store_patience_seconds": 60.0, "device": "cpu", "threads": 3, "loading_workers": 2,
        "start_method": "spawn", "drills": True, "uploads_root": "/u", "max_upload_bytes": 9,
        "max_queued_jobs": 8, "max_stored_bytes": 9_000_000_000, "requests_per_minute": 60,
        "webhook_allow_hosts": ["hooks.internal", "127.0.0.1"],
    }  # fmt: skip


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files write them; an empty data root must not become the current folder."""
    names = [
        "home",
        "database_url",
        "storage_url",
        "data_root",
        "uploads_root",
        "api_keys",
        "stall_seconds",
        "threads",
        "port",
    ]
    assert with_(monkeypatch, **dict.fromkeys(names, "")) == Settings(_env_file=None)  # type: ignore[call-arg]
    settings = Settings()
    assert settings.home == settings.data_folder.parent == Path.home() / ".perdure"
    assert (settings.threads, settings.stall_seconds, settings.port) == (None, None, 8000)


def test_paths_are_absolute_and_know_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert with_(monkeypatch, home="~/p").home == Path.home() / "p"
    settings = with_(monkeypatch, home="here", data_root="there")
    assert settings.data_folder == tmp_path / "there"
    assert settings.uploads_folder == tmp_path / "there/.uploads"


@pytest.mark.parametrize(
    ("name", "value"),
    [("lease_seconds", value) for value in ["0", "-1", "nan", "inf", "90000", "soon"]]
    + [("port", "65536"), ("port", "-1"), ("device", "tpu"), ("threads", "0"), ("threads", "many"),
       ("start_method", "thread"), ("stall_seconds", "0"), ("downloads", "perhaps"),
       ("loading_workers", "-1"), ("broker_url", "nonsense"), ("broker_url", "amqp://host")]
    + [("database_url", value) for value in ["nonsense", "sqlite://", "mysql://host/name"]],
)  # fmt: skip
def test_nonsense_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    with pytest.raises(ValidationError, match=name):
        with_(monkeypatch, **{name: value})


def test_a_heartbeat_has_to_come_twice_in_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    assert with_(monkeypatch, lease_seconds="4", heartbeat_seconds="2")
    with pytest.raises(ValidationError, match="PERDURE_HEARTBEAT_SECONDS must be at most half"):
        with_(monkeypatch, lease_seconds="4", heartbeat_seconds="2.1")


def test_what_is_wrong_is_said_with_the_names_of_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_PORT", "many")
    monkeypatch.setenv("PERDURE_LEASE_SECONDS", "0")
    monkeypatch.setenv("PERDURE_API_KEYS", "a-secret")
    monkeypatch.setenv("PERDURE_DATABASE_URL", "mysql://user:a-secret@host/name")
    with pytest.raises(SettingsInvalid) as refusal:
        load_settings()
    said = refusal.value.message
    assert "PERDURE_PORT" in said and "PERDURE_LEASE_SECONDS" in said
    assert "PERDURE_DATABASE_URL: must look like sqlite:////path" in said
    assert "a-secret" not in said


def test_a_database_without_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.settings.find_spec", lambda name: None)
    assert with_(monkeypatch, database_url="sqlite:////srv/perdure.db")
    with pytest.raises(ValidationError, match=r"\[postgres\]"):
        with_(monkeypatch, database_url="postgresql://host/name")


def test_a_trainer_parks_before_its_lease_can_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = with_(monkeypatch, lease_seconds="10", heartbeat_seconds="1")
    assert settings.heartbeat_seconds < settings.park_after_seconds == 8.0 < settings.lease_seconds


def test_other_variables_are_nobodys_business(monkeypatch: pytest.MonkeyPatch) -> None:
    with_(monkeypatch, url="http://server", something_new="1")
