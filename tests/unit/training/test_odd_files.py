"""What lies in a dataset's folders under the name of an image, and must not even be opened."""

import os
from pathlib import Path

import pytest

from models.errors import DatasetInvalid
from tests.unit.training.jobs import paint
from worker.training.dataset_check import check
from worker.training.images import MAX_FILE_BYTES


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    for label, name in enumerate("ab"):
        for number in range(2):
            paint(tmp_path / "flat" / name / f"{number}.png", label, number)
    return tmp_path / "flat"


def refusal(folder: Path) -> str:
    with pytest.raises(DatasetInvalid) as refused:
        check(folder, folder.parent, 0.25, 0, threads=1, on_files=lambda done, total: None)
    return refused.value.message


@pytest.mark.timeout(20)
def test_a_pipe_is_named_and_not_waited_for(flat: Path) -> None:
    os.mkfifo(flat / "a/2.png")
    assert "'a/2.png' is a pipe or a device" in refusal(flat)


def test_a_file_larger_than_memory_is_named_and_not_read(flat: Path) -> None:
    with (flat / "b/2.png").open("wb") as stream:
        stream.truncate(2 * MAX_FILE_BYTES)  # a hole takes no room
    assert f"b/2.png: {2 * MAX_FILE_BYTES} bytes are more than any image has" in refusal(flat)
