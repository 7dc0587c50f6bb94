"""The check of a dataset: claimed by one, fenced, begun again when it is lost, given up at last."""

import os
import subprocess
import sys
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from models import dataset_store, job_store
from models.dataset_state import DatasetStatus, Source
from models.dataset_store.checks import MAX_TRIES
from models.errors import DatasetInUse, DatasetInvalid, DatasetNotReady, LeaseLost, NotFound, SpecInvalid
from models.host import Owner, ProcessId, boot_id, pid_namespace
from models.identifiers import new_id
from models.job_state import EndCause
from models.tables.datasets import datasets
from tests.contract.world import LEASE, World, at_once, owner
from tests.servers.waiting import until

FOUND: dict[str, Any] = {"classes": ["a", "b"], "counts": {"all": {"a": 2, "b": 2}}, "problems": []}


def register(world: World, **values: Any) -> str:
    given: dict[str, Any] = {"name": None, "folder": "flowers4", "size_bytes": None} | values
    return str(dataset_store.create_dataset(world.db, new_id("ds"), Source.PATH, **given).id)


def claim(world: World, who: str = "wrk_1") -> dataset_store.Check | None:
    return dataset_store.claim_check(world.db, owner(who), LEASE)


def claimed(world: World, who: str = "wrk_1") -> dataset_store.Check:
    check = claim(world, who)
    assert check is not None, "nothing waits"
    return check


def finish(world: World, check: dataset_store.Check) -> None:
    dataset_store.finish_check(
        world.db, check, folder="flowers4", found=FOUND, digest="ab" * 32, manifest_path="m", size_bytes=4
    )


def lose(world: World, dataset_id: str) -> None:
    """Its light worker is gone, and the lease has run out."""
    with world.db.writing() as tx:
        tx.execute(
            update(datasets)
            .where(datasets.c.id == dataset_id)
            .values(lease_expires_at=world.db.lease_now() - 1.0)
        )


def test_the_oldest_first_each_by_one(world: World) -> None:
    ids = [register(world) for _ in range(3)]
    assert job_store.claimable_classes(world.db) == ["light"]
    claims = at_once(*[lambda n=n: claim(world, f"wrk_{n}") for n in range(6)])
    taken = [check.dataset.id for check in claims if isinstance(check, dataset_store.Check)]
    assert sorted(taken) == ids and claims.count(None) == 3
    assert job_store.claimable_classes(world.db) == []


def test_a_lost_one_is_begun_again_and_the_loser_changes_nothing(world: World) -> None:
    dataset_id = register(world)
    before = claimed(world)
    assert claim(world) is None
    assert not dataset_store.get_dataset(world.db, dataset_id).is_lost
    lose(world, dataset_id)
    assert dataset_store.get_dataset(world.db, dataset_id).is_lost
    assert job_store.claimable_classes(world.db) == ["light"]
    after = claimed(world, "wrk_2")
    assert (before.attempt, after.attempt) == (1, 2)
    for late in (
        lambda: finish(world, before),
        lambda: dataset_store.renew_check(world.db, before, LEASE, 1, 2),
        lambda: dataset_store.fail_check(world.db, before, "dataset_invalid", "late", None),
        lambda: dataset_store.release_check(world.db, before),
        lambda: dataset_store.abandon_check(world.db, before, "late"),
    ):
        with pytest.raises(LeaseLost):
            late()
    finish(world, after)
    row = dataset_store.get_dataset(world.db, dataset_id)
    assert (row.status, row.attempt, row.worker_id) == (DatasetStatus.READY, 2, None)
    with pytest.raises(LeaseLost):
        finish(world, after)


def test_a_renewal_keeps_it(world: World) -> None:
    dataset_id = register(world)
    check = claimed(world)
    lose(world, dataset_id)
    dataset_store.renew_check(world.db, check, LEASE, 3, 7)
    assert claim(world, "wrk_2") is None
    row = dataset_store.get_dataset(world.db, dataset_id)
    assert (row.files_done, row.files_total) == (3, 7)


def claimed_here(world: World, process: ProcessId, namespace: str = "") -> dataset_store.Check:
    """By a light worker that has registered itself as a process of this host."""
    who = Owner(f"wrk_{process.pid}", "here", boot_id(), namespace or pid_namespace(), process)
    job_store.register_worker(world.db, who, device="light", slot="light", threads=1, version="0")
    check = dataset_store.claim_check(world.db, who, lease_seconds=3600.0)
    assert check is not None, "nothing waits"
    return check


def test_what_a_worker_held_that_died_on_this_host_is_free_at_once(world: World) -> None:
    dataset_id = register(world)
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    )
    before = claimed_here(world, ProcessId.of(process.pid))
    assert dataset_store.release_dead_checks(world.db) == [], "it lives"
    process.kill()
    until(
        lambda: dataset_store.release_dead_checks(world.db) == [dataset_id],
        what="the death to be noticed", seconds=5,
    )  # fmt: skip
    process.communicate()
    assert dataset_store.release_dead_checks(world.db) == []
    with pytest.raises(LeaseLost):
        finish(world, before)
    after = claimed(world, "wrk_2")
    assert (after.attempt, after.dataset.tries) == (2, 2), "what was checked may be what killed it"


