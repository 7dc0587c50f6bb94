"""Fault 12: COMMIT was sent and its reply is lost. Nothing has its effect twice, and nothing waits long."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.faults.partitions import LEASE_SECONDS, await_commit, database_through, trainer_below
from tests.faults.sabotage import Pace
from tests.faults.untouched import Untouched, UntouchedRuns
from tests.faults.usual_job import PER_CLASS, SPEC
from tests.images import draw_dataset
from tests.results import event_types
from tests.servers.proxy import Proxy
from tests.servers.waiting import until
from tests.specs import full_fine_tune
from tests.stack import Stack

#: Shorter than the usual job, since a reply is lost in each of many.
SHORT = full_fine_tune(2)


@pytest.fixture
def proxy(postgres: Any) -> Iterator[Proxy]:
    with Proxy(postgres.port) as proxy:
        yield proxy


@dataclass(frozen=True)
class LostReply:
    operation: str
    marker: bytes  #: what only its transaction says
    without: bytes | None = None
    attempts: int = 1


#: The first while its statement is still sent as text; later it is prepared and goes by a number.
LOST = (
    LostReply("record_metrics", b"INSERT INTO step_metrics", without=b"checkpoint.committed"),
    LostReply("claim", b"Claimed by "),
    LostReply("commit_checkpoint", b"checkpoint.committed"),
    LostReply("finish", b"Finished after "),
    LostReply("restart_attempt", b"restarted", attempts=2),
    LostReply("release", b"released", attempts=2),
)


@pytest.mark.long
def test_lost_replies_have_no_effect_of_their_own(
    make_stack: Any, proxy: Proxy, pace: Pace, untouched: UntouchedRuns
) -> None:
    quiet = untouched(SHORT, per_class=PER_CLASS)
    with make_stack("postgresql", **pace.environment) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=PER_CLASS)
        stack.start_api()
        worker = stack.start_worker(**database_through(proxy, stack))
        for number, lost in enumerate(LOST, 1):
            proxy.drop_reply_after(lost.marker, without=lost.without)
            # Long enough for a metrics flush of its own within an epoch, and for what is done to it.
            pace.dawdle()
            job_id = stack.submit(SHORT)
            if lost.operation == "restart_attempt":
                await_commit(stack, job_id)
                trainer = trainer_below(worker)
                assert trainer is not None
                trainer.kill()
            if lost.operation == "release":
                await_commit(stack, job_id)
                worker.send_signal(signal.SIGTERM)
                assert worker.wait(30) == 0, stack.log_of(worker)
                stack.start_worker(**database_through(proxy, stack))
            if lost.operation != "finish":
                until(lambda number=number: proxy.num_lost_replies == number, seconds=60, what=lost.operation)
            pace.hurry()
            done = stack.await_status(job_id, "succeeded")
            assert proxy.num_lost_replies == number, lost.operation
            assert done["attempt"] == lost.attempts, lost.operation
            check(stack, job_id, quiet)


def test_the_reply_to_a_claim_is_lost_and_nobody_rings_again(make_stack: Any, proxy: Proxy) -> None:
    """A job that is running by its row is rung for by nobody; its worker finds it before the lease ends."""
    with make_stack("postgresql", PERDURE_LEASE_SECONDS="60") as stack:
        draw_dataset(stack.home / "data/shapes", per_class=10)
        stack.start_api()
        stack.start_worker(**database_through(proxy, stack))
        proxy.drop_reply_after(b"Claimed by ")
        job_id = stack.submit(full_fine_tune(1))
        until(lambda: proxy.num_lost_replies, seconds=30, what="the reply to be lost")
        stack.await_status(job_id, "succeeded", seconds=45)
        assert event_types(stack, job_id).count("claimed") == 1


@pytest.mark.hours  # the same again and again, wherever it falls
def test_any_reply_may_be_lost_again_and_again(make_stack: Any, proxy: Proxy, quiet: Untouched) -> None:
    with make_stack("postgresql") as stack:
        draw_dataset(stack.home / "data/shapes", per_class=PER_CLASS)
        stack.start_api()
        stack.start_worker(**database_through(proxy, stack))
        job_id = stack.submit(SPEC)

        def lost_another() -> bool:
            proxy.drop_reply_after(b"")
            return bool(stack.job(job_id)["status"] == "succeeded")

        until(lost_another, seconds=120, what="the job to succeed", every=LEASE_SECONDS / 20)
        assert proxy.num_lost_replies > 5
        check(stack, job_id, quiet)


def check(stack: Stack, job_id: str, quiet: Untouched) -> None:
    quiet.check(stack, job_id)
    types = event_types(stack, job_id)
    assert types.count("created") == types.count("succeeded") == 1
    assert types.count("claimed") + types.count("restarted") == stack.job(job_id)["attempt"]
    steps = [row["step"] for row in stack.rows(f"/jobs/{job_id}/checkpoints")]
    assert len(steps) == len(set(steps)), "a checkpoint was recorded twice"
