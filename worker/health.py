"""Who is to blame when attempts end without a single step: the job, or the machine that it ran on?

One failure says nothing. A job that fails twice in a row here is left to other workers for a while; they,
or the next job on this one, will tell. When attempts of different jobs fail here one after the other,
it is this machine, and it must not burn the budgets of any more.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

#: After so many attempts of one job in a row that did nothing, others may try.
TRIES_ON_THE_SPOT = 2
#: So many unexplained failures in a row, of at least two jobs, accuse the machine.
FAILURES_IN_A_ROW = 3
LONGEST_REST_SECONDS = 10.0


@dataclass
class _Fruitless:
    """Attempts of one job in a row that ended here without a step."""

    number: int = 0
    rests_until: float = 0.0


@dataclass
class Health:
    """What this worker saw of its own attempts; forgotten with the process, like its id."""

    clock: Callable[[], float] = time.monotonic
    _fruitless: dict[str, _Fruitless] = field(default_factory=dict)
    _streak: list[str] = field(default_factory=list)

    def worked(self, job_id: str) -> None:
        """An attempt did steps, or finished the job: nothing is wrong with the machine or with the job."""
        self._fruitless.pop(job_id, None)
        self._streak.clear()

    def failed(self, job_id: str, *, explained: bool) -> None:
        """An attempt failed before its first step. ``explained``: by an error that accuses the job or the
        store (no memory for it, no room for checkpoints), and so not this machine."""
        seen = self._fruitless.setdefault(job_id, _Fruitless())
        seen.number += 1
        if seen.number >= TRIES_ON_THE_SPOT:
            seen.rests_until = self.clock() + min(LONGEST_REST_SECONDS, 0.25 * 2**seen.number)
        if not explained:
            self._streak.append(job_id)

    def acquit(self) -> None:
        """Start counting anew: somebody enabled the worker, or it is the last one that is left."""
        self._streak.clear()

    def may_retry_here(self, job_id: str) -> bool:
        """Whether the job's next attempt may follow on the spot."""
        seen = self._fruitless.get(job_id)
        return seen is None or seen.number < TRIES_ON_THE_SPOT

    def resting(self) -> list[str]:
        """Jobs that are left to other workers for the moment."""
        now = self.clock()
        return [job_id for job_id, seen in self._fruitless.items() if seen.rests_until > now]

    @property
    def accusation(self) -> str | None:
        """What speaks against this machine, if enough does."""
        jobs = sorted(set(self._streak))
        if len(self._streak) < FAILURES_IN_A_ROW or len(jobs) < 2:
            return None
        return (
            f"{len(self._streak)} attempts in a row ended here without a step, of {len(jobs)} jobs"
            f" ({', '.join(jobs)}). Mend the machine, then enable the worker."
        )
