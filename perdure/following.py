"""What happens to a job, as changes in the order in which a person should hear of them.

``watch`` learns of them from the job's stream, after one look at what is recorded already; ``demo``, which
acts on what it sees at once, looks again and again.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perdure.errors import ServerUnreachableError, UnavailableError
from perdure.types import AT_REST, Attempt, EpochMetrics, Job, JobStatus, StepBatch

if TYPE_CHECKING:
    from perdure.client import Perdure
    from perdure.stream import StreamEvent

#: Endings that somebody asked for: what follows them is no recovery.
ORDERLY = frozenset({"finished", "paused", "cancelled"})


@dataclass(frozen=True)
class StatusChanged:
    """The job has another status than at the last look."""

    job: Job


@dataclass(frozen=True)
class AttemptEnded:
    """An attempt is over, and not because the job is."""

    attempt: Attempt


@dataclass(frozen=True)
class Recovered:
    """A later attempt has done its first step."""

    attempt: Attempt


@dataclass(frozen=True)
class EpochDone:
    """An epoch is committed."""

    metrics: EpochMetrics


Change = StatusChanged | AttemptEnded | Recovered | EpochDone


class JobFollower:
    """Knows one job as it was last seen, and tells the differences."""

    def __init__(self, client: "Perdure", job_id: str) -> None:
        self._client = client
        self.job_id = job_id
        self.job: Job | None = None
        self.attempts: list[Attempt] = []
        self._last_epoch = 0
        self._epochs: set[tuple[int, int | None]] = set()  #: with the attempt that sealed each
        self._ended: set[int] = set()
        self._recovered: set[int] = set()

    @property
    def is_at_rest(self) -> bool:
        """Nobody works on the job, and nobody will unless asked."""
        return self.job is not None and self.job.status in AT_REST

    def poll(self) -> list[Change]:
        """Every change since the last call. Raises what the client raises."""
        job = self._client.jobs.get(self.job_id)
        changes: list[Change] = []
        if self._ledger_may_have_changed(job):
            self.attempts = list(self._client.jobs.attempts(self.job_id))
        changes += self._ended_attempts()
        changes += self._recoveries()
        changes += self._new_epochs(job)
        if self.job is None or job.status != self.job.status:
            changes.append(StatusChanged(job))
        self.job = job
        return changes

    def take(self, told: "StreamEvent") -> list[Change]:
        """What an event of the stream changes. Raises PerdureAPIError; not for a server that is away."""
        before = self.job
        match told.data:
            case JobStatus() as status:
                self._look_again(status)
            case Attempt() as attempt:
                known = [row for row in self.attempts if row.attempt != attempt.attempt]
                self.attempts = sorted([*known, attempt], key=lambda row: row.attempt)
                self._look_again()
            case StepBatch() as steps:
                self._advance(phase="training", step=steps.step, epoch=steps.epoch)
            case EpochMetrics() as row if (row.epoch, row.attempt) not in self._epochs:
                self._epochs.add((row.epoch, row.attempt))
                self._advance(epochs_done=row.epoch)
                return [EpochDone(row)]
        changes = [*self._ended_attempts(), *self._recoveries()]
        if self.job is not None and (before is None or self.job.status != before.status):
            changes.append(StatusChanged(self.job))
        return changes

    def _look_again(self, status: JobStatus | None = None) -> None:
        """At the job's body, which says more than an event; while the server is away, by what that says."""
        try:
            self.job = self._client.jobs.get(self.job_id)
        except (ServerUnreachableError, UnavailableError):
            if self.job is not None and status is not None:
                names = ("status", "attempt", "recoveries", "error", "weights_sha256")
                known = {name: getattr(status, name) for name in names}
                self.job = self.job.model_copy(update=known | {"status_reason": None})

    def _advance(self, **progress: object) -> None:
        if self.job is not None and self.job.progress is not None:
            further = self.job.progress.model_copy(update=progress)
            self.job = self.job.model_copy(update={"progress": further})

    def _ledger_may_have_changed(self, job: Job) -> bool:
        before = self.job
        newest = self.attempts[-1] if self.attempts else None
        return (
            before is None
            or newest is None
            or (job.attempt, job.status) != (before.attempt, before.status)
            or job.attempt != newest.attempt
            or newest.first_step_at is None
            or newest.ended_at is not None
        )

    def _ended_attempts(self) -> list[Change]:
        over = [
            attempt
            for attempt in self.attempts
            if attempt.end_cause and attempt.end_cause not in ORDERLY and attempt.attempt not in self._ended
        ]
        self._ended.update(attempt.attempt for attempt in over)
        return [AttemptEnded(attempt) for attempt in over]

    def _recoveries(self) -> list[Change]:
        changes: list[Change] = []
        for previous, attempt in zip(self.attempts, self.attempts[1:], strict=False):
            if attempt.first_step_at and attempt.attempt not in self._recovered:
                self._recovered.add(attempt.attempt)
                if previous.end_cause not in ORDERLY:
                    changes.append(Recovered(attempt))
        return changes

    def _new_epochs(self, job: Job) -> list[Change]:
        if job.progress is None or job.progress.epochs_done <= self._last_epoch:
            return []
        rows = list(self._client.jobs.epochs(self.job_id, after=self._last_epoch or None))
        if rows:
            self._last_epoch = rows[-1].epoch
            self._epochs |= {(row.epoch, row.attempt) for row in rows}
        return [EpochDone(row) for row in rows]
