"""The tables refuse what the state machine forbids, whoever writes it."""

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from models.tables import attempts, checkpoints, epoch_metrics, idempotency_keys, jobs, step_metrics, workers
from tests.contract.world import World

NOW = datetime.now(UTC)

#: For a job in a state: columns that contradict it.
IMPOSSIBLE_JOBS: list[tuple[str, dict[str, Any]]] = [
    ("queued", {"status": "waiting"}),
    ("queued", {"status": "running"}),
    ("queued", {"worker_id": "wrk_1"}),
    ("queued", {"lease_expires_at": 1.0}),
    ("queued", {"status": "running", "worker_id": "wrk_1", "lease_expires_at": 1.0, "attempt": 0}),
    ("running", {"status": "queued"}),
    ("running", {"worker_id": None}),
    ("running", {"lease_expires_at": None}),
    ("running", {"finished_at": NOW}),
    ("running", {"attempt": 0}),
    ("queued", {"status": "paused"}),
    ("queued", {"paused_at": NOW}),
    ("paused", {"paused_at": None}),
    ("queued", {"status": "cancelled"}),
    ("cancelled", {"finished_at": None}),
    ("failed", {"error_code": None}),
    ("queued", {"error_code": "no_progress"}),
    ("succeeded", {"weights_sha256": None}),
    ("cancelled", {"status": "succeeded"}),
    ("queued", {"committed_step": 5}),
    ("queued", {"priority": None}),
    ("queued", {"spec": None}),
]


@pytest.mark.parametrize(
    ("state", "values"), IMPOSSIBLE_JOBS, ids=[f"{state}-{'-'.join(v)}" for state, v in IMPOSSIBLE_JOBS]
)
def test_impossible_jobs_are_refused(world: World, state: str, values: dict[str, Any]) -> None:
    job_id = world.job_in(state)
    before = world.dump()
    with pytest.raises(IntegrityError), world.db.writing() as tx:
        tx.execute(update(jobs).where(jobs.c.id == job_id).values(**values))
    assert world.dump() == before


def ledger_line(job_id: str, **values: Any) -> Any:
    line = {
        "job_id": job_id, "attempt": 7, "worker_id": "wrk_1", "worker_pid": 1, "host": "here",
        "device": "cpu", "started_at": NOW,
    }  # fmt: skip
    return insert(attempts).values(**(line | values))


def file_of(job_id: str, **values: Any) -> Any:
    row = {
        "id": "ckpt_1", "job_id": job_id, "epoch": 1, "step": 1, "attempt": 1, "path": "x.pth",
        "size_bytes": 1, "sha256": "ab" * 32, "status": "committed", "created_at": NOW,
    }  # fmt: skip
    return insert(checkpoints).values(**(row | values))


def step_of(job_id: str, **values: Any) -> Any:
    row = {
        "job_id": job_id, "step": 1, "epoch": 1, "attempt": 1, "loss": 0.5, "is_finite": True,
        "learning_rate": 0.1, "recorded_at": NOW,
    }  # fmt: skip
    return insert(step_metrics).values(**(row | values))


IMPOSSIBLE_ROWS = {
    "cause unknown": lambda job: ledger_line(job, ended_at=NOW, end_cause="boredom"),
    "ended without cause": lambda job: ledger_line(job, ended_at=NOW),
    "cause without end": lambda job: ledger_line(job, end_cause="finished"),
    "steps redone below zero": lambda job: ledger_line(job, steps_redone=-1),
    "ledger of no job": lambda job: ledger_line("job_none"),
    "checkpoint status unknown": lambda job: file_of(job, status="lost"),
    "checkpoint of no job": lambda job: file_of("job_none"),
    "checkpoint without hash": lambda job: file_of(job, sha256=None),
    "step zero": lambda job: step_of(job, step=0),
    "epoch zero": lambda job: step_of(job, epoch=0),
    "finite without loss": lambda job: step_of(job, loss=None),
    "loss that is not finite": lambda job: step_of(job, is_finite=False),
    "epoch row zero": lambda job: insert(epoch_metrics).values(
        job_id=job, epoch=0, step=1, attempt=1, learning_rate=0.1, recorded_at=NOW
    ),
    "answer without body": lambda job: insert(idempotency_keys).values(
        tenant_id="t", key="k", request_hash="h", claimed_at=0.0, status_code=200, created_at=NOW
    ),
    "worker status unknown": lambda job: insert(workers).values(
        id="wrk_1",
        host="h",
        boot_id="b",
        pid_namespace="p",
        pid=1,
        process_started_at=0.0,
        device="cpu",
        slot="s",
        threads=1,
        version="1",
        status="tired",
        started_at=NOW,
        heartbeat_at=NOW,
        heartbeat=0.0,
    ),
}


@pytest.mark.parametrize("row", IMPOSSIBLE_ROWS)
def test_impossible_rows_are_refused(world: World, row: str) -> None:
    job_id = world.job_in("running")
    with pytest.raises(IntegrityError), world.db.writing() as tx:
        tx.execute(IMPOSSIBLE_ROWS[row](job_id))


@pytest.mark.parametrize("row", [ledger_line, file_of, step_of])
def test_possible_rows_are_taken(world: World, row: Any) -> None:
    """Else the test above would prove nothing."""
    job_id = world.job_in("running")
    with world.db.writing() as tx:
        tx.execute(row(job_id))
        tx.rollback()


def test_two_checkpoints_never_share_a_file(world: World) -> None:
    job_id = world.job_in("running")
    with pytest.raises(IntegrityError), world.db.writing() as tx:
        tx.execute(file_of(job_id))
        tx.execute(file_of(job_id, id="ckpt_2"))


@pytest.mark.parametrize("row", [step_of, ledger_line])
def test_one_row_per_step_and_per_attempt(world: World, row: Any) -> None:
    job_id = world.job_in("running")
    with pytest.raises(IntegrityError), world.db.writing() as tx:
        tx.execute(row(job_id))
        tx.execute(row(job_id))


def test_instants_come_back_aware_and_in_utc(world: World) -> None:
    job = world.job(world.submit())
    assert job.created_at.tzinfo is UTC
    assert abs((datetime.now(UTC) - job.created_at).total_seconds()) < 60


def test_json_none_is_null(world: World) -> None:
    job_id = world.submit()
    with world.db.reading() as tx:
        assert tx.execute(select(jobs.c.id).where(jobs.c.numerics.is_(None))).scalar_one() == job_id
