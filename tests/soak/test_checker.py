"""The checker is silent about a sound past, and each kind of damage is found by the rule that is for it."""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from models import job_store, migrate
from models.database import Database
from models.job_store import Fence
from models.tables import attempts, checkpoints, epoch_metrics, events, jobs, step_metrics
from tests.contract.world import WEIGHTS, World, epoch_row, owner, spec, step_row
from tests.soak.checker import Verdict, check
from tests.soak.history import Entry, History, read_history
from tests.soak.timeline import timeline

EPOCHS, STEPS_PER_EPOCH = 2, 2


@dataclass
class Past:
    """A soak of one job, whose second attempt finished what its first began, and of its untouched run."""

    world: World
    storage: Path
    history: list[Entry] = field(default_factory=list)
    job_id: str = ""

    def rules(self) -> set[str]:
        return {finding.rule for finding in check(self.history, self.world.db, self.storage).findings}

    def tell(self, kind: str, **data: Any) -> None:
        self.history.append({"kind": kind, "unix": time.time(), **data})

    # -- How it came about -----------------------------------------------------------------------

    def submit(self, kind: str, key: str) -> str:
        made = job_store.create_job(
            self.world.db, spec(hyperparameters={"epochs": EPOCHS}), idempotency_key=key
        )
        self.tell("submitting", key=key, spec="small")
        self.tell(kind, key=key, spec="small", job_id=made.job.id)
        return str(made.job.id)

    def train(self, fence: Fence, *epochs: int) -> None:
        for epoch in epochs:
            step = epoch * STEPS_PER_EPOCH
            path = f"jobs/{fence.job_id}/checkpoints/epoch-{epoch}.step-{step}.attempt-{fence.attempt}.x.pth"
            content = f"{path}".encode()
            (self.storage / path).parent.mkdir(parents=True, exist_ok=True)
            (self.storage / path).write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            job_store.commit_checkpoint(
                self.world.db, fence,
                self.world.checkpoint(step, epoch, path=path, sha256=digest, size_bytes=len(content)),
                step_rows=[step_row(n, epoch=epoch) for n in (step - 1, step)],
                epoch_rows=[epoch_row(epoch, step)], epochs_done=epoch, keep_last=5,
            )  # fmt: skip

    def finish(self, fence: Fence) -> None:
        job_store.finish(self.world.db, fence, WEIGHTS)

    # -- What may be wrong with it ---------------------------------------------------------------

    def change(self, table: Any, *where: Any, **values: Any) -> None:
        mine = table.c.id if table is jobs else table.c.job_id
        with self.world.db.writing() as tx:
            changed = tx.execute(update(table).where(mine == self.job_id, *where).values(**values))
        assert changed.rowcount > 0

    def remove(self, table: Any, *where: Any) -> None:
        with self.world.db.writing() as tx:
            assert tx.execute(delete(table).where(table.c.job_id == self.job_id, *where)).rowcount > 0

    def repeat(self, table: Any) -> None:
        """Every row of it, in a table that has lost its key."""
        with self.world.db.writing() as tx:
            for statement in (
                "CREATE TABLE without_key AS SELECT * FROM {0} UNION ALL SELECT * FROM {0}",
                "DROP TABLE {0}",
                "ALTER TABLE without_key RENAME TO {0}",
            ):
                tx.exec_driver_sql(statement.format(table.name))

    def file(self, step: int) -> Path:
        with self.world.db.reading() as tx:
            wanted = select(checkpoints.c.path).where(
                checkpoints.c.job_id == self.job_id, checkpoints.c.step == step
            )
            return self.storage / str(tx.execute(wanted).scalar_one())

    def after_the_first_attempt(self) -> Any:
        return self.world.attempts(self.job_id)[0].ended_at + timedelta(seconds=1)

    def leave_garbage(self, attempt: int) -> None:
        (self.file(2).parent / f"epoch-1.step-2.attempt-{attempt}.y.pth").write_bytes(b"?")


@pytest.fixture
def past(tmp_path: Path) -> Iterator[Past]:
    db = Database(f"sqlite:///{tmp_path / 'perdure.db'}")
    migrate.upgrade(db)
    past = Past(World(db), tmp_path / "storage")
    past.submit("reference", "key-0")
    quiet = past.world.claimed().fence
    past.world.prepare(quiet, steps=EPOCHS * STEPS_PER_EPOCH)
    past.train(quiet, 1, 2)
    past.finish(quiet)

    past.job_id = past.submit("submitted", "key-1")
    first = past.world.claimed(owner("wrk_1")).fence
    past.world.prepare(first, steps=EPOCHS * STEPS_PER_EPOCH)
    past.train(first, 1)
    second = past.world.restart(first).fence
    past.world.prepare(second, step=2, steps=EPOCHS * STEPS_PER_EPOCH, epochs_done=1)
    past.train(second, 2)
    past.finish(second)
    yield past
    db.close()


def test_a_sound_past(past: Past) -> None:
    past.leave_garbage(attempt=2)  # the newest attempt's is nobody's to clear away any more
    past.tell("downloaded", job_id=past.job_id, weights=WEIGHTS)
    assert check(past.history, past.world.db, past.storage) == Verdict(
        num_jobs=1, num_finished=1, num_identical=1, num_attempts=2, num_recoveries=1
    )


