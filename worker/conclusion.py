"""The end of a turn: what a trainer's last word, or its death, means for the job and for this worker."""

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from models import job_store
from models.database import Database
from models.errors import NonFiniteLoss, OutOfMemory, TrainerCrashed
from models.host import Owner, boot_time_clock
from models.job_state import EndCause, JobStatus
from models.job_store.restarts import Restarted
from models.settings import Settings
from worker import drill
from worker.attempt import Attempt
from worker.health import Health
from worker.messages import Failed, Finished, Slot, Stopped
from worker.turn import Turn

_log = structlog.get_logger()


@dataclass(frozen=True)
class Death:
    """The trainer ended without a word of why, or was ended by us."""

    cause: EndCause
    detail: str
    detection_seconds: float | None = None
    explained: bool = False  #: by an error that accuses the job or the store, and so not this machine


class Conclusions:
    """Drawn for one worker: the job goes on here, goes to others, or is over."""

    def __init__(
        self,
        db: Database,
        settings: Settings,
        owner: Owner,
        slot: Slot,
        health: Health,
        *,
        is_leaving: Callable[[], bool],
        stand_aside: Callable[[str], None],
    ) -> None:
        """``is_leaving``: whether the worker hands back what it has; ``stand_aside`` makes it do so."""
        self._db = db
        self._settings = settings
        self._owner = owner
        self._slot = slot
        self._health = health
        self._is_leaving = is_leaving
        self._stand_aside = stand_aside

    def draw(self, turn: Turn, attempt: Attempt, death: Death | None) -> Turn | None:
        """Record what the end of this trainer means; the next turn if the job stays with us."""
        if attempt.did_steps or isinstance(attempt.verdict, Finished):
            self._health.worked(turn.fence.job_id)
        match attempt.verdict:
            case Finished() as finished:
                attempt.sweep(own=True)
                attempt.persist(
                    lambda: job_store.finish(
                        self._db, turn.fence, finished.weights_sha256, stopped_early=finished.stopped_early
                    )
                )
                return None
            case Failed(retryable=False) as failed:
                return self._fail(turn, attempt, failed)
            case Failed() as failed:
                memory = failed.code == OutOfMemory.code
                cause = EndCause.OUT_OF_MEMORY if memory else EndCause.TRAINER_ERROR
                death = Death(cause, failed.message, 0.0, explained=failed.code != TrainerCrashed.code)
            case Stopped():
                self._hand_back(turn, attempt, "Stopped at a checkpoint.")
                return None
            case None:
                pass
        assert death is not None  # noqa: S101
        if self._is_leaving() or death.cause == EndCause.PREEMPTED:
            self._hand_back(turn, attempt, death.detail)
            return None
        return self._try_again(turn, attempt, death)

    def _try_again(self, turn: Turn, attempt: Attempt, death: Death) -> Turn | None:
        """Resume on the spot, unless a request, the budget, or what happened here before says otherwise."""
        job_id = turn.fence.job_id
        _log.warning("trainer.ended", job_id=job_id, cause=str(death.cause), detail=death.detail)
        if attempt.fault is not None:
            drill.finish(attempt)
        elif not attempt.did_steps:
            self._health.failed(job_id, explained=death.explained)
            if self._quarantined_itself(attempt):
                # The job is spared: this attempt spends nothing of its budget.
                self._hand_back(turn, attempt, f"{death.detail} The worker is held to be the cause.")
                return None
        leased_at = boot_time_clock()
        after = attempt.persist(
            lambda: job_store.restart_attempt(
                self._db,
                turn.fence,
                death.cause,
                death.detail,
                device=self._slot.device,
                step=attempt.step,
                detection_seconds=death.detection_seconds,
                lease_seconds=self._settings.lease_seconds,
                split_batches=death.cause == EndCause.OUT_OF_MEMORY
                and turn.job.spec["fault_tolerance"].get("on_out_of_memory") == "micro_batches",
                on_the_spot=self._health.may_retry_here(job_id),
            )
        )
        return _following(turn, after, leased_at)

    def after_error(self, turn: Turn, error: Exception) -> None:
        """The worker's own code failed: others may have the job at once, and no job goes round for ever.

        What the error says stays in the worker's log. Raises LeaseLost, DatabaseUnavailable.
        """
        detail = f"The worker itself failed ({type(error).__name__}); its log says more."
        self._health.failed(turn.fence.job_id, explained=False)
        if self._quarantined_itself(None):
            job_store.release(self._db, turn.fence, EndCause.WORKER_ERROR, detail)
            return
        job_store.restart_attempt(
            self._db,
            turn.fence,
            EndCause.WORKER_ERROR,
            detail,
            device=self._slot.device,
            step=None,
            detection_seconds=0.0,
            lease_seconds=self._settings.lease_seconds,
            on_the_spot=False,
        )

    def _quarantined_itself(self, attempt: Attempt | None) -> bool:
        """Whether too much speaks against this machine to go on with it; not if it is the last one."""
        reason = self._health.accusation
        if reason is None:
            return False
        silent_after = 2 * self._settings.lease_seconds

        def ask() -> bool:
            return job_store.quarantine_worker(
                self._db, self._owner.worker_id, self._slot.device, reason, silent_after_seconds=silent_after
            )

        granted = ask() if attempt is None else attempt.persist(ask)
        if granted:
            self._stand_aside(reason)
        else:
            self._health.acquit()
        return granted

    def _fail(self, turn: Turn, attempt: Attempt, failed: Failed) -> Turn | None:
        """For good, unless the loss has no bounds and the job's policy is to go on slower."""
        policy = turn.job.spec["fault_tolerance"].get("on_non_finite")
        if failed.code == NonFiniteLoss.code and policy == "rollback":
            leased_at = boot_time_clock()
            after = attempt.persist(
                lambda: job_store.roll_back(
                    self._db,
                    turn.fence,
                    failed.message,
                    device=self._slot.device,
                    lease_seconds=self._settings.lease_seconds,
                )
            )
            if after is not None:  # a leaving worker hands the next turn back as it begins
                return _following(turn, after, leased_at)
        attempt.sweep(own=True)
        attempt.persist(
            lambda: job_store.fail(self._db, turn.fence, EndCause.TRAINER_ERROR, failed.code, failed.message)
        )
        return None

    def _hand_back(self, turn: Turn, attempt: Attempt, detail: str) -> None:
        attempt.sweep(own=True)
        status = attempt.persist(lambda: job_store.release(self._db, turn.fence, EndCause.PREEMPTED, detail))
        _log.info("job.left", job_id=turn.fence.job_id, status=str(status))


def _following(turn: Turn, after: Restarted | JobStatus, leased_at: float) -> Turn | None:
    """The next turn, if a request or the budget did not end the job instead."""
    if isinstance(after, JobStatus):
        _log.warning("job.left", job_id=turn.fence.job_id, status=str(after))
        return None
    return Turn.of(after, leased_at)
