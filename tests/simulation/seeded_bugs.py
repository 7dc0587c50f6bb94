"""Guarantees broken on purpose, one at a time: a simulation that finds none of these would prove nothing."""

import inspect
import io
import textwrap
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from sqlalchemy import select, update

import models.database
import models.job_store.checkpoints
import models.job_store.endings
import models.job_store.progress
import models.storage.local
import worker.attempt
import worker.stall_watch
import worker.supervisor
import worker.training.resumption
import worker.training.state
import worker.training.trainer
from models import job_store
from models.job_state import JobStatus
from models.job_store.claims import Claim, committed_checkpoints, open_attempt
from models.job_store.fence import Fence, record
from models.tables import jobs
from tests.simulation import trainers
from tests.simulation.fold import FoldLearner
from tests.simulation.kernel import kernel
from tests.simulation.oracles import observed
from worker.messages import CheckpointWritten
from worker.training import checkpoint

Patch = tuple[Any, str, Any]


def _unfenced(tx: Any, fence: Fence) -> Any:
    return tx.execute(select(jobs).where(jobs.c.id == fence.job_id)).one()


def _claim_in_two(
    db: Any, owner: Any, device: str, slot: str, lease_seconds: float, *, not_now: Collection[str]
) -> Claim | None:
    """SELECT first, then UPDATE, and whoever comes in between is not noticed."""
    with db.reading() as tx:
        found = tx.execute(select(jobs.c.id).where(jobs.c.status == JobStatus.QUEUED)).first()
    if found is None:
        return None
    with db.writing() as tx:
        job = tx.execute(
            update(jobs)
            .where(jobs.c.id == found.id)
            .values(
                status=JobStatus.RUNNING, attempt=jobs.c.attempt + 1, worker_id=owner.worker_id,
                lease_expires_at=db.lease_now() + lease_seconds, owner_host=owner.host,
                owner_boot_id=owner.boot_id, owner_pid_namespace=owner.pid_namespace,
                owner_pid=owner.process.pid, owner_started_at=owner.process.started_at,
                claimed_at=db.now(), finished_at=None, paused_at=None, error_code=None,
            )
            .returning(jobs)
        ).one()  # fmt: skip
        record(tx, db, job.id, "claimed", "", attempt=job.attempt)  # type: ignore[arg-type]
        open_attempt(tx, db, job, device)
        return Claim(Fence(job.id, job.attempt), job, committed_checkpoints(tx, job.id))


def _record_before_bytes(self: Any, draft: Any, began_at: float) -> Any:
    """Says that it is written, then writes."""

    class Early:
        def write(self, key: str, produce: Any, on_bytes: Any = None) -> Any:
            memory = models.storage.local.HashingWriter()
            memory._take = lambda view: None  # type: ignore[method-assign]
            memory.fill(produce)
            return models.storage.local.StoredObject(key, memory.size_bytes, memory.sha256)

    real = self._storage
    self._storage = Early()
    cost = _WRITE(self, draft, began_at)
    self._storage = real
    real.write("jobs/late", lambda sink: sink.write(b"late"))
    return cost


_WRITE = worker.training.trainer.CheckpointWriter._write


def _fsync_skipped(for_folders: bool) -> Callable[..., Any]:
    os = models.storage.local.os

    def skip(handle: int) -> None:
        is_folder = kernel().disk._handles[handle][1] is None  # type: ignore[attr-defined]
        if is_folder != for_folders:
            os.fsync(handle)

    return skip


def _prune_first(self: Any, written: CheckpointWritten) -> None:
    """Files that retention will drop go before the transaction that says so."""
    for path in sorted(job_store.recorded_files(self.db, self.fence).paths)[:-1]:
        self.storage.delete(path)
    _COMMIT(self, written)


_COMMIT = worker.attempt.Attempt._commit


def _without_quarantine(task: Any, storage: Any, session: Any) -> Any:
    """Falls back, and tells nobody."""
    for ref in task.checkpoints:
        try:
            content = checkpoint.read_verified(storage, ref.file, lambda done, total: None)
        except checkpoint.CheckpointUnusable:
            continue
        return worker.training.resumption.Found(ref, content, None)
    return None


