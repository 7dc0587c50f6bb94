"""Checkpoint files: opened by anyone, believed only by their hash."""

import errno
import io
import itertools
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.errors import CheckpointFormatUnknown, StorageFailed
from models.storage import LocalStorage
from tests.unit.training.jobs import Job
from worker.messages import CheckpointRef, CheckpointRejected, CheckpointWritten, Failed, Finished, Prepared
from worker.training import checkpoint
from worker.training.checkpoint import CHECKPOINT_FORMAT
from worker.training.state import Best, EpochSums, Patience, RunState


def nothing(*_: int) -> None:
    pass


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


def write(storage: LocalStorage, **extra: Any) -> CheckpointRef:
    state = RunState(epochs_done=2, step=9, batch=1, sums=EpochSums(1.5, 3, 4, 0.25), best=Best(1, 0.5, 0.7))
    content = {
        **state.to_dict(),
        "model_state_dict": {"weight": torch.arange(6.0).reshape(2, 3).t()},
        **extra,
    }
    identifier, file = checkpoint.write(storage, "job_1", 3, content, None, nothing)
    return CheckpointRef(identifier, file, None, state.epoch, state.step, state.val_loss)


def test_round_trip(storage: LocalStorage) -> None:
    ref = write(storage)
    assert ref.file.path.startswith("jobs/job_1/checkpoints/epoch-0003.step-000009.attempt-3.ckpt_")
    assert (storage.root / ref.file.path).stat().st_size == ref.file.size_bytes
    content = checkpoint.parse(checkpoint.read_verified(storage, ref.file, nothing))
    assert content["model_state_dict"]["weight"].stride() == (1, 3)
    restored = RunState.from_dict(content)
    assert restored == RunState(2, 9, 1, EpochSums(1.5, 3, 4, 0.25), Best(1, 0.5, 0.7), Patience())


def test_no_name_is_used_twice(storage: LocalStorage) -> None:
    assert write(storage).file.path != write(storage).file.path


@pytest.mark.parametrize("for_good", [False, True])
def test_a_disk_that_fills_up_anywhere_in_an_archive_is_told_as_such(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, for_good: bool
) -> None:
    """It has room for so many writes, then refuses one, or all; torch names neither disk nor space then."""
    real = os.write
    for room in itertools.count():
        writes = itertools.count(1)

        def with_little_room(descriptor: int, data: Any, room: int = room, writes: Any = writes) -> int:
            number = next(writes)
            if number == room + 1 or (for_good and number > room):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(descriptor, data)

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", with_little_room)
            try:
                write(storage)
            except StorageFailed as error:
                assert "No space left" in error.message
                continue
        assert next(writes) == room + 1
        break
    assert room > 20


def test_progress_counts_writing_then_verifying() -> None:
    seen: list[tuple[int, int]] = []
    progress = checkpoint.WriteProgress(lambda done, total: seen.append((done, total)))
    for size in (4, 8, 10, 4, 8, 10):
        progress(size)
    assert [done for done, _ in seen] == [4, 8, 10, 14, 18, 20]
    assert seen[-1] == (20, 20)


@pytest.mark.parametrize("region", range(8))
def test_a_flipped_bit_is_found(storage: LocalStorage, region: int) -> None:
    ref = write(storage)
    file = storage.root / ref.file.path
    content = bytearray(file.read_bytes())
    content[region * (len(content) - 1) // 7] ^= 0x10
    file.write_bytes(content)
    with pytest.raises(checkpoint.CheckpointUnusable, match="SHA-256"):
        checkpoint.read_verified(storage, ref.file, nothing)


def test_truncated_or_missing(storage: LocalStorage) -> None:
    ref = write(storage)
    file = storage.root / ref.file.path
    os.truncate(file, ref.file.size_bytes - 1)
    with pytest.raises(checkpoint.CheckpointUnusable, match="bytes instead of"):
        checkpoint.read_verified(storage, ref.file, nothing)
    file.unlink()
    with pytest.raises(checkpoint.CheckpointUnusable, match="missing"):
        checkpoint.read_verified(storage, ref.file, nothing)


def test_a_store_that_is_not_mounted_says_nothing_about_its_files(storage: LocalStorage) -> None:
    """Each of them would be quarantined, and the job would begin again."""
    ref = write(storage)
    (storage.root / "jobs").rename(storage.root / "elsewhere")
    with pytest.raises(StorageFailed, match="Mount it"):
        checkpoint.read_verified(storage, ref.file, nothing)


def test_nor_does_a_disk_that_fails_altogether(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = write(storage)
    file = storage.root / ref.file.path
    file.unlink()
    file.mkdir()  # nobody can read that, root included
    with pytest.raises(checkpoint.CheckpointUnusable, match="cannot be read"):
        checkpoint.read_verified(storage, ref.file, nothing)

    def broken() -> None:
        raise StorageFailed("Input/output error")

    monkeypatch.setattr(storage, "probe", broken)
    with pytest.raises(StorageFailed, match="Input/output error"):
        checkpoint.read_verified(storage, ref.file, nothing)


class Canary:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self._path,))


