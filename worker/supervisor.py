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

import structlog

from models import job_store
from models.database import Database
from models.dataset_store import ready_dataset
from models.errors import DatabaseUnavailable, LeaseLost, RuntimeExceeded, TrainerCrashed
from models.host import Owner, ProcessId, boot_id, boot_time_clock, pid_namespace
from models.job_state import EndCause
from models.job_store import Claim
from models.job_store.fence import JobRow
from models.settings import Settings
from models.storage import storage_from_url
from worker import drill
from worker.attempt import Attempt
from worker.conclusion import Conclusions, Death
from worker.health import Health
from worker.lease import Lease
from worker.messages import Cancel, Failed, Slot, Stop
from worker.stack_dump import dump_stacks
from worker.stall_watch import StallWatch
from worker.trainer_logs import TrainerLogs
from worker.trainer_process import ForkedTrainer, SpawnedTrainer, TrainerProcess, bury
from worker.turn import Turn
from worker.zygote_keeper import ZygoteKeeper

_log = structlog.get_logger()

CANCEL, LEAVE, PAUSE = "cancel", "leave", "pause"
#: A trainer that does not answer a cancel within this time is killed.
CANCEL_SECONDS = 10.0
#: A worker that leaves waits so long for the last log to be stored.
LOG_SECONDS = 5.0


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
        # Nobody is in haste for a pause or a drain: that checkpoint may take as long as it makes progress.
        self._patience_seconds = {CANCEL: CANCEL_SECONDS, LEAVE: settings.stop_seconds}
        self._conclusions = Conclusions(
            db,
            settings,
            owner,
            slot,
            self._health,
            is_leaving=lambda: self._leaving,
            stand_aside=self.stand_aside,
        )
        self._wake_read, self._wake_write = os.pipe()
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
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
                self._see_through(Turn.of(claim, leased_at))

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
        timer = threading.Timer(self._settings.stop_seconds, self._hurry.set)
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
                turn = following
                log.info("attempt.started", attempt=turn.fence.attempt)
                following = self._attempt(turn)
        except LeaseLost:
            log.warning("lease.lost")  # somebody else has the job: there is nothing left to do for it
            self.may_hold_unheard = True  # unless it is ours under the next attempt
        except DatabaseUnavailable:
            log.exception("database.gave_up")  # the lease expires by itself and the job is taken over
        except Exception as error:
            log.exception("attempt.broke")
            with contextlib.suppress(LeaseLost, DatabaseUnavailable):
                self._conclusions.after_error(turn, error)
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
                return self._conclusions.draw(turn, attempt, Death(EndCause.TRAINER_ERROR, str(error)))
            try:
                attempt.attend(trainer)
                attempt.persist(lambda: job_store.trainer_started(self._db, turn.fence, trainer.id))
                death = self._follow(turn, attempt, trainer, lease)
                trainer.kill()
                return self._conclusions.draw(turn, attempt, death)
            finally:
                trainer.kill()  # whatever happened here, no trainer of ours goes on without us
                attempt.trainer = None
                trainer.close()
                self._logs.ended(turn.fence.job_id, turn.fence.attempt)

    def _follow(self, turn: Turn, attempt: Attempt, trainer: TrainerProcess, lease: Lease) -> Death | None:
        """Turn words into rows and requests into messages, until the trainer's last word or its end."""
        asked, started = "", time.monotonic()
        looked_at = asked_at = started
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

            wanted = self._wanted(lease)
            if wanted != asked:
                asked, asked_at = wanted, now
                if wanted:
                    trainer.send(Cancel() if wanted == CANCEL else Stop())
            elif wanted in self._patience_seconds:
                if now - asked_at > self._patience_seconds[wanted]:
                    return Death(EndCause.PREEMPTED, "The trainer did not stop in time and was killed.")
            elif not wanted and lease.requests.drill not in {None, attempt.drill}:
                drill.carry_out(attempt, trainer, str(lease.requests.drill))
            elif (idle := attempt.watch.stalled_for(now)) is not None:
                stalled = f"No progress in {attempt.phase} for {idle:.0f} s."
                dump_stacks(trainer, self._logs.path(turn.fence), stalled)
                return Death(EndCause.STALLED, stalled, idle)
            limit = turn.job.max_runtime_seconds
            if limit is not None and turn.job.running_seconds + now - started > limit:
                attempt.verdict = Failed(RuntimeExceeded.code, RuntimeExceeded().message, retryable=False)
                return None

    # -- Details ---------------------------------------------------------------------------------

    def _wanted(self, lease: Lease) -> str:
        """What the trainer is to be told: the most urgent of what was asked for, or nothing."""
        if lease.requests.cancel:
            return CANCEL
        if self._stopping.is_set():
            return LEAVE
        return PAUSE if lease.requests.pause or self._aside.is_set() else ""

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
        task = turn.task(
            self._slot,
            self._settings,
            renewed_at=attempt.renewed_at,
            seconds_between_failures=attempt.persist(lambda: job_store.seconds_between_failures(self._db)),
            dataset=attempt.persist(lambda: ready_dataset(self._db, turn.job.dataset_id)),
        )
        log = self._logs.path(turn.fence)
        return ForkedTrainer(self._keeper, task, log) if self._keeper else SpawnedTrainer(task, log)

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
