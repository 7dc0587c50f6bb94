"""A job is deleted rows first, then files; whatever stops that half-way leaves only what is cleared later."""

from pathlib import Path

import pytest
from sqlalchemy import select, update

from models import job_store
from models.errors import NotFound, WrongState
from models.job_store.deletions import LINGERING_SECONDS
from models.storage import LocalStorage, remove_job_files
from models.tables import deleted_jobs, metadata
from tests.contract.world import World, at_once, spec

OUR_OWN = {"deleted_jobs", "idempotency_keys", "workers"}


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
def test_a_finished_job_is_gone_with_all_its_rows(world: World, state: str) -> None:
    kept, job_id = world.submit(priority=-9), world.job_in(state)
    before = {name: len(rows) for name, rows in world.dump().items()}
    assert before["events"] > 2 - (state == "cancelled")
    job_store.delete_job(world.db, job_id)
    with world.db.reading() as tx:
        for table in metadata.sorted_tables:
            if "job_id" in table.c and table.name not in OUR_OWN:
                assert tx.execute(select(table).where(table.c.job_id == job_id)).first() is None, table.name
    with pytest.raises(NotFound):
        world.job(job_id)
    assert [row.id for row in job_store.list_jobs(world.db)] == [kept]
    assert job_store.jobs_to_clear(world.db) == [job_id]


@pytest.mark.parametrize("state", ["queued", "running", "running+cancel", "paused"])
def test_one_that_may_go_on_is_not_deleted(world: World, state: str) -> None:
    job_id = world.job_in(state)
    before = world.dump()
    with pytest.raises(WrongState, match=state.partition("+")[0]):
        job_store.delete_job(world.db, job_id)
    assert world.dump() == before


def test_again_while_files_may_be_left_it_is_deleted_already(world: World) -> None:
    job_id = world.job_in("cancelled")
    job_store.delete_job(world.db, job_id)
    before = world.dump()
    job_store.delete_job(world.db, job_id)
    assert world.dump() == before
    for tenant, unknown in (("other", job_id), ("default", "job_unknown")):
        with pytest.raises(NotFound):
            job_store.delete_job(world.db, unknown, tenant)


def test_anothers_job_is_not_there(world: World) -> None:
    job_id = world.job_in("cancelled")
    with pytest.raises(NotFound):
        job_store.delete_job(world.db, job_id, "other")
    assert world.job(job_id).status == "cancelled"


def test_a_name_is_forgotten_when_nobody_can_write_any_more(world: World) -> None:
    job_id = world.job_in("cancelled")
    job_store.delete_job(world.db, job_id)
    assert not job_store.cleared(world.db, job_id)
    assert job_store.jobs_to_clear(world.db) == [job_id]
    with world.db.writing() as tx:
        at = tx.execute(select(deleted_jobs.c.deleted_at)).scalar_one()
        earlier = at.fromtimestamp(at.timestamp() - LINGERING_SECONDS - 2, at.tzinfo)
        tx.execute(update(deleted_jobs).values(deleted_at=earlier))
    assert job_store.cleared(world.db, job_id)
    assert job_store.jobs_to_clear(world.db) == []
    with pytest.raises(NotFound):
        job_store.delete_job(world.db, job_id)


def test_deletion_against_a_second_life(world: World) -> None:
    """Either the job goes on, and is not deleted, or it is deleted, and there is nothing to go on with."""
    for _ in range(20):
        job_id = world.job_in("failed")
        deleted, retried = at_once(
            lambda j=job_id: job_store.delete_job(world.db, j), lambda j=job_id: job_store.retry(world.db, j)
        )
        if isinstance(deleted, WrongState):
            assert world.job(job_id).status == "queued"
            job_store.cancel(world.db, job_id)
        else:
            assert deleted is None and isinstance(retried, NotFound)


def test_its_parent_may_go_before_a_clone(world: World) -> None:
    parent = world.job(world.job_in("cancelled"))
    clone = job_store.create_job(world.db, spec(), parent=parent).job
    job_store.delete_job(world.db, parent.id)
    assert world.job(clone.id).parent_id == parent.id


def test_files_go_with_their_folders_and_nobody_elses(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    for key in ("jobs/job_1/checkpoints/a.pth", "jobs/job_1/checkpoints/a.pth.12.partial",
                "jobs/job_1/logs/attempt-1.log", "jobs/job_10/checkpoints/b.pth"):  # fmt: skip
        storage.write(key, lambda sink: sink.write(b"x"))
    assert remove_job_files(storage, "job_1") == 3
    assert list(storage.keys("jobs")) == ["jobs/job_10/checkpoints/b.pth"]
    assert not (tmp_path / "jobs/job_1").exists()
    assert remove_job_files(storage, "job_1") == 0, "again it finds nothing"
    # A folder that is gone is made anew, and durably, for whoever writes there all the same.
    storage.write("jobs/job_1/checkpoints/late.pth", lambda sink: sink.write(b"x"))
    assert remove_job_files(storage, "job_1") == 1
