"""Where real modules are given stand-ins: for the time, threads, processes and torch's archives."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import models.database
import models.job_store
import models.job_store.endings
import models.job_store.progress
import models.job_store.submission
import models.outages
import models.reconciler
import models.storage.local
import worker.attempt
import worker.conclusion
import worker.health
import worker.lease
import worker.presence
import worker.stack_dump
import worker.supervisor
import worker.sweep
import worker.training.checkpoint
import worker.training.metering
import worker.training.outcome
import worker.training.patience
import worker.training.room
import worker.training.session
import worker.training.trainer
import worker.training.writer
from tests.simulation import disk, fold, oracles, stand_ins, trainers
from tests.simulation.kernel import kernel
from tests.simulation.world import world

_LOG = stand_ins.Log()


class _ProcessId:
    """``models.host.ProcessId`` as the reconciler asks it: is that process alive?"""

    def __init__(self, pid: int, started_at: float) -> None:
        self._pid, self._started_at = pid, started_at

    def is_alive(self) -> bool:
        process = kernel().processes.get(self._pid)
        return process is not None and process.started_at == self._started_at and not process.is_dead


class _Logs:
    """No trainer of the simulation writes a log."""

    def __init__(self, *_: object) -> None:
        pass

    def path(self, fence: object) -> None:
        return None

    def ended(self, job_id: str, attempt: int) -> None:
        pass

    def wait(self, timeout: float) -> None:
        pass


def _attempt(**parts: Any) -> worker.attempt.Attempt:
    """Its fields took the real clock for their defaults when the class was made."""
    now = kernel().monotonic()
    return worker.attempt.Attempt(**parts, last_heard_at=now, _flushed_at=now)


def _health() -> worker.health.Health:
    """Its clock, too, is a default from when the class was made."""
    return worker.health.Health(clock=lambda: kernel().monotonic())


def _dump_stacks(trainer: object, log: None, reason: str) -> bool:
    """A simulated trainer has no stacks to print; its supervisor waits in vain for a second."""
    kernel().sleep(worker.stack_dump.ANSWER_SECONDS)
    return False


def _uuid() -> SimpleNamespace:
    return SimpleNamespace(hex=world().next_id("").strip("_"))


def _replacements() -> list[tuple[Any, str, Any]]:
    clock = {"boot_time_clock": lambda: kernel().boot_clock()}
    host = {"boot_id": lambda: kernel().boot_id, "pid_namespace": lambda: kernel().current.process.namespace}
    time, threading = {"time": stand_ins.TIME}, {"threading": stand_ins.THREADING}
    log, random = {"_log": _LOG}, {"random": stand_ins.RANDOM}
    ids = {"new_id": lambda kind: world().next_id(kind)}
    by_module: dict[Any, dict[str, Any]] = {
        models.database: clock | time | {"datetime": stand_ins.Instants},
        models.job_store.endings: clock | host | {"ProcessId": _ProcessId},
        models.job_store.progress: host,
        models.job_store.submission: ids,
        models.outages: log,
        models.reconciler: clock | threading | log | random,
        models.storage.local: {
            "os": disk.OS,
            "shutil": disk.SHUTIL,
            "uuid": SimpleNamespace(uuid4=_uuid),
        },
        worker.attempt: time | log | random | ids,
        worker.conclusion: clock | log,
        worker.lease: clock | threading | log,
        worker.presence: threading | log,
        worker.sweep: log,
        worker.supervisor: clock | host | time | threading | log | {
            "os": stand_ins.OS,
            "Attempt": _attempt,
            "Health": _health,
            "dump_stacks": _dump_stacks,
            "bury": trainers.bury,
            "storage_from_url": lambda url: world().storage(),
            "TrainerLogs": _Logs,
            "SpawnedTrainer": trainers.SimTrainer,
        },
        worker.training.checkpoint: {
            "torch": fold.Archive,
            "uuid_utils": SimpleNamespace(uuid7=_uuid),
        },
        worker.training.metering: time,
        worker.training.outcome: {"traceback": SimpleNamespace(print_exc=lambda: None)},
        worker.training.patience: time,
        worker.training.room: time,
        worker.training.session: time | threading | {
            "os": stand_ins.OS,
            "decode": lambda message: message,
        },
        worker.training.trainer: time | {
            "prepare": trainers.prepare,
            "order": fold.order,
            "weights_sha256": fold.weights_sha256,
        },
        worker.training.writer: time | {
            "ThreadPoolExecutor": stand_ins.Executor,
            "wait_for": stand_ins.wait_for,
            "starved_seconds": lambda thread: 0.0,
        },
        models.job_store: {
            name: oracles.observed(name, getattr(models.job_store, name)) for name in oracles.OBSERVED
        },
    }  # fmt: skip
    return [(module, name, value) for module, names in by_module.items() for name, value in names.items()]


@contextmanager
def patched() -> Iterator[None]:
    """While schedules run; what is real again afterwards was never changed."""
    with ExitStack() as stack:
        for module, name, value in _replacements():
            stack.enter_context(patch.object(module, name, value))
        yield
