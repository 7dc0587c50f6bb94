"""download: a checkpoint or the model, verified."""

from enum import StrEnum
from typing import Annotated

import typer

from perdure import terminal as t
from perdure.commands.jobs import resolve
from perdure.commands.options import AsJson, JobId
from perdure.commands.transfer import transfer_bar
from perdure.connection import connect


class What(StrEnum):
    """What to download."""

    CHECKPOINT = "checkpoint"
    MODEL = "model"
    ONNX = "onnx"


def download(
    job_id: JobId,
    what: Annotated[
        What,
        typer.Argument(
            help="A checkpoint, the .pth that `torch.load` reads anywhere; the model, a zip with "
            "model.safetensors, manifest.json and a predict.py; or the model as one ONNX file."
        ),
    ] = What.CHECKPOINT,
    checkpoint: Annotated[str, typer.Option(help="last, best, or a checkpoint's id.")] = "last",
    to: Annotated[
        str, typer.Option("--to", "-o", help="A file, or a folder to put it into.", show_default="here")
    ] = ".",
    as_json: AsJson = False,
) -> None:
    """Download a job's checkpoint or model; it appears only when it is whole and verified."""
    out = t.console()
    with connect() as client:
        job_id = resolve(client, job_id)
        with transfer_bar("download", quiet=as_json) as on_bytes:
            if what is What.CHECKPOINT:
                path = client.jobs.download_checkpoint(job_id, checkpoint, to, on_bytes=on_bytes)
            else:
                path = client.jobs.download_model(
                    job_id, to, checkpoint=checkpoint, format="onnx" if what is What.ONNX else "zip",
                    on_bytes=on_bytes,
                )  # fmt: skip
    if as_json:
        t.print_json({"job": job_id, "path": str(path), "size_bytes": path.stat().st_size})
    else:
        out.print(f"[green]✓[/] {t.plain(path)} ({t.size(path.stat().st_size)})")
