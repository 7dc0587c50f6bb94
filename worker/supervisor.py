"""The supervisor: claim a job, resume it, follow its trainer, finish it. It never imports torch.

Read from the top. A worker process has one supervisor, and a supervisor has at most one trainer. What the
trainer says becomes rows in the database; what users and the machine ask (cancel, pause, SIGTERM) becomes
messages to the trainer. Whatever dies, the job goes on: the trainer, and the supervisor starts another on
the spot; the supervisor, and its trainer dies with it and another worker takes over.
"""

import contextlib
import os
import threading
import time
from dataclasses import dataclass

import structlog

from models import job_store
from models.database import Database
from models.errors import (
    DatabaseUnavailable,
    LeaseLost,
    NonFiniteLoss,
    OutOfMemory,
    RuntimeExceeded,
    TrainerCrashed,
)
from models.host import Owner, ProcessId, boot_id, boot_time_clock, pid_namespace
from models.job_spec import JobSpec
from models.job_state import EndCause, JobStatus
from models.job_store import Claim, Fence
from models.job_store.fence import JobRow
from models.settings import Settings
from models.storage import storage_from_url
from worker import drill
from worker.attempt import Attempt
from worker.health import Health
from worker.lease import Lease
from worker.messages import (
    Cancel,
    CheckpointRef,
    Failed,
    FileRef,
    Finished,
    Slot,
    Stop,
    Stopped,
    Task,
)
from worker.stack_dump import dump_stacks
from worker.stall_watch import StallWatch
from worker.trainer_logs import TrainerLogs
from worker.trainer_process import ForkedTrainer, SpawnedTrainer, TrainerProcess, bury
from worker.zygote_keeper import ZygoteKeeper

_log = structlog.get_logger()

#: A trainer that does not answer a request within this time is killed; its last checkpoint counts.
CANCEL_SECONDS = 10.0
STOP_SECONDS = 20.0
#: A worker that leaves waits so long for the last log to be stored.
LOG_SECONDS = 5.0
#: A resume may fall back this many checkpoints.
MAX_CHECKPOINTS = 20


@dataclass(frozen=True)
class Turn:
    """An attempt that is ours to run."""

    fence: Fence
    job: JobRow
    checkpoints: list[JobRow]
    leased_at: float  #: boot time from before the lease was asked for


@dataclass(frozen=True)
class Death:
    """The trainer ended without a word of why, or was ended by us."""

    cause: EndCause
    detail: str
    detection_seconds: float | None = None
    explained: bool = False  #: by an error that accuses the job or the store, and so not this machine


