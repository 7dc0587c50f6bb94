"""Fault 19: the checkpoint store runs full. Training goes on, and the job ends well once there is room."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models import job_store
from tests.images import draw_dataset
from tests.results import event_types, metrics_of
from tests.servers.waiting import until
from tests.specs import full_fine_tune
from tests.stack import Stack

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")

#: Two jobs, each with three checkpoints of 9 MB and the next one in the making, have room on it.
DISK_BYTES = 100_000_000
SPEC: dict[str, Any] = full_fine_tune(
    12, model={"arch": "squeezenet1_1", "weights": None, "freeze": "none", "dropout": 0.3}
)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Take all but ``leave`` bytes, whatever else is being written meanwhile."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        while (room := os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - leave) > 0:
            file.write(b"\0" * min(room, 1_000_000))
    return ballast


def delayed(stack: Stack, job_id: str) -> Any:
    return [e for e in stack.rows(f"/jobs/{job_id}/events") if e["type"] == "checkpoint.delayed"]


def test_a_disk_that_fills_up_delays_checkpoints_and_nothing_else(make_stack: Any, small_disk: Path) -> None:
    with make_stack("sqlite", PERDURE_STORAGE_URL=small_disk.as_uri()) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=50)
        stack.start_api()
        stack.start_worker()
        quiet = stack.submit(SPEC)
        untouched = stack.await_status(quiet, "succeeded")

        job_id = stack.submit(SPEC)
        until(
            lambda: job_store.get_job(stack.db, job_id).committed_step > 0, seconds=60, what="a first commit"
        )
        ballast = fill(small_disk, leave=1_000_000)
        until(lambda: delayed(stack, job_id), seconds=60, what="a write that is refused")
        before = stack.job(job_id)
        assert before["status"] == "running"
        committed = job_store.get_checkpoint(stack.db, job_id, "last")
        assert (small_disk / committed.path).stat().st_size == committed.size_bytes, "the last one is intact"
        ballast.unlink()

        finished = stack.await_status(job_id, "succeeded")
        attempts = stack.rows(f"/jobs/{job_id}/attempts")
        assert [row["end_detail"] for row in attempts] == ["Finished after 0 recoveries."]
        assert finished["weights_sha256"] == untouched["weights_sha256"]
        assert metrics_of(stack, job_id) == metrics_of(stack, quiet)
        assert "No space left" in delayed(stack, job_id)[0]["message"]
        assert not list(small_disk.rglob("*.partial"))


@pytest.mark.long
def test_a_job_waits_for_room_before_it_works(make_stack: Any, small_disk: Path) -> None:
    with make_stack("sqlite", PERDURE_STORAGE_URL=small_disk.as_uri()) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=50)
        ballast = fill(small_disk, leave=15_000_000)  # room for one checkpoint, not for two
        stack.start_api()
        stack.start_worker()
        job_id = stack.submit(SPEC)
        until(lambda: delayed(stack, job_id), seconds=60, what="the store to be found too full")
        assert "MB left" in delayed(stack, job_id)[0]["message"]
        assert stack.job(job_id)["progress"]["step"] == 0
        assert stack.http.post(f"/jobs/{job_id}/pause").status_code == 202, "who waits still listens"
        stack.await_status(job_id, "paused")
        ballast.unlink()
        assert stack.http.post(f"/jobs/{job_id}/resume").status_code == 202
        stack.await_status(job_id, "succeeded")


@pytest.mark.long
def test_a_store_that_stays_full_ends_the_attempt_by_name(make_stack: Any, small_disk: Path) -> None:
    with make_stack(
        "sqlite", PERDURE_STORAGE_URL=small_disk.as_uri(), PERDURE_STORE_PATIENCE_SECONDS="0.5"
    ) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=50)
        stack.start_api()
        stack.start_worker()
        job_id = stack.submit(SPEC | {"fault_tolerance": {"max_failures": 2}})
        until(
            lambda: job_store.get_job(stack.db, job_id).committed_step > 0, seconds=60, what="a first commit"
        )
        ballast = fill(small_disk, leave=1_000_000)
        failed = stack.await_status(job_id, "failed")
        assert failed["error"]["code"] == "no_progress"
        assert "Free some space" in failed["error"]["message"]
        assert stack.rows(f"/jobs/{job_id}/attempts")[0]["end_cause"] == "trainer_error"
        ballast.unlink()
        assert stack.http.post(f"/jobs/{job_id}/retry").status_code == 202
        stack.await_status(job_id, "succeeded")
        assert "determinism.mismatch" not in event_types(stack, job_id)
