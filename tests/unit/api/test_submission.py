"""POST /jobs: what is stored, what is answered, what a dry run leaves behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api import dataset_layout
from models import job_store
from models.database import Database
from models.job_spec import JobSpec
from models.settings import Settings

SPEC: dict[str, Any] = {"dataset": {"path": "flowers"}, "model": {"weights": None}}


def test_a_job_is_queued_and_its_address_is_told(client: TestClient, db: Database, bell: Any) -> None:
    response = client.post("/jobs", json={**SPEC, "name": "flowers", "metadata": {"who": "me"}})
    assert response.status_code == 201
    body = response.json()
    assert response.headers["location"] == f"/jobs/{body['id']}"
    assert body["status"] == "queued" and body["queue_position"] == 1 and body["attempt"] == 0
    assert body["metadata"] == {"who": "me"} and body["name"] == "flowers"
    assert client.get(response.headers["location"]).json()["id"] == body["id"]
    assert job_store.get_job(db, body["id"]).status == "queued"
    assert bell.rings == ["any"]


def test_the_spec_is_answered_with_every_default(submit: Callable[..., dict[str, Any]]) -> None:
    body = submit()
    assert body["spec"] == JobSpec.model_validate(SPEC).to_json()
    assert body["spec"]["hyperparameters"]["epochs"] == 4


def test_the_bell_of_the_wanted_device_is_rung(submit: Callable[..., dict[str, Any]], bell: Any) -> None:
    submit(resources={"device": "cuda"})
    assert bell.rings == ["cuda"]


def test_the_bell_is_rung_when_the_job_can_be_claimed(
    submit: Callable[..., dict[str, Any]], db: Database, bell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever answers a bell that comes before the commit finds nothing, and goes to sleep again."""
    found: list[list[str]] = []
    monkeypatch.setattr(bell, "ring", lambda device_class: found.append(job_store.claimable_classes(db)))
    submit(resources={"device": "cuda"})
    assert found == [["cuda"]]


def test_a_dry_run_answers_the_job_as_it_would_be_and_stores_nothing(
    client: TestClient, num_jobs: Callable[[], int], bell: Any
) -> None:
    response = client.post("/jobs?dry_run=true", json=SPEC, headers={"Idempotency-Key": "k"})
    assert response.status_code == 200
    dry = response.json()
    assert dry["id"] is None and dry["status"] == "queued" and dry["spec"]["seed"] == 0
    assert num_jobs() == 0 and bell.rings == []
    # The key is still free for the real thing, whose answer has the same fields.
    real = client.post("/jobs", json=SPEC, headers={"Idempotency-Key": "k"})
    assert real.status_code == 201
    assert set(real.json()) == set(dry)


def test_a_dry_run_tells_what_may_not_be_meant(client: TestClient) -> None:
    warnings = client.post("/jobs?dry_run=true", json=SPEC).json()["warnings"]
    assert any("random weights" in warning for warning in warnings)
    assert any("batch_size" in warning for warning in warnings)


def test_a_dry_run_of_a_bad_spec_is_refused_alike(client: TestClient, problem: Callable[..., Any]) -> None:
    problem(client.post("/jobs?dry_run=true", json={"dataset": {"path": "nowhere"}}), 422)


def test_weights_by_name_are_stored_by_their_concrete_name(client: TestClient) -> None:
    spec = {"dataset": {"path": "flowers"}, "model": {"arch": "mobilenet_v2"}}
    body = client.post("/jobs", json=spec).json()
    assert body["spec"]["model"]["weights"] == "IMAGENET1K_V2"


def test_absent_weights_with_downloads_off_are_refused(
    client: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch, problem: Callable[..., Any]
) -> None:
    monkeypatch.setattr("api.validation.weights_present", lambda entry: False)
    settings.downloads = False
    spec = {"dataset": {"path": "flowers"}, "model": {"arch": "mobilenet_v2"}}
    body = problem(client.post("/jobs", json=spec), 422, "weights_unavailable")
    assert body["errors"][0]["field"] == "model.weights"


