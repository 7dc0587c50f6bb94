"""Short words for what tests of the job store say again and again."""

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import select, update

from models import job_store
from models.database import Database
from models.errors import NotFound
from models.host import Owner, ProcessId, boot_id
from models.identifiers import new_id
from models.job_spec import JobSpec
from models.job_state import EndCause, JobStatus, Phase
from models.job_store import Claim, Fence, Position
from models.job_store.fence import JobRow
from models.tables import checkpoints, events, jobs, metadata

T = TypeVar("T")

LEASE = 15.0
SLOT = "cpu:x86_64-avx2"
WEIGHTS = "ab" * 32


def spec(**parts: Any) -> JobSpec:
    return JobSpec.model_validate({"dataset": {"path": "flowers4"}} | parts)


def owner(name: str = "wrk_1") -> Owner:
    """A worker of this boot, but out of sight: nobody here can tell whether its process lives."""
    return Owner(name, "elsewhere", boot_id(), "pid:[another]", ProcessId(4242, 17.5))


def step_row(step: int, loss: float | None = None, epoch: int = 1) -> dict[str, Any]:
    return {
        "step": step,
        "epoch": epoch,
        "loss": 1.0 / step if loss is None else loss,
        "learning_rate": 0.001,
    }


def epoch_row(epoch: int, step: int, val_loss: float | None = 0.5) -> dict[str, Any]:
    return {
        "epoch": epoch, "step": step, "train_loss": 0.7, "train_accuracy": 0.6, "val_loss": val_loss,
        "val_accuracy": 0.5, "learning_rate": 0.001, "images_per_second": 100.0, "duration_seconds": 2.0,
    }  # fmt: skip


def position(step: int | None = 0, phase: str = Phase.TRAINING, epochs_done: int = 0) -> Position:
    return Position(str(phase), step or 0, 100, step, epochs_done)