def test_who_cannot_be_seen_from_here_is_not_held_for_dead(world: World) -> None:
    register(world)
    claimed_here(world, ProcessId(2**22 + 1, 1.0), namespace="pid:[0]")
    register(world)
    claimed_here(world, ProcessId.of(os.getpid()))
    register(world)
    assert dataset_store.claim_check(world.db, owner("wrk_unregistered"), LEASE) is not None
    assert dataset_store.release_dead_checks(world.db) == []


def test_one_that_stops_in_order_spends_nothing(world: World) -> None:
    register(world)
    for number in range(3 * MAX_TRIES):
        check = claimed(world, f"wrk_{number}")
        assert check.attempt == number + 1
        dataset_store.release_check(world.db, check)


def test_what_never_ends_is_given_up_and_says_why(world: World) -> None:
    dataset_id = register(world)
    for _ in range(MAX_TRIES):
        dataset_store.abandon_check(world.db, claimed(world), "The decoder crashed.\0")
        assert claim(world) is None, "the rest of the lease is a pause"
        lose(world, dataset_id)
    assert claim(world) is None
    row = dataset_store.get_dataset(world.db, dataset_id)
    assert (row.status, row.error_code) == (DatasetStatus.FAILED, "dataset_check_failed")
    assert "decoder crashed" in row.error_message
    assert job_store.claimable_classes(world.db) == []


def test_a_job_needs_a_dataset_that_is_ready(world: World) -> None:
    dataset_id = register(world)
    with pytest.raises(DatasetNotReady):
        world.submit(dataset={"id": dataset_id})
    finish(world, claimed(world))
    job = world.job(world.submit(dataset={"id": dataset_id}))
    assert job.dataset_id == dataset_id
    ready = dataset_store.ready_dataset(world.db, dataset_id)
    assert ready == dataset_store.ReadyDataset(Source.PATH, "flowers4", "m", "ab" * 32)

    failed = register(world)
    dataset_store.fail_check(world.db, claimed(world), "dataset_invalid", "One class.", None)
    with pytest.raises(DatasetInvalid, match="One class"):
        world.submit(dataset={"id": failed})
    with pytest.raises(SpecInvalid):
        world.submit(dataset={"id": "ds_unknown"})
    assert len(job_store.list_jobs(world.db)) == 1, "what was refused left nothing"


def test_of_another_tenant_it_is_not_there(world: World) -> None:
    dataset_id = register(world)
    finish(world, claimed(world))
    assert dataset_store.list_datasets(world.db, tenant_id="other") == []
    with pytest.raises(NotFound):
        dataset_store.get_dataset(world.db, dataset_id, "other")
    with pytest.raises(NotFound):
        dataset_store.delete_dataset(world.db, dataset_id, "other")
    with pytest.raises(SpecInvalid):
        dataset_store.usable_dataset(world.db, dataset_id, "other")


def test_delete_waits_for_the_jobs_that_may_go_on(world: World) -> None:
    dataset_id = register(world)
    finish(world, claimed(world))
    fence = world.running(dataset={"id": dataset_id})
    with pytest.raises(DatasetInUse, match=fence.job_id):
        dataset_store.delete_dataset(world.db, dataset_id)
    job_store.pause(world.db, fence.job_id)
    with pytest.raises(DatasetInUse):
        dataset_store.delete_dataset(world.db, dataset_id)
    job_store.cancel(world.db, fence.job_id)
    job_store.release(world.db, fence, EndCause.PREEMPTED, "Stopped.")
    dataset_store.delete_dataset(world.db, dataset_id)
    assert dataset_store.ready_dataset(world.db, dataset_id) is None
    with pytest.raises(NotFound):
        dataset_store.delete_dataset(world.db, dataset_id)


def test_either_a_job_is_submitted_or_the_dataset_deleted(world: World) -> None:
    for _ in range(5):
        dataset_id = register(world)
        finish(world, claimed(world))
        answers = at_once(
            lambda i=dataset_id: world.submit(dataset={"id": i}),
            lambda i=dataset_id: dataset_store.delete_dataset(world.db, i),
        )
        refused = [type(answer) for answer in answers if isinstance(answer, Exception)]
        assert refused in ([SpecInvalid], [DatasetInUse]), answers


def test_a_deleted_one_loses_its_check(world: World) -> None:
    dataset_id = register(world)
    check = claimed(world)
    dataset_store.delete_dataset(world.db, dataset_id)
    with pytest.raises(LeaseLost):
        finish(world, check)


@pytest.mark.parametrize(
    "values",
    [
        {"status": "ready"}, {"status": "failed"}, {"status": "lost"}, {"source": "url"},
        {"worker_id": "wrk_1"}, {"lease_expires_at": 1.0},
    ],
    ids=str,
)  # fmt: skip
def test_rows_that_make_no_sense_are_refused(world: World, values: dict[str, Any]) -> None:
    dataset_id = register(world)
    with pytest.raises(IntegrityError), world.db.writing() as tx:
        tx.execute(update(datasets).where(datasets.c.id == dataset_id).values(**values))
