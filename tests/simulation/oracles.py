"""The invariants (docs/checkers.md), looked at after every write and unlink, at power cuts and at the end."""

import functools
import hashlib
import sqlite3
from collections.abc import Callable
from typing import Any

from sqlalchemy import select

from models import job_store
from models.database import Database
from models.job_state import FINISHED, EndCause, EventType, JobStatus
from models.job_store.fence import Fence
from models.tables import attempts, epoch_metrics, events, jobs, step_metrics
from tests.contract import invariants
from tests.simulation import fold
from tests.simulation.kernel import kernel
from tests.simulation.world import SETTINGS, world

#: Writes of a worker that change nothing when their lease is lost, or when they are said again.
_MAY_CHANGE_NOTHING = {"renew", "record_progress", "finish", "fail"}
_COLUMNS = (
    "id, status, attempt, committed_step, highest_committed_step, failures, losses, lease_expires_at, step,"
    " event_count, max_failures, phase_done, owner_pid, trainer_pid, error_code"
)
Row = dict[str, Any]


class Oracles:
    """What was seen so far, and what must not be seen next."""

    def __init__(self, uri: str) -> None:
        self._raw = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None)
        self._raw.row_factory = sqlite3.Row
        self.jobs: dict[str, Row] = {}
        self._granted: dict[str, float] = {}  #: by job: boot time until when its lease is sure
        self.granted_boots: dict[str, int] = {}

    def close(self) -> None:
        self._raw.close()

    def begin(self) -> None:
        self.jobs.clear()
        self._granted.clear()

    # -- After every transaction that wrote ------------------------------------------------------

    def after_write(self) -> None:
        name, fence = kernel().current.call or ("?", None)
        for row in map(dict, self._raw.execute(f"SELECT {_COLUMNS} FROM jobs").fetchall()):
            before = self.jobs.get(row["id"])
            if before is not None:
                try:
                    self._check(name, fence, before, row)
                except AssertionError as error:
                    kernel().fail(error)
            if before is None or before["lease_expires_at"] != row["lease_expires_at"]:
                self._granted[row["id"]] = kernel().boot_clock() + SETTINGS.lease_seconds
                self.granted_boots[row["id"]] = kernel().boots
            self.jobs[row["id"]] = row
        if name == "commit_checkpoint":
            self.expect_recorded_files_are_safe()
        if name == "trainer_started" and fence is not None:
            process = kernel().processes.get(self.jobs[fence.job_id]["trainer_pid"])
            if process is not None:
                process.is_recorded = True

    def _check(self, name: str, fence: Fence | None, before: Row, row: Row) -> None:
        told = f"{name} {fence}: {before} -> {row}"
        if fence is not None and fence.job_id == row["id"]:
            if name not in _MAY_CHANGE_NOTHING or before != row:
                assert (before["status"], before["attempt"]) == ("running", fence.attempt), f"I1: {told}"
        elif before != row:
            assert fence is None, f"I1: a write to another job: {told}"
        assert row["attempt"] >= before["attempt"], f"I6: {told}"
        if row["committed_step"] < before["committed_step"]:
            assert name == "reject_checkpoint", f"I6: {told}"
        if row["step"] < before["step"]:
            assert name in {"prepared", "restart_attempt", "record_progress", "record_metrics"}, f"I6: {told}"
        if name == "commit_checkpoint":
            assert row["step"] >= before["step"], f"I6: a commit set the job back: {told}"
        if name == "prepared" and before != row:
            assert row["step"] == row["committed_step"], f"resumed without a quarantine that says why: {told}"
        if before["status"] in FINISHED and row["status"] != before["status"]:
            assert name in {"retry", "extend"}, f"I7: {told}"
        if name == "claim" and row["attempt"] > before["attempt"]:
            assert before["status"] == "queued", f"two claims of one job: {told}"
        if name == "expire_lost_leases" and before != row:
            self._expect_really_lost(before, told)
        assert row["failures"] <= row["max_failures"] and row["losses"] <= 10, f"budget: {told}"

    def _expect_really_lost(self, before: Row, told: str) -> None:
        owner = kernel().processes.get(before["owner_pid"])
        if owner is None or owner.is_dead or self.granted_boots[before["id"]] != kernel().boots:
            return
        late = kernel().boot_clock() - self._granted[before["id"]]
        assert late > -0.01, f"a lease was taken {-late:.2f} s before its end: {told}"

    # -- Files -----------------------------------------------------------------------------------

    def recorded(self) -> dict[str, str]:
        """SHA-256 by path of what rows promise."""
        rows = self._raw.execute("SELECT path, sha256 FROM checkpoints WHERE status = 'committed'").fetchall()
        return {f"/store/{row['path']}": row["sha256"] for row in rows}

    def expect_recorded_files_are_safe(self) -> None:
        """I2: whatever was recorded would be there after a power cut, now."""
        disk = world().disk
        for path, sha256 in self.recorded().items():
            if path not in disk.tampered and disk.survives(path) != sha256:
                kernel().fail(AssertionError(f"I2: {path} is recorded, and a power cut would lose it"))

    def expect_recorded_files_survived(self) -> None:
        """I2 again, by what a power cut really left."""
        disk = world().disk
        for path, sha256 in self.recorded().items():
            file = disk.names.get(path)
            found = hashlib.sha256(file.live).hexdigest() if file else None
            if path not in disk.tampered and found != sha256:
                kernel().fail(AssertionError(f"I2: {path} was recorded, and a power cut has damaged it"))

    def on_unlink(self, path: str) -> None:
        """I8: what is recorded is not removed."""
        if path in self.recorded():
            kernel().fail(AssertionError(f"I8: {path} was removed, and a row points at it"))

    # -- At the end ------------------------------------------------------------------------------

    def at_the_end(self, db: Database, *, clock_was_set_back: bool) -> None:
        self.expect_recorded_files_are_safe()
        with db.reading() as tx:
            for job in tx.execute(select(jobs)).all():
                invariants.check_trail(tx, job)
                if not clock_was_set_back:
                    invariants.check_ledger(tx, job)
                invariants.check_checkpoints(tx, job)
                invariants.check_metrics(tx, job)
                told = tx.execute(
                    select(events.c.message).where(
                        events.c.job_id == job.id, events.c.type == EventType.DETERMINISM_MISMATCH
                    )
                ).all()
                assert not told, f"I3: {told}"
                bugs = select(attempts.c.end_detail).where(
                    attempts.c.job_id == job.id, attempts.c.end_cause == EndCause.WORKER_ERROR
                )
                assert not tx.execute(bugs).all(), f"a worker failed by itself with {job.id}"
                assert job.exact, job.inexact_reasons
                assert job.status in {*FINISHED, JobStatus.PAUSED}, f"I4: {job.id} is {job.status}"
                if job.status == JobStatus.FAILED:
                    assert job.error_code == "no_progress", (job.error_code, job.error_message)
                    assert job.failures == job.max_failures or job.losses == 10, "budget"
                if job.status == JobStatus.SUCCEEDED:
                    expect_undisturbed(tx, job)


