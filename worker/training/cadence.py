"""How often to save within an epoch: saving costs time, and so does losing what was not saved.

The interval that wastes the least is the square root of 2 × cost × mean time between failures (J. W. Young,
1974; J. T. Daly, 2006, whose further terms vanish where the cost is small beside that time).
"""

import math

from models.job_spec import CheckpointEvery

#: A new measurement counts this much against those before it.
_WEIGHT = 0.3


class Cadence:
    """Says when the next checkpoint within an epoch is due."""

    def __init__(self, rule: CheckpointEvery, seconds_between_failures: float, now: float) -> None:
        self._rule = rule
        self._seconds_between_failures = seconds_between_failures
        self._cost_seconds: float | None = None
        self._write_seconds = 0.0
        self._saved_at = now

    @property
    def interval_seconds(self) -> float:
        """What was done since the snapshot before is at risk until the one after it is durable."""
        if self._rule.seconds is not None:
            return self._rule.seconds
        # Nothing measured yet: soon, so that a job that is killed again and again gets on from the start.
        optimum = math.sqrt(2 * (self._cost_seconds or 0.0) * self._seconds_between_failures)
        bounded = min(optimum, self._rule.max_seconds - self._write_seconds)
        # A store that is slower than this would have training wait for it, every time.
        return max(bounded, self._rule.min_seconds, self._write_seconds)

    def is_due(self, now: float) -> bool:
        return now - self._saved_at >= self.interval_seconds

    def saved(self, now: float) -> None:
        """A snapshot was taken: work is at risk from here on."""
        self._saved_at = now

    def measured(self, cost_seconds: float, write_seconds: float) -> None:
        """What a checkpoint took from training, and how long until it was durable."""
        before = cost_seconds if self._cost_seconds is None else self._cost_seconds
        self._cost_seconds = before + _WEIGHT * (cost_seconds - before)
        self._write_seconds = write_seconds
