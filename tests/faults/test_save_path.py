"""Faults 1, 19 and 20: every system call on the way of a checkpoint, killed, failed and out of space.

A trainer's checkpoints are all written by one thread, so strace follows that thread alone. (Its ``-P`` is no
help: it matches whole paths and not what lies below them, and the names of checkpoints are never known
before.) The trainer is stopped between two writes while strace attaches, so that calls are counted from the
start of a write. A fault comes right before its call is done; hence each also tells what it is like to die
right after the call before.
"""

import contextlib
import hashlib
import itertools
import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from models.storage import TEMPORARY
from tests.faults.syscalls import Call, Fault, Strace, calls_in, require_strace
from tests.unit.training.jobs import Job, Recorded, Trainer, until
from worker.messages import CheckpointDelayed, CheckpointWritten, Failed, FileRef, Prepared

KILL, BROKEN, FULL = "signal=SIGKILL", "error=EIO", "error=ENOSPC"
#: Without one of these a checkpoint cannot be whole and durable, so that a failure must be told.
NEEDED = {"openat", "write", "fsync", "fadvise64", "close", "rename", "read"}
#: What only the thread that writes ever calls, so that the other threads may be followed as well.
OF_THE_WRITER_ALONE = "mkdir,fsync,rename,fadvise64,unlink"
HEAD_ONLY = {
    "arch": "squeezenet1_1",
    "freeze": "backbone",
    "optimizer": "sgd",
    "store_patience_seconds": 60.0,
}

long = pytest.mark.long
chosen_or_all = pytest.mark.parametrize("every", [False, pytest.param(True, marks=long)], ids=["some", "all"])


@pytest.fixture(autouse=True)
def strace() -> None:
    require_strace()


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[Path]:
    """Paths of files that do not exist yet."""
    return (tmp_path / f"strace{number}" for number in itertools.count())


# -- A trainer that stands still ---------------------------------------------------------------------


def freeze(trainer: Trainer) -> None:
    os.kill(trainer.pid, signal.SIGSTOP)
    stopped = until(
        lambda: all(
            (task / "stat").read_text().rpartition(") ")[2][0] in "Tt"
            for task in Path(f"/proc/{trainer.pid}/task").iterdir()
        ),
        seconds=10,
    )
    assert stopped


def thaw(trainer: Trainer) -> None:
    os.kill(trainer.pid, signal.SIGCONT)


def freeze_between_writes(job: Job, trainer: Trainer) -> int:
    """Stop the trainer after a checkpoint and before the next; the thread that writes them."""
    for _ in range(20):
        await_next_checkpoint(trainer)
        freeze(trainer)
        if stands_between_writes(job, trainer):
            return thread_that_writes(trainer)
        thaw(trainer)  # this was too late: after the one that it writes now, then
    raise AssertionError("it was always writing")


def stands_between_writes(job: Job, trainer: Trainer) -> bool:
    """Whether the newest file is one that it told of, and no other was begun."""
    files = (job.store / "jobs/job_1/checkpoints").glob(f"*.attempt-{job.task.attempt}.*")
    return max(files, default=None) == job.file(trainer.all(CheckpointWritten)[-1])


def thread_that_writes(trainer: Trainer) -> int:
    tasks = list(Path(f"/proc/{trainer.pid}/task").iterdir())
    assert len(tasks) == 3, "the training thread, the one that listens, the one that writes"

    def started_at(task: Path) -> int:
        return int((task / "stat").read_text().rpartition(") ")[2].split()[19])

    return int(max(tasks, key=started_at).name)


def await_next_checkpoint(trainer: Trainer) -> None:
    """One more than was read so far, also by the way."""
    step = max((written.step for written in trainer.all(CheckpointWritten)), default=0)
    trainer.wait_for(lambda message: isinstance(message, CheckpointWritten) and message.step > step)


def epochs_for(faults: int) -> int:
    """One epoch before each, one that it hits, and one for each time that the trainer is stopped too late."""
    return 3 * faults + 30


# -- The calls of one checkpoint ---------------------------------------------------------------------


