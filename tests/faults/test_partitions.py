"""Fault 9: workers cut off from the database. Nothing is lost, and nothing runs twice."""

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest

from models import job_store
from tests.faults.partitions import (
    IDLE_CPU_SECONDS,
    LEASE_SECONDS,
    await_commit,
    await_steps,
    cpu_seconds,
    database_through,
    lease_left,
    on_another_host,
    trainer_below,
)
from tests.images import draw_dataset
from tests.results import event_types, metrics_of
from tests.servers.proxy import Proxy
from tests.servers.waiting import until
from tests.specs import full_fine_tune
from tests.stack import Stack

EPOCHS = 6


@pytest.fixture
def proxy(postgres: Any) -> Iterator[Proxy]:
    with Proxy(postgres.port) as proxy:
        yield proxy


def equal_results(stack: Stack, job_id: str, quiet: str) -> bool:
    """Weights, and every epoch and step once, with the same numbers."""
    metrics = metrics_of(stack, job_id)
    steps = [row["step"] for row in metrics["step"]]
    epochs = [row["epoch"] for row in metrics["epoch"]]
    assert steps == list(range(1, stack.job(job_id)["progress"]["steps"] + 1))
    assert epochs == list(range(1, EPOCHS + 1))
    assert metrics == metrics_of(stack, quiet)
    assert "determinism.mismatch" not in event_types(stack, job_id)
    return bool(stack.job(job_id)["weights_sha256"] == stack.job(quiet)["weights_sha256"])


def untouched_run(stack: Stack) -> str:
    quiet = stack.submit(full_fine_tune(EPOCHS))
    assert stack.await_status(quiet, "succeeded")["attempt"] == 1
    return quiet


# As many leases as 20 s and 60 s are in production, and the real ones.
@pytest.mark.parametrize(
    ("lease", "outage", "survives"),
    [
        pytest.param(LEASE_SECONDS, 0.5 * LEASE_SECONDS, True, marks=pytest.mark.long),
        (LEASE_SECONDS, 1.5 * LEASE_SECONDS, True),
        (LEASE_SECONDS, 3.0 * LEASE_SECONDS, False),
        pytest.param(15.0, 20.0, True, marks=pytest.mark.long),
        pytest.param(15.0, 60.0, False, marks=pytest.mark.long),
    ],
)
def test_the_database_is_out_of_everybodys_reach(
    lease: float, outage: float, survives: bool, make_stack: Any, proxy: Proxy
) -> None:
    """``survives``: connections go on where they were after the partition, or are found dead."""
    stack = make_stack(
        "postgresql", PERDURE_LEASE_SECONDS=str(lease), PERDURE_HEARTBEAT_SECONDS=str(lease / 3)
    )
    stack.environment |= database_through(proxy, stack)
    with stack:
        draw_dataset(stack.home / "data/shapes", per_class=50)
        stack.start_api()
        worker = stack.start_worker()
        quiet = untouched_run(stack)
        job_id = stack.submit(full_fine_tune(EPOCHS))
        before = await_commit(stack, job_id)
        trainer = trainer_below(worker)
        assert trainer is not None

        proxy.blackhole()
        began = time.monotonic()
        at_first = cpu_seconds(trainer)
        if outage > lease:
            until(lambda: lease_left(stack, job_id) < 0.15 * lease, seconds=lease, what="a lease nearly over")
            assert cpu_seconds(trainer) > at_first + IDLE_CPU_SECONDS, "it trains while its lease is valid"
            parked = cpu_seconds(trainer)
            until(lambda: time.monotonic() - began > outage, seconds=outage + 5, what="the end of the outage")
            assert cpu_seconds(trainer) < parked + IDLE_CPU_SECONDS, "it went on without a lease"
        else:
            until(lambda: time.monotonic() - began > outage, seconds=outage + 5, what="the end of the outage")
            assert cpu_seconds(trainer) > at_first + IDLE_CPU_SECONDS
        proxy.heal(cut=not survives)
        await_steps(stack, job_id, before.step)

        done = stack.await_status(job_id, "succeeded")
        assert done["attempt"] == 1, "nobody could renew, so nobody's lease was over"
        assert ("parked" in event_types(stack, job_id)) == (outage > lease)
        assert equal_results(stack, job_id, quiet)


def test_one_worker_is_cut_off_and_comes_back(make_stack: Any, proxy: Proxy) -> None:
    """The others take its job back meanwhile; it learns of that, lets go, and may claim again."""
    with make_stack("postgresql") as stack:
        draw_dataset(stack.home / "data/shapes", per_class=50)
        stack.start_api()
        worker = stack.start_worker(**database_through(proxy, stack))
        quiet = untouched_run(stack)
        job_id = stack.submit(full_fine_tune(EPOCHS))
        await_commit(stack, job_id)
        trainer = trainer_below(worker)
        assert trainer is not None

        proxy.blackhole()
        until(lambda: stack.job(job_id)["status"] == "queued", seconds=20, what="the job to be taken back")
        lost = cpu_seconds(trainer)
        [line] = stack.rows(f"/jobs/{job_id}/attempts")
        assert line["end_cause"] == "worker_lost"
        proxy.heal()
        until(lambda: stack.job(job_id)["attempt"] == 2, seconds=20, what="the job to be claimed again")
        assert cpu_seconds(trainer) < lost + IDLE_CPU_SECONDS, "it went on without a lease"
        assert not trainer.is_running(), "the next attempt has a trainer of its own"
        assert worker.poll() is None

        stack.await_status(job_id, "succeeded")
        assert equal_results(stack, job_id, quiet)


