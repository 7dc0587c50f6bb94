"""Checkpoints in two stored parts as downloads: put together once, whatever happens to the processes."""

import base64
import hashlib
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from api.whole_files import MAX_PROCESSES, WholeFiles
from models import job_store
from models.database import Database
from models.errors import DownloadFailed
from models.settings import Settings
from models.tables import checkpoints
from tests.servers.waiting import until
from tests.unit.api.children import Children, Split


@pytest.fixture
def children(tmp_path: Path) -> Children:
    (tmp_path / "children").mkdir()
    return Children(tmp_path / "children")


@pytest.fixture
def options() -> dict[str, Any]:
    """Of the service's WholeFiles; change it before ``client`` is asked for."""
    return {"wait_seconds": 20.0, "limit_seconds": 30.0}


@pytest.fixture(autouse=True)
def _with_children(children: Children, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def make(folder: Path, storage_url: str) -> WholeFiles:
        others = dict(options)
        materialising = children.materialising(others.pop("limit_seconds"))
        return WholeFiles(folder, storage_url, materialising=materialising, **others)

    monkeypatch.setattr("api.app.WholeFiles", make)


@pytest.fixture
def split(
    client: TestClient, submit: Callable[..., Any], worker: Any, db: Database, settings: Settings
) -> Split:
    job_id = submit(fault_tolerance={"keep_last": 4})["id"]
    worker.claim()
    worker.prepare()
    ids = [worker.epoch(number, keep_last=4) for number in range(1, 4)]
    root = Path(settings.storage_url.removeprefix("file://"))
    frozen = os.urandom(3000)
    path = f"jobs/{job_id}/frozen/abc.pth"
    (root / path).parent.mkdir()
    (root / path).write_bytes(frozen)
    with db.writing() as tx:
        tx.execute(
            update(checkpoints).values(
                frozen_path=path, frozen_sha256=hashlib.sha256(frozen).hexdigest(), frozen_size_bytes=3000
            )
        )
    stored = {each: job_store.get_checkpoint(db, job_id, each).path for each in ids}
    return Split(job_id, ids, {each: frozen + (root / path).read_bytes() for each, path in stored.items()})


@pytest.fixture
def cached(settings: Settings) -> Callable[[str], Path]:
    return lambda name: settings.home / "cache/materialised" / name


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
    assert model.content == content
    assert len(children.pids) == 1


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
        ("download_failed", 503), ("internal_error", 503),
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


@pytest.mark.parametrize("options", [{"wait_seconds": 20.0, "limit_seconds": 30.0, "max_cache_bytes": 8000}])
def test_the_least_recently_used_make_room(
    client: TestClient, split: Split, children: Children, cached: Callable[[str], Path]
) -> None:
    client.get(split.url(0))
    client.get(split.url(1))
    past = time.time() - 60
    os.utime(cached(f"{split.ids[0]}.json"), (past, past))
    os.utime(cached(f"{split.ids[1]}.json"), (past + 1, past + 1))
    client.get(split.url(0))  # used again
    client.get(split.url(2))
    assert {path.stem for path in cached("").glob("*.pth")} == {split.ids[0], split.ids[2]}
    assert {path.stem for path in cached("").glob("*.json")} == {split.ids[0], split.ids[2]}
    assert client.get(split.url(1)).content == split.whole[split.ids[1]]
    assert len(children.pids) == 4


def test_what_is_being_sent_may_be_let_go(
    client: TestClient, split: Split, children: Children, settings: Settings, db: Database
) -> None:
    whole = WholeFiles(settings.home / "c", settings.storage_url, materialising=children.materialising())
    row = job_store.get_checkpoint(db, split.job_id, split.ids[0])
    with whole.open(row, whole.entry(row)) as stream:
        for path in (settings.home / "c").iterdir():
            path.unlink()
        assert stream.read() == split.whole[split.ids[0]]
    whole.close()


@pytest.mark.parametrize("loss", ["gone", "another file", "shorter"])
def test_a_file_that_is_not_the_described_one_is_made_again(
    client: TestClient, split: Split, children: Children, cached: Callable[[str], Path], loss: str
) -> None:
    client.get(split.url())
    file = cached(f"{split.ids[0]}.pth")
    content = file.read_bytes()
    file.unlink()
    if loss != "gone":
        file.write_bytes(b"x" * 4000 if loss == "another file" else content[:-1])
    assert client.get(split.url()).content == content
    assert len(children.pids) == 2


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"size_bytes": 1, "sha256": "x", "modified_ns": 2, "n": 3}']
)
def test_a_description_of_another_version_is_no_description(
    client: TestClient, split: Split, cached: Callable[[str], Path], text: str
) -> None:
    client.get(split.url())
    cached(f"{split.ids[0]}.json").write_text(text)
    assert client.get(split.url()).content == split.whole[split.ids[0]]


def test_a_folder_that_cannot_be_written_is_a_problem(
    client: TestClient, split: Split, settings: Settings, problem: Any
) -> None:
    (settings.home / "cache").write_text("a file where a folder belongs")
    assert "Free some space" in problem(client.get(split.url()), 503, "download_failed")["detail"]


def test_two_services_share_a_home(
    client: TestClient, split: Split, children: Children, settings: Settings, db: Database
) -> None:
    """Both make the same file at the same time: each is served, and what remains is whole."""
    make = partial(WholeFiles, settings.home / "shared", settings.storage_url)
    services = [make(materialising=children.materialising()) for _ in range(2)]
    row = job_store.get_checkpoint(db, split.job_id, split.ids[0])
    children.hold()
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(service.entry, row) for service in services]
        children.await_starts(2)
        children.let_go()
        for service, answer in zip(services, answers, strict=True):
            with service.open(row, answer.result()) as stream:
                assert stream.read() == split.whole[split.ids[0]]
    names = {path.name for path in (settings.home / "shared").iterdir()}
    assert names == {f"{split.ids[0]}.pth", f"{split.ids[0]}.json"}
    for service in services:
        service.close()


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