def _without_hash(storage: Any, ref: Any, on_bytes: Any) -> Any:
    try:
        return io.BytesIO(storage.open(ref.path).read())
    except FileNotFoundError:
        raise checkpoint.CheckpointUnusable from None


def _state_without_sums(self: Any) -> dict[str, Any]:
    fresh = worker.training.state.EpochSums(samples=1)
    return {**_TO_DICT(self), "sums": vars(fresh)}


_TO_DICT = worker.training.state.RunState.to_dict


def _replace_in(function: Callable[..., Any], old: str, new: str) -> Any:
    """The function made anew from its source with one thing changed."""
    source = textwrap.dedent(inspect.getsource(function))
    assert old in source, f"{old!r} is not in {function.__qualname__}"
    names: dict[str, Any] = dict(vars(inspect.getmodule(function)))
    exec(compile("from __future__ import annotations\n" + source.replace(old, new), "<bug>", "exec"), names)
    return names[function.__name__]


def _job_store_with(name: str, module: Any, old: str, new: str) -> list[Patch]:
    return [(job_store, name, observed(name, _replace_in(getattr(module, name), old, new)))]


def _os_with(fsync: Callable[..., Any]) -> Any:
    return SimpleNamespace(**{**vars(models.storage.local.os), "fsync": fsync})


#: What is broken, and how. Each is built while the simulation's own patches are in place.
BUGS: dict[str, Callable[[], list[Patch]]] = {
    "no attempt check on commit": lambda: [(models.job_store.checkpoints, "holding", _unfenced)],
    "no attempt check on metrics": lambda: [(models.job_store.progress, "holding", _unfenced)],
    "no attempt check on finish": lambda: [(models.job_store.endings, "holding", _unfenced)],
    "lease renewed whatever the trainer does": lambda: [
        (worker.stall_watch.StallWatch, "stalled_for", lambda self, now: None)
    ],
    "expiry by the wall clock of whoever looks": lambda: [
        (models.database, "boot_time_clock", lambda: kernel().wall_clock())
    ],
    "claim by SELECT, then UPDATE": lambda: [(job_store, "claim", observed("claim", _claim_in_two))],
    "no fsync of the file": lambda: [(models.storage.local, "os", _os_with(_fsync_skipped(False)))],
    "no fsync of the folder": lambda: [(models.storage.local, "os", _os_with(_fsync_skipped(True)))],
    "folders of a killed predecessor are trusted": lambda: [
        (
            models.storage.local.LocalStorage,
            "_make_durable_folder",
            _replace_in(
                models.storage.local.LocalStorage._make_durable_folder,
                "root in path.parents or not path.exists()",
                "not path.exists()",
            ),
        )
    ],
    "record before bytes": lambda: [
        (worker.training.trainer.CheckpointWriter, "_write", _record_before_bytes)
    ],
    "fallback that does not quarantine": lambda: [
        (worker.training.resumption, "newest_usable", _without_quarantine),
        (trainers, "newest_usable", _without_quarantine),
    ],
    "checkpoint believed unread": lambda: [(checkpoint, "read_verified", _without_hash)],
    "pruning before the commit": lambda: [(worker.attempt.Attempt, "_commit", _prune_first)],
    "snapshot shared with the running state": lambda: [
        (FoldLearner, "snapshot", lambda self: {"model_state_dict": self.weights, "optimizer_state_dict": {}})
    ],
    "sums of a begun epoch not saved": lambda: [
        (worker.training.state.RunState, "to_dict", _state_without_sums)
    ],
    "commit sets the job's step back": lambda: _job_store_with(
        "commit_checkpoint", models.job_store.checkpoints, "step=max(step, job.step)", "step=step"
    ),
    "sweep of recorded files": lambda: [
        (
            worker.attempt,
            "sweep",
            _replace_in(worker.attempt.sweep, "key in recorded.paths or ", ""),
        )
    ],
    "predecessor not buried": lambda: [(worker.supervisor, "bury", lambda trainer: True)],
}


@contextmanager
def broken(name: str) -> Iterator[None]:
    """With this guarantee broken; inside of a simulator."""
    with ExitStack() as stack:
        for module, attribute, value in BUGS[name]():
            stack.enter_context(patch.object(module, attribute, value))
        yield
