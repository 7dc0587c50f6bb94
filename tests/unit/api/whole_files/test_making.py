"""Checkpoints in two stored parts as downloads: put together once, whatever happens to the processes."""

import base64
import hashlib
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.whole_files import MAX_PROCESSES, WholeFiles
from models import job_store
from models.database import Database
from models.errors import DownloadFailed
from models.settings import Settings
from tests.servers.waiting import until
from tests.unit.api.children import Children, Split


def test_a_download_is_whole_and_says_what_it_is(
    client: TestClient, split: Split, children: Children
) -> None:
    response = client.get(split.url())
    assert response.status_code == 200
    content = split.whole[split.ids[0]]
    assert response.content == content
    digest = hashlib.sha256(content)
    assert response.headers["etag"] == f'"{digest.hexdigest()}"'
    assert response.headers["repr-digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    assert response.headers["content-length"] == "4000"
    row = client.get(f"/jobs/{split.job_id}/checkpoints").json()["data"][-1]
    assert row["id"] == split.ids[0] and row["size_bytes"] == 1000, "the row is about what is stored"
    model = client.get(f"/jobs/{split.job_id}/model/content?checkpoint={split.ids[0]}")
    assert model.content == content + f'["model", "{split.job_id}", "{split.ids[0]}"]'.encode(), (
        "another file"
    )
    assert client.get(split.url()).content == content, "that takes the place of none"
    assert len(children.pids) == 2


def test_ranges_and_conditions(
    client: TestClient, split: Split, children: Children, cached: Callable[[str], Path], problem: Any
) -> None:
    first = client.get(split.url(), headers={"Range": "bytes=2990-3009"})
    assert first.status_code == 206 and first.headers["content-range"] == "bytes 2990-3009/4000"
    assert first.content == split.whole[split.ids[0]][2990:3010]
    etag = first.headers["etag"]
    kept = client.get(split.url(), headers={"Range": "bytes=-10", "If-Range": etag})
    assert kept.status_code == 206 and len(kept.content) == 10
    assert client.get(split.url(), headers={"Range": "bytes=-10", "If-Range": '"x"'}).status_code == 200
    problem(client.get(split.url(), headers={"Range": "bytes=4000-"}), 416, "range_not_satisfiable")
    cached(f"{split.ids[0]}.pth").unlink()
    unchanged = client.get(split.url(), headers={"If-None-Match": etag})
    assert unchanged.status_code == 304 and unchanged.headers["etag"] == etag
    assert len(children.pids) == 1, "what is known of the file outlives it"


def test_twenty_first_downloads_start_one_process(
    client: TestClient, split: Split, children: Children
) -> None:
    children.hold()
    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(client.get, split.url()) for _ in range(20)]
        children.await_starts(1)
        children.let_go()
        assert {answer.result().content for answer in answers} == {split.whole[split.ids[0]]}
    assert len(children.pids) == 1


def test_few_processes_at_once(client: TestClient, split: Split, children: Children) -> None:
    children.hold()
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(client.get, split.url(number)) for number in range(3)]
        children.await_starts(MAX_PROCESSES)
        assert client.get("/health/live").status_code == 200
        time.sleep(0.2)  # in which a third one would have started
        assert len(children.pids) == MAX_PROCESSES
        children.let_go()
        assert [answer.result().content for answer in answers] == list(split.whole.values())


@pytest.mark.parametrize("options", [{"wait_seconds": 0.1, "limit_seconds": 30.0}])
def test_who_waits_too_long_is_told_to_come_back(
    client: TestClient, split: Split, children: Children, problem: Any
) -> None:
    children.hold()
    for _ in range(2):
        response = client.get(split.url())
        problem(response, 503, "download_not_ready")
        assert int(response.headers["retry-after"]) > 0
    children.let_go()
    until(lambda: client.get(split.url()).status_code == 200, what="the file")
    assert len(children.pids) == 1, "nothing was begun anew"


def test_a_queue_that_is_full_is_told_at_once(
    client: TestClient, split: Split, children: Children, problem: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.whole_files.MAX_WAITING", 1)
    children.hold()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.get, split.url(0))
        children.await_starts(1)
        problem(client.get(split.url(1)), 503, "download_not_ready")
        children.let_go()
        assert waiting.result().status_code == 200


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("checkpoint_damaged", 410), ("checkpoint_format_unknown", 503), ("torch_missing", 503),
        ("onnx_missing", 501), ("onnx_unsupported", 422), ("download_failed", 503), ("internal_error", 503),
    ],
)  # fmt: skip
def test_what_the_process_reports_is_a_problem(
    client: TestClient, split: Split, children: Children, problem: Any, code: str, status: int
) -> None:
    children.say(f'a warning of a library\n{{"code": "{code}", "message": "Do this or that."}}')
    expected = "download_failed" if code == "internal_error" else code
    for url in (split.url(0), f"/jobs/{split.job_id}/model/content?checkpoint={split.ids[0]}"):
        assert problem(client.get(url), status, expected)["detail"] == "Do this or that."


@pytest.mark.parametrize("said", ["", "no json", "[]", '{"size_bytes": 1}', "null", "7"])
def test_nonsense_is_a_failure_that_tells_nothing(
    client: TestClient, split: Split, children: Children, problem: Any, said: str
) -> None:
    children.say(said)
    assert "secret" not in problem(client.get(split.url()), 503, "download_failed")["detail"]


def test_a_killed_process_is_replaced_by_the_next_request(
    client: TestClient, split: Split, children: Children, problem: Any
) -> None:
    children.hold()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.get, split.url())
        children.await_starts(1)
        os.kill(children.pids[0], signal.SIGKILL)
        response = waiting.result()
    problem(response, 503, "download_failed")
    assert int(response.headers["retry-after"]) > 0
    children.let_go()
    assert client.get(split.url()).content == split.whole[split.ids[0]]


@pytest.mark.parametrize("options", [{"wait_seconds": 20.0, "limit_seconds": 0.3}])
def test_a_process_that_hangs_is_ended(
    client: TestClient, split: Split, children: Children, problem: Any
) -> None:
    children.hold()
    problem(client.get(split.url()), 503, "download_failed")
    with pytest.raises(ProcessLookupError):
        os.kill(children.pids[0], 0)


def test_the_end_of_the_service_ends_its_processes(
    client: TestClient, split: Split, children: Children, settings: Settings, db: Database
) -> None:
    whole = WholeFiles(settings.home / "c", settings.storage_url, materialising=children.materialising())
    row = job_store.get_checkpoint(db, split.job_id, split.ids[0])
    children.hold()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(whole.entry, row)
        children.await_starts(1)
        whole.close()
        with pytest.raises(DownloadFailed):
            waiting.result()
