"""SIGKILL at chosen and at random moments, and a record of what each kill hit."""

import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from models import job_store
from models.host import ProcessId
from tests.faults.sabotage import Pace
from tests.servers.waiting import until
from tests.stack import Stack, command_line, kill_tree

#: Steps that a kill comes after a commit: within the next epoch, whether that takes seconds or milliseconds.
STEPS_LATER = (1, 9)
#: And so many seconds after the step, so that it falls anywhere within one.
SECONDS_LATER = (0.0, 0.05)


@dataclass(frozen=True)
class Kill:
    """What was hit, when, and what it cost."""

    victim: str
    phase: str
    step: int  #: last one that the database knew of
    committed_step: int
    attempt: int
    in_write: bool  #: its checkpoint had no final name yet


class Killer:
    """Kills parts of a stack that runs one job; whatever it kills, but the trainer, it starts again."""

    def __init__(self, stack: Stack, job_id: str, pace: Pace, seed: int) -> None:
        """``pace`` of the stack's workers."""
        self.stack = stack
        self.job_id = job_id
        self.pace = pace
        self.random = random.Random(seed)
        self.kills: list[Kill] = []
        self._is_writing = False

    def row(self) -> Any:
        return job_store.get_job(self.stack.db, self.job_id)

    def attempt(self) -> Any:
        """The one that runs, once it has a trainer."""

        def look() -> Any:
            last = job_store.job_attempts(self.stack.db, self.job_id, limit=1000)[-1]
            return last if last.trainer_pid is not None else None

        return until(look, seconds=40, what="a trainer")

    def _unfinished(self) -> Any:
        row = self.row()
        assert row.finished_at is None, f"the job ended before the kills did: {self.kills}"
        return row

    # -- Moments ---------------------------------------------------------------------------------

    def in_mid_epoch(self) -> None:
        """A random number of steps after a commit, which no checkpoint holds."""
        at = self.row().committed_step
        until(
            lambda: self._unfinished().committed_step > at,
            seconds=60, what="the next commit",
        )  # fmt: skip
        goal = self.pace.num_steps(None) + self.random.randint(*STEPS_LATER)
        until(
            lambda: self._unfinished() and self.pace.num_steps(None) >= goal,
            seconds=60, what="more steps",
        )  # fmt: skip
        time.sleep(self.random.uniform(*SECONDS_LATER))  # the moment itself is what is random

    def in_checkpoint_write(self) -> None:
        """A checkpoint has its temporary name; its writer stands still from then on, until it is killed."""
        trainer = psutil.Process(self.attempt().trainer_pid)
        folder = Path(self.stack.home / "storage/jobs" / self.job_id / "checkpoints")
        before = set(folder.glob("*.partial"))

        def caught() -> bool:
            if not set(folder.glob("*.partial")) - before:
                return False
            trainer.suspend()
            until(lambda: trainer.status() == psutil.STATUS_STOPPED, what="it to stand still", every=0.001)
            self._is_writing = bool(set(folder.glob("*.partial")) - before)
            if not self._is_writing:  # this was too late
                trainer.resume()
            return self._is_writing

        until(caught, seconds=60, what="a checkpoint being written", every=0.0005)

    # -- Victims ---------------------------------------------------------------------------------

    def trainer(self) -> None:
        attempt = self.attempt()
        self._note("trainer")
        psutil.Process(attempt.trainer_pid).kill()
        self._await_recovery(attempt)

    def zygote(self) -> None:
        attempt = self.attempt()
        zygote = psutil.Process(attempt.trainer_pid).parent()
        assert "worker.zygote" in command_line(zygote)
        self._note("zygote")
        zygote.kill()
        self._await_recovery(attempt)

    def supervisor(self) -> None:
        """The supervisor alone: its zygote and its trainer must follow by themselves, within a second."""
        attempt = self.attempt()
        trainer = ProcessId.of(attempt.trainer_pid)
        self._note("supervisor")
        psutil.Process(attempt.worker_pid).kill()
        until(lambda: not trainer.is_alive(), seconds=1.0, what="the orphaned trainer to be gone")
        self._restart_worker(attempt.worker_pid)
        self._await_recovery(attempt)

    def whole_worker(self) -> None:
        attempt = self.attempt()
        self._note("worker")
        kill_tree(attempt.worker_pid)
        self._restart_worker(attempt.worker_pid)
        self._await_recovery(attempt)

    def api(self) -> None:
        """The job must not notice."""
        assert self.stack.api is not None
        attempt = self.attempt().attempt
        self._note("api")
        kill_tree(self.stack.api.pid)
        self.stack.api.wait(10)
        self.stack.start_api()
        assert self.attempt().attempt == attempt

    # -- Afterwards ------------------------------------------------------------------------------

    def _note(self, victim: str) -> None:
        row = self._unfinished()
        found = (row.phase or "", row.step, row.committed_step, row.attempt)
        self.kills.append(Kill(victim, *found, in_write=self._is_writing))
        self._is_writing = False

    def _restart_worker(self, pid: int) -> None:
        dead = next(worker for worker in self.stack.workers if worker.pid == pid)
        dead.wait(10)
        self.stack.workers.remove(dead)
        self.stack.start_worker()

    def _await_recovery(self, killed: Any) -> None:
        def stepped_again() -> bool:
            last = job_store.job_attempts(self.stack.db, self.job_id, limit=1000)[-1]
            finished = self.row().status == "succeeded"
            return finished or (last.attempt > killed.attempt and last.first_step_at is not None)

        until(stepped_again, seconds=40, what="a step after the kill")


def report(kills: list[Kill], attempts: list[dict[str, Any]]) -> str:
    """One line a kill, with what it cost."""
    redone = {row["attempt"]: row["steps_redone"] for row in attempts}
    lines = [
        f"  {number:2} {kill.victim:10} attempt {kill.attempt:2} {kill.phase:10} step {kill.step:3}"
        f" committed {kill.committed_step:3} redone {redone.get(kill.attempt + 1, 0):2}"
        f"{' in a write' if kill.in_write else ''}"
        for number, kill in enumerate(kills, 1)
    ]
    return "\n".join(lines)