def test_a_worker_is_cut_off_for_good(make_stack: Any, proxy: Proxy) -> None:
    """Another host takes over after the lease; no step is done under both, and the first never writes."""
    prefix = on_another_host()
    with make_stack("postgresql") as stack:
        draw_dataset(stack.home / "data/shapes", per_class=50)
        stack.start_api()
        cut_off = stack.start_worker(*prefix, **database_through(proxy, stack))
        quiet = untouched_run(stack)
        job_id = stack.submit(full_fine_tune(EPOCHS))
        await_commit(stack, job_id)
        trainer = trainer_below(cut_off)
        assert trainer is not None

        proxy.blackhole()
        stack.start_worker()
        until(lambda: lease_left(stack, job_id) < 0.5, seconds=10, what="the lease to be nearly over")
        parked = cpu_seconds(trainer)
        until(lambda: stack.job(job_id)["attempt"] == 2, seconds=20, what="a takeover")
        files = files_of_attempt(stack, job_id, 1)
        stack.await_status(job_id, "succeeded")
        assert trainer.is_running(), "nobody could tell it to go"
        assert cpu_seconds(trainer) < parked + IDLE_CPU_SECONDS, "two trainers trained one job"
        assert files_of_attempt(stack, job_id, 1) <= files
        assert equal_results(stack, job_id, quiet)
        dump = trail(stack, job_id)

        # Nor does it when it comes back at last.
        proxy.heal()
        until(lambda: not trainer.is_running(), seconds=20, what="the trainer to be let go")
        until(lambda: "lease.lost" in stack.log_of(cut_off), seconds=20, what="the worker to know")
        assert trail(stack, job_id) == dump
        assert equal_results(stack, job_id, quiet)
        again = stack.await_status(stack.submit(full_fine_tune(1)), "succeeded")
        assert again["attempt"] == 1


@pytest.mark.long
@pytest.mark.parametrize("direction", ["to_server", "to_client"])
def test_half_a_connection(direction: Any, make_stack: Any, proxy: Proxy) -> None:
    """Requests arrive and answers do not, or nothing arrives: the worker cannot tell, and need not."""
    with make_stack("postgresql") as stack:
        draw_dataset(stack.home / "data/shapes", per_class=50)
        stack.start_api()
        worker = stack.start_worker(**database_through(proxy, stack))
        quiet = untouched_run(stack)
        job_id = stack.submit(full_fine_tune(EPOCHS))
        await_commit(stack, job_id)
        trainer = trainer_below(worker)
        assert trainer is not None
        proxy.blackhole(direction)
        until(lambda: lease_left(stack, job_id) < 0.0, seconds=20, what="the lease to run out")
        over = cpu_seconds(trainer)
        until(lambda: stack.job(job_id)["status"] == "queued", seconds=20, what="the job to be taken back")
        assert cpu_seconds(trainer) < over + IDLE_CPU_SECONDS
        proxy.heal(cut=True)
        stack.await_status(job_id, "succeeded")
        assert equal_results(stack, job_id, quiet)


@pytest.mark.long
def test_a_database_that_answers_slowly_and_cuts(make_stack: Any, proxy: Proxy) -> None:
    with make_stack("postgresql") as stack:
        draw_dataset(stack.home / "data/shapes", per_class=50)
        stack.start_api()
        stack.start_worker(**database_through(proxy, stack))
        quiet = untouched_run(stack)
        proxy.delay(0.02)
        job_id = stack.submit(full_fine_tune(EPOCHS))
        await_commit(stack, job_id)
        for more in itertools.count(1):
            step = job_store.get_job(stack.db, job_id).step
            proxy.cut()
            if more == 5:
                break
            await_steps(stack, job_id, step)
        done = stack.await_status(job_id, "succeeded")
        assert done["attempt"] == 1
        assert equal_results(stack, job_id, quiet)


def files_of_attempt(stack: Stack, job_id: str, attempt: int) -> set[str]:
    folder = stack.home / "storage/jobs" / job_id / "checkpoints"
    return {path.name for path in folder.glob(f"*.attempt-{attempt}.*")}


def trail(stack: Stack, job_id: str) -> Any:
    """All that a late write could change."""
    paths = ("events", "attempts", "checkpoints")
    return [stack.rows(f"/jobs/{job_id}/{path}") for path in paths], metrics_of(stack, job_id)
