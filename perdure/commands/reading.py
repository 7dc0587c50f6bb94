"""metrics, events, attempts, logs: what happened, as tables or as data."""

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from perdure import terminal as t
from perdure.commands.jobs import resolve
from perdure.commands.options import AsJson, JobId
from perdure.connection import connect

if TYPE_CHECKING:
    from perdure.types import EpochMetrics, StepMetrics


class Granularity(StrEnum):
    """One row per epoch, or per optimizer step."""

    EPOCH = "epoch"
    STEP = "step"


def metrics(
    job_id: JobId,
    granularity: Annotated[Granularity, typer.Option(help="Rows per epoch or per step.")] = Granularity.EPOCH,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a job's training metrics: one row per epoch, whatever crashed."""
    if as_csv and as_json:
        raise typer.BadParameter("--csv and --json exclude each other")
    with connect() as client:
        job_id = resolve(client, job_id)
        if as_csv:
            sys.stdout.write(client.jobs.metrics_csv(job_id, granularity.value))
        elif as_json:
            rows = client.jobs.metrics(job_id, granularity.value)
            t.print_json([row.model_dump(mode="json") for row in rows])
        elif granularity is Granularity.EPOCH:
            _print_epochs(list(client.jobs.epochs(job_id)))
        else:
            _print_steps(list(client.jobs.steps(job_id)))


def _print_epochs(rows: "list[EpochMetrics]") -> None:
    columns = (
        "epoch",
        "train loss",
        "train accuracy",
        "val loss",
        "val accuracy",
        "learning rate",
        "images/s",
        "time",
    )
    cells = (
        (
            str(row.epoch),
            t.number(row.train_loss),
            t.number(row.train_accuracy),
            t.number(row.val_loss),
            t.number(row.val_accuracy),
            t.number(row.learning_rate, 6),
            t.number(row.images_per_second, 0),
            t.seconds(row.duration_seconds),
        )
        for row in rows
    )
    t.console().print(t.table(columns, cells, right=columns) if rows else "No epoch is done yet.")


def _print_steps(rows: "list[StepMetrics]") -> None:
    columns = ("step", "epoch", "attempt", "loss", "learning rate")
    cells = (
        (
            str(row.step),
            str(row.epoch),
            str(row.attempt),
            t.number(row.loss, 6),
            t.number(row.learning_rate, 6),
        )
        for row in rows
    )
    t.console().print(t.table(columns, cells, right=columns) if rows else "No step is done yet.")


def events(job_id: JobId, as_json: AsJson = False) -> None:
    """Show a job's audit trail."""

    with connect() as client:
        rows = list(client.jobs.events(resolve(client, job_id)))
    if as_json:
        t.print_json([row.model_dump(mode="json") for row in rows])
    else:
        columns = ("when", "attempt", "event", "")
        cells = (
            (
                t.local_time(row.created_at),
                str(row.attempt or "–"),
                t.plain(row.type),
                t.plain(row.message or ""),
            )
            for row in rows
        )
        t.console().print(t.table(columns, cells, right=("attempt",)))


def attempts(job_id: JobId, as_json: AsJson = False) -> None:
    """Show who ran a job, why each attempt ended, and what that cost."""
    with connect() as client:
        rows = list(client.jobs.attempts(resolve(client, job_id)))
    if as_json:
        t.print_json([row.model_dump(mode="json") for row in rows])
    else:
        columns = (
            "attempt",
            "host",
            "device",
            "from",
            "started",
            "ended because",
            "noticed",
            "restarted",
            "steps redone",
        )
        cells = (
            (
                str(row.attempt),
                t.plain(row.host or "–"),
                t.plain(row.device or "–"),
                f"…{t.plain(row.from_checkpoint[-8:])}" if row.from_checkpoint else "the start",
                t.local_time(row.started_at),
                t.cause(row.end_cause) or "[blue]goes on[/]",
                t.seconds(row.detection_seconds),
                t.seconds(row.restart_seconds),
                str(row.steps_redone or 0),
            )
            for row in rows
        )
        t.console().print(t.table(columns, cells, right=("attempt", "noticed", "restarted", "steps redone")))


def logs(job_id: JobId, as_json: AsJson = False) -> None:
    """Show what a job's trainers printed."""

    with connect() as client:
        job_id = resolve(client, job_id)
        text = client.jobs.logs(job_id)
    if as_json:
        t.print_json({"job": job_id, "text": text})
    else:
        # A log may hold anything: in a terminal its escape sequences are not to be obeyed.
        sys.stdout.write(t.printable_lines(text) if sys.stdout.isatty() else text)
