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
from models.errors import DatabaseUnavailable, LeaseLost, OutOfMemory, RuntimeExceeded, TrainerCrashed
from models.host import Owner, ProcessId, boot_id, pid_namespace
from models.job_spec import JobSpec
from models.job_state import EndCause, JobStatus
from models.job_store import Fence
from models.job_store.fence import JobRow
from models.settings import Settings
from models.storage import storage_from_url
from worker.attempt import Attempt
from worker.lease import Lease
from worker.messages import Cancel, CheckpointRef, Failed, Finished, Slot, Stop, Stopped, Task
from worker.stall_watch import StallWatch
from worker.trainer_process import ForkedTrainer, SpawnedTrainer, TrainerProcess, bury
from worker.zygote_keeper import ZygoteKeeper

_log = structlog.get_logger()

#: A trainer that does not answer a request within this time is killed; its last checkpoint counts.
CANCEL_SECONDS = 10.0
STOP_SECONDS = 20.0
#: A resume may fall back this many checkpoints.
MAX_CHECKPOINTS = 20


@dataclass(frozen=True)
class Turn:
    """An attempt that is ours to run."""

    fence: Fence
    job: JobRow
    checkpoints: list[JobRow]
    fruitless: int = 0  #: attempts in a row, right before this one, that did not get one step done


@dataclass(frozen=True)
class Death:
    """The trainer ended without a word of why, or was ended by us."""

    cause: EndCause
    detail: str
    detection_seconds: float | None = None