@dataclass
class World:
    """A database and the workers and users around it."""

    db: Database
    _paths: "itertools.count[int]" = field(default_factory=itertools.count)

    # -- Users -----------------------------------------------------------------------------------

    def submit(self, **parts: Any) -> str:
        return str(job_store.create_job(self.db, spec(**parts)).job.id)

    def submit_for(self, tenant: str, **parts: Any) -> str:
        return str(job_store.create_job(self.db, spec(**parts), tenant_id=tenant).job.id)

    def job(self, job_id: str) -> JobRow:
        """Whoever it belongs to."""
        with self.db.reading() as tx:
            row = tx.execute(select(jobs).where(jobs.c.id == job_id)).one_or_none()
        if row is None:
            raise NotFound
        return row

    # -- Workers ---------------------------------------------------------------------------------

    def claim(
        self, who: Owner | None = None, *, device: str = "cpu", slot: str = SLOT, lease: float = LEASE
    ) -> Claim | None:
        return job_store.claim(self.db, who or owner(), device, slot, lease)

    def claimed(self, who: Owner | None = None, *, lease: float = LEASE) -> Claim:
        claim = self.claim(who, lease=lease)
        assert claim is not None, "there is nothing to claim"
        return claim

    def running(self, *, lease: float = LEASE, **parts: Any) -> Fence:
        """A job of its own, claimed."""
        job_id = self.submit(**parts)
        fence = self.claimed(lease=lease).fence
        assert fence.job_id == job_id, "another job was waiting"
        return fence

    def prepare(
        self, fence: Fence, step: int = 0, *, from_checkpoint: str | None = None, **more: Any
    ) -> None:
        values: dict[str, Any] = {
            "slot": SLOT, "numerics": {"threads": 2}, "fingerprint": {"torch": "2.10"},
            "inexact_reasons": [], "epochs_done": 0, "steps": 100,
        }  # fmt: skip
        job_store.prepared(self.db, fence, step=step, from_checkpoint=from_checkpoint, **(values | more))

    def checkpoint(self, step: int, epoch: int = 1, **more: Any) -> dict[str, Any]:
        """What a trainer says of a file that it wrote."""
        identifier = new_id("ckpt")
        return {
            "id": identifier, "path": f"jobs/x/{identifier}-{next(self._paths)}.pth", "sha256": "cd" * 32,
            "size_bytes": 1000, "epoch": epoch, "step": step, "val_loss": None,
        } | more  # fmt: skip

    def commit(
        self,
        fence: Fence,
        step: int,
        *,
        epoch: int = 1,
        val_loss: float | None = None,
        keep_last: int = 2,
        steps: Sequence[dict[str, Any]] = (),
    ) -> str:
        """A checkpoint at ``step``; with ``val_loss`` it ends its epoch. The checkpoint's id."""
        checkpoint = self.checkpoint(step, epoch, val_loss=val_loss)
        job_store.commit_checkpoint(
            self.db, fence, checkpoint,
            step_rows=list(steps),
            epoch_rows=[] if val_loss is None else [epoch_row(epoch, step, val_loss)],
            epochs_done=epoch - (val_loss is None),
            keep_last=keep_last,
        )  # fmt: skip
        return str(checkpoint["id"])

    def restart(self, fence: Fence, **more: Any) -> Any:
        values: dict[str, Any] = {
            "device": "cpu", "step": None, "detection_seconds": 0.01, "lease_seconds": LEASE,
        }  # fmt: skip
        return job_store.restart_attempt(
            self.db, fence, EndCause.TRAINER_KILLED, "The trainer was killed by SIGKILL.", **(values | more)
        )

    def expire(self, lease: float = 0.001) -> list[str]:
        return job_store.expire_lost_leases(self.db, lease)

    def lose(self, job_id: str) -> list[str]:
        """The job's worker falls silent, and that is noticed."""
        with self.db.writing() as tx:
            tx.execute(
                update(jobs).where(jobs.c.id == job_id).values(lease_expires_at=self.db.lease_now() - 1.0)
            )
        return self.expire()

    # -- Every state -----------------------------------------------------------------------------

    def job_in(self, state: str) -> str:
        """A job in a status, or running under a request (``running+cancel``, ``running+pause``)."""
        job_id = self.submit()
        match state:
            case "queued":
                return job_id
            case "paused":
                job_store.pause(self.db, job_id)
                return job_id
            case "cancelled":
                job_store.cancel(self.db, job_id)
                return job_id
        fence = self.claimed().fence
        assert fence.job_id == job_id
        match state:
            case "running+cancel":
                job_store.cancel(self.db, job_id)
            case "running+pause":
                job_store.pause(self.db, job_id)
            case "succeeded":
                self.prepare(fence)
                self.commit(fence, 100, epoch=4, val_loss=0.5)
                job_store.finish(self.db, fence, WEIGHTS)
            case "failed":
                job_store.fail(self.db, fence, EndCause.TRAINER_ERROR, "dataset_invalid", "No images.")
        assert self.job(job_id).status == state.partition("+")[0]
        return job_id

    # -- What there is to see --------------------------------------------------------------------

    def events(self, job_id: str) -> list[str]:
        with self.db.reading() as tx:
            rows = tx.execute(
                select(events.c.type).where(events.c.job_id == job_id).order_by(events.c.sequence)
            )
            return list(rows.scalars())

    def event(self, job_id: str, kind: str) -> Any:
        """The only event of its kind."""
        with self.db.reading() as tx:
            return tx.execute(select(events).where(events.c.job_id == job_id, events.c.type == kind)).one()

    def checkpoints(self, job_id: str) -> dict[str, str]:
        """Status by id."""
        with self.db.reading() as tx:
            rows = tx.execute(
                select(checkpoints.c.id, checkpoints.c.status).where(checkpoints.c.job_id == job_id)
            )
            return {row.id: row.status for row in rows}

    def attempts(self, job_id: str) -> list[JobRow]:
        return job_store.job_attempts(self.db, job_id, limit=1000)

    def dump(self) -> dict[str, list[Any]]:
        """Every row of every table."""
        with self.db.reading() as tx:
            return {
                table.name: [
                    tuple(map(repr, row)) for row in tx.execute(select(table).order_by(*table.primary_key))
                ]
                for table in metadata.sorted_tables
            }


def at_once(*actions: Callable[[], T]) -> list[T | BaseException]:
    """What each action answered or raised, all begun at the same moment in threads of their own."""
    line = threading.Barrier(len(actions))

    def run(action: Callable[[], T]) -> T | BaseException:
        line.wait(timeout=30)
        try:
            return action()
        except Exception as error:  # noqa: BLE001 - the caller says which are welcome
            return error

    with ThreadPoolExecutor(len(actions)) as pool:
        return list(pool.map(run, actions))


def status_of(row: JobRow) -> JobStatus:
    return JobStatus(row.status)
