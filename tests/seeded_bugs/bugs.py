"""The bugs: what is replaced in which file, and which checkers are meant to see it, the fastest first."""

from dataclasses import dataclass
from pathlib import Path

RESUMED = "within_an_epoch or damaged or early or silence or once"
#: By name, the arguments for pytest.
CHECKERS: dict[str, list[str]] = {
    "state machine": ["tests/contract/test_state_machine.py", "-k", "sqlite"],
    "fencing": ["tests/contract/test_fencing.py", "-k", "sqlite"],
    "claims": ["tests/contract/test_claims.py", "-k", "sqlite"],
    "expiry": ["tests/contract/test_expiry.py", "-k", "sqlite"],
    "checkpoints": ["tests/contract/test_checkpoints.py", "-k", "sqlite"],
    "best": ["tests/contract/test_best.py", "-k", "sqlite"],
    "progress": ["tests/contract/test_progress.py", "-k", "sqlite"],
    "endings": ["tests/contract/test_endings.py", "-k", "sqlite"],
    "events": ["tests/contract/test_events.py", "-k", "sqlite"],
    "expiry on PostgreSQL": ["tests/contract/test_expiry.py", "-k", "postgresql and clock"],
    "submission": ["tests/unit/api/test_submission.py"],
    "lease": ["tests/unit/worker/test_lease.py"],
    "supervision": ["tests/unit/worker/test_supervision.py"],
    "sweep": ["tests/unit/worker/test_sweep.py"],
    "randomness": ["tests/unit/training/test_randomness.py"],
    "writer": ["tests/unit/training/test_writer.py"],
    "resume": [
        "tests/unit/training/test_resume.py",
        "-k",
        "within_an_epoch or damaged or early or silence or once",
    ],
    "corruption": ["tests/faults/test_corruption.py"],
    "power loss": ["tests/faults/test_power_loss.py"],
}


@dataclass(frozen=True)
class Bug:
    name: str
    file: str
    old: str
    new: str
    checkers: tuple[str, ...]
    is_quick: bool = False

    def plant(self, root: Path) -> None:
        """Raises AssertionError where the code is no longer as the bug knows it."""
        path = root / self.file
        text = path.read_text()
        assert text.count(self.old) == 1, f"{self.name}: adapt it to {self.file}, where this was: {self.old}"
        path.write_text(text.replace(self.old, self.new))


CHECKPOINTS, ENDINGS = "models/job_store/checkpoints.py", "models/job_store/endings.py"
RESTARTS = "models/job_store/restarts.py"
PROGRESS, REQUESTS = "models/job_store/progress.py", "models/job_store/requests.py"
CLAIMS, TRAINING = "models/job_store/claims.py", "worker/training"
LOCAL = "models/storage/local.py"

_ANY_ATTEMPT = "tx.execute(select(jobs).where(jobs.c.id == fence.job_id)).one()"
_SELECT_FIRST = """    with db.reading() as look:
        chosen = look.execute(select(jobs.c.id).where(jobs.c.id.in_(select(candidate.c.id)))).scalar()
    with db.writing() as tx:
        job = tx.execute(
            update(jobs)
            .where(jobs.c.id == chosen)
"""
_PRUNE_FIRST = """    with db.writing() as early:
        kept = early.execute(select(jobs).where(fence.holds)).one_or_none()
        let_go = _prune(early, db, kept, max(1, keep_last - 1)) if kept else []
    with db.writing() as tx:
        job = holding(tx, fence)
        asked = Requests.of(job)
"""
_UNLINK_FIRST = """        rows = self._take_step_rows()
        for ref in sorted(self.storage.keys(f"jobs/{self.fence.job_id}/checkpoints"))[:-2]:
            self.storage.delete(ref)
"""
_RECORD_FIRST = """    import hashlib
    import threading

    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = buffer.getvalue()
    threading.Thread(target=storage.write, args=(key, lambda sink: sink.write(data))).start()
    return FileRef(key, hashlib.sha256(data).hexdigest(), len(data))
"""

_CREATE = "        created = job_store.create_job(services.db, resolved, idempotency_key=once.key)\n"
_RING_AFTER = f"""{_CREATE}        if created.is_new:
            services.doorbell.ring(created.job.device_class)
"""
_RING_BEFORE = f"""        wanted = resolved.resources.device
        services.doorbell.ring("any" if wanted == "auto" else wanted)
{_CREATE}        if created.is_new:
            pass
"""