DAMAGE: dict[str, tuple[str, Callable[[Past], object]]] = {
    "an epoch is lost": ("no_epoch_lost", lambda p: p.remove(epoch_metrics, epoch_metrics.c.epoch == 1)),
    "a step is lost": ("no_step_lost", lambda p: p.remove(step_metrics, step_metrics.c.step == 3)),
    "an epoch is there twice": ("no_metric_twice", lambda p: p.repeat(epoch_metrics)),
    "a step is there twice": ("no_metric_twice", lambda p: p.repeat(step_metrics)),
    "a step too many": ("metrics_equal", lambda p: p.change(step_metrics, step_metrics.c.step == 4, step=5)),
    "a loss differs": ("metrics_equal", lambda p: p.change(step_metrics, step_metrics.c.step == 3, loss=9.0)),
    "an accuracy differs": ("metrics_equal", lambda p: p.change(epoch_metrics, val_accuracy=0.123)),
    "other weights": ("weights_equal", lambda p: p.change(jobs, weights_sha256="00" * 32)),
    "it was inexact": ("exact", lambda p: p.change(jobs, exact=False, inexact_reasons=["torch"])),
    "a determinism mismatch": (
        "exact", lambda p: p.change(events, events.c.sequence == 4, type="determinism.mismatch"),
    ),
    "a zombie wrote a step": (
        "no_zombie_writes",
        lambda p: p.change(step_metrics, step_metrics.c.step == 1, recorded_at=p.after_the_first_attempt()),
    ),
    "a zombie committed": (
        "no_zombie_writes",
        lambda p: p.change(checkpoints, checkpoints.c.step == 2, created_at=p.after_the_first_attempt()),
    ),
    "a zombie told something": (
        "no_zombie_writes",
        lambda p: p.change(events, events.c.sequence == 3, created_at=p.after_the_first_attempt()),
    ),
    "the database saw a zombie write": (
        "no_zombie_writes",
        lambda p: p.tell(
            "zombie_write", job_id=p.job_id, what="step_metrics", attempt=1, holder=2, status="running",
            written_at="12:00", writer="worker 1", holder_pid=4242,
        ),
    ),
    "an attempt that never was": ("no_zombie_writes", lambda p: p.change(step_metrics, attempt=7)),
    "a worker's bug": (
        "no_bug_of_a_worker",
        lambda p: p.change(attempts, attempts.c.attempt == 1, end_cause="worker_error", end_detail="Bug."),
    ),
    "the committed step fell": (
        "committed_step_rises",
        lambda p: p.change(
            events, events.c.type == "checkpoint.committed", events.c.attempt == 2, data={"step": 1}
        ),
    ),
    "the ledger is open": (
        "check_ledger", lambda p: p.change(attempts, attempts.c.attempt == 1, ended_at=None, end_cause=None),
    ),
    "an event is missing": ("check_trail", lambda p: p.remove(events, events.c.sequence == 2)),
    "an illegal path": (
        "check_trail", lambda p: p.change(events, events.c.type == "claimed", type="expired"),
    ),
    "another committed step": ("check_checkpoints", lambda p: p.change(jobs, committed_step=3)),
    "a file is gone": ("recorded_files_exist", lambda p: p.file(4).unlink()),
    "a file is damaged": ("recorded_files_exist", lambda p: p.file(2).write_bytes(b"x")),
    "garbage": ("no_garbage", lambda p: p.leave_garbage(attempt=1)),
    "another download": ("downloads", lambda p: p.tell("downloaded", job_id=p.job_id, weights="00" * 32)),
    "a job for no key": ("submissions", lambda p: p.world.submit()),
    "two jobs for a key": (
        "submissions", lambda p: p.tell("submitted", key="key-1", spec="small", job_id="j"),
    ),
    "a lost job": ("submissions", lambda p: p.tell("submitted", key="key-2", spec="small", job_id="job_2")),
    "it never finished": ("finished", lambda p: p.change(jobs, **FAILED)),
}  # fmt: skip
FAILED = {"status": "failed", "error_code": "no_progress", "error_message": "No."}


def test_the_zeros_are_counted(past: Past) -> None:
    past.remove(epoch_metrics, epoch_metrics.c.epoch == 1)
    past.repeat(step_metrics)
    past.change(jobs, weights_sha256="00" * 32)
    verdict = check(past.history, past.world.db, past.storage)
    assert (verdict.num_lost_epochs, verdict.num_duplicate_metrics, verdict.num_identical) == (1, 4, 0)


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found(past: Past, damage: str) -> None:
    rule, do = DAMAGE[damage]
    do(past)
    assert rule in past.rules()


def test_damage_that_the_soak_did_itself_is_nobodys_fault(past: Past) -> None:
    past.file(2).write_bytes(b"x")
    past.tell("fault", name="corrupt_checkpoint", path=past.file(2).relative_to(past.storage).as_posix())
    assert past.rules() == set()


def test_a_worker_that_was_lost_may_have_left_files(past: Past) -> None:
    past.change(attempts, attempts.c.attempt == 1, end_cause="worker_lost")
    past.leave_garbage(attempt=1)
    assert past.rules() == set()


def test_the_timeline_of_a_job_has_the_faults_around_it_in_their_order(past: Past) -> None:
    past.tell("fault", name="kill_api", api=1)
    past.history.append({"kind": "fault", "unix": 0.0, "name": "long_before"})
    lines = timeline(past.history, past.world.db, past.job_id)
    assert lines == sorted(lines)
    text = "\n".join(lines)
    for said in (
        "created",
        "client  submitted key=key-1",
        "attempt 1 of worker",
        "restarted",
        "kill_api api=1",
    ):
        assert said in text
    assert "long_before" not in text
    assert "key-0" not in text


def test_a_history_outlives_a_kill_in_mid_line(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    history.add("fault", name="kill_trainer", worker=1)
    history.close()
    with history.path.open("a") as file:
        file.write('{"kind": "fau')
    [entry] = read_history(history.path)
    assert (entry["kind"], entry["worker"]) == ("fault", 1)