class Supervisor:
    """One device slot's share of the work."""

    def __init__(
        self, db: Database, settings: Settings, owner: Owner, slot: Slot, keeper: ZygoteKeeper | None
    ):
        """Without a keeper trainers are spawned cold."""
        self._db = db
        self._settings = settings
        self._owner = owner
        self._slot = slot
        self._keeper = keeper
        self._storage = storage_from_url(settings.storage_url)
        self._one_at_a_time = threading.Lock()
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self.job_id: str | None = None

    # -- From outside, any thread ----------------------------------------------------------------

    def work_until_idle(self) -> None:
        """Answer a doorbell: claim and see through one job after another until there is none.

        Waits while another thread works, so that a bell that reached a busy worker is not lost on it.
        Raises DatabaseUnavailable when there is nobody to claim from.
        """
        with self._one_at_a_time:
            while not self._stopping.is_set() and self._can_train():
                claim = job_store.claim(
                    self._db, self._owner, self._slot.device, self._slot.key, self._settings.lease_seconds
                )
                if claim is None:
                    return
                self._see_through(Turn(claim.fence, claim.job, claim.checkpoints))

    @property
    def is_idle(self) -> bool:
        return not self._one_at_a_time.locked()

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
        return self._one_at_a_time.acquire(timeout=timeout)

    # -- The story -------------------------------------------------------------------------------

    def _see_through(self, turn: Turn) -> None:
        """One job, attempt after attempt on the spot, until it is out of our hands."""
        self.job_id = turn.fence.job_id
        log = _log.bind(job_id=self.job_id)
        try:
            self._bury_predecessor(turn.job)
            following: Turn | None = turn
            while following is not None:
                log.info("attempt.started", attempt=following.fence.attempt)
                following = self._attempt(following)
        except LeaseLost:
            log.warning("lease.lost")  # somebody else has the job: there is nothing left to do for it
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
            # A trainer that was killed while it worked is back at once; one that cannot even begin, and
            # may be what is wrong with this machine, is given time.
            if turn.fruitless > 1:
                self._stopping.wait(min(10.0, 0.25 * 2**turn.fruitless))
            try:
                trainer = self._start_trainer(turn)
            except (TrainerCrashed, OSError) as error:
                return self._conclude(turn, attempt, Death(EndCause.TRAINER_ERROR, str(error)))
            try:
                attempt.trainer = trainer
                attempt.persist(lambda: job_store.trainer_started(self._db, turn.fence, trainer.id))
                death = self._follow(turn, attempt, trainer, lease)
                trainer.kill()
                return self._conclude(turn, attempt, death)
            finally:
                trainer.kill()  # whatever happened here, no trainer of ours goes on without us
                attempt.trainer = None
                trainer.close()

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
                cause = EndCause.TRAINER_KILLED if ended.by_signal else EndCause.TRAINER_ERROR
                return Death(cause, f"The trainer was {ended}.", now - attempt.last_heard_at)
            if lease.lost:
                raise LeaseLost
            # This thread itself was held up (SIGSTOP, a slow database): no trainer's fault.
            if now - looked_at > 5.0:
                attempt.watch.excuse(now - looked_at, now)
            looked_at = now
            attempt.flush(now=now)

            if self._stopping.is_set() or lease.requests.cancel or lease.requests.pause:
                patience = CANCEL_SECONDS if lease.requests.cancel else STOP_SECONDS
                if asked_at is None:
                    asked_at = now
                    trainer.send(Cancel() if lease.requests.cancel else Stop())
                elif now - asked_at > patience:
                    return Death(EndCause.PREEMPTED, "The trainer did not stop in time and was killed.")
            elif (idle := attempt.watch.stalled_for(now)) is not None:
                return Death(EndCause.STALLED, f"No progress in {attempt.phase} for {idle:.0f} s.", idle)
            limit = turn.job.max_runtime_seconds
            if limit is not None and turn.job.running_seconds + now - started > limit:
                attempt.verdict = Failed(RuntimeExceeded.code, RuntimeExceeded().message, retryable=False)
                return None

    def _conclude(self, turn: Turn, attempt: Attempt, death: Death | None) -> Turn | None:
        """What the end of this trainer means for the job."""
        match attempt.verdict:
            case Finished() as finished:
                attempt.persist(
                    lambda: job_store.finish(
                        self._db, turn.fence, finished.weights_sha256, stopped_early=finished.stopped_early
                    )
                )
                return None
            case Failed(retryable=False) as failed:
                attempt.persist(
                    lambda: job_store.fail(
                        self._db, turn.fence, EndCause.TRAINER_ERROR, failed.code, failed.message
                    )
                )
                return None
            case Failed() as failed:
                memory = failed.code == OutOfMemory.code
                cause = EndCause.OUT_OF_MEMORY if memory else EndCause.TRAINER_ERROR
                death = Death(cause, failed.message, 0.0)
            case Stopped():
                self._hand_back(turn, attempt, "Stopped at a checkpoint.")
                return None
            case None:
                pass
        assert death is not None  # noqa: S101
        if self._stopping.is_set() or death.cause == EndCause.PREEMPTED:
            self._hand_back(turn, attempt, death.detail)
            return None
        return self._try_again(turn, attempt, death)

    def _try_again(self, turn: Turn, attempt: Attempt, death: Death) -> Turn | None:
        """Resume on the spot, unless a request or the budget says otherwise."""
        _log.warning("trainer.ended", job_id=self.job_id, cause=str(death.cause), detail=death.detail)
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
            )
        )
        if isinstance(after, JobStatus):
            _log.warning("job.left", job_id=self.job_id, status=str(after))
            return None
        fruitless = 0 if attempt.did_steps else turn.fruitless + 1
        return Turn(after.fence, after.job, after.checkpoints, fruitless)

    def _hand_back(self, turn: Turn, attempt: Attempt, detail: str) -> None:
        status = attempt.persist(lambda: job_store.release(self._db, turn.fence, EndCause.PREEMPTED, detail))
        _log.info("job.left", job_id=self.job_id, status=str(status))

    # -- Details ---------------------------------------------------------------------------------

    def _can_train(self) -> bool:
        """A job is not claimed before there is something to train it with."""
        while not self._stopping.is_set():
            if self._keeper is None or self._keeper.wait_ready(timeout=1.0):
                return True
        return False

    def _start_trainer(self, turn: Turn) -> TrainerProcess:
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
            park_after_seconds=self._settings.park_after_seconds,
        )
        log = self._storage.local_path(f"jobs/{job.id}/logs/attempt-{turn.fence.attempt}.log")
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
    return CheckpointRef(row.id, row.path, row.sha256, row.size_bytes, row.epoch, row.step, row.val_loss)
