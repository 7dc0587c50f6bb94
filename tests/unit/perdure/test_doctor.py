"""The doctor: each finding says what was found, and what to do where that is not good."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import httpx2
import pytest

from perdure import doctor
from perdure.client import Perdure
from perdure.errors import ServerUnreachableError


def test_a_good_server(client: Perdure, server: Any) -> None:
    checks = {name: {"status": "ok"} for name in ("database", "migration", "broker", "storage")}
    server.routes["GET /health/ready"] = {"status": "ready", "degraded": [], "checks": checks}
    server.routes["GET /version"] = {"version": "0.1.0"}
    findings = list(doctor.server(lambda: client))
    assert [finding.state for finding in findings] == ["ok"] * 5
    assert "0.1.0" in findings[0].found


def test_what_is_degraded_is_a_warning_with_advice() -> None:
    checks = {"broker": {"status": "degraded", "detail": "It does not answer."}}
    (finding,) = doctor.from_health({"status": "ready", "checks": checks})
    assert (finding.state, finding.found) == ("warn", "It does not answer.")
    assert "PERDURE_BROKER_URL" in finding.advice


def test_a_server_that_is_not_ready_fails() -> None:
    problem = {"status": 503, "code": "schema_behind", "detail": "Run `perdure migrate`."}
    (finding,) = doctor.from_health(problem)
    assert (finding.state, finding.found) == ("fail", "Run `perdure migrate`.")


def test_no_server_is_a_warning_that_names_perdure_up() -> None:
    def nobody() -> Any:
        raise ServerUnreachableError("http://127.0.0.1:8000", "connection refused")

    (finding,) = doctor.server(nobody)
    assert finding.state == "warn"
    assert "perdure up" in finding.advice


def test_the_home_is_probed_and_left_as_it_was(tmp_path: Path) -> None:
    findings = {finding.name: finding for finding in doctor.machine(tmp_path / "not" / "yet")}
    assert "synced and renamed" in findings["storage"].found
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_home(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    findings = {finding.name: finding for finding in doctor.machine(tmp_path / "home")}
    assert (findings["storage"].state, "--home" in findings["storage"].advice) == ("fail", True)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_the_embedded_database(tmp_path: Path) -> None:
    def database() -> str | None:
        found = {finding.name: finding.state for finding in doctor.machine(tmp_path)}
        return found.get("database")

    assert database() is None, "nothing is made by looking"
    (tmp_path / "perdure.db").write_bytes(b"no database" * 1000)
    assert database() == "fail"
    (tmp_path / "perdure.db").unlink()
    with sqlite3.connect(tmp_path / "perdure.db") as connection:
        connection.execute("CREATE TABLE jobs (id TEXT)")
    assert database() == "ok"


def test_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("Name or service not known")

    assert doctor.downloads(httpx2.MockTransport(lambda request: httpx2.Response(403))).state == "ok"
    away = doctor.downloads(httpx2.MockTransport(refuse))
    assert (away.state, "Name or service not known" in away.found) == ("warn", True)
    monkeypatch.setenv("PERDURE_DOWNLOADS", "off")
    off = doctor.downloads(httpx2.MockTransport(refuse))
    assert (off.state, off.found.startswith("off")) == ("ok", True)


def test_json_and_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = doctor.Finding("storage", "fail", "No space left on device", "Free some.")
    monkeypatch.setattr(doctor, "machine", lambda home: iter([bad]))
    monkeypatch.setattr(doctor, "server", lambda: iter([]))
    monkeypatch.setenv("PERDURE_DOWNLOADS", "off")
    assert doctor.examine(tmp_path, as_json=True) == 1
    assert json.loads(capsys.readouterr().out)[0]["advice"] == "Free some."
