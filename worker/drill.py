"""Drills: the worker breaks itself for real, as a user asked, and then has to recover like from any fault."""

import os
import signal
from typing import NoReturn

import psutil
import structlog

from models import job_store
from models.job_state import Fault
from models.storage import LocalStorage
from worker.attempt import Attempt
from worker.trainer_process import TrainerProcess

_log = structlog.get_logger()

#: So many bytes in the middle of a checkpoint are flipped.
DAMAGED_BYTES = 16


def carry_out(attempt: Attempt, trainer: TrainerProcess, drill_id: str) -> None:
    """Break what the drill says; noticing it is left to whoever notices such faults anyway.

    Recorded before it is done: a worker that kills itself cannot do so afterwards.
    """
    attempt.drill = drill_id
    fault = attempt.persist(lambda: job_store.carry_out_drill(attempt.db, attempt.fence, drill_id))
    if fault is None:  # told late, of one that is over
        return
    attempt.fault = fault
    _log.warning("drill.carried_out", job_id=attempt.fence.job_id, drill=drill_id, fault=str(fault))
    match fault:
        case Fault.KILL_TRAINER | Fault.CORRUPT_CHECKPOINT:
            trainer.signal(signal.SIGKILL)
        case Fault.STALL:
            trainer.signal(signal.SIGSTOP)
        case Fault.KILL_WORKER:
            _kill_this_worker()


def finish(attempt: Attempt) -> None:
    """What can only be done once the trainer is dead: checkpoints in its last words are recorded by now,
    so the one that is damaged is the one that the next attempt begins with."""
    if attempt.fault != Fault.CORRUPT_CHECKPOINT or not isinstance(attempt.storage, LocalStorage):
        return
    drill_id = attempt.drill or ""
    chosen = attempt.persist(
        lambda: job_store.choose_checkpoint_to_damage(attempt.db, attempt.fence, drill_id)
    )
    if chosen is not None:
        _flip_bytes(attempt.storage, chosen.path)
        _log.warning("drill.damaged", job_id=attempt.fence.job_id, path=chosen.path)


def _kill_this_worker() -> NoReturn:
    """The trainer, the zygote, and this process, at the same instant as far as anybody can tell."""
    for process in psutil.Process().children(recursive=True):
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def _flip_bytes(storage: LocalStorage, key: str) -> None:
    with storage.local_path(key).open("r+b") as stream:
        middle = stream.seek(0, os.SEEK_END) // 2
        stream.seek(middle)
        damaged = bytes(byte ^ 0xFF for byte in stream.read(DAMAGED_BYTES))
        stream.seek(middle)
        stream.write(damaged)
        stream.flush()
        os.fsync(stream.fileno())