class Supervisor:
    """One device slot's share of the work."""

    def __init__(
        self, db: Database, settings: Settings, owner: Owner, slot: Slot, keeper: ZygoteKeeper | None
    ):
        """Without a keeper trainers are spawned cold. Raises SpecInvalid for a store that cannot be used."""
        self._db = db
        self._settings = settings
        self._owner = owner
        self._slot = slot
        self._keeper = keeper
        self._storage = storage_from_url(settings.storage_url)
        self._logs = TrainerLogs(self._storage, settings.home)
        self._one_at_a_time = threading.Lock()
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._aside = threading.Event()  # drained or quarantined
        self._health = Health()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self.job_id: str | None = None
        #: A reply of the database may have been lost, and with it the news that a job is ours.
        self.may_hold_unheard = False

    # -- From outside, any thread ----------------------------------------------------------------

    def work_until_idle(self) -> None:
        """Answer a doorbell: claim and see through one job after another until there is none.

        Waits while another thread works, so that a bell that reached a busy worker is not lost on it.
        Raises DatabaseUnavailable when there is nobody to claim from.
        """
        with self._one_at_a_time:
            while not self._leaving and self._can_train():
                leased_at = boot_time_clock()
                claim = self._claim()
                if claim is None:
                    return
                self._see_through(Turn(claim.fence, claim.job, claim.checkpoints, leased_at))

    @property
    def is_idle(self) -> bool:
        return not self._one_at_a_time.locked()

    def stand_aside(self, why: str) -> None:
        """Drained or quarantined: like ``stop``, but without haste, and ``stand_by`` ends it."""
        if not self._aside.is_set():
            _log.warning("worker.stands_aside", why=why)
            self._aside.set()
            self._wake()

    def stand_by(self) -> bool:
        """Claim again; whether that is news."""
        was_aside = self._aside.is_set()
        if was_aside:
            _log.info("worker.stands_by")
            self._health.acquit()
            self._aside.clear()
        return was_aside

    def stop(self) -> None:
        """SIGTERM: the running job leaves a checkpoint and goes back to the queue; nothing new is claimed."""
        self._stopping.set()
        self._wake()
        # Past this no write waits for a database any more: what is not recorded will be done again.
        timer = threading.Timer(STOP_SECONDS, self._hurry.set)
        timer.daemon = True
        timer.start()

    def join(self, timeout: float) -> bool:
        """Whether the job under way was handed back in time."""
        handed_back = self._one_at_a_time.acquire(timeout=timeout)
        self._logs.wait(LOG_SECONDS)
        return handed_back

    def _claim(self) -> Claim | None:
        """What was granted before without our hearing of it comes first, else it would idle for a lease."""
        lease = self._settings.lease_seconds
        granted = job_store.unheard_claim(self._db, self._owner, lease) if self.may_hold_unheard else None
        if granted is None:
            self.may_hold_unheard = True  # until there is an answer
            granted = job_store.claim(
                self._db,
                self._owner,
                self._slot.device,
                self._slot.key,
                lease,
                not_now=self._health.resting(),
            )
        self.may_hold_unheard = False
        return granted

    # -- The story -------------------------------------------------------------------------------

    def _see_through(self, turn: Turn) -> None:
        """One job, attempt after attempt on the spot, until it is out of our hands."""
        self.job_id = turn.fence.job_id
        log = _log.bind(job_id=self.job_id)
        try:
            self._bury_predecessor(turn.job)
            self._logs.ended(turn.fence.job_id, turn.fence.attempt - 1)  # a predecessor's that died here
            following: Turn | None = turn
            while following is not None:
                log.info("attempt.started", attempt=following.fence.attempt)
                following = self._attempt(following)
        except LeaseLost:
            log.warning("lease.lost")  # somebody else has the job: there is nothing left to do for it
            self.may_hold_unheard = True  # unless it is ours under the next attempt
        except DatabaseUnavailable:
            log.exception("database.gave_up")  # the lease expires by itself and the job is taken over
        finally:
            self.job_id = None

    def _attempt(self, turn: Turn) -> Turn | None:
        """Run one trainer from its start to its end; the next turn if the job stays with us."""
        attempt = Attempt(
            db=self._db,
            storage=self._storage,
            fence=turn.fence,
            job=turn.job,
            slot=self._slot,
            watch=StallWatch(time.monotonic(), self._settings.stall_seconds),
            hurry=self._hurry,
        )
        lease = Lease(
            self._db, turn.fence, self._settings, on_renewed=attempt.pass_on_heartbeat, on_news=self._wake
        )
        with lease:
            attempt.lease = lease
            try:
                trainer = self._start_trainer(turn, attempt)
            except (TrainerCrashed, OSError) as error:
                return self._conclude(turn, attempt, Death(EndCause.TRAINER_ERROR, str(error)))
            try:
                attempt.attend(trainer)
                attempt.persist(lambda: job_store.trainer_started(self._db, turn.fence, trainer.id))
                death = self._follow(turn, attempt, trainer, lease)
                trainer.kill()
                return self._conclude(turn, attempt, death)
            finally:
                trainer.kill()  # whatever happened here, no trainer of ours goes on without us
                attempt.trainer = None
                trainer.close()
                self._logs.ended(turn.fence.job_id, turn.fence.attempt)

    def _follow(self, turn: Turn, attempt: Attempt, trainer: TrainerProcess, lease: Lease) -> Death | None:
        """Turn words into rows and requests into messages, until the trainer's last word or its end."""
        asked_at: float | None = None
        started = looked_at = time.monotonic()
        while True:
            ended = trainer.exited()  # looked at before the pipe, so that its last words are all there
            for message in trainer.receive(timeout=0.0 if ended else 0.25, wake_fd=self._wake_read):
                attempt.handle(message)
                if attempt.verdict is not None:
                    return None
            self._drain_wake()
            now = time.monotonic()
            if ended is not None:
                return Death(ended.cause, f"The trainer was {ended}.", now - attempt.last_heard_at)
            if lease.lost:
                raise LeaseLost
            # This thread itself was held up (SIGSTOP, a slow database): no trainer's fault.
            if now - looked_at > 5.0:
                attempt.watch.excuse(now - looked_at, now)
            looked_at = now
            attempt.flush(now=now)

            if self._leaving or lease.requests.cancel or lease.requests.pause:
                patience = CANCEL_SECONDS if lease.requests.cancel else STOP_SECONDS
                if asked_at is None:
                    asked_at = now
                    trainer.send(Cancel() if lease.requests.cancel else Stop())
                elif now - asked_at > patience:
                    return Death(EndCause.PREEMPTED, "The trainer did not stop in time and was killed.")
            elif lease.requests.drill not in {None, attempt.drill}:
                drill.carry_out(attempt, trainer, str(lease.requests.drill))
            elif (idle := attempt.watch.stalled_for(now)) is not None:
                stalled = f"No progress in {attempt.phase} for {idle:.0f} s."
                dump_stacks(trainer, self._logs.path(turn.fence), stalled)
                return Death(EndCause.STALLED, stalled, idle)
            limit = turn.job.max_runtime_seconds
            if limit is not None and turn.job.running_seconds + now - started > limit:
                attempt.verdict = Failed(RuntimeExceeded.code, RuntimeExceeded().message, retryable=False)
                return None

    def _conclude(self, turn: Turn, attempt: Attempt, death: Death | None) -> Turn | None:
        """What the end of this trainer means for the job."""
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
                if (slower := self._roll_back(turn, attempt, failed)) is not None:
                    return slower
                attempt.sweep(own=True)
                attempt.persist(
                    lambda: job_store.fail(
                        self._db, turn.fence, EndCause.TRAINER_ERROR, failed.code, failed.message
                    )
                )
                return None
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
        if self._leaving or death.cause == EndCause.PREEMPTED:
            self._hand_back(turn, attempt, death.detail)
            return None
        return self._try_again(turn, attempt, death)

    def _try_again(self, turn: Turn, attempt: Attempt, death: Death) -> Turn | None:
        """Resume on the spot, unless a request, the budget, or what happened here before says otherwise."""
        _log.warning("trainer.ended", job_id=self.job_id, cause=str(death.cause), detail=death.detail)
        if attempt.fault is not None:
            drill.finish(attempt)
        elif not attempt.did_steps:
            self._health.failed(turn.fence.job_id, explained=death.explained)
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
                on_the_spot=self._health.may_retry_here(turn.fence.job_id),
            )
        )
        if isinstance(after, JobStatus):
            _log.warning("job.left", job_id=self.job_id, status=str(after))
            return None
        return Turn(after.fence, after.job, after.checkpoints, leased_at)

    def _quarantined_itself(self, attempt: Attempt) -> bool:
        """Whether too much speaks against this machine to go on with it; not if it is the last one."""
        reason = self._health.accusation
        if reason is None:
            return False
        silent_after = 2 * self._settings.lease_seconds
        granted = attempt.persist(
            lambda: job_store.quarantine_worker(
                self._db, self._owner.worker_id, self._slot.device, reason, silent_after_seconds=silent_after
            )
        )
        if granted:
            self.stand_aside(reason)
        else:
            self._health.acquit()
        return granted

    def _roll_back(self, turn: Turn, attempt: Attempt, failed: Failed) -> Turn | None:
        """A loss without bounds, where the job's policy is to try it slower; None where it fails."""
        policy = turn.job.spec["fault_tolerance"].get("on_non_finite")
        if (
            failed.code != NonFiniteLoss.code or policy != "rollback"
        ):  # a leaving worker hands the next turn back
            return None
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
        return None if after is None else Turn(after.fence, after.job, after.checkpoints, leased_at)

    def _hand_back(self, turn: Turn, attempt: Attempt, detail: str) -> None:
        attempt.sweep(own=True)
        status = attempt.persist(lambda: job_store.release(self._db, turn.fence, EndCause.PREEMPTED, detail))
        _log.info("job.left", job_id=self.job_id, status=str(status))

    # -- Details ---------------------------------------------------------------------------------

    @property
    def _leaving(self) -> bool:
        """Whether the job under way is to be handed back, and no other one claimed."""
        return self._stopping.is_set() or self._aside.is_set()

    def _can_train(self) -> bool:
        """A job is not claimed before there is something to train it with."""
        while not self._leaving:
            if self._keeper is None or self._keeper.wait_ready(timeout=1.0):
                return True
        return False

    def _start_trainer(self, turn: Turn, attempt: Attempt) -> TrainerProcess:
        job = turn.job
        spec = JobSpec.model_validate(job.spec)
        task = Task(
            job_id=job.id,
            attempt=turn.fence.attempt,
            spec=job.spec,
            segments=job.segments,
            slot=self._slot,
            numerics=job.numerics,
            storage_url=self._settings.storage_url,
            data_root=str(self._settings.data_folder),
            cache_dir=str(self._settings.home / "cache"),
            downloads=self._settings.downloads,
            checkpoints=[_reference(row) for row in turn.checkpoints[:MAX_CHECKPOINTS]],
            manifest_path=job.manifest_path,
            verify=job.verify_next or spec.fault_tolerance.verify_on_resume,
            fingerprint=job.fingerprint,
            lease_confirmed_at=max(turn.leased_at, attempt.renewed_at),
            park_after_seconds=self._settings.park_after_seconds,
            store_patience_seconds=self._settings.store_patience_seconds,
            seconds_between_failures=attempt.persist(lambda: job_store.seconds_between_failures(self._db)),
        )
        log = self._logs.path(turn.fence)
        if self._keeper is None:
            return SpawnedTrainer(task, log)
        return ForkedTrainer(self._keeper, task, log)

    def _bury_predecessor(self, job: JobRow) -> None:
        """Two trainers of one job never run side by side on a host, however its last worker died."""
        here = (boot_id(), pid_namespace())
        if job.trainer_pid is None or (job.trainer_boot_id, job.trainer_pid_namespace) != here:
            return
        if not bury(ProcessId(job.trainer_pid, job.trainer_started_at)):
            # It writes files that nobody will record and rows that nobody will take.
            _log.error("trainer.unkillable", job_id=job.id, pid=job.trainer_pid)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: woken already
            os.write(self._wake_write, b"!")

    def _drain_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)


def _reference(row: JobRow) -> CheckpointRef:
    frozen = FileRef(row.frozen_path, row.frozen_sha256, row.frozen_size_bytes) if row.frozen_path else None
    file = FileRef(row.path, row.sha256, row.size_bytes)
    return CheckpointRef(row.id, file, frozen, row.epoch, row.step, row.val_loss)