def test_absent_weights_with_downloads_on_are_a_warning(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.validation.weights_present", lambda entry: False)
    spec = {"dataset": {"path": "flowers"}, "model": {"arch": "mobilenet_v2"}}
    response = client.post("/jobs", json=spec)
    assert response.status_code == 201
    assert any("fetch" in warning for warning in response.json()["warnings"])


def test_a_weights_file_below_the_data_root_is_taken(client: TestClient, settings: Settings) -> None:
    (settings.data_folder / "mine.pth").write_bytes(b"PK")
    spec = {"dataset": {"path": "flowers"}, "model": {"weights": {"file": "mine.pth"}}}
    response = client.post("/jobs", json=spec)
    assert response.status_code == 201
    assert response.json()["spec"]["model"]["weights"] == {"file": "mine.pth"}


def test_everything_wrong_is_told_at_once(client: TestClient, problem: Callable[..., Any]) -> None:
    spec = {"dataset": {"path": "nowhere"}, "model": {"arch": "efficientnet_b9"}}
    body = problem(client.post("/jobs", json=spec), 422, "spec_invalid")
    assert {error["field"] for error in body["errors"]} == {"dataset.path", "model.arch"}


def test_the_same_routes_are_under_v1_but_not_in_the_document(client: TestClient) -> None:
    created = client.post("/v1/jobs", json=SPEC)
    assert created.status_code == 201
    assert client.get(f"/v1/jobs/{created.json()['id']}").status_code == 200
    assert not [path for path in client.get("/openapi.json").json()["paths"] if path.startswith("/v1")]


# -- The dataset's folders -----------------------------------------------------------------------


def test_train_and_val_folders_are_taken(client: TestClient, settings: Settings) -> None:
    make(settings.data_folder / "sided", ["train/a/1.jpg", "train/b/1.png", "val/a/2.jpg", "val/b/2.WEBP"])
    spec = {**SPEC, "dataset": {"path": "sided"}, "validation": {"split": 0.5}}
    response = client.post("/jobs", json=spec)
    assert response.status_code == 201
    assert any("validation.split" in warning for warning in response.json()["warnings"])


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([], "no class folders"),
        (["1.jpg", "2.jpg"], "no class folders"),
        (["a/1.jpg", "a/2.jpg"], "single class"),
        (["a/1.jpg", "b/readme.txt"], "'b' has no images"),
        (["a/1.jpg", "b/.hidden.jpg"], "'b' has no images"),
        (["a/1.jpg", "b/1.jpg"], "No image is left for validation"),
        (["train/a/1.jpg", "train/b/1.jpg"], "no 'val'"),
        (["val/a/1.jpg", "val/b/1.jpg"], "no 'train'"),
        (["train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "val/c/1.jpg"], "'c' is in the folder 'val'"),
        (
            ["train/a/1.jpg", "train/b/1.jpg", "train/c/1.jpg", "val/a/1.jpg", "val/b/1.jpg"],
            "'c' is in the folder 'train'",
        ),
    ],
)
def test_folders_that_are_no_dataset_are_refused(
    client: TestClient,
    settings: Settings,
    problem: Callable[..., Any],
    num_jobs: Callable[[], int],
    files: list[str],
    says: str,
) -> None:
    make(settings.data_folder / "d", files)
    body = problem(client.post("/jobs", json={**SPEC, "dataset": {"path": "d"}}), 422, "dataset_invalid")
    assert says in body["detail"]
    assert body["errors"][0]["field"] == "dataset.path"
    assert num_jobs() == 0


def test_a_file_in_place_of_a_dataset_is_refused(
    client: TestClient, settings: Settings, problem: Callable[..., Any]
) -> None:
    (settings.data_folder / "file").write_text("x")
    problem(client.post("/jobs", json={**SPEC, "dataset": {"path": "file"}}), 422, "dataset_invalid")


@pytest.mark.parametrize("place", ["out", "d/a", "d/a/out.jpg"])
def test_links_that_lead_out_of_the_data_root_are_refused(
    client: TestClient, settings: Settings, tmp_path: Path, problem: Callable[..., Any], place: str
) -> None:
    outside = tmp_path / "outside"
    make(outside, ["a/1.jpg", "b/1.jpg", "b/2.jpg"])
    make(settings.data_folder / "d", ["b/1.jpg", "b/2.jpg", "c/1.jpg"])
    link = settings.data_folder / place
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside / "a" / "1.jpg" if place.endswith(".jpg") else outside)
    path = "out" if place == "out" else "d"
    body = problem(client.post("/jobs", json={**SPEC, "dataset": {"path": path}}), 422)
    assert "leads out of the data root" in body["detail"]
    assert str(tmp_path) not in body["detail"]


def test_links_within_the_data_root_are_fine(client: TestClient, settings: Settings) -> None:
    (settings.data_folder / "alias").symlink_to(settings.data_folder / "flowers")
    assert client.post("/jobs", json={**SPEC, "dataset": {"path": "alias"}}).status_code == 201


def test_a_loop_of_links_is_refused(
    client: TestClient, settings: Settings, problem: Callable[..., Any]
) -> None:
    (settings.data_folder / "loop").symlink_to(settings.data_folder / "loop")
    problem(client.post("/jobs", json={**SPEC, "dataset": {"path": "loop"}}), 422)


def test_counting_stops_at_a_bound(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    make(settings.data_folder / "big", [f"{name}/{i}.jpg" for name in "abc" for i in range(20)])
    assert (
        dataset_layout.look_at(settings.data_folder, "big", uploads=settings.uploads_folder).num_train == 60
    )
    monkeypatch.setattr(dataset_layout, "COUNTED_ENTRIES", 25)
    layout = dataset_layout.look_at(settings.data_folder, "big", uploads=settings.uploads_folder)
    assert not layout.is_exact and layout.num_train < 60 and len(layout.classes) == 3


def make(folder: Path, files: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_a_misspelt_architecture_gets_a_suggestion(client: TestClient, problem: Callable[..., Any]) -> None:
    spec = {"dataset": {"path": "flowers"}, "model": {"arch": "mobilenetv2", "weights": None}}
    body = problem(client.post("/jobs", json=spec), 422, "spec_invalid")
    assert "mobilenet_v2" in body["detail"]
