"""Fault 13: a worker whose wall clock is an hour off neither steals a lease nor loses its own."""

import os
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.faults.partitions import await_commit
from tests.images import draw_dataset
from tests.results import metrics_of
from tests.servers.waiting import until
from tests.specs import full_fine_tune
from tests.stack import Stack, kill_tree

EPOCHS = 5
LEASE_SECONDS = 3.0
#: The one for programs of many threads.
LIBRARIES = ("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
             "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1")  # fmt: skip
CLOCKS = "import time; print(time.time(), time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME))"


def skewed(hours: int) -> dict[str, str]:
    """The environment of a process whose wall clock is off, and no other clock."""
    library = next(filter(os.path.exists, LIBRARIES), None)
    if library is None:
        pytest.skip("needs libfaketime (apt-get install faketime)")
    return {
        "LD_PRELOAD": library, "FAKETIME": f"{hours:+}h", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }  # fmt: skip


def test_the_wall_clock_alone_is_off() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", CLOCKS],
        env=os.environ | skewed(1), check=True, capture_output=True, text=True,
    )  # fmt: skip
    wall, *others = (float(word) for word in answer.stdout.split())
    assert wall - time.time() == pytest.approx(3600.0, abs=60.0)
    for there, here in zip(others, (time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME)), strict=True):
        assert here - there == pytest.approx(0.0, abs=60.0)


@pytest.mark.parametrize("hours", [1, pytest.param(-1, marks=pytest.mark.long)])
def test_no_early_theft(hours: int, make_stack: Any) -> None:
    environment = skewed(hours)
    with make_stack(
        "postgresql", PERDURE_LEASE_SECONDS=str(LEASE_SECONDS), PERDURE_HEARTBEAT_SECONDS="1"
    ) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=50)
        stack.start_api()
        right = stack.start_worker()
        until(lambda: len(stack.rows("/workers")) == 1, seconds=40, what="the worker to be there")
        wrong = stack.start_worker(**environment)
        until(lambda: len(stack.rows("/workers")) == 2, seconds=40, what="both workers")
        began = time.monotonic()
        both = [stack.submit(full_fine_tune(EPOCHS)) for _ in range(2)]
        done = [stack.await_status(job_id, "succeeded") for job_id in both]
        assert time.monotonic() - began > LEASE_SECONDS, "nobody had time to steal"
        assert [job["attempt"] for job in done] == [1, 1], "a lease was taken that was not over"
        holders = {stack.rows(f"/jobs/{job_id}/attempts")[0]["worker_id"] for job_id in both}
        assert len(holders) == 2, "each worker had one"

        # And when one is lost, the other takes over and ends with the same bits.
        job_id = taken_over(stack, right, wrong)
        assert stack.job(job_id)["weights_sha256"] == done[0]["weights_sha256"]
        assert metrics_of(stack, job_id) == metrics_of(stack, both[0])
        assert done[0]["weights_sha256"] == done[1]["weights_sha256"]


def taken_over(stack: Stack, right: Any, wrong: Any) -> str:
    """A job that the one worker began and the other finished."""
    job_id = stack.submit(full_fine_tune(EPOCHS))
    await_commit(stack, job_id)
    holder = stack.rows(f"/jobs/{job_id}/attempts")[-1]
    lost = next(worker for worker in (right, wrong) if worker.pid == holder["worker_pid"])
    kill_tree(lost.pid)
    lost.wait(10)
    assert stack.await_status(job_id, "succeeded")["attempt"] == 2
    return job_id