def expect_undisturbed(tx: Any, job: Any) -> None:
    """I5 and I3: the weights, and each metric of the steps that led to them."""
    expected = fold.undisturbed(job.spec, job.segments, job.epochs)
    assert job.weights_sha256 == expected.weights_sha256, f"I5: {job.id} ended with other weights"
    steps = tx.execute(select(step_metrics).where(step_metrics.c.job_id == job.id)).all()
    assert {row.step: row.loss for row in steps} == expected.losses, f"I3: steps of {job.id}"
    rows = tx.execute(select(epoch_metrics).where(epoch_metrics.c.job_id == job.id)).all()
    found = {row.epoch: (row.step, row.train_loss, row.val_loss) for row in rows}
    assert found == expected.epochs, f"I3: epochs of {job.id}: {found} instead of {expected.epochs}"
    assert job.committed_step == job.step == len(expected.losses), f"I3: {job.id} ended at step {job.step}"


def after_write() -> None:
    world().oracles.after_write()


def observed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of the job store, of which the trail and the oracles hear."""

    @functools.wraps(function)
    def call(db: Database, *arguments: Any, **more: Any) -> Any:
        me = kernel().current
        fence = arguments[0] if arguments and isinstance(arguments[0], Fence) else None
        me.call = (name, fence)
        try:
            return function(db, *arguments, **more)
        except Exception as error:
            kernel().note(f"{name} raised", type(error).__name__)
            raise
        finally:
            me.call = None

    return call


OBSERVED = [name for name in job_store.__all__ if name[0].islower() and name != "job_store"]
