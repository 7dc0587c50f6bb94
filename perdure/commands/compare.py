"""compare: jobs side by side."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perdure import terminal as t
from perdure.commands.jobs import resolve
from perdure.commands.options import AsJson
from perdure.connection import connect

if TYPE_CHECKING:
    from perdure.types import Comparison

JobIds = Annotated[
    list[str], typer.Argument(metavar="JOB JOB…", help="2 to 6 jobs, each as elsewhere.", show_default=False)
]
#: A letter stands for each job in the heads of columns, where its id has no room.
LETTERS = "ABCDEF"


def compare(job_ids: JobIds, as_json: AsJson = False) -> None:
    """Show what the specs of some jobs differ in, and what came of it."""
    with connect() as client:
        comparison = client.jobs.compare(*(resolve(client, job_id) for job_id in job_ids))
    if as_json:
        t.print_json(comparison.model_dump(mode="json"))
        return
    out = t.console()
    out.print(_jobs(comparison))
    out.print()
    out.print(_spec(comparison) if comparison.spec else "The specs are the same.")
    if comparison.epochs:
        out.print()
        out.print(_epochs(comparison))
    out.print()
    if comparison.same_dataset is False:
        out.print("[yellow]▲[/] They were trained on different data.")
    out.print(
        {
            True: "[green]✓[/] The weights are equal, bit for bit.",
            False: "The weights are not equal.",
            None: "Whether the weights are equal shows once all have succeeded.",
        }[comparison.same_weights]
    )


def _jobs(comparison: "Comparison") -> Any:
    columns = ("", "id", "name", "status", "epochs", "best val loss", "best val accuracy", "exact", "weights")
    rows = (
        (
            letter,
            t.plain(job.id),
            t.plain(job.name or "–"),
            t.status(job.status),
            str(job.epochs_done),
            t.number(job.best.val_loss if job.best else None),
            t.number(job.best.val_accuracy if job.best else None),
            {True: "yes", False: "[yellow]no[/]", None: "–"}[job.exact],
            t.plain((job.weights_sha256 or "–")[:12]),
        )
        for letter, job in zip(LETTERS, comparison.jobs, strict=False)
    )
    return t.table(columns, rows, right=("epochs", "best val loss", "best val accuracy"))


def _spec(comparison: "Comparison") -> Any:
    columns = ("differs", *LETTERS[: len(comparison.jobs)])
    rows = (
        (t.plain(each.field), *(t.plain(json.dumps(value, ensure_ascii=False)) for value in each.values))
        for each in comparison.spec
    )
    return t.table(columns, rows)


def _epochs(comparison: "Comparison") -> Any:
    letters = LETTERS[: len(comparison.jobs)]
    columns = (
        "epoch",
        *(f"{letter} val loss" for letter in letters),
        *(f"{letter} val accuracy" for letter in letters),
    )
    rows = (
        (
            str(each.epoch),
            *(t.number(row.val_loss if row else None) for row in each.metrics),
            *(t.number(row.val_accuracy if row else None) for row in each.metrics),
        )
        for each in comparison.epochs
    )
    return t.table(columns, rows, right=columns)