def calls_of_a_checkpoint(job: Job, logs: Iterator[Path]) -> list[Call]:
    """Of its thread, on files of the store, up to the report; in order."""
    trainer = job.attempt()
    thread = freeze_between_writes(job, trainer)
    with Strace(thread, next(logs)) as strace:
        thaw(trainer)
        await_next_checkpoint(trainer)
        trainer.kill()
        trainer.read_to_end()
    lines = strace.lines()
    report = next(number for number, line in enumerate(lines) if "/outbox" in line)
    calls = calls_in(lines[:report], job.store)
    assert {call.name for call in calls} >= NEEDED
    return calls


def characteristic(calls: list[Call]) -> list[Call]:
    """Each kind of call by its first and last, and all of those that durability hangs on."""
    by_name = {name: [call for call in calls if call.name == name] for name in {call.name for call in calls}}
    some = {call for of_name in by_name.values() for call in (of_name[0], of_name[-1])}
    some |= {call for call in calls if call.name in {"fsync", "rename"}}
    return [call for call in calls if call in some]


def shared_out(calls: list[Call], kind: str) -> list[Call]:
    """Each try again costs a pause, so the quick version halves what is less likely of the two errors."""
    likely = {"fsync": BROKEN, "write": FULL}
    half = calls[kind == FULL :: 2]
    return [call for call in calls if likely.get(call.name) == kind or call in half]


def assert_all_verify(job: Job, written: list[CheckpointWritten]) -> None:
    """What was reported would be recorded: it must be whole."""
    for one in written:
        for file in (one.file, one.frozen):
            assert file is not None
            assert sha256_of(job, file) == file.sha256


def sha256_of(job: Job, file: FileRef) -> str:
    return hashlib.sha256((job.store / file.path).read_bytes()).hexdigest()


# -- SIGKILL -----------------------------------------------------------------------------------------


@chosen_or_all
def test_killed_at_any_call(new_job: Callable[..., Job], logs: Iterator[Path], every: bool) -> None:
    """One job lives through all of the kills, one in each attempt, and ends as if there had been none."""
    calls = calls_of_a_checkpoint(new_job(epochs=60, **HEAD_ONLY), logs)
    chosen = calls if every else characteristic(calls)
    writes = sum(call.name == "write" for call in calls)
    report = Call("write", writes + 1, "the report")  # durable and never told: an unrecorded file
    faults = [Fault(call, KILL) for call in [*chosen, report]]

    epochs = epochs_for(len(faults))
    job = new_job(epochs=epochs, **HEAD_ONLY)
    trainers: list[Trainer] = []
    for fault in faults:
        trainer = job.attempt()
        thread = freeze_between_writes(job, trainer)
        told = len(trainer.all(CheckpointWritten))
        with Strace(thread, next(logs), fault) as strace:
            thaw(trainer)
            trainer.read_to_end()
            strace.wait()
        assert any("killed by SIGKILL" in line for line in strace.lines()), f"not hit: {fault}"
        assert len(trainer.all(CheckpointWritten)) == told, f"what was not whole was reported: {fault}"
        assert_resumed_from_what_was_recorded(job, trainer)
        assert_all_verify(job, trainer.all(CheckpointWritten))
        trainers.append(trainer)
        job = job.after(trainer)
        # As retention leaves it; and nothing is swept, so that all of the garbage lies about.
        job = replace(job, task=replace(job.task, checkpoints=job.task.checkpoints[:3]))
    last = job.run()
    assert_resumed_from_what_was_recorded(job, last)
    assert Recorded.of(*trainers, last) == Recorded.of(new_job(epochs=epochs, **HEAD_ONLY).run())
    left = {path.name for path in (job.store / "jobs").rglob(f"*{TEMPORARY}")}
    assert len(left) >= sum(fault.call.name in {"fsync", "rename"} for fault in faults) / 2


def assert_resumed_from_what_was_recorded(job: Job, trainer: Trainer) -> None:
    newest = job.task.checkpoints[0].id if job.task.checkpoints else None
    assert trainer.only(Prepared).from_checkpoint == newest


# -- EIO and ENOSPC ----------------------------------------------------------------------------------