BUGS = [
    # -- Named by the fault model --------------------------------------------------------------------
    Bug("no attempt check on commit", CHECKPOINTS,
        "        job = holding(tx, fence)\n        asked", f"        job = {_ANY_ATTEMPT}\n        asked",
        ("state machine", "fencing"), is_quick=True),
    Bug("no attempt check on metrics", PROGRESS,
        "        job = holding(tx, fence)\n        put_step_rows(tx, db, job, rows)\n"
        "        asked = tx.execute(_progress(fence, position)).one()",
        f"        job = {_ANY_ATTEMPT}\n        put_step_rows(tx, db, job, rows)\n        asked = job",
        ("state machine", "fencing")),
    Bug("no attempt check on finish", ENDINGS,
        "        job = holding(tx, fence)\n        message =",
        f"        job = {_ANY_ATTEMPT}\n        message =",
        ("state machine", "fencing")),
    Bug("lease renewed whatever the trainer does", "worker/supervisor.py",
        "(idle := attempt.watch.stalled_for(now)) is not None", "(idle := None) is not None",
        ("supervision",), is_quick=True),
    Bug("expiry judged by the worker's clock", ENDINGS,
        "    uptime = cast(",
        "    import time\n\n    expired = jobs.c.lease_expires_at < time.time()\n    uptime = cast(",
        ("expiry on PostgreSQL",)),
    Bug("claim by SELECT, then UPDATE", CLAIMS,
        "    with db.writing() as tx:\n        job = tx.execute(\n            update(jobs)\n"
        "            .where(jobs.c.id.in_(select(candidate.c.id)))\n",
        _SELECT_FIRST, ("claims",)),
    Bug("bell rung before the commit", "api/routes/jobs.py",
        _RING_AFTER, _RING_BEFORE, ("submission",)),
    Bug("no directory fsync", LOCAL, "            _sync_folder(final.parent)\n", "", ("power loss",)),
    Bug("no file fsync", LOCAL, "        os.fsync(descriptor)\n        if", "        if", ("power loss",)),
    Bug("record before bytes", f"{TRAINING}/checkpoint.py",
        "    # The archive is written from front to back", f"{_RECORD_FIRST}    # From front to back",
        ("power loss",)),
    Bug("fallback that does not quarantine", f"{TRAINING}/resumption.py",
        "            session.send(CheckpointRejected(ref.id, str(unusable)))\n", "",
        ("resume", "corruption")),
    Bug("pruning before the commit", CHECKPOINTS,
        "    with db.writing() as tx:\n        job = holding(tx, fence)\n        asked = Requests.of(job)\n",
        _PRUNE_FIRST, ("state machine", "checkpoints")),
    Bug("step seed without the step", f"{TRAINING}/randomness.py",
        'derive(seed, "step", step, rank)', 'derive(seed, "step", rank)', ("randomness",)),
    Bug("permutation without the epoch", f"{TRAINING}/randomness.py",
        'derive(seed, "order", epoch)', 'derive(seed, "order")', ("randomness",), is_quick=True),
    Bug("BatchNorm statistics left out of the checkpoint", f"{TRAINING}/preparation.py",
        '**content["model_state_dict"]})',
        '**content["model_state_dict"], **{k: v for k, v in classifier.module.state_dict().items()\n'
        '        if "running_" in k}})', ("resume",)),
    # -- Harder ones ---------------------------------------------------------------------------------
    Bug("restart that forgets requests", RESTARTS,
        "settled(job, JobStatus.FAILED if is_spent else goes_on)",
        "JobStatus.FAILED if is_spent else goes_on", ("state machine",)),
    Bug("replayed rows are kept, not replaced", PROGRESS,
        "tx.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed))",
        "tx.execute(statement.on_conflict_do_nothing(index_elements=keys) if table is step_metrics\n"
        "               else statement.on_conflict_do_update(index_elements=keys, set_=changed))",
        ("state machine", "progress")),
    Bug("commit sets the step back", CHECKPOINTS, "step=max(step, job.step)", "step=step",
        ("state machine",)),
    Bug("expiry without a second look under the lock", ENDINGS,
        "fence.holds if found_dead else and_(fence.holds, _may_be_lost(db, lease_seconds))", "fence.holds",
        ("expiry",), is_quick=True),
    Bug("equal beats the best", "models/job_store/standing.py",
        ".order_by(epoch_metrics.c.val_loss, epoch_metrics.c.epoch)",
        ".order_by(epoch_metrics.c.val_loss, epoch_metrics.c.epoch.desc())",
        ("best", "state machine")),
    Bug("the best is pruned like any other", CHECKPOINTS,
        "[row for row in committed[keep_last:] if row.id not in kept]", "committed[keep_last:]",
        ("state machine",)),
    Bug("release that spends budget", ENDINGS,
        "leave(tx, db, job, to, CAUSE_OF.get(to, cause), message)",
        "leave(tx, db, job, to, CAUSE_OF.get(to, cause), message, failures=job.failures + 1)",
        ("state machine",)),
    Bug("a second effect after a lost reply to prepared", PROGRESS,
        "        if _is_told(tx, fence, events.c.type == EventType.RESUME_STARTED):\n            return\n",
        "", ("state machine",)),
    Bug("rows beyond the weights that survive", ENDINGS,
        "        drop_metrics_beyond(tx, job.id, job.committed_step)\n", "", ("endings",)),
    Bug("an event is told again after a lost reply", PROGRESS,
        "        if not _is_told(tx, fence, events.c.idempotency_key == key):\n", "        if True:\n",
        ("events", "state machine")),
    Bug("idempotent commit that records again", CHECKPOINTS,
        '''            return Committed(asked, [])\n''',
        "            record(tx, db, job.id, EventType.CHECKPOINT_COMMITTED, 'Again.', attempt=job.attempt)\n"
        "            return Committed(asked, [])\n", ("state machine",)),
    Bug("extended job keeps its exhausted patience", f"{TRAINING}/preparation.py",
        "        state.patience.renew()", "        pass", ("resume",)),
    Bug("heartbeat from after the renewal", "worker/lease.py",
        "self._on_renewed(before)", "self._on_renewed(boot_time_clock())", ("lease",), is_quick=True),
    Bug("sums of a partial epoch not in the checkpoint", f"{TRAINING}/state.py",
        'sums=EpochSums(**values["sums"])', "sums=EpochSums()", ("resume",)),
    Bug("sweep that takes the running attempt's files", "worker/sweep.py",
        "int(attempt[1]) >= before_attempt", "int(attempt[1]) > before_attempt",
        ("sweep", "state machine"), is_quick=True),
    Bug("unfenced trainer_started", PROGRESS,
        "        holding(tx, fence)\n        tx.execute(\n            update(jobs)\n"
        "            .where(jobs.c.id == fence.job_id)\n            .values(\n                trainer_pid",
        "        tx.execute(\n            update(jobs)\n"
        "            .where(jobs.c.id == fence.job_id)\n            .values(\n                trainer_pid",
        ("fencing", "state machine")),
    Bug("any commit counts as progress", CHECKPOINTS,
        "progressed = step > job.highest_committed_step", "progressed = step > job.committed_step",
        ("state machine", "checkpoints")),
    Bug("retry without a new budget", REQUESTS,
        "            failures=0, losses=0, error_code=None", "            error_code=None",
        ("state machine",)),
    Bug("quarantine throws all the progress away", CHECKPOINTS,
        "values(committed_step=committed)", "values(committed_step=0)", ("state machine",)),
    Bug("unlinking before the commit", "worker/attempt.py",
        "        rows = self._take_step_rows()\n        self.epochs_done = max",
        f"{_UNLINK_FIRST}        self.epochs_done = max", ("supervision",)),
    Bug("bytes are not compared with their hash", f"{TRAINING}/checkpoint.py",
        "if found != ref.sha256:", "if not found:", ("resume", "corruption")),
    Bug("a parked trainer writes", f"{TRAINING}/trainer.py",
        "        self.session.wait_while_silent()\n        content", "        content", ("resume",)),
    Bug("a reboot goes unnoticed", ENDINGS,
        "expired = or_(expired, jobs.c.owner_boot_id != boot_id())", "expired = or_(expired)",
        ("expiry", "state machine"), is_quick=True),
]  # fmt: skip
