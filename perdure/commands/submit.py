"""submit: a spec from a file, from options, or from both."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from perdure import terminal as t
from perdure.commands.datasets import checked, print_problems, send
from perdure.commands.options import AsJson
from perdure.commands.specs import freeze_of, put, read_json, usage, weights_of
from perdure.commands.watch import watch as watch_job
from perdure.connection import EXIT_JOB_FAILED, connect

if TYPE_CHECKING:
    from perdure.client import Perdure

MODEL, TRAINING, RUNNING = "Network", "Training", "Running it"
#: There, a folder of this machine may be one of the server's, too.
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def submit(
    spec_file: Annotated[
        Path | None,
        typer.Argument(
            metavar="SPEC.json", help="A spec, or - for stdin; options below override it.", show_default=False
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="A folder below the server's data root (flowers), a dataset's id (ds_…), one of "
            "torchvision's (builtin:cifar10), or a local folder or zip to upload (./flowers).",
            show_default=False,
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="A name to find the job by.", show_default=False)] = None,
    arch: Annotated[
        str | None,
        typer.Option(
            help="A torchvision classification architecture.", rich_help_panel=MODEL, show_default=False
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="DEFAULT, another torchvision name, a file below the data root, or none.",
            rich_help_panel=MODEL,
            show_default=False,
        ),
    ] = None,
    freeze: Annotated[
        str | None,
        typer.Option(
            help="backbone, none, or how many leading stages.", rich_help_panel=MODEL, show_default=False
        ),
    ] = None,
    dropout: Annotated[
        float | None, typer.Option(help="Before the last layer.", rich_help_panel=MODEL, show_default=False)
    ] = None,
    epochs: Annotated[int | None, typer.Option(rich_help_panel=TRAINING, show_default=False)] = None,
    batch_size: Annotated[int | None, typer.Option(rich_help_panel=TRAINING, show_default=False)] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Pixels a side.", rich_help_panel=TRAINING, show_default=False)
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate.", rich_help_panel=TRAINING, show_default=False)
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="adam, adamw or sgd.", rich_help_panel=TRAINING, show_default=False)
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="constant or cosine.", rich_help_panel=TRAINING, show_default=False)
    ] = None,
    augment: Annotated[
        str | None,
        typer.Option(help="none, flip, crop or trivial.", rich_help_panel=TRAINING, show_default=False),
    ] = None,
    seed: Annotated[int | None, typer.Option(rich_help_panel=TRAINING, show_default=False)] = None,
    priority: Annotated[
        int | None, typer.Option(help="Higher runs earlier.", rich_help_panel=RUNNING, show_default=False)
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            help="Sent twice, the same key gives one job.", rich_help_panel=RUNNING, show_default=False
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Validate, and queue nothing.", rich_help_panel=RUNNING)
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Stay and watch it.", rich_help_panel=RUNNING)
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Submit a job: SPEC.json, or options, or both.

    What neither says is left to the server's defaults. `perdure submit --data flowers --epochs 8 --watch`
    """
    spec = _read(spec_file) if spec_file is not None else {}
    put(spec, (), {"name": name, "seed": seed, "priority": priority})
    put(spec, ("model",), {"arch": arch, "freeze": freeze_of(freeze), "dropout": dropout})
    if weights is not None:
        spec.setdefault("model", {})["weights"] = weights_of(weights)
    put(
        spec,
        ("hyperparameters",),
        {
            "epochs": epochs,
            "batch_size": batch_size,
            "image_size": image_size,
            "lr": lr,
            "optimizer": optimizer,
            "scheduler": scheduler,
            "augment": augment,
        },
    )
    if "dataset" not in spec and data is None:
        usage("Say what to train on: --data FOLDER, below the server's data root, or a SPEC.json.")
    _send(spec, data, idempotency_key=idempotency_key, dry_run=dry_run, watch=watch, as_json=as_json)


def _send(
    spec: dict[str, Any],
    data: str | None,
    *,
    idempotency_key: str | None,
    dry_run: bool,
    watch: bool,
    as_json: bool,
) -> None:
    with connect() as client:
        if data is not None:
            spec["dataset"] = _dataset(client, data, dry_run=dry_run, quiet=as_json)
        if dry_run:
            answer = client.jobs.dry_run(spec)
            if as_json:
                t.print_json(answer)
            else:
                t.console().print("[green]✓[/] The spec is good; nothing was queued.")
                _warn(answer.get("warnings"))
            return
        job = client.jobs.create(spec, idempotency_key=idempotency_key)
    if not as_json:
        t.console().print(f"[green]✓[/] {t.plain(job.id)} is {t.status(job.status)}.")
        _warn(job.warnings)
    if watch:
        watch_job(job.id, as_json=as_json)
    elif as_json:
        t.print_json(job.model_dump(mode="json"))
    else:
        t.console().print(f"  [dim]perdure watch {t.plain(job.id)}[/]")


def _dataset(client: "Perdure", data: str, *, dry_run: bool, quiet: bool) -> dict[str, str]:
    """What the server is to train on; what it does not have yet is sent to it."""
    if data.startswith("ds_"):
        return {"id": data}
    if data.startswith("builtin:"):
        return {"builtin": data.removeprefix("builtin:")}
    if not data.startswith((".", "/", "~")):
        return {"path": data}
    local = Path(data).expanduser().resolve()
    root = Path(os.environ.get("PERDURE_DATA_ROOT") or "~/.perdure/data").expanduser().resolve()
    if (
        urlsplit(client.url).hostname in LOOPBACK
        and local.is_dir()
        and local != root
        and local.is_relative_to(root)
    ):
        return {"path": local.relative_to(root).as_posix()}
    if dry_run:
        usage("A dry run sends nothing: upload the folder first, with `perdure datasets upload`.")
    dataset = checked(client, send(client, local, name=None, quiet=quiet), quiet=quiet)
    if dataset.status != "ready":
        print_problems(dataset)
        raise typer.Exit(EXIT_JOB_FAILED)
    if not quiet:
        t.console().print(f"[green]✓[/] {t.plain(dataset.id)} is ready: {dataset.num_images} images.")
    return {"id": dataset.id}


def _warn(warnings: list[str] | None) -> None:
    for warning in warnings or []:
        t.console(stderr=True).print(f"[yellow]![/] {t.plain(warning)}")


def _read(path: Path) -> dict[str, Any]:
    spec = read_json(path)
    if any(not isinstance(spec.get(part, {}), dict) for part in ("dataset", "model", "hyperparameters")):
        usage(f'{path} must hold one JSON object, like {{"dataset": {{"path": "flowers"}}}}.')
    return spec
