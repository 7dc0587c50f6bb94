"""Fault 9: workers cut off from the database. Nothing is lost, and nothing runs twice."""

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest

from models import job_store
from tests.faults.partitions import (
    LEASE_SECONDS,
    await_steps,
    database_through,
    lease_left,
    on_another_host,
    trainer_below,
)
from tests.faults.sabotage import Pace
from tests.faults.untouched import Untouched
from tests.faults.usual_job import PER_CLASS, under_way
from tests.images import draw_dataset
from tests.results import event_types, metrics_of
from tests.servers.proxy import Proxy
from tests.servers.waiting import until
from tests.specs import full_fine_tune
from tests.stack import Stack

HOURS = pytest.mark.hours


@pytest.fixture
def proxy(postgres: Any) -> Iterator[Proxy]:
    with Proxy(postgres.port) as proxy:
        yield proxy


def steps_when_the_lease_is_over(stack: Stack, job_id: str, pace: Pace, lease: float) -> int:
    """All that this attempt may ever do, unless it hears again that the job is its own."""
    until(lambda: lease_left(stack, job_id) < 0.0, seconds=lease + 5.0, what="the lease to be over")
    return pace.num_steps()


@pytest.mark.long  # a server that is killed is out of reach, too: `test_database_away`
# As many leases as 20 s and 60 s are in production, and the real ones, which take their time.
@pytest.mark.parametrize(
    ("lease", "outage", "survives"),
    [
        (LEASE_SECONDS, 1.5 * LEASE_SECONDS, True),
        pytest.param(LEASE_SECONDS, 3.0 * LEASE_SECONDS, False, marks=HOURS),
        pytest.param(15.0, 3.0, True, marks=HOURS),
        pytest.param(15.0, 20.0, True, marks=HOURS),
        pytest.param(15.0, 60.0, False, marks=HOURS),
    ],
)
def test_the_database_is_out_of_everybodys_reach(
    lease: float, outage: float, survives: bool, make_stack: Any, proxy: Proxy, pace: Pace, quiet: Untouched
) -> None:
    """``survives``: connections go on where they were after the partition, or are found dead."""
    stack = make_stack(
        "postgresql",
        **pace.environment,
        PERDURE_LEASE_SECONDS=str(lease),
        PERDURE_HEARTBEAT_SECONDS=str(lease / 3),
    )
    stack.environment |= database_through(proxy, stack)
    with stack:
        draw_dataset(stack.home / "data/shapes", per_class=PER_CLASS)
        stack.start_api()
        stack.start_worker()
        job_id = under_way(stack, pace)
        before = job_store.get_job(stack.db, job_id).step

        proxy.blackhole()
        began, at_first = time.monotonic(), pace.num_steps()
        until(lambda: pace.num_steps() > at_first, what="it to train on while its lease is valid")
        parked = steps_when_the_lease_is_over(stack, job_id, pace, lease) if outage > lease else None
        until(lambda: time.monotonic() - began > outage, seconds=outage + 5, what="the end of the outage")
        assert parked in {None, pace.num_steps()}, "it went on without a lease"
        pace.hurry()
        proxy.heal(cut=not survives)
        await_steps(stack, job_id, before)

        done = stack.await_status(job_id, "succeeded")
        assert done["attempt"] == 1, "nobody could renew, so nobody's lease was over"
        assert ("parked" in event_types(stack, job_id)) == (outage > lease)
        quiet.check(stack, job_id)


@pytest.mark.hours  # the next one takes the same way up to the takeover
def test_one_worker_is_cut_off_and_comes_back(
    make_stack: Any, proxy: Proxy, pace: Pace, quiet: Untouched
) -> None:
    """The others take its job back meanwhile; it learns of that, lets go, and may claim again."""
    with make_stack("postgresql", **pace.environment) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=PER_CLASS)
        stack.start_api()
        worker = stack.start_worker(**database_through(proxy, stack))
        job_id = under_way(stack, pace)
        trainer = trainer_below(worker)
        assert trainer is not None

        proxy.blackhole()
        done = steps_when_the_lease_is_over(stack, job_id, pace, LEASE_SECONDS)
        until(lambda: stack.job(job_id)["status"] == "queued", seconds=20, what="the job to be taken back")
        [line] = stack.rows(f"/jobs/{job_id}/attempts")
        assert line["end_cause"] == "worker_lost"
        pace.hurry()
        proxy.heal()
        until(lambda: stack.job(job_id)["attempt"] == 2, seconds=20, what="the job to be claimed again")
        assert pace.num_steps() == done, "it went on without a lease"
        assert not trainer.is_running(), "the next attempt has a trainer of its own"
        assert worker.poll() is None

        stack.await_status(job_id, "succeeded")
        quiet.check(stack, job_id)


