"""What may be changed of any job, the lists that find it afterwards, and jobs made from others."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from models import job_store
from models.errors import NotFound, SpecInvalid
from models.job_state import EndCause
from models.job_store import Changes
from models.tables import job_metadata
from tests.contract.world import SLOT, World, at_once, spec


def change(world: World, job_id: str, **given: Any) -> Any:
    return job_store.change_job(world.db, job_id, Changes.of(given))


def found(world: World, **pairs: str) -> list[str]:
    return [row.id for row in job_store.list_jobs(world.db, metadata=pairs)]


@pytest.mark.parametrize("state", ["queued", "running", "paused", "succeeded", "failed", "cancelled"])
def test_a_change_in_any_state(world: World, state: str) -> None:
    job_id = world.job_in(state)
    before = world.job(job_id)
    changed = change(world, job_id, name="second", metadata={"team": "vision"}, priority=7)
    assert (changed.name, changed.metadata, changed.priority) == ("second", {"team": "vision"}, 7)
    assert (changed.status, changed.attempt, changed.spec) == (before.status, before.attempt, before.spec)
    assert world.job(job_id) == changed
    assert found(world, team="vision") == [job_id]


def test_what_is_left_out_stays(world: World) -> None:
    job_id = world.submit(name="first", metadata={"a": "1", "b": "2"}, priority=3)
    before = world.dump()
    change(world, job_id)
    assert world.dump() == before
    assert change(world, job_id, name=None).name is None
    job = world.job(job_id)
    assert (job.metadata, job.priority) == ({"a": "1", "b": "2"}, 3)


def test_metadata_are_merged(world: World) -> None:
    job_id = world.submit(metadata={"a": "1", "b": "2"})
    assert change(world, job_id, metadata={"b": None, "c": "3", "x": None}).metadata == {"a": "1", "c": "3"}
    assert (found(world, a="1"), found(world, b="2"), found(world, c="3")) == ([job_id], [], [job_id])
    assert change(world, job_id, metadata=None).metadata == {}
    assert found(world, a="1") == []


def test_there_is_an_end_to_metadata(world: World) -> None:
    job_id = world.submit(metadata={str(number): "x" for number in range(15)})
    change(world, job_id, metadata={"15": "x"})
    before = world.dump()
    with pytest.raises(SpecInvalid) as refused:
        change(world, job_id, metadata={"16": "x"})
    assert refused.value.field == "metadata" and world.dump() == before
    assert len(change(world, job_id, metadata={"16": "x", "0": None}).metadata) == 16


def test_a_new_priority_counts_with_the_next_claim(world: World) -> None:
    first, second, third = (world.submit() for _ in range(3))
    change(world, third, priority=1)
    change(world, first, priority=-1)
    assert [world.claimed().fence.job_id for _ in range(3)] == [third, second, first]


def test_changes_at_once_are_all_made(world: World) -> None:
    job_id = world.submit()
    at_once(*[lambda n=n: change(world, job_id, metadata={str(n): "x"}) for n in range(8)])
    assert sorted(world.job(job_id).metadata) == [str(n) for n in range(8)]
    assert all(found(world, **{str(n): "x"}) == [job_id] for n in range(8))


def test_anothers_job_is_not_there(world: World) -> None:
    job_id = world.submit_for("other", metadata={"a": "1"})
    with pytest.raises(NotFound):
        change(world, job_id, name="mine")
    assert found(world, a="1") == []


# -- Lists -------------------------------------------------------------------------------------------


def test_lists_by_metadata(world: World) -> None:
    a = world.submit(metadata={"team": "vision", "run": "1"}, name="n")
    b = world.submit(metadata={"team": "vision", "run": "2"})
    world.submit(metadata={"team": "audio", "vision": "team"})
    c = world.submit(metadata={"team": "vision"})
    assert found(world, team="vision") == [c, b, a]
    assert found(world, team="vision", run="1") == [a]
    assert found(world, team="VISION") == found(world, run="3") == []
    page = job_store.list_jobs(world.db, metadata={"team": "vision"}, after=c, limit=1)
    assert [row.id for row in page] == [b]
    named = job_store.list_jobs(world.db, metadata={"team": "vision"}, name="n", status="queued")
    assert [row.id for row in named] == [a]


def test_any_text_is_a_key_and_a_value(world: World) -> None:
    metadata = {"%": "_", "'": '"; DROP TABLE jobs; --', "[k]": "{v}", "𝔘" * 64: "𝔵" * 512, "e": ""}
    job_id = world.submit(metadata=metadata)
    world.submit(metadata={"a": "b"})
    for name, value in metadata.items():
        assert found(world, **{name: value}) == [job_id]


def test_lists_by_instant(world: World) -> None:
    made = [world.submit() for _ in range(3)]
    middle = world.job(made[1]).created_at

    def ids(**wanted: Any) -> list[str]:
        return [row.id for row in job_store.list_jobs(world.db, **wanted)]

    assert ids(created_after=middle) == [made[2], made[1]]
    assert ids(created_before=middle) == [made[0]]
    assert ids(created_after=middle, created_before=middle + timedelta(microseconds=1)) == [made[1]]


def test_metadata_go_with_their_job(world: World) -> None:
    job_id = world.job_in("cancelled")
    change(world, job_id, metadata={"a": "1"})
    job_store.delete_job(world.db, job_id)
    with world.db.reading() as tx:
        assert tx.execute(select(job_metadata)).all() == []


# -- Clones ------------------------------------------------------------------------------------------


def prepared_job(world: World) -> Any:
    fence = world.running()
    world.prepare(fence)
    job_store.fail(world.db, fence, EndCause.TRAINER_ERROR, "dataset_invalid", "No images.")
    return world.job(fence.job_id)


@pytest.mark.parametrize(
    ("changed", "computes_alike"),
    [
        ({}, True),
        ({"name": "n", "metadata": {"a": "1"}, "priority": 5}, True),
        ({"fault_tolerance": {"max_failures": 9}, "resources": {"max_runtime_seconds": 60}}, True),
        ({"seed": 1}, False),
        ({"hyperparameters": {"precision": "bfloat16"}}, False),
        ({"hyperparameters": {"epochs": 9}}, False),
        ({"resources": {"device": "cpu"}}, False),
        ({"dataset": {"path": "other"}}, False),
    ],
)
def test_a_clone_computes_as_its_parent_did_unless_it_computes_something_else(
    world: World, changed: dict[str, Any], computes_alike: bool
) -> None:
    parent = prepared_job(world)
    clone = job_store.create_job(world.db, spec(**changed), parent=parent).job
    assert (clone.parent_id, clone.status, clone.attempt) == (parent.id, "queued", 0)
    assert clone.numerics == (parent.numerics if computes_alike else None)
    assert (clone.numerics_slot, clone.exact, clone.fingerprint) == (
        SLOT if computes_alike else None,
        True,
        None,
    )
    another = world.claim(slot="cpu:another")
    assert (another is None) == computes_alike, "it waits for a worker that computes the same bits"


def test_a_clone_that_came_to_another_kind_of_worker_stays_with_that_kind(world: World) -> None:
    parent = prepared_job(world)
    clone = job_store.create_job(world.db, spec(fault_tolerance={"exact_wait_seconds": 0}), parent=parent).job
    claim = world.claim(slot="cpu:another")
    assert claim is not None and claim.fence.job_id == clone.id
    world.prepare(claim.fence, slot="cpu:another")
    assert world.job(clone.id).numerics_slot == "cpu:another"
