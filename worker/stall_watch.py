"""Hung is not alive: how long each phase may go without any progress."""

from models.job_state import Phase

_LIMITS = {
    Phase.STARTING: 180.0,  # a large weights file from a slow disk ticks only at its end
    Phase.DATASET: 60.0,
    Phase.TRAINING: 30.0,
    Phase.VALIDATION: 30.0,
    Phase.VERIFYING: 30.0,
    Phase.CHECKPOINT: 60.0,
}
#: A step may take this many times as long as the slowest before it.
_PATIENCE = 5.0


class StallWatch:
    """Fed with progress and with the time; knows neither clocks nor processes."""

    def __init__(self, now: float, least_seconds: float | None = None) -> None:
        """``least_seconds`` replaces the limit of every phase (PERDURE_STALL_SECONDS)."""
        self._least_seconds = least_seconds
        self._phase = str(Phase.STARTING)
        self._since = now
        self._slowest = 0.0
        self._suspended = False

    def progressed(self, phase: str, now: float) -> None:
        """Something moved. The first tick of a phase belongs to what led up to it, not to its pace."""
        if phase == self._phase and phase != Phase.STARTING:
            self._slowest = max(self._slowest, now - self._since)
        elif phase != self._phase:
            self._slowest = 0.0 if phase not in {Phase.TRAINING, Phase.VALIDATION} else self._slowest
        self._phase = phase
        self._since = now

    def suspend(self, suspended: bool, now: float) -> None:
        """A parked trainer waits for the database, and rightly."""
        self._suspended = suspended
        self._since = now

    def excuse(self, seconds: float) -> None:
        """Time in which this process itself was not running does not count against the trainer."""
        self._since += seconds

    @property
    def limit_seconds(self) -> float:
        least = self._least_seconds or _LIMITS.get(Phase(self._phase), 60.0)
        return max(least, _PATIENCE * self._slowest)

    def stalled_for(self, now: float) -> float | None:
        """The seconds without progress once they exceed the limit, else None."""
        idle = now - self._since
        return idle if not self._suspended and idle > self.limit_seconds else None
