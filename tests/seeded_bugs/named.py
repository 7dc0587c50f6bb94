"""The bugs that the fault model names."""

from tests.seeded_bugs.bug import Bug

STORE, TRAINING, STORAGE = "models/job_store", "worker/training", "models/storage"

#: What a fenced write sees that does not look at the attempt.
ANY_ATTEMPT = "tx.execute(select(jobs).where(jobs.c.id == fence.job_id)).one()"

_SELECT_FIRST = """    fits = (_fits_but if not_now else _fits)(db.is_sqlite)
    given |= db.clock_values()
    with db.reading() as look:
        chosen = look.execute(_first_free(lanes(db.is_sqlite, fits), fits, is_alone=True), given).scalar()
    for name in ("device", "slot", "not_now", "unix_now"):
        given.pop(name, None)
    with db.writing() as tx:
        job = tx.execute(_running(jobs.c.id == chosen, is_sqlite=db.is_sqlite), given).one_or_none()
"""
_PRUNE_FIRST = """    with db.writing() as early:
        kept = early.execute(select(jobs).where(HELD), fence.values).one_or_none()
        let_go = _prune(early, db, kept, max(1, keep_last - 1)) if kept else []
    with db.writing() as tx:
        job = holding(tx, fence)
        asked = Requests.of(job)
"""
_WRITE_LATER = """        from models.storage.protocol import HashingWriter, StoredObject

        class Later:
            def write(_, key, produce, on_bytes):
                counted = HashingWriter()
                counted._take = lambda view: None
                counted.fill(produce)
                self._in_background.submit(self._storage.write, key, produce, on_bytes)
                return StoredObject(key, counted.size_bytes, counted.sha256)

        return checkpoint.write(
            Later(), """

_CREATE = """        created = job_store.create_job(
            services.db, resolved, tenant_id=caller.tenant_id, idempotency_key=once.key,
            max_queued=services.settings.max_queued_jobs,
        )  # fmt: skip
"""
_RING_AFTER = f"""{_CREATE}        if created.is_new:
            services.doorbell.ring(created.job.device_class)
"""
_RING_BEFORE = f"""        wanted = resolved.resources.device
        services.doorbell.ring("any" if wanted == "auto" else wanted)
{_CREATE}        if created.is_new:
            pass
"""

NAMED = [
    Bug("no attempt check on commit", "I1", STORE,
        "        job = holding(tx, fence)\n        asked", f"        job = {ANY_ATTEMPT}\n        asked",
        ("state machine", "simulation", "fencing")),
    Bug("no attempt check on metrics", "I1", STORE,
        "        job = holding(tx, fence)\n        told = put_step_rows(tx, db, job, rows)\n"
        "        asked = tx.execute(_PROGRESS, _progress(fence, position, len(told))).one()\n"
        "        append(tx, db, job.id, asked.stream_count, told)\n",
        f"        asked = job = {ANY_ATTEMPT}\n"
        "        tell(tx, db, job.id, put_step_rows(tx, db, job, rows))\n",
        ("state machine", "simulation", "fencing")),
    Bug("no attempt check on finish", "I1", STORE,
        "        job = holding(tx, fence)\n        message =",
        f"        job = {ANY_ATTEMPT}\n        message =",
        ("state machine", "simulation", "fencing")),
    Bug("lease renewed whatever the trainer does", "I4", "worker",
        "(idle := attempt.watch.stalled_for(now)) is not None", "(idle := None) is not None",
        ("simulation", "supervision")),
    Bug("expiry judged by the worker's clock", "fault 13", STORE,
        "    uptime = cast(",
        "    import time\n\n    expired = jobs.c.lease_expires_at < time.time()\n    uptime = cast(",
        ("expiry on PostgreSQL",)),
    Bug("claim by SELECT, then UPDATE", "fault 15", STORE,
        "    with db.writing() as tx:\n"
        "        taken = _taking(db.is_sqlite, _fits_but if not_now else _fits)\n"
        "        job = tx.execute(taken, {**given, **db.clock_values()}).one_or_none()\n",
        _SELECT_FIRST, ("simulation", "claims")),
    Bug("bell rung before the commit", "fault 17", "api", _RING_AFTER, _RING_BEFORE,
        ("submission",)),
    Bug("no directory fsync", "I2", STORAGE,
        "            _sync_folder(final.parent)\n", "", ("simulation", "power loss")),
    Bug("no file fsync", "I2", STORAGE,
        "        os.fsync(descriptor)\n        if", "        if", ("simulation", "storage")),
    Bug("record before bytes", "I2", TRAINING,
        "        return checkpoint.write(\n            self._storage, ", _WRITE_LATER, ("simulation",)),
    Bug("fallback that does not quarantine", "I6", TRAINING,
        "            session.send(CheckpointRejected(ref.id, str(unusable)))\n", "",
        ("simulation", "resume")),
    Bug("pruning before the commit", "I8", STORE,
        "    with db.writing() as tx:\n        job = holding(tx, fence)\n        asked = Requests.of(job)\n",
        _PRUNE_FIRST, ("state machine", "simulation")),
    Bug("step seed without the step", "I5", TRAINING,
        'derive(seed, "step", step, rank)', 'derive(seed, "step", rank)', ("randomness",)),
    Bug("permutation without the epoch", "I5", TRAINING,
        'derive(seed, "order", epoch)', 'derive(seed, "order")', ("randomness",)),
    Bug("BatchNorm statistics left out of the checkpoint", "I5", TRAINING,
        "self._model_copy.take(self._part(frozen=False))",
        "self._model_copy.take({n: torch.full_like(t, 'var' in n) if 'running_' in n else t\n"
        "                       for n, t in self._part(frozen=False).items()})", ("resume",)),
]  # fmt: skip
