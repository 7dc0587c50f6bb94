"""Checkpoints in a bucket: killed and left alone come to the same, as they do on disks."""

from pathlib import Path
from typing import Any

import pytest

from models.storage import S3Storage
from tests.faults.killing import Killer
from tests.faults.sabotage import Pace
from tests.images import draw_dataset
from tests.independent import weights_sha256_of
from tests.results import download_model, event_types, metrics_of
from tests.servers.s3 import S3Server
from tests.servers.waiting import until
from tests.specs import full_fine_tune

EPOCHS = 6


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_job_killed_twice_ends_like_one_that_was_left_alone(
    make_stack: Any, s3_server: S3Server, pace: Pace, tmp_path: Path
) -> None:
    store = s3_server.store("perdure")
    bucket = f"s3://{store.bucket}/{store.prefix}"
    with make_stack("sqlite", PERDURE_STORAGE_URL=bucket, **pace.environment) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=50)
        stack.start_api()
        stack.start_worker()
        assert stack.http.get("/health/ready").json()["degraded"] == []

        quiet = stack.submit(full_fine_tune(EPOCHS))
        untouched = stack.await_status(quiet, "succeeded")
        assert untouched["attempt"] == 1

        job_id = stack.submit(full_fine_tune(EPOCHS))
        killer = Killer(stack, job_id, pace, seed=EPOCHS)
        for _ in range(2):
            killer.in_mid_epoch()
            attempt = killer.attempt().attempt
            with (stack.home / f"logs/{job_id}/attempt-{attempt}.log").open("ab") as log:
                log.write(f"what attempt {attempt} printed\n".encode())
            killer.trainer()
        killed = stack.await_status(job_id, "succeeded")

        assert killed["weights_sha256"] == untouched["weights_sha256"]
        assert killed["exact"] is True and killed["attempt"] == 3
        assert metrics_of(stack, job_id) == metrics_of(stack, quiet)
        resumed_from = [row["from_checkpoint"] for row in stack.rows(f"/jobs/{job_id}/attempts")]
        assert resumed_from[0] is None and all(resumed_from[1:]), "it went on from what is in the bucket"
        assert not {"determinism.mismatch", "checkpoint.delayed"} & set(event_types(stack, job_id))
        assert not (stack.home / "storage").exists()

        model = download_model(stack, job_id, tmp_path / "killed.pth")
        assert weights_sha256_of(model) == killed["weights_sha256"]
        whole = model.read_bytes()
        for asked, expected in (("bytes=5-1000004", whole[5:1_000_005]), ("bytes=-7", whole[-7:])):
            part = stack.http.get(f"/jobs/{job_id}/checkpoints/last/content", headers={"Range": asked})
            assert part.status_code == 206 and part.content == expected

        _logs_are_readable(stack, store, job_id)
        recorded = {row["path"] for row in _committed(stack, job_id)}
        assert {*store.keys(f"jobs/{job_id}/checkpoints")} == recorded, "what the kills left was swept"


def _committed(stack: Any, job_id: str) -> list[dict[str, Any]]:
    return [row for row in stack.rows(f"/jobs/{job_id}/checkpoints") if row["status"] == "committed"]


def _logs_are_readable(stack: Any, store: S3Storage, job_id: str) -> None:
    keys = [f"jobs/{job_id}/logs/attempt-{attempt}.log" for attempt in (1, 2, 3)]
    until(lambda: [*store.keys(f"jobs/{job_id}/logs")] == keys, seconds=10, what="the logs in the bucket")
    assert not [*(stack.home / "logs" / job_id).iterdir()], "handed in, not kept twice"
    for key in keys:
        with store.open(key) as stream:
            printed = stream.read().decode()
        answer = stack.http.get(f"/jobs/{job_id}/logs", params={"attempt": key[-5]})
        assert answer.status_code == 200 and answer.text == printed
    everything = stack.http.get(f"/jobs/{job_id}/logs").text
    assert all(f"what attempt {attempt} printed\n" in everything for attempt in (1, 2))
