"""SIGKILL at a random moment after a checkpoint, and how long the job then took to come back."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.step_log import SAVED, STEP, Moment, StepLog

#: Longer than any recovery here; a job that needs more is broken.
PATIENCE_SECONDS = 300.0


@dataclass(frozen=True)
class Recovery:
    """Seconds since the moment right before SIGKILL was sent."""

    next_step_seconds: float  #: until any step was done
    caught_up_seconds: float  #: until the last step that had been done before was done again
    steps_lost: int


@dataclass
class Killer:
    """Kills one job again and again: once after each new checkpoint, within the length of an epoch."""

    log: StepLog
    job: str
    kill: Callable[[], float]  #: sends SIGKILL; answers the moment (CLOCK_MONOTONIC) right before
    random: random.Random
    epoch_seconds: float
    last_checkpoint: float = float("inf")  #: no kill after a checkpoint of this step: the job would be over
    place: int = 0  #: in the log; what lies before it was dealt with

    def strike(self) -> Recovery | None:
        """Kill once; None if the job has come too far for it. Raises NotInTime."""
        self._next(lambda moment: moment.event == SAVED, "a checkpoint")
        time.sleep(self.random.uniform(0.0, self.epoch_seconds))
        # On a machine that became faster meanwhile, that was more than one epoch.
        if max(m.number for m in self._moments() if m.event == SAVED) >= self.last_checkpoint:
            return None
        run = max(moment.run for moment in self._moments())
        self.place = len(self.log.moments)
        killed_at = self.kill()
        again = self._next(lambda moment: moment.event == STEP and moment.run > run, "a step after the kill")
        # Looked up now, when the dead process's last words are in the log, too.
        before = [moment for moment in self._moments() if moment.run <= run]
        reached = [moment for moment in before if moment.event == STEP and moment.run == before[-1].run]
        last = reached[-1].number if reached else 0
        kept = [moment for moment in before if moment.event == SAVED][-1].number
        caught_up = again
        if again.number < last:
            caught_up = self._next(lambda moment: moment.number == last and moment.run > run, "the lost step")
        return Recovery(again.at - killed_at, caught_up.at - killed_at, max(0, last - kept))

    def _moments(self) -> list[Moment]:
        return [moment for moment in self.log.read() if moment.job == self.job]

    def _next(self, wanted: Callable[[Moment], bool], what: str) -> Moment:
        """The first such moment of this job that was not dealt with yet, awaited."""
        place, moment = self.log.first(
            lambda moment: moment.job == self.job and wanted(moment),
            after=self.place,
            seconds=PATIENCE_SECONDS,
            what=f"{what} of {self.job}",
        )
        self.place = place + 1
        return moment
