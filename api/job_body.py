"""From a job's row to what users see of it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from api.answers import Best, JobBody, JobError, Progress, ResumePoint
from models import job_store
from models.database import Database
from models.job_spec import JobSpec, Segment
from models.job_state import FINISHED, JobStatus
from models.job_store.fence import JobRow
from models.job_store.overview import Overview
from models.settings import Settings


def job_bodies(db: Database, settings: Settings, rows: Sequence[JobRow]) -> list[JobBody]:
    """The bodies of a page of jobs, with one look at what surrounds them."""
    surroundings = job_store.overview(db, rows, silent_after_seconds=2 * settings.lease_seconds)
    now = datetime.now(UTC)
    return [_body(row, surroundings, now) for row in rows]


def job_body(db: Database, settings: Settings, row: JobRow) -> JobBody:
    """The body of one job."""
    return job_bodies(db, settings, [row])[0]


def would_be(spec: JobSpec) -> JobBody:
    """The body that a job of this spec would begin with."""
    epochs = spec.hyperparameters.epochs
    nothing_done = Progress(
        phase=None, phase_done=0, phase_total=0, epoch=0, epochs_done=0, epochs=epochs,
        step=0, steps=None, percent=0.0,
    )  # fmt: skip
    return JobBody(
        id=None, name=spec.name, status=JobStatus.QUEUED, status_reason="A dry run: nothing was stored.",
        queue_position=None, priority=spec.priority, attempt=0, recoveries=0, worker_id=None,
        cancel_requested=False, pause_requested=False, exact=True, inexact_reasons=[], numerics=None,
        progress=nothing_done, estimated_finish=None, goodput=None, best=None, resume_from=None, error=None,
        weights_sha256=None, parent_id=None, dataset=None,
        segments=[Segment(epochs=epochs, scheduler=spec.hyperparameters.scheduler).model_dump(mode="json")],
        spec=spec.to_json(), metadata=spec.metadata, created_at=None, queued_at=None, started_at=None,
        finished_at=None, links={},
    )  # fmt: skip


def _body(row: JobRow, around: Overview, now: datetime) -> JobBody:
    resume = around.resume_points.get(row.id)
    surviving = around.surviving_seconds.get(row.id)
    position = around.queue_positions.get(row.id)
    return JobBody(
        id=row.id,
        name=row.name,
        status=row.status,
        status_reason=_reason(row, around, position, now),
        queue_position=position,
        priority=row.priority,
        attempt=row.attempt,
        recoveries=row.recoveries,
        worker_id=row.worker_id,
        cancel_requested=row.cancel_requested,
        pause_requested=row.pause_requested,
        exact=row.exact,
        inexact_reasons=row.inexact_reasons,
        numerics=row.numerics,
        progress=_progress(row),
        estimated_finish=_estimated_finish(row, surviving, now),
        goodput=_goodput(row, surviving, now),
        best=None
        if row.best_epoch is None
        else Best(
            epoch=row.best_epoch,
            val_loss=row.best_val_loss,
            val_accuracy=row.best_val_accuracy,
            checkpoint_id=row.best_checkpoint_id,
        ),
        resume_from=None
        if resume is None
        else ResumePoint(checkpoint_id=resume.id, epoch=resume.epoch, step=resume.step),
        error=None if row.error_code is None else JobError(code=row.error_code, message=row.error_message),
        weights_sha256=row.weights_sha256,
        parent_id=row.parent_id,
        dataset=row.dataset,
        segments=row.segments,
        spec=row.spec,
        metadata=row.metadata,
        created_at=row.created_at,
        queued_at=row.queued_at,
        started_at=row.first_claimed_at,
        finished_at=row.finished_at,
        links=_links(row.id),
    )


def _links(job_id: str) -> dict[str, str]:
    own = f"/jobs/{job_id}"
    below = ("metrics", "events", "stream", "attempts", "checkpoints", "drills", "logs", "model")
    return {"self": own, **{name: f"{own}/{name}" for name in below}}


def _progress(row: JobRow) -> Progress:
    if row.status == JobStatus.SUCCEEDED:
        share = 1.0
    elif row.steps:
        share = row.step / row.steps
    else:  # queued anew after an extension, the steps are counted by the next attempt
        share = row.epochs_done / row.epochs
    working_on = min(row.epochs_done + 1, row.epochs) if row.status == JobStatus.RUNNING else row.epochs_done
    return Progress(
        phase=row.phase,
        phase_done=row.phase_done if row.phase else 0,
        phase_total=row.phase_total if row.phase else 0,
        epoch=working_on,
        epochs_done=row.epochs_done,
        epochs=row.epochs,
        step=row.step,
        steps=row.steps,
        percent=round(100.0 * min(1.0, share), 2),
    )


def _estimated_finish(row: JobRow, surviving: float | None, now: datetime) -> datetime | None:
    """By the pace of the finished epochs; within the first one, by that of its steps so far."""
    if row.status != JobStatus.RUNNING or not row.steps or not row.step:
        return None
    if surviving and row.epochs_done:
        seconds_per_step = surviving / (row.steps * row.epochs_done / row.epochs)
    elif row.attempt == 1:
        seconds_per_step = (now - row.claimed_at).total_seconds() / row.step
    else:  # how many of the steps are this attempt's own is not known
        return None
    # Years ahead it is no estimate any more, and far beyond them no date.
    seconds = min(max(0.0, seconds_per_step * (row.steps - row.step)), 3.2e9)
    return now + timedelta(seconds=round(seconds))


def _goodput(row: JobRow, surviving: float | None, now: datetime) -> float | None:
    if row.first_claimed_at is None or surviving is None:
        return None
    until = row.finished_at or row.paused_at or now
    seconds = (until - row.first_claimed_at).total_seconds() - row.paused_seconds
    return round(min(1.0, surviving / seconds), 4) if seconds > 0 else None


def _reason(row: JobRow, around: Overview, position: int | None, now: datetime) -> str | None:
    if row.status == JobStatus.RUNNING:
        if row.cancel_requested:
            return "A cancel was asked for; it takes effect at the next step."
        return "A pause was asked for; it takes effect at the next step." if row.pause_requested else None
    if row.status in FINISHED:
        return row.error_message if row.status == JobStatus.FAILED else None
    if row.status == JobStatus.PAUSED:
        return "Paused by request; `resume` queues it again."
    return _why_it_waits(row, around.online_workers, position, now)


def _why_it_waits(row: JobRow, online: dict[str, int], position: int | None, now: datetime) -> str:
    device = None if row.device_class == "any" else row.device_class
    fitting = sum(online.values()) if device is None else online.get(device, 0)
    kind = f"{device} worker" if device else "worker"
    if not fitting:
        return f"No {kind} is online; the job starts as soon as one is."
    if row.numerics_slot is not None and now.timestamp() < row.exact_until:
        wait = round(row.exact_until - now.timestamp())
        return f"Waits for a {kind} that computes the same bits; in {wait} s any that can run it may."
    if position is None:
        return f"Waits for a free {kind}; very many jobs are ahead."
    ahead = {1: "", 2: "; 1 job is ahead"}.get(position, f"; {position - 1} jobs are ahead")
    return f"Waits for a free {kind}{ahead}."