def test_code_is_not_run_even_if_the_hash_fits(storage: LocalStorage, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    sink = io.BytesIO()
    torch.save({"format_version": CHECKPOINT_FORMAT, "model_state_dict": Canary(canary)}, sink)
    with pytest.raises(pickle.UnpicklingError):
        checkpoint.parse(io.BytesIO(sink.getvalue()))
    assert not canary.exists()


def test_a_newer_format_is_refused(storage: LocalStorage) -> None:
    ref = write(storage, format_version=CHECKPOINT_FORMAT + 1)
    with pytest.raises(CheckpointFormatUnknown, match="upgrade"):
        checkpoint.parse(checkpoint.read_verified(storage, ref.file, nothing))


def test_a_newer_format_fails_the_job_and_keeps_its_file(new_job: Callable[..., Job]) -> None:
    job = new_job(epochs=1)
    first = job.run()
    content = torch.load(job.file(first.only(CheckpointWritten)), weights_only=True)
    ref = write(LocalStorage(job.store), **{**content, "format_version": 99})
    second = job.after(first, checkpoints=[ref]).run()
    assert second.only(Failed).code == "checkpoint_format_unknown"
    assert not second.only(Failed).retryable
    assert not second.all(CheckpointRejected) and job.file(ref).exists()


def test_the_file_of_another_job_is_never_parsed(new_job: Callable[..., Job]) -> None:
    """A valid checkpoint in the place of another one: only its hash gives it away."""
    job, other = new_job(epochs=1), new_job(epochs=1, seed=99)
    first, strange = job.run(), other.run()
    target = job.file(first.only(CheckpointWritten))
    target.write_bytes(other.file(strange.only(CheckpointWritten)).read_bytes())
    # Of the same size as recorded, so that the size alone does not give it away.
    task = job.after(first).task
    recorded = task.checkpoints[0]
    ref = replace(recorded, file=replace(recorded.file, size_bytes=target.stat().st_size))
    second = job.after(first, checkpoints=[ref]).run()
    assert "SHA-256" in second.only(CheckpointRejected).reason
    assert second.only(Prepared).from_checkpoint is None
    assert second.only(Finished) == first.only(Finished)


def test_opens_in_a_notebook(new_job: Callable[..., Job], tmp_path: Path) -> None:
    """With torch and torchvision alone, by the usual function, and saved again as safetensors."""
    job = new_job(epochs=1)
    file, saved = job.file(job.run().only(CheckpointWritten)), tmp_path / "out.safetensors"
    code = f"""
import sys, torch, torchvision, safetensors.torch
checkpoint = torch.load({str(file)!r}, weights_only=True)
model = torchvision.models.mobilenet_v3_small(num_classes=2)
model.load_state_dict(checkpoint["model_state_dict"])
optimizer = torch.optim.Adam(model.parameters())
optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
assert not optimizer.param_groups[0]["fused"]
safetensors.torch.save_file(checkpoint["model_state_dict"], {str(saved)!r})
assert checkpoint["epoch"] == 1 and checkpoint["step"] == 7 and checkpoint["classes"] == ["brick", "sky"]
assert not [name for name in sys.modules if name.startswith("worker")]
"""
    subprocess.run([sys.executable, "-I", "-c", code], check=True, cwd="/")
    weights = torch.load(file, weights_only=True)["model_state_dict"].values()
    assert saved.stat().st_size < 1.1 * sum(tensor.numel() * tensor.element_size() for tensor in weights)
    assert all(tensor.is_contiguous() for tensor in weights)


@pytest.mark.parametrize("name", ["epoch-0002", "nothing"])
def test_leftovers_of_unfinished_writes_are_ignored(new_job: Callable[..., Job], name: str) -> None:
    job = new_job(epochs=1)
    folder = job.store / "jobs" / "job_1" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / f"{name}.step-000014.attempt-9.ckpt_x.pth.1234.partial").write_bytes(b"torn")
    assert job.run().only(Prepared).from_checkpoint is None


def test_a_full_store_is_a_typed_failure(new_job: Callable[..., Job]) -> None:
    job = new_job(epochs=1)
    (job.store / "jobs" / "job_1").mkdir(parents=True)
    (job.store / "jobs" / "job_1" / "checkpoints").write_text("a file where a folder belongs")
    trainer = job.run()
    assert trainer.only(Failed).code == "storage_failed" and trainer.only(Failed).retryable
    assert not trainer.all(CheckpointWritten)
