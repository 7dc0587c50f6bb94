"""workers, drain, enable: the fleet."""

from typing import TYPE_CHECKING, Annotated

import typer

from perdure import terminal as t
from perdure.commands.options import AsJson
from perdure.connection import connect

if TYPE_CHECKING:
    from perdure.types import Worker

WorkerId = Annotated[
    str, typer.Argument(metavar="WORKER", help="As `perdure workers` shows it.", show_default=False)
]


def workers(as_json: AsJson = False) -> None:
    """Show the fleet: one line per device slot."""

    with connect() as client:
        rows = list(client.workers())
    if as_json:
        t.print_json([row.model_dump(mode="json") for row in rows])
    elif not rows:
        t.console().print("No worker has registered. [bold]perdure up[/] starts one with the service.")
    else:
        columns = ("id", "status", "host", "pid", "device", "threads", "last heartbeat", "job")
        cells = (
            (
                t.plain(row.id),
                t.plain(row.status or "–"),
                t.plain(row.host or "–"),
                str(row.pid or "–"),
                t.plain(row.device or "–"),
                str(row.threads or "–"),
                t.ago(row.heartbeat_at),
                t.plain(row.job_id or "–"),
            )
            for row in rows
        )
        t.console().print(t.table(columns, cells, right=("pid", "threads")))
        for row in rows:
            if row.status_reason:
                t.console().print(f"[yellow]▲[/] {t.plain(row.id)}: {t.plain(row.status_reason)}")


def drain(worker_id: WorkerId, as_json: AsJson = False) -> None:
    """Let a worker hand its job back, with a checkpoint, and claim no more."""
    with connect() as client:
        _say(client.drain(worker_id), "hands its job back and claims no more", as_json)


def enable(worker_id: WorkerId, as_json: AsJson = False) -> None:
    """Let a drained or quarantined worker claim again."""
    with connect() as client:
        _say(client.enable(worker_id), "may claim again", as_json)


def _say(worker: "Worker", what: str, as_json: bool) -> None:
    if as_json:
        t.print_json(worker.model_dump(mode="json"))
    else:
        t.console().print(f"{t.plain(worker.id)} {what} [dim](now {t.plain(worker.status or '?')})[/].")
