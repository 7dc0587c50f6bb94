"""list, show, and the verbs that steer a job."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from perdure import terminal as t
from perdure.commands.options import AsJson, JobId
from perdure.connection import connect
from perdure.errors import NotFoundError

if TYPE_CHECKING:
    from perdure.client import Perdure
    from perdure.types import Job

Scheduler = Literal["constant", "cosine"]


def resolve(client: "Perdure", job_id: str) -> str:
    """The id behind what was typed. Raises NotFoundError where ``last`` finds no job."""
    if job_id != "last":
        return job_id
    for job in client.jobs.list(limit=1):
        return job.id
    raise NotFoundError(404, "not_found", "Not Found", "There is no job yet; `perdure submit` makes one.")


def list_jobs(
    status: Annotated[
        str | None, typer.Option(help="queued, running, paused, succeeded, failed, cancelled.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Only jobs of this name.")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only jobs with this; may be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show jobs, newest first."""

    with connect() as client:
        wanted = pairs_of(metadata or [])
        jobs = list(client.jobs.list(status=status, name=name, metadata=wanted, limit=limit))
    if as_json:
        t.print_json([job.model_dump(mode="json") for job in jobs])
    elif not jobs:
        t.console().print("No jobs. [bold]perdure submit --data FOLDER[/] makes one.")
    else:
        columns = ("id", "name", "status", "epoch", "val accuracy", "recoveries", "created")
        rows = (
            (
                t.plain(job.id),
                t.plain(job.name or "–"),
                t.status(job.status),
                epoch_of(job),
                t.number(job.best.val_accuracy if job.best else None),
                str(job.recoveries),
                t.ago(job.created_at),
            )
            for job in jobs
        )
        t.console().print(t.table(columns, rows, right=("epoch", "val accuracy", "recoveries")))


def show(job_id: JobId, as_json: AsJson = False) -> None:
    """Show one job."""

    with connect() as client:
        job = client.jobs.get(resolve(client, job_id))
    if as_json:
        t.print_json(job.model_dump(mode="json"))
    else:
        t.console().print(t.facts(job_facts(job)))


def cancel(job_id: JobId, as_json: AsJson = False) -> None:
    """Stop a job for good, at its next step."""
    with connect() as client:
        _say(client.jobs.cancel(resolve(client, job_id)), "cancelled", "will stop at its next step", as_json)


def pause(job_id: JobId, as_json: AsJson = False) -> None:
    """Stop a job at a checkpoint; `perdure resume` goes on."""
    with connect() as client:
        _say(client.jobs.pause(resolve(client, job_id)), "paused", "will pause at its next step", as_json)


def resume(job_id: JobId, as_json: AsJson = False) -> None:
    """Go on with a paused job."""
    with connect() as client:
        _say(client.jobs.resume(resolve(client, job_id)), "queued", "goes on", as_json)


def retry(job_id: JobId, as_json: AsJson = False) -> None:
    """Go on with a failed or cancelled job from its last checkpoint."""
    with connect() as client:
        _say(client.jobs.retry(resolve(client, job_id)), "queued", "goes on", as_json)


def extend(
    job_id: JobId,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="How many epochs more.")],
    scheduler: Annotated[
        Scheduler | None,
        typer.Option(help="The learning rate over them; by default as before, anew.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a succeeded job for more epochs."""
    with connect() as client:
        job = client.jobs.extend(resolve(client, job_id), epochs, scheduler=scheduler)
    _say(job, "queued", f"trains for {epochs} more epochs", as_json)


def pairs_of(texts: list[str]) -> dict[str, str]:
    """``KEY=VALUE`` by key. Raises typer.BadParameter."""
    pairs: dict[str, str] = {}
    for text in texts:
        key, is_pair, value = text.partition("=")
        if not is_pair:
            raise typer.BadParameter(f"{text!r} is not KEY=VALUE.")
        pairs[key] = value
    return pairs


def epoch_of(job: "Job") -> str:
    """Epochs as `3/10`."""
    progress = job.progress
    if progress is None or progress.epochs is None:
        return "–"
    return f"{progress.epoch or 0}/{progress.epochs}"


def job_facts(job: "Job") -> list[tuple[str, str]]:
    """Everything that matters about a job, for ``facts``."""

    status = t.status(job.status)
    if job.status_reason and not job.error:  # its message is the reason
        status += f"  [dim]{t.plain(job.status_reason)}[/]"
    if job.queue_position is not None:
        status += f"  [dim]number {job.queue_position} in the queue[/]"
    rows = [("id", t.plain(job.id))]
    if job.name:
        rows.append(("name", t.plain(job.name)))
    rows.append(("status", status))
    if job.error:
        message = t.plain(job.error.message or "no reason given")
        rows.append(("error", f"[red]{message}[/] [dim]({t.plain(job.error.code)})[/]"))
    rows += [("network", _network(job)), ("dataset", _dataset(job))]
    progress = job.progress
    if progress:
        step = f"epoch {epoch_of(job)}"
        if progress.steps:
            step += f", step {progress.step or 0} of {progress.steps}"
        if progress.percent is not None:
            step += f" ({progress.percent:.0f} %)"
        if job.status == "running" and progress.phase:
            step += f", {t.plain(progress.phase)}"
        rows.append(("progress", step))
    if job.status == "running" and job.estimated_finish:
        rows.append(("finishes", f"about {t.local_time(job.estimated_finish)}"))
    if job.best and job.best.epoch is not None:
        rows.append(
            (
                "best epoch",
                f"{job.best.epoch}: val accuracy {t.number(job.best.val_accuracy)}, "
                f"val loss {t.number(job.best.val_loss)}",
            )
        )
    survived = f"{job.attempt} ({job.recoveries} recoveries)" if job.recoveries else str(job.attempt)
    rows.append(("attempts", survived))
    if job.goodput is not None:
        rows.append(("goodput", f"{100 * job.goodput:.1f} %"))
    if job.exact is False:
        reasons = "; ".join(t.plain(reason) for reason in job.inexact_reasons) or "no reason given"
        rows.append(("exact", f"[yellow]no[/]: {reasons}"))
    if job.weights_sha256:
        rows.append(("weights_sha256", t.plain(job.weights_sha256)))
    rows.append(("created", t.local_time(job.created_at)))
    if job.started_at:
        rows.append(("started", t.local_time(job.started_at)))
    if job.finished_at:
        rows.append(("finished", t.local_time(job.finished_at)))
    return rows


def _network(job: "Job") -> str:

    model = job.spec.get("model") or {}
    weights = model.get("weights")
    start = "random weights" if weights is None else f"weights {t.plain(_short(weights))}"
    return f"{t.plain(model.get('arch', '?'))}, {start}, frozen: {t.plain(model.get('freeze', '?'))}"


def _short(weights: object) -> object:
    if isinstance(weights, dict):
        return weights.get("name") or weights.get("file") or weights
    return weights


def _dataset(job: "Job") -> str:

    dataset = job.spec.get("dataset") or {}
    return t.plain(next(iter(dataset.values()), "?"))


def _say(job: "Job", done: str, pending: str, as_json: bool) -> None:

    if as_json:
        t.print_json(job.model_dump(mode="json"))
    elif job.status == done:
        t.console().print(f"{t.plain(job.id)} is {t.status(job.status)}.")
    else:
        t.console().print(f"{t.plain(job.id)} {pending} [dim](now {t.plain(job.status)})[/].")
