"""webhooks add, list, remove, deliveries, redeliver: who is told what happens to jobs."""

from typing import Annotated

import typer

from perdure import terminal as t
from perdure.commands.options import AsJson
from perdure.connection import connect

app = typer.Typer(help="Tell URLs what happens to jobs.", no_args_is_help=True)

WebhookId = Annotated[
    str, typer.Argument(metavar="WEBHOOK", help="As `perdure webhooks list` shows it.", show_default=False)
]


@app.command()
def add(
    url: Annotated[str, typer.Argument(metavar="URL", show_default=False)],
    event: Annotated[
        list[str] | None,
        typer.Option("--event", help="job.succeeded, job.failed, …; several by repeating. Default: its end."),
    ] = None,
    description: Annotated[str, typer.Option("--description")] = "",
    as_json: AsJson = False,
) -> None:
    """Tell a URL what happens to jobs from now on. The secret is shown this once."""
    with connect() as client:
        hook = client.webhooks.create(url, event, description=description)
    if as_json:
        t.print_json(hook.model_dump(mode="json"))
        return
    t.console().print(f"{t.plain(hook.id)} is told: {t.plain(', '.join(hook.events))}.")
    t.console().print(f"Its receiver verifies signatures with [bold]{t.plain(hook.secret or '')}[/]")
    t.console().print("[dim]Keep it: it is shown this once.[/]")


@app.command(name="list")
def list_webhooks(as_json: AsJson = False) -> None:
    """Show the webhooks."""
    with connect() as client:
        hooks = list(client.webhooks.list())
    if as_json:
        t.print_json([hook.model_dump(mode="json") for hook in hooks])
    elif not hooks:
        t.console().print("There is no webhook. [bold]perdure webhooks add URL[/] makes one.")
    else:
        cells = (
            (
                t.plain(hook.id),
                t.plain(hook.url),
                t.plain(", ".join(hook.events)),
                t.plain(hook.disabled_reason or "on"),
            )
            for hook in hooks
        )
        t.console().print(t.table(("id", "url", "events", "status"), cells))


@app.command()
def remove(webhook_id: WebhookId) -> None:
    """Tell it nothing any more."""
    with connect() as client:
        client.webhooks.delete(webhook_id)
    t.console().print(f"{t.plain(webhook_id)} is removed.")


@app.command()
def deliveries(webhook_id: WebhookId, as_json: AsJson = False) -> None:
    """Show what it was told, newest first, and what became of each message."""
    with connect() as client:
        rows = list(client.webhooks.deliveries(webhook_id))
    if as_json:
        t.print_json([row.model_dump(mode="json") for row in rows])
    elif not rows:
        t.console().print("It was told nothing so far.")
    else:
        cells = (
            (
                t.plain(row.id),
                t.plain(row.event or "–"),
                t.plain(row.job_id or "–"),
                t.plain(row.status or "–"),
                str(row.attempts),
                t.plain(row.last_error or "–"),
            )
            for row in rows
        )
        columns = ("id", "event", "job", "status", "tries", "last error")
        t.console().print(t.table(columns, cells, right=("tries",)))


@app.command()
def redeliver(
    webhook_id: WebhookId,
    delivery_id: Annotated[str, typer.Argument(metavar="DELIVERY", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Send a message again; a webhook that was disabled is told what comes from now on."""
    with connect() as client:
        row = client.webhooks.redeliver(webhook_id, delivery_id)
    if as_json:
        t.print_json(row.model_dump(mode="json"))
    else:
        t.console().print(f"{t.plain(row.id)} is sent again in a moment.")