def test_a_worker_is_cut_off_for_good(make_stack: Any, proxy: Proxy, pace: Pace, quiet: Untouched) -> None:
    """Another host takes over after the lease; no step is done under both, and the first never writes."""
    prefix = on_another_host()
    with make_stack("postgresql", **pace.environment) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=PER_CLASS)
        stack.start_api()
        cut_off = stack.start_worker(*prefix, **database_through(proxy, stack))
        job_id = under_way(stack, pace)
        trainer = trainer_below(cut_off)
        assert trainer is not None

        proxy.blackhole()
        stack.start_worker()
        done = steps_when_the_lease_is_over(stack, job_id, pace, LEASE_SECONDS)
        files = files_of_attempt(stack, job_id, 1)
        pace.hurry()
        stack.await_status(job_id, "succeeded")
        assert stack.job(job_id)["attempt"] == 2
        assert trainer.is_running(), "nobody could tell it to go"
        assert pace.num_steps(attempt=1) == done, "two trainers trained one job"
        assert files_of_attempt(stack, job_id, 1) <= files
        quiet.check(stack, job_id)
        dump = trail(stack, job_id)

        # Nor does it when it comes back at last.
        proxy.heal()
        until(lambda: not trainer.is_running(), seconds=20, what="the trainer to be let go")
        until(lambda: "lease.lost" in stack.log_of(cut_off), seconds=20, what="the worker to know")
        assert trail(stack, job_id) == dump
        again = stack.await_status(stack.submit(full_fine_tune(1)), "succeeded")
        assert again["attempt"] == 1


@pytest.mark.hours  # for the worker the same as a connection that is cut off in both directions
@pytest.mark.parametrize("direction", ["to_server", "to_client"])
def test_half_a_connection(
    direction: Any, make_stack: Any, proxy: Proxy, pace: Pace, quiet: Untouched
) -> None:
    """Requests arrive and answers do not, or nothing arrives: the worker cannot tell, and need not."""
    with make_stack("postgresql", **pace.environment) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=PER_CLASS)
        stack.start_api()
        stack.start_worker(**database_through(proxy, stack))
        job_id = under_way(stack, pace)
        proxy.blackhole(direction)
        done = steps_when_the_lease_is_over(stack, job_id, pace, LEASE_SECONDS)
        until(lambda: stack.job(job_id)["status"] == "queued", seconds=20, what="the job to be taken back")
        assert pace.num_steps() == done
        pace.hurry()
        proxy.heal(cut=True)
        stack.await_status(job_id, "succeeded")
        quiet.check(stack, job_id)


@pytest.mark.hours  # milder than what the others do to connections, and more often
def test_a_database_that_answers_slowly_and_cuts(
    make_stack: Any, proxy: Proxy, pace: Pace, quiet: Untouched
) -> None:
    with make_stack("postgresql", **pace.environment) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=PER_CLASS)
        stack.start_api()
        stack.start_worker(**database_through(proxy, stack))
        proxy.delay(0.02)
        job_id = under_way(stack, pace)
        for more in itertools.count(1):
            step = job_store.get_job(stack.db, job_id).step
            proxy.cut()
            if more == 5:
                break
            await_steps(stack, job_id, step)
        pace.hurry()
        done = stack.await_status(job_id, "succeeded")
        assert done["attempt"] == 1
        quiet.check(stack, job_id)


def files_of_attempt(stack: Stack, job_id: str, attempt: int) -> set[str]:
    folder = stack.home / "storage/jobs" / job_id / "checkpoints"
    return {path.name for path in folder.glob(f"*.attempt-{attempt}.*")}


def trail(stack: Stack, job_id: str) -> Any:
    """All that a late write could change."""
    paths = ("events", "attempts", "checkpoints")
    return [stack.rows(f"/jobs/{job_id}/{path}") for path in paths], metrics_of(stack, job_id)
