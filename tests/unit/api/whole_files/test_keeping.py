"""Whole files that were put together once are kept: for how long, and what if they are not what they were."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.whole_files import WholeFiles
from models import job_store
from models.database import Database
from models.settings import Settings
from tests.unit.api.children import Children, Split


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
