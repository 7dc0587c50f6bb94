"""``client.jobs``: everything that can be done to a job."""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from perdure import stream as streams
from perdure.downloads import OnBytes, download
from perdure.errors import NotFoundError, WaitTimeoutError
from perdure.outputs import Outputs, file_in, path_of
from perdure.pages import rows
from perdure.types import AT_REST, Attempt, Checkpoint, Drill, EpochMetrics, Event, Job, StepMetrics


class Jobs(Outputs):
    """The jobs of one server. Lists are iterators that fetch page after page as they are read."""

    # -- submitting and reading ------------------------------------------------------------------

    def create(self, spec: Mapping[str, Any], *, idempotency_key: str | None = None) -> Job:
        """Queue a job. Only ``spec["dataset"]`` is required.

        The same ``idempotency_key`` gives the same job however often this is called; without one, each call
        makes its own, which still covers the retries within the call.
        """
        answer = self._transport.post("/jobs", dict(spec), idempotency_key=idempotency_key)
        return Job.model_validate(answer)

    def dry_run(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Validate a spec against the real dataset and architecture, and queue nothing."""
        answer: dict[str, Any] = self._transport.post("/jobs", dict(spec), params={"dry_run": "true"})
        return answer

    def get(self, job_id: str) -> Job:
        """One job. Raises NotFoundError."""
        return Job.model_validate(self._transport.get(path_of(job_id)))

    def list(
        self,
        *,
        status: str | None = None,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> Iterator[Job]:
        """Jobs, newest first; at most ``limit`` of them (all, if it is None).

        ``metadata``: only jobs that have all of these pairs.
        """
        filters = {
            "status": status,
            "name": name,
            "created_after": created_after and _instant(created_after),
            "created_before": created_before and _instant(created_before),
            **{f"metadata[{key}]": value for key, value in (metadata or {}).items()},
        }
        for row in self._rows("/jobs", filters, after=after, limit=limit, page_size=100):
            yield Job.model_validate(row)

    def metrics(
        self, job_id: str, granularity: Literal["epoch", "step"] = "epoch", *, after: str | int | None = None
    ) -> Iterator[EpochMetrics | StepMetrics]:
        """``epochs`` or ``steps``."""
        return self.epochs(job_id, after=after) if granularity == "epoch" else self.steps(job_id, after=after)

    def epochs(self, job_id: str, *, after: str | int | None = None) -> Iterator[EpochMetrics]:
        """One row per epoch, whatever crashed."""
        for row in self._metrics(job_id, "epoch", after):
            yield EpochMetrics.model_validate(row)

    def steps(self, job_id: str, *, after: str | int | None = None) -> Iterator[StepMetrics]:
        """One row per optimizer step."""
        for row in self._metrics(job_id, "step", after):
            yield StepMetrics.model_validate(row)

    def metrics_csv(self, job_id: str, granularity: Literal["epoch", "step"] = "epoch") -> str:
        """The same rows as CSV text."""
        params = {"granularity": granularity, "format": "csv"}
        return self._transport.request("GET", path_of(job_id, "metrics"), params=params).text

    def events(self, job_id: str, *, after: str | int | None = None) -> Iterator[Event]:
        """The audit trail, oldest first."""
        for row in self._rows(path_of(job_id, "events"), {}, after=after, page_size=100):
            yield Event.model_validate(row)

    def attempts(self, job_id: str) -> Iterator[Attempt]:
        """The ledger of attempts, oldest first."""
        for row in self._rows(path_of(job_id, "attempts"), {}, page_size=100):
            yield Attempt.model_validate(row)

    def checkpoints(self, job_id: str) -> Iterator[Checkpoint]:
        """Every recorded checkpoint, pruned and quarantined ones included."""
        for row in self._rows(path_of(job_id, "checkpoints"), {}, page_size=100):
            yield Checkpoint.model_validate(row)

    def stream(
        self,
        job_id: str,
        *,
        after: int | None = None,
        patience_seconds: float = 120.0,
        on_away: Callable[[str], object] = lambda reason: None,
    ) -> Iterator[streams.StreamEvent]:
        """What happens to a job, as it happens, each time once, until it is finished.

        Begins with the job as it stands; ``after=0`` with everything that happened before, another number
        with what came after that event. Connections that end are made anew, with jitter; ``on_away`` hears
        why. Raises ServerUnreachableError after ``patience_seconds`` without a server, NotFoundError.
        """
        return streams.follow(
            self._transport, path_of(job_id, "stream"),
            after=after, patience_seconds=patience_seconds, on_away=on_away,
        )  # fmt: skip

    def drills(self, job_id: str) -> Iterator[Drill]:
        """What was broken on purpose, oldest first, each with what it cost."""
        for row in self._rows(path_of(job_id, "drills"), {}, page_size=100):
            yield Drill.model_validate(row)

    def logs(self, job_id: str) -> str:
        """What the trainers of this job printed."""
        response = self._transport.request("GET", path_of(job_id, "logs"), headers={"Accept": "*/*"})
        return response.text

    # -- steering --------------------------------------------------------------------------------

    def cancel(self, job_id: str) -> Job:
        """Stop for good, at the next step boundary. Raises ConflictError if it is finished."""
        return self._act(job_id, "cancel")

    def pause(self, job_id: str) -> Job:
        """Write a checkpoint and let go of the worker until ``resume``."""
        return self._act(job_id, "pause")

    def resume(self, job_id: str) -> Job:
        """Queue a paused job again."""
        return self._act(job_id, "resume")

    def retry(self, job_id: str) -> Job:
        """Queue a failed or cancelled job again from its last checkpoint, with its budgets refilled."""
        return self._act(job_id, "retry")

    def extend(
        self, job_id: str, additional_epochs: int, *, scheduler: Literal["constant", "cosine"] | None = None
    ) -> Job:
        """Queue a succeeded job again for more epochs, over which the schedule starts anew.

        ``scheduler`` is that of the new epochs; None takes that of the epochs before.
        """
        body = {"additional_epochs": additional_epochs, "scheduler": scheduler}
        return self._act(job_id, "extend", {name: value for name, value in body.items() if value is not None})

    def clone(
        self, job_id: str, overrides: Mapping[str, Any] | None = None, *, idempotency_key: str | None = None
    ) -> Job:
        """Queue a new job from the beginning, of this one's spec with ``overrides`` merged into it.

        Without any it ends with the weights that this one would: clones keep the numerics.
        """
        body = {"overrides": dict(overrides or {})}
        answer = self._transport.post(path_of(job_id, "clone"), body, idempotency_key=idempotency_key)
        return Job.model_validate(answer)

    def update(self, job_id: str, **changes: Any) -> Job:
        """Change ``name``, ``metadata`` or ``priority``; what is not given stays.

        ``metadata`` is merged: None takes a key away. None as the name, or as all metadata, takes that away.
        """
        return Job.model_validate(self._transport.request("PATCH", path_of(job_id), json=changes).json())

    def delete(self, job_id: str) -> None:
        """Delete a finished job with its checkpoints and logs. Raises ConflictError for another."""
        self._transport.request("DELETE", path_of(job_id))

    def drill(self, job_id: str, fault: str = "kill_trainer") -> Drill:
        """Let its worker break a running job. Raises NotAllowedError where drills are off."""
        return Drill.model_validate(self._transport.post(path_of(job_id, "drill"), {"fault": fault}))

    def wait(
        self,
        job_id: str,
        *,
        timeout_seconds: float | None = None,
        poll_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> Job:
        """Block until the job is finished or paused, and return it.

        Raises WaitTimeoutError after ``timeout_seconds``; the job goes on.
        """
        deadline = None if timeout_seconds is None else clock() + timeout_seconds
        while (job := self.get(job_id)).status not in AT_REST:
            if deadline is not None and clock() + poll_seconds > deadline:
                raise WaitTimeoutError(
                    f"{job_id} is still {job.status} after {timeout_seconds:g} s; it goes on."
                )
            sleep(poll_seconds)
        return job

    # -- files -----------------------------------------------------------------------------------

    def download_checkpoint(
        self,
        job_id: str,
        checkpoint_id: str,
        target: str | Path,
        *,
        on_bytes: OnBytes = lambda done, total: None,
    ) -> Path:
        """Save one checkpoint, verified, as ``target`` (a file, or a folder to put it into).

        ``checkpoint_id`` may also be ``last`` or ``best``.
        """
        row = self._checkpoint(job_id, checkpoint_id)
        name = Path(row.path).name if row.path else f"{row.id}.pth"
        return download(
            self._transport,
            path_of(job_id, "checkpoints", row.id, "content"),
            file_in(target, name),
            on_bytes=on_bytes,
        )

    # -- plumbing --------------------------------------------------------------------------------

    def _checkpoint(self, job_id: str, wanted: str) -> Checkpoint:
        rows = tuple(self.checkpoints(job_id))
        if wanted == "last":
            committed = [row for row in rows if row.status == "committed"]
            rows = (max(committed, key=lambda row: row.step or 0),) if committed else ()
        elif wanted == "best":
            best = self.get(job_id).best
            rows = tuple(row for row in rows if best is not None and row.id == best.checkpoint_id)
        else:
            rows = tuple(row for row in rows if row.id == wanted)
        if not rows:
            detail = f"{job_id} has no checkpoint {wanted!r}; look at the list of its checkpoints."
            raise NotFoundError(404, "not_found", "Not Found", detail)
        return rows[0]

    def _metrics(self, job_id: str, granularity: str, after: str | int | None) -> Iterator[dict[str, Any]]:
        path = path_of(job_id, "metrics")
        return self._rows(path, {"granularity": granularity}, after=after, page_size=1000)

    def _act(self, job_id: str, verb: str, body: Any = None) -> Job:
        return Job.model_validate(self._transport.post(path_of(job_id, verb), body))

    def _rows(
        self,
        path: str,
        filters: Mapping[str, Any],
        *,
        page_size: int,
        after: str | int | None = None,
        limit: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        return rows(self._transport, path, filters, page_size=page_size, after=after, limit=limit)


def _instant(value: datetime) -> str:
    """In UTC; an instant without a zone is in the caller's."""
    return value.astimezone(UTC).isoformat()
