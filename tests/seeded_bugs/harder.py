"""Bugs that are harder to see: each needs a certain history, or shows only in what is left at the end."""

from tests.seeded_bugs.bug import Bug
from tests.seeded_bugs.named import STORAGE, STORE, TRAINING

_TRAINER_STARTED = """        tx.execute(
            update(jobs)
            .where(jobs.c.id == fence.job_id)
            .values(
                trainer_pid"""

HARDER = [
    # -- The job store ---------------------------------------------------------------------------
    Bug("fence that forgets the state", "I7", STORE,
        "    jobs.c.status == JobStatus.RUNNING,\n    jobs.c.attempt ==", "    jobs.c.attempt ==",
        ("state machine", "simulation", "fencing")),
    Bug("unfenced trainer_started", "I1", STORE,
        f"        holding(tx, fence)\n{_TRAINER_STARTED}", _TRAINER_STARTED,
        ("state machine", "simulation", "fencing")),
    Bug("idempotency key not kept with the job", "I9", STORE,
        '"idempotency_key": idempotency_key,\n        "parent_id"', '"parent_id"',
        ("state machine", "idempotency")),
    Bug("restart that forgets requests", "fault 29", STORE,
        "settled(job, JobStatus.FAILED if is_spent else goes_on)",
        "settled(job, goes_on) and (JobStatus.FAILED if is_spent else goes_on)",
        ("endings", "state machine")),
    Bug("replayed rows are kept, not replaced", "I3", STORE,
        "return statement.on_conflict_do_update(index_elements=keys, set_=changed)",
        "return (statement.on_conflict_do_nothing(index_elements=keys) if table.name == 'step_metrics'\n"
        "            else statement.on_conflict_do_update(index_elements=keys, set_=changed))",
        ("state machine", "progress")),
    Bug("commit sets the step back", "I6", STORE, "step=max(step, job.step)", "step=step",
        ("simulation", "state machine")),
    Bug("equal beats the best", "I3", STORE,
        "epoch_metrics.c.val_loss, epoch_metrics.c.epoch)",
        "epoch_metrics.c.val_loss, epoch_metrics.c.epoch.desc())",
        ("best", "state machine")),
    Bug("rows beyond the weights that survive", "I3", STORE,
        "        drop_metrics_beyond(tx, job.id, job.committed_step)\n", "", ("endings",)),
    Bug("an event is told again after a lost reply", "fault 12", STORE,
        "        if not _is_told(tx, fence, events.c.idempotency_key == key):\n", "        if True:\n",
        ("events", "state machine")),
    Bug("the best is pruned like any other", "I8", STORE,
        "kept = {best}", "kept = set()", ("state machine", "checkpoints")),
    Bug("release that spends budget", "fault 6", STORE,
        "AUSE_OF.get(to, cause), message)", "AUSE_OF.get(to, cause), message, failures=job.failures + 1)",
        ("endings", "state machine")),
    Bug("a second effect after a lost reply to prepared", "fault 12", STORE,
        "            return\n        reasons = [", "            pass\n        reasons = [",
        ("progress", "state machine")),
    Bug("idempotent commit that records again", "fault 12", STORE,
        "            return Committed(asked, [])\n",
        "            record(tx, db, job.id, EventType.CHECKPOINT_COMMITTED, 'Again.', attempt=job.attempt)\n"
        "            return Committed(asked, [])\n", ("state machine", "checkpoints")),
    Bug("any commit counts as progress", "fault 23", STORE,
        "progressed = step > job.highest_committed_step", "progressed = step > job.committed_step",
        ("checkpoints",)),
    Bug("retry without a new budget", "fault 23", STORE,
        "            failures=0, losses=0, error_code=None", "            error_code=None",
        ("requests", "state machine")),
    Bug("quarantine throws all the progress away", "I6", STORE,
        "values(committed_step=committed)", "values(committed_step=0)",
        ("state machine", "simulation", "checkpoints")),
    Bug("expiry without a second look under the lock", "fault 30", STORE,
        "true() if found_dead else _may_be_lost(is_sqlite=db.is_sqlite)", "true()",
        ("expiry", "simulation"), is_quick=True),
    Bug("a reboot goes unnoticed", "I4", STORE,
        'or_(expired, jobs.c.owner_boot_id != bindparam("boot_id", type_=String))', "or_(expired)",
        ("state machine", "simulation", "expiry")),
    Bug("leases by the wall clock", "fault 13", "models",
        '"lease_now": boot_time_clock()', '"lease_now": time.time()', ("simulation", "expiry")),
    # -- The worker ------------------------------------------------------------------------------
    Bug("heartbeat from after the renewal", "fault 9", "worker",
        "self._on_renewed(before)", "self._on_renewed(boot_time_clock())", ("lease",), is_quick=True),
    Bug("predecessor not buried", "fault 7", "worker",
        "            self._bury_predecessor(turn.job)\n", "", ("simulation",)),
    Bug("unlinking before the commit", "I8", "worker",
        "        rows = self._take_step_rows()\n        self.epochs_done = max",
        "        rows = self._take_step_rows()\n"
        '        for ref in sorted(self.storage.keys(f"jobs/{self.fence.job_id}/checkpoints"))[:-2]:\n'
        "            self.storage.delete(ref)\n"
        "        self.epochs_done = max", ("simulation", "supervision")),
    Bug("sweep that takes the running attempt's files", "I8", "worker",
        "int(attempt[1]) >= before_attempt", "int(attempt[1]) > before_attempt",
        ("sweep", "state machine")),
    Bug("sweep of recorded files", "I8", "worker",
        "key in recorded.paths or attempt is None", "attempt is None",
        ("state machine", "simulation", "sweep")),
    # -- Training --------------------------------------------------------------------------------
    Bug("folders of a killed predecessor are trusted", "I2", STORAGE,
        "root in path.parents or not path.exists()", "not path.exists()", ("simulation",)),
    Bug("bytes are not compared with their hash", "I2", TRAINING,
        "if found != ref.sha256:", "if not found:", ("simulation", "resume")),
    Bug("sums of a partial epoch not in the checkpoint", "I3", TRAINING,
        'sums=EpochSums(**values["sums"])', "sums=EpochSums()", ("simulation", "resume")),
    Bug("snapshot shared with the running state", "I5", TRAINING,
        "self._model_copy.take(self._part(frozen=False))", "self._part(frozen=False)", ("optimization",)),
    Bug("extended job keeps its exhausted patience", "I4", TRAINING,
        "return epochs_done in accumulate(", "return epochs_done < 0 and any(", ("early stop",)),
    Bug("a parked trainer writes", "I1", TRAINING,
        "        self.session.wait_while_silent()\n        content", "        content", ("silence",)),
    Bug("never a checkpoint within an epoch", "I10", TRAINING,
        "return now - self._saved_at >= self.interval_seconds", "return False", ("cadence",)),
]  # fmt: skip
