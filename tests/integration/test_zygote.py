"""Zygote and trainers as real processes: they start in an instant, and outlive neither each other nor us."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from models.errors import TrainerCrashed
from models.host import ProcessId
from models.job_spec import JobSpec
from tests.images import draw_dataset
from tests.servers.guard import die_with_tests
from tests.servers.waiting import until
from tests.stack import command_line
from worker import zygote_keeper
from worker.messages import Failed, FromTrainer, Heartbeat, Parked, Slot, Stop, Task
from worker.trainer_process import ForkedTrainer
from worker.wire import encode
from worker.zygote_keeper import ZygoteKeeper, trainer_environment

ROOT = Path(__file__).parents[2]
IMPORT_SECONDS = 90.0  #: torch, on a machine that has other things to do
GONE_SECONDS = 1.0

Start = Callable[..., ForkedTrainer]


@pytest.fixture(scope="module")
def keeper() -> Iterator[ZygoteKeeper]:
    made = ZygoteKeeper()
    assert made.wait_ready(IMPORT_SECONDS)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    draw_dataset(root / "shapes", per_class=4, size=32)
    return root


def task(data_root: Path, folder: Path, dataset: str = "shapes") -> Task:
    """Of a trainer that parks at its first boundary: it stays, and costs nothing."""
    spec = JobSpec.model_validate(
        {
            "dataset": {"path": dataset},
            "model": {"arch": "mobilenet_v3_small", "weights": None, "freeze": "none"},
            "hyperparameters": {"epochs": 1000, "batch_size": 4, "image_size": 32},
        }
    )
    return Task(
        job_id="job_1", attempt=1, spec=spec.to_json(),
        segments=[{"epochs": 1000, "scheduler": "constant", "planned_epochs": None}],
        slot=Slot("cpu", threads=1, kind="test"), numerics=None, storage_url=(folder / "store").as_uri(),
        data_root=str(data_root), cache_dir=str(folder / "cache"), downloads=False, checkpoints=[],
        manifest_path=None, verify=False, fingerprint=None, lease_confirmed_at=0.0,
        park_after_seconds=0.0, store_patience_seconds=1.0, seconds_between_failures=3600.0,
    )  # fmt: skip


@pytest.fixture
def start(keeper: ZygoteKeeper, data_root: Path, tmp_path: Path) -> Iterator[Start]:
    started: list[ForkedTrainer] = []

    def start_one(by: ZygoteKeeper = keeper, **more: Any) -> ForkedTrainer:
        trainer = ForkedTrainer(by, task(data_root, tmp_path, **more), tmp_path / "logs/attempt.log")
        started.append(trainer)
        return trainer

    yield start_one
    for trainer in started:
        trainer.kill()
        trainer.close()


def hear(trainer: ForkedTrainer, kind: type[FromTrainer], seconds: float = 60.0) -> Any:
    """The next message of that kind."""
    never, _ = os.pipe()
    try:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for message in trainer.receive(0.2, never):
                if isinstance(message, kind):
                    return message
            assert not trainer.has_ended(), f"it left without a {kind.__name__}"
        raise AssertionError(f"no {kind.__name__} within {seconds} s")
    finally:
        os.close(never)
        os.close(_)


def gone(*processes: ProcessId) -> bool:
    return not any(process.is_alive() for process in processes)


def threads_of(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())


def test_a_fork_is_a_trainer_at_once(keeper: ZygoteKeeper, start: Start) -> None:
    began = time.monotonic()
    trainer = start()
    assert time.monotonic() - began < 2.5, "no import is waited for"
    assert keeper.pid is not None
    hear(trainer, Parked)
    assert psutil.Process(trainer.id.pid).ppid() == keeper.pid
    assert os.getsid(trainer.id.pid) == trainer.id.pid, "a session of its own"
    assert threads_of(keeper.pid) == 1, "a parent with a thread pool cannot be forked safely"
    assert trainer.exited() is None
    assert trainer.id.is_alive()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_death_by_signal_is_told_as_such(start: Start, number: signal.Signals) -> None:
    trainer = start()
    hear(trainer, Parked)
    os.kill(trainer.id.pid, number)
    until(trainer.has_ended, seconds=GONE_SECONDS)
    ended = trainer.exited()
    assert ended is not None and ended.by_signal
    assert str(ended) == f"killed by {number.name}"


def test_last_words_come_before_the_exit(start: Start) -> None:
    trainer = start(dataset="none")
    failed = hear(trainer, Failed)
    assert (failed.code, failed.retryable) == ("dataset_invalid", False)
    until(trainer.has_ended)
    assert str(trainer.exited()) == "exited with status 0"


def test_a_supervisor_that_leaves_without_a_word(keeper: ZygoteKeeper) -> None:
    inbox, ours = os.pipe()
    null = os.open(os.devnull, os.O_WRONLY)
    os.close(ours)
    forked = keeper.fork(inbox, null, null)
    status = keeper.exit_status(forked.pid, timeout=30)
    assert status is not None and os.waitstatus_to_exitcode(status) == 1
    for descriptor in (inbox, null, forked.pidfd):
        os.close(descriptor)


def test_a_frozen_trainer_never_freezes_us(start: Start) -> None:
    trainer = start()
    hear(trainer, Parked)
    os.kill(trainer.id.pid, signal.SIGSTOP)
    until(lambda: psutil.Process(trainer.id.pid).status() == psutil.STATUS_STOPPED)
    began = time.monotonic()
    for at in range(20_000):
        trainer.send(Heartbeat(float(at)))
    trainer.send(Stop())
    assert time.monotonic() - began < 5.0
    began = time.monotonic()
    trainer.kill()
    assert time.monotonic() - began < GONE_SECONDS and not trainer.id.is_alive()
    assert str(trainer.exited()) == "killed by SIGKILL"


def test_only_the_pipe_ends_a_trainer_in_order(keeper: ZygoteKeeper, start: Start) -> None:
    """TERM and INT go to whole groups of processes, and mean the supervisor."""
    trainer = start()
    hear(trainer, Parked)
    zygote = ProcessId.of(keeper.pid or 0)
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(trainer.id.pid, number)
        os.kill(zygote.pid, number)
    trainer.send(Heartbeat(0.0))
    ignored = int(Path(f"/proc/{trainer.id.pid}/status").read_text().partition("SigIgn:")[2].split()[0], 16)
    for number in (signal.SIGTERM, signal.SIGINT):
        assert ignored >> (number - 1) & 1
    assert trainer.id.is_alive() and zygote.is_alive()
    assert start().id.is_alive(), "the zygote still serves"


def test_trainers_go_with_their_zygote_and_another_serves(keeper: ZygoteKeeper, start: Start) -> None:
    trainer = start()
    hear(trainer, Parked)
    zygote = ProcessId.of(keeper.pid or 0)
    os.kill(zygote.pid, signal.SIGKILL)
    until(lambda: gone(trainer.id, zygote), seconds=GONE_SECONDS, what="zygote and trainer to be gone")
    ended = trainer.exited()
    assert ended is not None and ended.by_signal
    successor = start()  # waits until there is somebody to ask
    hear(successor, Parked)
    assert keeper.pid is not None and keeper.pid != zygote.pid
    assert psutil.Process(successor.id.pid).ppid() == keeper.pid


def test_a_zygote_that_does_not_answer_is_replaced(
    keeper: ZygoteKeeper, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its late answer is never taken for one to somebody else."""
    monkeypatch.setattr(zygote_keeper, "REPLY_SECONDS", 0.3)
    zygote = ProcessId.of(keeper.pid or 0)
    os.kill(zygote.pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(TrainerCrashed, match="does not answer"):
        start()
    assert time.monotonic() - began < 5.0
    until(lambda: gone(zygote), seconds=5.0)
    monkeypatch.undo()
    trainer = start()
    hear(trainer, Parked)
    assert psutil.Process(trainer.id.pid).ppid() == keeper.pid != zygote.pid


SUPERVISOR = """
import sys, time
from pathlib import Path
from worker.messages import Parked
from worker.wire import decode
from worker.trainer_process import ForkedTrainer
from worker.zygote_keeper import ZygoteKeeper
import os
task = decode(sys.stdin.buffer.readline())
keeper = ZygoteKeeper()
trainer = ForkedTrainer(keeper, task, Path(sys.argv[1]))
never, _ = os.pipe()
while not any(isinstance(message, Parked) for message in trainer.receive(0.2, never)):
    pass
print(keeper.pid, trainer.id.pid, flush=True)
time.sleep(600)
"""


def test_nothing_outlives_a_supervisor_that_is_killed(data_root: Path, tmp_path: Path) -> None:
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(tmp_path / "log")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, preexec_fn=die_with_tests(),
    )  # fmt: skip
    try:
        assert supervisor.stdin is not None and supervisor.stdout is not None
        supervisor.stdin.write(encode(task(data_root, tmp_path)))
        supervisor.stdin.flush()
        zygote, trainer = (ProcessId.of(int(pid)) for pid in supervisor.stdout.readline().split())
        assert zygote.is_alive() and trainer.is_alive()
        supervisor.kill()
        until(lambda: gone(zygote, trainer), seconds=GONE_SECONDS, what="zygote and trainer to be gone")
    finally:
        supervisor.kill()
        supervisor.communicate()


