"""Quotas hold whoever comes at once; what counts towards them."""

import pytest

from models import dataset_store, job_store
from models.dataset_state import Source
from models.errors import QuotaExceeded
from models.identifiers import new_id
from models.job_store.submission import Created
from tests.contract.world import LEASE, World, at_once, owner, spec


def submit(world: World, tenant: str = "acme", max_queued: int | None = 3, key: str | None = None) -> Created:
    return job_store.create_job(
        world.db, spec(), tenant_id=tenant, max_queued=max_queued, idempotency_key=key
    )


def test_twenty_at_once_get_as_many_places_as_there_are(world: World) -> None:
    answers = at_once(*[lambda: submit(world)] * 20)
    assert sum(isinstance(answer, Created) for answer in answers) == 3
    assert sum(isinstance(answer, QuotaExceeded) for answer in answers) == 17
    assert len(job_store.list_jobs(world.db, tenant_id="acme")) == 3, "those that were refused left nothing"


def test_places_are_a_tenants_own_and_come_free(world: World) -> None:
    first, *_ = [submit(world, key=f"k{number}").job.id for number in range(3)]
    with pytest.raises(QuotaExceeded):
        submit(world)
    assert submit(world, key="k0").job.id == first, "what is there already needs no place"
    assert submit(world, "other").is_new
    assert submit(world, max_queued=None).is_new
    job_store.cancel(world.db, first)
    with pytest.raises(QuotaExceeded):
        submit(world)
    assert world.claimed().fence.job_id != first
    assert submit(world).is_new


def test_those_that_come_back_at_once_get_as_many_places_as_there_are(world: World) -> None:
    paused = [submit(world, max_queued=None).job.id for _ in range(10)]
    for job_id in paused:
        job_store.pause(world.db, job_id)
    answers = at_once(*[lambda job_id=job_id: job_store.resume(world.db, job_id, 4) for job_id in paused])
    assert sum(isinstance(answer, QuotaExceeded) for answer in answers) == 6
    assert len(job_store.list_jobs(world.db, tenant_id="acme", status="queued")) == 4
    assert len(job_store.list_jobs(world.db, tenant_id="acme", status="paused")) == 6


def test_stored_bytes_are_those_of_the_files_that_are_kept(world: World) -> None:
    assert job_store.stored_bytes(world.db, "default") == 0
    fence = world.running()
    world.prepare(fence)
    shared = {"frozen_path": "jobs/x/frozen.pth", "frozen_sha256": "ef" * 32, "frozen_size_bytes": 50}
    for epoch in range(1, 6):
        row = world.checkpoint(epoch, epoch, val_loss=1.0 / epoch, **shared)
        job_store.commit_checkpoint(
            world.db, fence, row, step_rows=[], epoch_rows=[], epochs_done=epoch, keep_last=2
        )
    kept = [status for status in world.checkpoints(fence.job_id).values() if status == "committed"]
    assert len(kept) < 5
    assert job_store.stored_bytes(world.db, "default") == 1000 * len(kept) + 50
    assert job_store.stored_bytes(world.db, "other") == 0


def test_stored_bytes_are_also_those_of_uploads(world: World) -> None:
    def dataset(source: Source, size_bytes: int | None, tenant: str = "acme") -> None:
        folder = None if source is Source.UPLOAD else "flowers4"
        dataset_store.create_dataset(
            world.db, new_id("ds"), source, name=None, folder=folder, size_bytes=size_bytes, tenant_id=tenant
        )

    def check() -> dataset_store.Check:
        found = dataset_store.claim_check(world.db, owner(), LEASE)
        assert found is not None
        return found

    dataset(Source.UPLOAD, 1000)
    dataset(Source.UPLOAD, 10)
    dataset(Source.UPLOAD, 10**12, tenant="other")
    for source in (Source.PATH, Source.BUILTIN):
        dataset(source, 5)
    assert job_store.stored_bytes(world.db, "acme") == 1010
    dataset_store.fail_check(world.db, check(), "dataset_invalid", "One class.", None)
    assert job_store.stored_bytes(world.db, "acme") == 10, "its files are gone"
    ready = check()
    dataset_store.finish_check(
        world.db, ready, folder="f", found={}, digest="ab" * 32, manifest_path="m", size_bytes=70
    )
    assert job_store.stored_bytes(world.db, "acme") == 70, "unpacked it has another size"
    dataset_store.delete_dataset(world.db, ready.dataset.id, "acme")
    assert job_store.stored_bytes(world.db, "acme") == 0
