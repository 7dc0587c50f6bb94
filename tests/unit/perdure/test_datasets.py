"""Datasets from Python and from a terminal: what is sent is a whole archive, however often it takes."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import httpx2
import pytest

from models.archives import opened
from perdure.archive import zipped
from perdure.client import Perdure
from perdure.errors import LocalStackError, WaitTimeoutError
from tests.archives import flowers
from tests.archives import zipped as zipped_bytes
from tests.unit.perdure.command_line import JOB, Run

READY: dict[str, Any] = {
    "id": "ds_1", "name": "[red]photos", "status": "ready", "source": "upload", "num_images": 6,
    "classes": ["daisy", "rose"], "counts": {"all": {"daisy": 3, "rose": 3}}, "size_bytes": 12_345,
    "image_sizes": {"min_width": 8, "max_width": 9, "min_height": 8, "max_height": 9},
    "digest": "ab" * 32, "created_at": "2025-01-01T00:00:00Z",
}  # fmt: skip
CHECKING = READY | {
    "status": "checking", "status_reason": "Waits for a light worker.", "counts": None, "classes": None,
    "digest": None, "num_images": None, "image_sizes": None,
}  # fmt: skip
FAILED = READY | {
    "status": "failed", "status_reason": "1 of 6 files cannot be read.", "digest": None, "num_problems": 1,
    "problems": [{"file": "rose/1.png", "message": "truncated"}],
}  # fmt: skip


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for name, content in flowers().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / ".git").mkdir()
    (folder / ".git/1.png").touch()
    (folder / "notes.txt").write_text("no image")
    return folder


def answering(server: Any, *states: dict[str, Any]) -> None:
    """A dataset goes through these states, one each time that it is looked at; the last one stays."""
    waiting = list(states)
    server.routes["POST /datasets"] = CHECKING
    server.routes["GET /datasets/ds_1"] = lambda request: httpx2.Response(
        200, json=waiting.pop(0) if len(waiting) > 1 else waiting[0]
    )


def test_a_folder_becomes_an_archive_that_the_server_takes(photos: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    archive = b"".join(zipped(photos, lambda done, total: seen.append((done, total))))
    assert archive == b"".join(zipped(photos, lambda done, total: None)), "sent again it is the same request"
    with zipfile.ZipFile(io.BytesIO(archive)) as content:
        assert content.testzip() is None
        assert {name: content.read(name) for name in content.namelist()} == flowers()
    total = sum(map(len, flowers().values()))
    assert seen[-1] == (total, total) and len(seen) == 6
    file = tmp_path / "sent.zip"
    file.write_bytes(archive)
    with opened(file, 10**9) as plan:
        assert [member.target for member in plan.members] == sorted(flowers())


def test_no_more_than_a_piece_is_ahead_of_what_is_sent(photos: Path) -> None:
    (photos / "rose/large.bmp").write_bytes(bytes(5_000_000))
    assert max(map(len, zipped(photos, lambda done, total: None))) < 600_000


def test_create_sends_a_folder_and_waits_for_its_check(client: Perdure, server: Any, photos: Path) -> None:
    answering(server, CHECKING, CHECKING, READY)
    seen: list[int] = []
    dataset = client.datasets.create(photos, on_bytes=lambda done, total: seen.append(done))
    [request] = server.requests
    assert request.headers["content-type"] == "application/zip" and request.headers["idempotency-key"]
    assert request.url.params["name"] == "photos"
    assert zipfile.ZipFile(io.BytesIO(request.read())).namelist() == sorted(flowers())
    assert seen[-1] == sum(map(len, flowers().values()))
    reasons: list[str | None] = []
    ready = client.datasets.wait(
        dataset.id, sleep=lambda _: None, on_look=lambda now: reasons.append(now.status_reason)
    )
    assert ready.status == "ready" and ready.counts == READY["counts"]
    assert reasons == ["Waits for a light worker."] * 2


def test_an_upload_whose_answer_is_lost_is_sent_again_whole(
    client: Perdure, server: Any, photos: Path
) -> None:
    bodies: list[bytes] = []

    def break_once(request: httpx2.Request) -> httpx2.Response:
        bodies.append(request.read())
        if len(bodies) == 1:
            raise httpx2.RemoteProtocolError("the connection broke", request=request)
        return httpx2.Response(202, json=CHECKING)

    server.routes["POST /datasets"] = break_once
    client.datasets.create(photos)
    assert bodies[0] == bodies[1] and len(bodies) == 2
    assert len({request.headers["idempotency-key"] for request in server.requests}) == 1


def test_an_archive_is_sent_as_it_is(client: Perdure, server: Any, tmp_path: Path) -> None:
    answering(server, READY)
    file = tmp_path / "roses.zip"
    file.write_bytes(zipped_bytes(flowers()))
    client.datasets.create(file)
    assert server.requests[0].read() == file.read_bytes()
    assert server.requests[0].url.params["name"] == "roses"


def test_what_is_not_there_is_not_sent(client: Perdure, server: Any, tmp_path: Path) -> None:
    for nothing in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(LocalStackError):
            client.datasets.create(nothing)
    assert server.requests == []


def test_the_rest_of_the_client(client: Perdure, server: Any) -> None:
    server.routes["POST /datasets"] = CHECKING
    server.routes["GET /datasets"] = server.page([READY, CHECKING])
    server.routes["DELETE /datasets/ds_1"] = lambda request: httpx2.Response(204)
    answering(server, CHECKING)
    assert client.datasets.register("flowers", name="mine").id == "ds_1"
    assert json.loads(server.requests[0].content) == {"path": "flowers", "name": "mine"}
    client.datasets.builtin("cifar10")
    assert json.loads(server.requests[1].content) == {"builtin": "cifar10"}
    assert [row.status for row in client.datasets.list()] == ["ready", "checking"]
    client.datasets.delete("ds_1")
    with pytest.raises(WaitTimeoutError, match="light worker"):
        client.datasets.wait("ds_1", timeout_seconds=0.0)


# -- The command line --------------------------------------------------------------------------------


def test_upload_prints_what_was_found(run: Run, server: Any, photos: Path) -> None:
    answering(server, READY)
    code, out, _ = run("datasets", "upload", str(photos))
    assert code == 0
    for words in ("ds_1", "ready", "daisy 3, rose 3", "8 × 8 to 9 × 9", "[red]photos", "ab" * 32):
        assert words in out
    code, out, _ = run("datasets", "upload", str(photos), "--no-wait", "--json")
    assert code == 0 and json.loads(out)["status"] == "checking"


def test_upload_of_what_cannot_be_trained_on_names_the_files(run: Run, server: Any, photos: Path) -> None:
    answering(server, FAILED)
    code, _, err = run("datasets", "upload", str(photos))
    assert code == 1
    assert "rose/1.png: truncated" in err


def test_register_list_show_and_delete(run: Run, server: Any) -> None:
    answering(server, READY)
    server.routes["GET /datasets"] = server.page([READY, CHECKING, FAILED])
    server.routes["DELETE /datasets/ds_1"] = lambda request: httpx2.Response(204)
    assert run("datasets", "register", "flowers")[0] == 0
    assert run("datasets", "builtin", "cifar10", "--name", "mine")[0] == 0
    sent = [json.loads(request.content) for request in server.requests if request.method == "POST"]
    assert sent == [{"path": "flowers"}, {"builtin": "cifar10", "name": "mine"}]
    code, out, _ = run("datasets", "list")
    assert code == 0 and "ready" in out and "checking" in out and "failed" in out
    assert len(json.loads(run("datasets", "list", "--json")[1])) == 3
    assert "daisy 3" in run("datasets", "show", "ds_1")[1]
    assert json.loads(run("datasets", "show", "ds_1", "--json")[1])["digest"] == "ab" * 32
    assert "is deleted" in run("datasets", "delete", "ds_1")[1]
    server.routes["GET /datasets"] = server.page([])
    assert "No datasets" in run("datasets", "list")[1]


def test_submit_uploads_a_local_folder(run: Run, server: Any, photos: Path) -> None:
    answering(server, READY)
    server.routes["POST /jobs"] = JOB
    code, out, _ = run("submit", "--data", str(photos), "--epochs", "2")
    assert code == 0 and "6 images" in out
    assert json.loads(server.requests[-1].content) == {
        "dataset": {"id": "ds_1"}, "hyperparameters": {"epochs": 2},
    }  # fmt: skip


def test_submit_queues_nothing_on_a_folder_that_cannot_be_trained_on(
    run: Run, server: Any, photos: Path
) -> None:
    answering(server, FAILED)
    code, _, err = run("submit", "--data", str(photos))
    assert code == 1 and "truncated" in err
    assert not [request for request in server.requests if request.url.path == "/jobs"]
    assert run("submit", "--data", str(photos), "--dry-run")[0] == 2
    assert run("submit", "--data", str(photos / "nowhere"))[0] == 2


def test_submit_sends_no_folder_that_the_server_has(
    run: Run, server: Any, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.routes["POST /jobs"] = JOB
    monkeypatch.setenv("PERDURE_DATA_ROOT", str(photos.parent))
    monkeypatch.setattr("perdure.commands.submit.LOOPBACK", {"server.test"})
    monkeypatch.chdir(photos.parent)
    for data, meant in (
        ("./photos", {"path": "photos"}), ("photos", {"path": "photos"}), ("ds_7", {"id": "ds_7"}),
    ):  # fmt: skip
        assert run("submit", "--data", data)[0] == 0
        assert json.loads(server.requests[-1].content) == {"dataset": meant}
    assert {request.url.path for request in server.requests} == {"/jobs"}