def test_a_keeper_that_stops_while_its_zygote_still_imports() -> None:
    me = psutil.Process()

    def zygotes() -> set[psutil.Process]:
        return {child for child in me.children() if "worker.zygote" in command_line(child)}

    before = zygotes()
    keeper = ZygoteKeeper()
    [young] = until(lambda: zygotes() - before, what="the zygote to start")
    keeper.stop()
    assert keeper.wait_ready(0.0), "nobody waits for a keeper that stops"
    until(lambda: young not in zygotes(), seconds=5.0, what="the zygote to be gone")
    with pytest.raises(TrainerCrashed):
        keeper.fork(0, 1, 2, timeout=5.0)


def test_a_zygote_that_could_not_be_forked_safely_refuses_to_be_one() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "worker.zygote"),
                *("--socket", str(theirs.fileno()), "--parent", str(os.getpid())),
            ],
            env=trainer_environment() | {"OPENBLAS_NUM_THREADS": "2"},
            pass_fds=[theirs.fileno()], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "OPENBLAS_NUM_THREADS must be 1" in done.stderr


def test_a_zygote_whose_parent_is_another_does_not_stay() -> None:
    """The parent died before the death signal was set: nobody would send it any more."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        done = subprocess.run(
            [sys.executable, "-m", "worker.zygote", "--socket", str(theirs.fileno()), "--parent", "1"],
            env=trainer_environment(), pass_fds=[theirs.fileno()], cwd=ROOT, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
