"""Fault 13: a worker whose wall clock is an hour off neither steals a lease nor loses its own."""

import os
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.faults.partitions import LEASE_SECONDS
from tests.faults.sabotage import Pace
from tests.faults.untouched import Untouched
from tests.faults.usual_job import PER_CLASS, under_way
from tests.images import draw_dataset
from tests.servers.waiting import until
from tests.stack import Stack, kill_tree

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


@pytest.mark.long
@pytest.mark.parametrize("hours", [1, pytest.param(-1, marks=pytest.mark.hours)])
def test_no_early_theft(hours: int, make_stack: Any, pace: Pace, quiet: Untouched) -> None:
    environment = skewed(hours)
    with make_stack("postgresql", **pace.environment) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=PER_CLASS)
        stack.start_api()
        workers = [stack.start_worker(), stack.start_worker(**environment)]
        until(lambda: len(stack.rows("/workers")) == 2, seconds=40, what="both workers")
        both = [under_way(stack, pace), under_way(stack, pace)]
        holders = {stack.rows(f"/jobs/{job_id}/attempts")[0]["worker_pid"] for job_id in both}
        assert holders == {worker.pid for worker in workers}, "each worker has one"
        began = time.monotonic()
        until(lambda: time.monotonic() - began > 1.25 * LEASE_SECONDS, what="time enough to steal")
        assert [stack.job(job_id)["attempt"] for job_id in both] == [1, 1], "a lease that was not over"

        # And when one is lost, the other takes over and ends with the same bits.
        lost = workers[0]
        kill_tree(lost.pid)
        lost.wait(10)
        pace.hurry()
        done = {stack.rows(f"/jobs/{job_id}/attempts")[0]["worker_pid"]: finished(stack, job_id)
                for job_id in both}  # fmt: skip
        assert done == {workers[0].pid: 2, workers[1].pid: 1}
        for job_id in both:
            quiet.check(stack, job_id)


def finished(stack: Stack, job_id: str) -> int:
    """After so many attempts."""
    return int(stack.await_status(job_id, "succeeded")["attempt"])
