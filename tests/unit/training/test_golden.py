"""Checkpoints of every format that was ever written: loaded to the last bit, or refused with a reason.

The files in ``golden`` are those of real jobs (ShuffleNet, one epoch, AdamW) as each version wrote them, with
values rounded to eighths so that they pack well. A change of the format adds files; it never replaces any.
"""

import hashlib
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.training.jobs import Job, paint
from worker.messages import (
    CheckpointRef,
    CheckpointRejected,
    CheckpointWritten,
    FileRef,
    Finished,
    FrozenPartRebuilt,
    Prepared,
    StepDone,
)
from worker.training import checkpoint
from worker.training.checkpoint import CHECKPOINT_FORMAT
from worker.training.fingerprint import differences

GOLDEN = Path(__file__).with_name("golden")
EXPECTED: dict[str, dict[str, Any]] = json.loads((GOLDEN / "expected.json").read_text())


@pytest.fixture
def golden_data(data_root: Path) -> None:
    """The dataset of those jobs; in a format whose bytes do not depend on an encoder's version."""
    for side, count in (("train", 5), ("val", 2)):
        for label, name in enumerate(("brick", "sky")):
            for number in range(count):
                path = data_root / "golden" / side / name / f"{number}.bmp"
                paint(path, label, number + 100 * (side == "val"))


def place(job: Job, name: str, key: str) -> FileRef:
    content = lzma.decompress((GOLDEN / f"{name}.xz").read_bytes())
    file = job.store / key
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return FileRef(key, hashlib.sha256(content).hexdigest(), len(content))


def golden_job(new_job: Callable[..., Job], name: str, **changes: Any) -> Job:
    """A job whose only attempt so far left this file."""
    freeze = "backbone" if ".head." in name else "none"
    job = new_job(epochs=1, arch="shufflenet_v2_x0_5", dataset="golden", freeze=freeze, optimizer="adamw")
    expected, folder = EXPECTED[name], "jobs/job_1"
    frozen = None
    if expected["frozen"]:
        key = f"{folder}/frozen/{expected['frozen']}.attempt-1.0.pth"
        frozen = place(job, name.replace(".pth", ".frozen.pth"), key)
    file = place(job, name, f"{folder}/checkpoints/epoch-0001.step-000003.attempt-1.ckpt_golden.pth")
    ref = CheckpointRef("ckpt_golden", file, frozen, 1, expected["step"], expected["val_loss"])
    task = job.task.__class__(**vars(job.task) | {"attempt": 2, "checkpoints": [ref]} | changes)
    return Job(task, job.start, job.store)


@pytest.mark.parametrize("name", EXPECTED)
def test_every_format_is_loaded_to_the_last_bit(
    new_job: Callable[..., Job], golden_data: None, name: str
) -> None:
    trainer = golden_job(new_job, name).run()
    assert trainer.only(Prepared).from_checkpoint == "ckpt_golden"
    assert trainer.only(Prepared).step == EXPECTED[name]["step"] > 0
    assert trainer.only(Finished).weights_sha256 == EXPECTED[name]["weights_sha256"]
    assert not trainer.all(CheckpointRejected) and not trainer.all(FrozenPartRebuilt)


@pytest.mark.parametrize("name", EXPECTED)
def test_and_trained_on_from(new_job: Callable[..., Job], golden_data: None, name: str) -> None:
    """With the optimizer's state; what is written then has the present format."""
    segments = [{"epochs": 1, "scheduler": "constant"}, {"epochs": 1, "scheduler": "constant"}]
    job = golden_job(new_job, name, segments=segments)
    trainer = job.run()
    assert len(trainer.all(StepDone)) == EXPECTED[name]["step"]
    assert trainer.only(Finished).weights_sha256 != EXPECTED[name]["weights_sha256"]
    written = job.file(trainer.only(CheckpointWritten)).read_bytes()
    assert checkpoint.parse(io.BytesIO(written))["format_version"] == CHECKPOINT_FORMAT


@pytest.mark.parametrize("name", EXPECTED)
def test_another_format_alone_makes_no_job_inexact(name: str) -> None:
    content = _parsed(name)
    assert differences(content["fingerprint"], content["fingerprint"] | {"checkpoint_format": 99}) == []


def test_the_present_format_is_among_them() -> None:
    formats = {_parsed(name)["format_version"] for name in EXPECTED}
    assert formats == set(range(1, CHECKPOINT_FORMAT + 1)) == set(checkpoint.READABLE_FORMATS)


def _parsed(name: str) -> dict[str, Any]:
    return checkpoint.parse(io.BytesIO(lzma.decompress((GOLDEN / f"{name}.xz").read_bytes())))