@chosen_or_all
@pytest.mark.parametrize("kind", [BROKEN, FULL])
def test_failed_at_any_call(
    new_job: Callable[..., Job], logs: Iterator[Path], every: bool, kind: str
) -> None:
    """One trainer lives through all of the failures, one in each epoch."""
    calls = calls_of_a_checkpoint(new_job(epochs=60, **HEAD_ONLY), logs)
    chosen = calls if every else shared_out(characteristic(calls), kind)

    epochs = epochs_for(len(chosen))
    job = new_job(epochs=epochs, **HEAD_ONLY)
    trainer = job.attempt()
    thread = freeze_between_writes(job, trainer)
    for fault in (Fault(call, kind) for call in chosen):
        delays = len(trainer.all(CheckpointDelayed))
        with Strace(thread, next(logs), fault) as strace:
            thaw(trainer)
            await_next_checkpoint(trainer)
            freeze(trainer)
        delayed = len(trainer.all(CheckpointDelayed)) - delays
        assert delayed == 1 if fault.call.name in NEEDED else delayed <= 1, f"not told: {fault}"
        assert_discarded_after_failure(strace.lines(), fault)
        if not stands_between_writes(job, trainer):
            thaw(trainer)
            freeze_between_writes(job, trainer)
    thaw(trainer)
    trainer.read_to_end()
    assert not trainer.all(Failed)
    assert_all_verify(job, trainer.all(CheckpointWritten))
    assert not list(job.store.rglob(f"*{TEMPORARY}")), "a file that failed is removed"
    assert Recorded.of(trainer) == Recorded.of(new_job(epochs=epochs, **HEAD_ONLY).run())


def assert_discarded_after_failure(lines: list[str], fault: Fault) -> None:
    """A file that failed is closed and removed; above all it is never fsynced again and believed."""
    failed = next((number for number, line in enumerate(lines) if "(INJECTED)" in line), None)
    assert failed is not None, f"not hit: {fault}"
    path = re.search(rf"{re.escape(fault.call.path.partition('/jobs/')[0])}[^\">]*{TEMPORARY}", lines[failed])
    if path is None:
        return
    after = {line.partition("(")[0] for line in lines[failed + 1 :] if path[0] in line}
    allowed = {"close", "unlink"} if fault.call.name in NEEDED else NEEDED | {"unlink"}
    assert after <= allowed, f"after {fault}: {after}"


# -- The first checkpoint: folders, and the part that never changes ------------------------------------


def faults_of_the_first(new_job: Callable[..., Job], logs: Iterator[Path], every: bool) -> list[Fault]:
    job = new_job(epochs=1, **HEAD_ONLY)
    with first_checkpoint(job, next(logs), None) as (trainer, strace):
        trainer.read_to_end()
        strace.wait()
    calls = calls_in(strace.lines(), job.store)
    names = [call.name for call in calls]
    assert names.count("mkdir") == names.count("rename") == 2 and names.count("fsync") >= 6
    kinds = (KILL, BROKEN, FULL)
    if every:
        return [Fault(call, kind) for call in calls for kind in kinds]
    return [Fault(call, kind) for call, kind in zip(calls[::2], itertools.cycle(kinds), strict=False)]


@contextlib.contextmanager
def first_checkpoint(job: Job, log: Path, fault: Fault | None) -> Iterator[tuple[Trainer, Strace]]:
    """A trainer, followed from before its first checkpoint on."""
    trainer = job.attempt()
    trainer.wait_for(Prepared)
    freeze(trainer)
    assert not (job.store / "jobs/job_1/frozen").exists(), "stopped too late"
    with Strace(trainer.pid, log, fault, calls=OF_THE_WRITER_ALONE, threads=True) as strace:
        thaw(trainer)
        yield trainer, strace


@chosen_or_all
def test_the_first_checkpoint_hit_at_any_call(
    new_job: Callable[..., Job], logs: Iterator[Path], every: bool
) -> None:
    """The calls that make folders and store the frozen part, whatever befalls them."""
    untouched = Recorded.of(new_job(epochs=1, **HEAD_ONLY).run())
    for fault in faults_of_the_first(new_job, logs, every):
        job = new_job(epochs=1, **HEAD_ONLY)
        with first_checkpoint(job, next(logs), fault) as (trainer, strace):
            trainer.read_to_end()
            strace.wait()
        log = "\n".join(strace.lines())
        assert ("killed by SIGKILL" if fault.kind == KILL else "(INJECTED)") in log, f"not hit: {fault}"
        if fault.kind == KILL:
            assert not trainer.all(CheckpointWritten), f"what was not whole was reported: {fault}"
            job = job.after(trainer)
            assert not job.task.checkpoints
            trainer = job.run()
        assert_all_verify(job, trainer.all(CheckpointWritten))
        assert Recorded.of(trainer) == untouched, str(fault)
