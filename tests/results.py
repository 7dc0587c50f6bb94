"""What two runs of one spec must have in common, as the API shows it."""

from pathlib import Path
from typing import Any

from tests.independent import hashes_of
from tests.stack import Stack

NOT_A_RESULT = {"attempt", "recorded_at", "images_per_second", "duration_seconds"}


def metrics_of(stack: Stack, job_id: str) -> dict[str, list[dict[str, Any]]]:
    """Every epoch and every step, without who recorded them when and how fast."""
    return {
        granularity: [
            {key: value for key, value in row.items() if key not in NOT_A_RESULT}
            for row in stack.rows(f"/jobs/{job_id}/metrics", limit=1000, granularity=granularity)
        ]
        for granularity in ("epoch", "step")
    }


def event_types(stack: Stack, job_id: str) -> list[str]:
    return [event["type"] for event in stack.rows(f"/jobs/{job_id}/events")]


def download_model(stack: Stack, job_id: str, to: Path) -> Path:
    answer = stack.http.get(f"/jobs/{job_id}/checkpoints/last/content")
    assert answer.status_code == 200, answer.text
    to.write_bytes(answer.content)
    return to


def expect_equal_results(stack: Stack, job_id: str, quiet: str, folder: Path) -> None:
    """Metrics, weights and optimizer to the last bit, as the API tells them and in what it hands out."""
    told = stack.job(job_id)["weights_sha256"]
    assert told == stack.job(quiet)["weights_sha256"]
    assert metrics_of(stack, job_id) == metrics_of(stack, quiet)
    hashes = hashes_of(download_model(stack, job_id, folder / "killed.pth"))
    assert hashes["weights"] == told, "a download is whole"
    assert hashes == hashes_of(download_model(stack, quiet, folder / "quiet.pth"))
