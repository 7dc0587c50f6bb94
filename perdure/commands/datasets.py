"""datasets upload, register, builtin, list, show, delete."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perdure import terminal as t
from perdure.commands.options import AsJson
from perdure.commands.transfer import transfer_bar
from perdure.connection import EXIT_JOB_FAILED, connect

if TYPE_CHECKING:
    from perdure.client import Perdure
    from perdure.types import Dataset

app = typer.Typer(
    help="Folders of images for jobs: sent to the server, or registered there.", no_args_is_help=True
)

DatasetId = Annotated[
    str, typer.Argument(metavar="DATASET", help="As `perdure datasets list` shows it.", show_default=False)
]
Name = Annotated[str | None, typer.Option(help="A name for people.", show_default=False)]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Stay until it is checked.")]


@app.command()
def upload(
    source: Annotated[Path, typer.Argument(help="A folder of images, or a zip archive.", show_default=False)],
    name: Name = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Send a folder or a zip archive of images; it is checked before jobs may use it."""
    with connect() as client:
        dataset = send(client, source, name=name, quiet=as_json)
        _finish(client, dataset, wait=wait, as_json=as_json)


@app.command()
def register(
    path: Annotated[str, typer.Argument(help="A folder below the server's data root.", show_default=False)],
    name: Name = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Register a folder that is on the server already; it stays where it is."""
    with connect() as client:
        _finish(client, client.datasets.register(path, name=name), wait=wait, as_json=as_json)


@app.command()
def builtin(
    which: Annotated[str, typer.Argument(help="One of torchvision's own: cifar10, …", show_default=False)],
    name: Name = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Register one of torchvision's own datasets; the server fetches it where it has to."""
    with connect() as client:
        _finish(client, client.datasets.builtin(which, name=name), wait=wait, as_json=as_json)


@app.command("list")
def list_datasets(
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20, as_json: AsJson = False
) -> None:
    """Show datasets, newest first."""
    with connect() as client:
        rows = list(client.datasets.list(limit=limit))
    if as_json:
        t.print_json([row.model_dump(mode="json") for row in rows])
    elif not rows:
        t.console().print("No datasets. [bold]perdure datasets upload FOLDER[/] makes one.")
    else:
        columns = ("id", "name", "status", "source", "classes", "images", "size", "created")
        cells = (
            (
                t.plain(row.id),
                t.plain(row.name or "–"),
                _status(row),
                t.plain(row.path or row.builtin or row.source or "–"),
                str(len(row.classes)) if row.classes else "–",
                str(row.num_images or "–"),
                t.size(row.size_bytes),
                t.ago(row.created_at),
            )
            for row in rows
        )
        t.console().print(t.table(columns, cells, right=("classes", "images", "size")))


@app.command()
def show(dataset_id: DatasetId, as_json: AsJson = False) -> None:
    """Show what is in a dataset, and what is wrong with it."""
    with connect() as client:
        _print(client.datasets.get(dataset_id), as_json)


@app.command()
def delete(dataset_id: DatasetId, as_json: AsJson = False) -> None:
    """Forget a dataset; the files of an upload are removed, what was registered stays."""
    with connect() as client:
        client.datasets.delete(dataset_id)
    if as_json:
        t.print_json({"id": dataset_id, "deleted": True})
    else:
        t.console().print(f"{t.plain(dataset_id)} is deleted.")


def send(client: "Perdure", source: Path, *, name: str | None, quiet: bool) -> "Dataset":
    """Upload with a progress bar, where there is a terminal to show it."""
    with transfer_bar("upload", quiet=quiet) as on_bytes:
        return client.datasets.create(source, name=name, on_bytes=on_bytes)


def checked(client: "Perdure", dataset: "Dataset", *, quiet: bool) -> "Dataset":
    """The dataset once it is ready or has failed; why it waits is said once."""
    said: set[str] = set()

    def on_look(now: "Dataset") -> None:
        reason = now.status_reason or ""
        if not quiet and reason not in said:
            said.add(reason)
            t.console().print(f"· checking  [dim]{t.plain(reason)}[/]")

    return client.datasets.wait(dataset.id, on_look=on_look)


def print_problems(dataset: "Dataset") -> None:
    """What is wrong with it, on stderr."""
    err = t.console(stderr=True)
    err.print(f"[red]✗[/] {t.plain(dataset.id)} cannot be trained on: {t.plain(dataset.status_reason or '')}")
    for problem in dataset.problems:
        err.print(f"  {t.plain(problem.get('file', '?'))}: {t.plain(problem.get('message', ''))}")


def _finish(client: "Perdure", dataset: "Dataset", *, wait: bool, as_json: bool) -> None:
    if wait:
        dataset = checked(client, dataset, quiet=as_json)
    _print(dataset, as_json)
    if dataset.status == "failed":
        if not as_json:
            print_problems(dataset)
        raise typer.Exit(EXIT_JOB_FAILED)


def _print(dataset: "Dataset", as_json: bool) -> None:
    if as_json:
        t.print_json(dataset.model_dump(mode="json"))
        return
    status = _status(dataset)
    if dataset.status_reason:
        status += f"  [dim]{t.plain(dataset.status_reason)}[/]"
    rows = [("id", t.plain(dataset.id)), ("name", t.plain(dataset.name or "–")), ("status", status)]
    for split, of_class in (dataset.counts or {}).items():
        numbers = ", ".join(f"{t.plain(name)} {number}" for name, number in of_class.items())
        rows.append(("images" if split == "all" else t.plain(split), numbers))
    if dataset.size_bytes is not None:
        rows.append(("size", t.size(dataset.size_bytes)))
    if sizes := dataset.image_sizes:
        smallest, largest = ((sizes[f"{end}_width"], sizes[f"{end}_height"]) for end in ("min", "max"))
        rows.append(("pixels", f"{smallest[0]} × {smallest[1]} to {largest[0]} × {largest[1]}"))
    rows += [("unreadable", t.plain(f"{p.get('file')}: {p.get('message')}")) for p in dataset.problems]
    if dataset.digest:
        rows.append(("digest", t.plain(dataset.digest)))
    rows.append(("created", t.local_time(dataset.created_at)))
    t.console().print(t.facts(rows))


def _status(dataset: "Dataset") -> str:
    style = {"ready": "green", "failed": "red"}.get(dataset.status, "cyan")
    return f"[{style}]{t.plain(dataset.status)}[/]"
