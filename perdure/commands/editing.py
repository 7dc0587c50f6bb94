"""clone, edit, delete: jobs from jobs, and what may be changed of them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from perdure import terminal as t
from perdure.commands.jobs import pairs_of, resolve
from perdure.commands.options import AsJson, JobId
from perdure.commands.specs import put, read_json, set_by_name, usage
from perdure.commands.watch import watch as watch_job
from perdure.connection import connect


def clone(
    job_id: JobId,
    overrides_file: Annotated[
        Path | None,
        typer.Argument(
            metavar="OVERRIDES.json",
            help="Parts of a spec, or - for stdin; options below override it.",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="As in hyperparameters.lr=0.0003; may be repeated."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="A name to find the job by.", show_default=False)] = None,
    epochs: Annotated[int | None, typer.Option(show_default=False)] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.", show_default=False)] = None,
    seed: Annotated[int | None, typer.Option(show_default=False)] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Stay and watch it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a job's spec again from the beginning, with what you change.

    `perdure clone last --lr 0.0003 --set model.dropout=0.5`
    """
    overrides = read_json(overrides_file) if overrides_file is not None else {}
    for setting in settings or []:
        set_by_name(overrides, setting)
    put(overrides, (), {"name": name, "seed": seed})
    put(overrides, ("hyperparameters",), {"epochs": epochs, "lr": lr})
    with connect() as client:
        source = resolve(client, job_id)
        job = client.jobs.clone(source, overrides)
    if not as_json:
        t.console().print(f"[green]✓[/] {t.plain(job.id)} is {t.status(job.status)}, from {t.plain(source)}.")
        for warning in job.warnings:
            t.console(stderr=True).print(f"[yellow]![/] {t.plain(warning)}")
    if watch:
        watch_job(job.id, as_json=as_json)
    elif as_json:
        t.print_json(job.model_dump(mode="json"))


def edit(
    job_id: JobId,
    name: Annotated[
        str | None, typer.Option(help="A new name; '' takes it away.", show_default=False)
    ] = None,
    priority: Annotated[
        int | None, typer.Option(help="Of a queued job: counts from the next claim on.", show_default=False)
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Set this; may be repeated.")
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Take this metadata away; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change a job's name, priority or metadata."""
    changes: dict[str, Any] = {}
    if name is not None:
        changes["name"] = name or None
    if priority is not None:
        changes["priority"] = priority
    if metadata or remove:
        changes["metadata"] = {**pairs_of(metadata or []), **dict.fromkeys(remove or [])}
    if not changes:
        usage("Say what to change: --name, --priority, --metadata or --remove.")
    with connect() as client:
        job = client.jobs.update(resolve(client, job_id), **changes)
    if as_json:
        t.print_json(job.model_dump(mode="json"))
    else:
        t.console().print(f"[green]✓[/] {t.plain(job.id)} is changed.")


def delete(
    job_id: JobId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete a finished job with its metrics, checkpoints and logs. This cannot be undone."""
    with connect() as client:
        found = resolve(client, job_id)
        if not yes and not as_json:
            t.console().print(f"{t.plain(found)} and all its checkpoints would be gone for good.")
            typer.confirm("Delete them?", abort=True)
        client.jobs.delete(found)
    if as_json:
        t.print_json({"id": found, "deleted": True})
    else:
        t.console().print(f"[green]✓[/] {t.plain(found)} is deleted.")
