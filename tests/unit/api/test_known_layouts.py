"""A dataset is counted once, and again as soon as anything about it has changed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api import dataset_layout, known_layouts
from api.dataset_layout import Layout
from api.known_layouts import KnownLayouts
from models.errors import DatasetInvalid, SpecInvalid


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data root with datasets in both layouts, and another dataset to be put in place of one."""
    for folder in (
        "halves/train/a",
        "halves/train/b/deep",
        "halves/val/a",
        "halves/val/b",
        "whole/a",
        "whole/b",
    ):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(2):
            (tmp_path / folder / f"{number}.jpg").touch()
    for folder in tmp_path.rglob("*/"):
        os.utime(folder, (10**9, 10**9))  # long ago, so that what a test changes gets another time
    return tmp_path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which folders were listed."""
    listed: list[str] = []
    scandir = os.scandir

    def noting(path: str) -> Any:
        listed.append(path)
        return scandir(path)

    monkeypatch.setattr(dataset_layout.os, "scandir", noting)
    return listed


@pytest.fixture
def look(data: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Layout]:
    # As if all of it had been there for long.
    monkeypatch.setattr(known_layouts, "SETTLED_NS", -(10**9))
    known = KnownLayouts()
    return lambda name: known.look_at(data, name, uploads=data / ".uploads")


@pytest.mark.parametrize("name", ["halves", "whole"])
def test_what_has_not_changed_is_not_read_again(
    look: Callable[[str], Layout], reads: list[str], name: str
) -> None:
    first = look(name)
    assert (first.num_train, first.num_val) == ((4, 4) if name == "halves" else (4, None))
    assert reads
    reads.clear()
    assert look(name) == first
    assert not reads


def add_a_class(data: Path) -> None:
    for side in ("train", "val"):
        shutil.copytree(data / "whole/a", data / f"halves/{side}/c")


def put_another_in_place(data: Path) -> None:
    (data / "halves").rename(data / "away")
    (data / "whole").rename(data / "halves")


def link_a_class(data: Path) -> None:
    (data / "halves/val/a").rename(data / "away")
    (data / "halves/val/a").symlink_to(data / "whole")


CHANGES: dict[str, Callable[[Path], object]] = {
    "an image more": lambda data: (data / "halves/train/a/2.jpg").touch(),
    "deep down": lambda data: (data / "halves/train/b/deep/2.jpg").touch(),
    "an image less": lambda data: (data / "halves/val/b/0.jpg").unlink(),
    "a side less": lambda data: shutil.rmtree(data / "halves/val"),
    "a class more": add_a_class,
    "another in its place": put_another_in_place,
    "a class by a link": link_a_class,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_changed_is_seen(
    look: Callable[[str], Layout], data: Path, change: Callable[[Path], object]
) -> None:
    def outcome(of: Callable[[str], Layout]) -> object:
        try:
            return of("halves")
        except (DatasetInvalid, SpecInvalid) as error:
            return error.message

    before = outcome(look)
    change(data)
    after = outcome(look)
    assert after != before
    assert after == outcome(lambda name: dataset_layout.look_at(data, name, uploads=data / ".uploads"))


def test_a_mended_dataset_is_taken_at_once(look: Callable[[str], Layout], data: Path) -> None:
    image = data / "whole/b/0.jpg"
    for path in (image, data / "whole/b/1.jpg"):
        path.unlink()
    with pytest.raises(DatasetInvalid, match="'b' has no images"):
        look("whole")
    image.touch()
    assert look("whole").num_train == 3


def test_what_changed_a_moment_ago_is_read_again(data: Path, reads: list[str]) -> None:
    """A file that comes within the same tick of the clock would change no time."""
    known = KnownLayouts()
    for _ in range(2):
        reads.clear()
        known.look_at(data, "whole", uploads=data / ".uploads")
        assert reads


def test_no_more_are_known_than_fit(
    look: Callable[[str], Layout], reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_layouts, "MAX_KNOWN", 1)
    for name in ("whole", "halves", "whole"):
        reads.clear()
        look(name)
        assert reads
