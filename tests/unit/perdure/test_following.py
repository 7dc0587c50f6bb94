"""Following a job: each change once, in the order in which it should be told."""

from typing import Any

import httpx2

from perdure import Perdure
from perdure.following import AttemptEnded, EpochDone, JobFollower, Recovered, StatusChanged
from perdure.stream import StreamEvent
from perdure.types import Attempt, EpochMetrics, JobError, JobStatus, StepBatch


def attempt(number: int, **fields: Any) -> dict[str, Any]:
    return {"attempt": number, "worker_pid": 1, "trainer_pid": 2, **fields}


def show(server: Any, status: str, attempts: list[dict[str, Any]], epochs: int, epoch: int) -> None:
    server.routes["GET /jobs/j"] = {
        "id": "j",
        "status": status,
        "attempt": len(attempts),
        "progress": {
            "phase": "training",
            "epoch": epoch,
            "epochs_done": epochs,
            "epochs": 3,
            "step": 1,
            "steps": 9,
        },
    }
    server.routes["GET /jobs/j/attempts"] = server.page(attempts)

    def metrics(request: Any) -> Any:
        after = int(request.url.params.get("after", "0"))
        rows = [{"epoch": number} for number in range(after + 1, epochs + 1)]
        return httpx2.Response(200, json=server.page(rows, last_id=epochs))

    server.routes["GET /jobs/j/metrics"] = metrics


def kinds(changes: list[Any]) -> list[str]:
    return [type(change).__name__ for change in changes]


def test_a_job_that_is_killed_once(client: Perdure, server: Any) -> None:
    follower = JobFollower(client, "j")
    show(server, "queued", [], 0, 0)
    assert kinds(follower.poll()) == ["StatusChanged"]

    running = attempt(1, first_step_at="2025-01-01T00:00:01Z")
    show(server, "running", [running], 1, 2)
    changes = follower.poll()
    assert kinds(changes) == ["EpochDone", "StatusChanged"]
    assert isinstance(changes[0], EpochDone)
    assert follower.poll() == []

    killed = {**running, "ended_at": "2025-01-01T00:00:05Z", "end_cause": "trainer_killed"}
    show(server, "running", [killed, attempt(2)], 1, 2)
    changes = follower.poll()
    assert kinds(changes) == ["AttemptEnded"]
    assert isinstance(changes[0], AttemptEnded)
    assert changes[0].attempt.end_cause == "trainer_killed"

    back = attempt(2, first_step_at="2025-01-01T00:00:06Z", steps_redone=7)
    show(server, "running", [killed, back], 1, 2)
    changes = follower.poll()
    assert kinds(changes) == ["Recovered"]
    assert isinstance(changes[0], Recovered)
    assert changes[0].attempt.steps_redone == 7

    done = {**back, "ended_at": "2025-01-01T00:00:09Z", "end_cause": "finished"}
    show(server, "succeeded", [killed, done], 3, 3)
    changes = follower.poll()
    assert kinds(changes) == ["EpochDone", "EpochDone", "StatusChanged"]
    assert isinstance(changes[-1], StatusChanged)
    assert follower.is_at_rest


def test_going_on_after_a_pause_is_no_recovery(client: Perdure, server: Any) -> None:
    paused = attempt(
        1, first_step_at="2025-01-01T00:00:01Z", ended_at="2025-01-01T00:00:02Z", end_cause="paused"
    )
    show(server, "running", [paused, attempt(2, first_step_at="2025-01-01T00:01:00Z")], 0, 1)
    assert kinds(JobFollower(client, "j").poll()) == ["StatusChanged"]


def test_the_stream_tells_the_same_changes(client: Perdure, server: Any) -> None:
    follower = JobFollower(client, "j")
    show(server, "running", [attempt(1, first_step_at="2025-01-01T00:00:01Z")], 1, 2)
    assert kinds(follower.poll()) == ["EpochDone", "StatusChanged"]

    def take(data: Any) -> list[str]:
        return kinds(follower.take(StreamEvent(9, "", data)))

    assert take(StepBatch(step=7, epoch=3)) == []
    assert follower.job is not None and follower.job.progress is not None
    assert (follower.job.progress.step, follower.job.progress.epoch) == (7, 3)
    assert take(EpochMetrics(epoch=1)) == [], "known since the first look"
    assert take(EpochMetrics(epoch=2)) == ["EpochDone"]
    assert take(EpochMetrics(epoch=2, attempt=2)) == ["EpochDone"], "done again, by another attempt"
    killed = Attempt(attempt=1, first_step_at="2025-01-01T00:00:01Z", end_cause="trainer_killed")
    assert take(killed) == ["AttemptEnded"]
    assert take(killed) == []
    assert take(Attempt(attempt=2)) == []
    assert take(Attempt(attempt=2, first_step_at="2025-01-01T00:00:06Z")) == ["Recovered"]
    show(server, "succeeded", [], 3, 3)
    assert take(JobStatus(status="succeeded", final=True)) == ["StatusChanged"]
    assert follower.is_at_rest


def test_a_status_is_believed_while_the_server_is_away(client: Perdure, server: Any) -> None:
    follower = JobFollower(client, "j")
    show(server, "running", [], 0, 1)
    follower.poll()
    client._transport.retry_seconds = 0.0

    def refuse(request: Any) -> Any:
        raise httpx2.ConnectError("refused")

    server.routes["GET /jobs/j"] = refuse
    failed = JobStatus(status="failed", final=True, attempt=3, error=JobError(code="no_progress"))
    assert kinds(follower.take(StreamEvent(9, "status", failed))) == ["StatusChanged"]
    job = follower.job
    assert job is not None and job.error is not None
    assert (job.status, job.attempt, job.error.code) == ("failed", 3, "no_progress")
