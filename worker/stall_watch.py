"""Hung is not alive: how long each phase may go without any progress."""

from models.job_state import Phase

_LIMITS: dict[str, float] = {
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
        self._slowest: dict[str, float] = {}  # by phase: a checkpoint in between changes no step's pace
        self._suspended = False

    def progressed(self, phase: str, now: float) -> None:
        """Something moved. The first tick of a phase belongs to what led up to it, not to its pace."""
        took = now - self._since
        # A tick that took longer than the limit was not looked at meanwhile: we slept, it was not slow.
        if phase == self._phase and phase != Phase.STARTING and took <= self.limit_seconds:
            self._slowest[phase] = max(self._slowest.get(phase, 0.0), took)
        self._phase = phase
        self._since = now

    def suspend(self, suspended: bool, now: float) -> None:
        """A parked trainer waits for the database, and rightly."""
        self._suspended = suspended
        self._since = now

    def reassured(self, now: float) -> None:
        """The lease is confirmed again: nothing is left to wait for, and one that hangs does not say so."""
        if self._suspended:
            self.suspend(False, now)

    def excuse(self, seconds: float, now: float) -> None:
        """Time in which this process itself was not running does not count against the trainer."""
        self._since = min(now, self._since + seconds)

    @property
    def limit_seconds(self) -> float:
        least = self._least_seconds or _LIMITS.get(self._phase, 60.0)
        return max(least, _PATIENCE * self._slowest.get(self._phase, 0.0))

    def stalled_for(self, now: float) -> float | None:
        """The seconds without progress once they exceed the limit, else None."""
        idle = now - self._since
        return idle if not self._suspended and idle > self.limit_seconds else None
