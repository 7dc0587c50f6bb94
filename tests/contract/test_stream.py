"""What is told of a job: one order without gaps, lines that never change, and nothing seen out of turn."""

import threading
from typing import Any

import pytest
from sqlalchemy import delete, update

from models import job_store
from models.job_state import EventType
from models.job_store.fence import JobRow
from models.tables import jobs
from tests.contract.world import WEIGHTS, World, at_once, position, step_row


def lines(world: World, job_id: str, after: int = 0, limit: int = 1000) -> list[JobRow]:
    return job_store.stream_news(world.db, {job_id: after}, limit=limit)[job_id].lines


def kinds(told: list[JobRow]) -> list[str]:
    return [line.kind for line in told]


def steps_of(line: JobRow) -> list[int]:
    return [row[line.data["columns"].index("step")] for row in line.data["rows"]]


def test_a_job_from_its_submission_to_its_end(world: World) -> None:
    fence = world.running()
    world.prepare(fence)
    job_store.first_step(world.db, fence)
    job_store.record_metrics(world.db, fence, [step_row(1), step_row(2)], position(2))
    world.commit(fence, 3, val_loss=0.5, steps=[step_row(3)])
    job_store.finish(world.db, fence, WEIGHTS)
    told = lines(world, fence.job_id)
    assert kinds(told) == [
        "event", "status",  # created
        "attempt", "event", "status",  # claimed
        "attempt", "metric",
        "metric", "metric", "checkpoint", "event",  # committed
        "attempt", "event", "status",  # succeeded
    ]  # fmt: skip
    assert steps_of(told[6]) == [1, 2] and steps_of(told[7]) == [3]
    assert told[8].data["granularity"] == "epoch" and told[8].data["val_loss"] == 0.5
    statuses = [(line.data["status"], line.data["final"]) for line in told if line.kind == "status"]
    assert statuses == [("queued", False), ("running", False), ("succeeded", True)]
    news = job_store.stream_news(world.db, {fence.job_id: 0}, limit=1000)[fence.job_id]
    assert (news.last, news.is_finished) == (14, True)


def test_what_was_told_stays_when_rows_are_replaced_and_taken_back(world: World) -> None:
    fence = world.running(
        fault_tolerance={"on_non_finite": "rollback"}, hyperparameters={"epochs": 4, "batch_size": 2}
    )
    world.prepare(fence)
    world.commit(fence, 5, val_loss=0.5, steps=[step_row(n) for n in range(1, 6)])
    job_store.record_metrics(world.db, fence, [step_row(6), step_row(7)], position(7))
    before = [(line.sequence, line.kind, line.data) for line in lines(world, fence.job_id)]
    again = job_store.roll_back(world.db, fence, "NaN.", device="cpu", lease_seconds=15.0)
    assert isinstance(again, job_store.restarts.Restarted)
    job_store.record_metrics(world.db, again.fence, [step_row(6, loss=9.0)], position(6))
    after = [(line.sequence, line.kind, line.data) for line in lines(world, fence.job_id)]
    assert after[: len(before)] == before
    rolled_back = next(data for _, _, data in after if data.get("type") == EventType.ROLLED_BACK)
    assert rolled_back["data"]["step"] == 5, "who keeps rows knows which of them are gone"


def test_metrics_whose_reply_was_lost_are_told_once(world: World) -> None:
    fence = world.running()
    rows = [step_row(1), step_row(2)]
    job_store.record_metrics(world.db, fence, rows, position(2))
    told = kinds(lines(world, fence.job_id))
    job_store.record_metrics(world.db, fence, rows, position(2))
    assert kinds(lines(world, fence.job_id)) == told
    job_store.record_metrics(world.db, fence, [*rows[1:], step_row(3)], position(3))
    assert steps_of(lines(world, fence.job_id)[-1]) == [3]


def test_steps_that_a_later_attempt_does_again_are_told_again(world: World) -> None:
    fence = world.running()
    job_store.record_metrics(world.db, fence, [step_row(1), step_row(2)], position(2))
    again = world.restart(fence).fence
    job_store.record_metrics(world.db, again, [step_row(1)], position(1))
    last = lines(world, fence.job_id)[-1]
    assert (last.data["attempt"], steps_of(last)) == (2, [1])


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_null(world: World, loss: float) -> None:
    fence = world.running()
    world.commit(fence, 3, val_loss=loss)
    epoch = next(line for line in lines(world, fence.job_id) if line.kind == "metric")
    assert epoch.data["val_loss"] is None


def test_reading_on_from_any_number_is_reading_the_rest(world: World) -> None:
    fence = world.running()
    world.commit(fence, 3, val_loss=0.5, steps=[step_row(1)])
    job_store.cancel(world.db, fence.job_id)
    whole = lines(world, fence.job_id)
    for after in range(len(whole) + 1):
        assert lines(world, fence.job_id, after) == whole[after:]
        assert lines(world, fence.job_id, after, limit=2) == whole[after : after + 2]


def test_one_question_for_many_jobs(world: World) -> None:
    first, second, third = world.submit(), world.submit(), world.submit()
    job_store.cancel(world.db, second)
    news = job_store.stream_news(world.db, {first: 2, second: 1, third: 0, "job_none": 0}, limit=1000)
    assert {job_id: [line.sequence for line in found.lines] for job_id, found in news.items()} == {
        first: [], second: [2, 3, 4], third: [1, 2],
    }  # fmt: skip
    assert [news[job_id].is_finished for job_id in (first, second)] == [False, True]


def test_a_stream_goes_with_its_job(world: World) -> None:
    job_id = world.submit()
    with world.db.writing() as tx:
        tx.execute(delete(jobs).where(jobs.c.id == job_id))
    assert job_store.stream_news(world.db, {job_id: 0}, limit=10) == {}
    assert world.dump()["stream"] == []


def test_a_reader_never_sees_a_line_before_those_of_lower_numbers(world: World) -> None:
    """Else it would go on after that one, and have a gap for ever."""
    fence = world.running()
    world.prepare(fence)
    seen: list[int] = []
    is_over = threading.Event()

    def read() -> None:
        while True:
            last_look = is_over.is_set()
            seen.extend(line.sequence for line in lines(world, fence.job_id, len(seen), limit=7))
            if last_look and not lines(world, fence.job_id, len(seen)):
                return

    def write(number: int) -> None:
        for turn in range(6):
            if number % 2:
                job_store.record_event(world.db, fence, f"evt_{number}_{turn}", EventType.PARKED, "Waited.")
            else:
                step = 100 * number + turn + 1
                job_store.record_metrics(world.db, fence, [step_row(step)], position(step))

    reader = threading.Thread(target=read)
    reader.start()
    assert at_once(*[lambda n=n: write(n) for n in range(6)]) == [None] * 6
    is_over.set()
    reader.join(timeout=60)
    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) == job_store.get_job(world.db, fence.job_id).stream_count


def test_a_job_that_is_older_than_streams_begins_with_its_next_change(world: World) -> None:
    job_id = world.submit()
    with world.db.writing() as tx:  # as the migration leaves it
        tx.execute(delete(job_store.stream.stream).where(job_store.stream.stream.c.job_id == job_id))
        tx.execute(update(jobs).values(stream_count=0))
    assert lines(world, job_id) == []
    job_store.cancel(world.db, job_id)
    told: list[Any] = [(line.sequence, line.kind) for line in lines(world, job_id)]
    assert told == [(1, "event"), (2, "status")]
    with world.db.writing() as tx:  # the invariants are those of jobs that were always streamed
        tx.execute(delete(jobs))
