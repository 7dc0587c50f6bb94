"""predict: what a trained model sees in images."""

from pathlib import Path
from typing import Annotated

import typer

from perdure import terminal as t
from perdure.commands.jobs import resolve
from perdure.commands.options import AsJson, JobId
from perdure.connection import connect

Images = Annotated[
    list[Path],
    typer.Argument(
        metavar="IMAGE…", exists=True, dir_okay=False, readable=True, help="Image files.", show_default=False
    ),
]


def predict(
    job_id: JobId,
    images: Images,
    checkpoint: Annotated[str, typer.Option(help="last, best, or a checkpoint's id.")] = "last",
    top_k: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Let a job's model classify images."""
    results = []
    with connect() as client:
        job_id = resolve(client, job_id)
        for image in images:
            found = client.jobs.predict(job_id, image, checkpoint=checkpoint, top_k=top_k)
            results.append({"file": str(image), **found.model_dump(mode="json")})
            if not as_json:
                t.console().print(t.plain(image))
                for each in found.predictions:
                    t.console().print(f"  {each.probability:.4f}  {t.plain(each.name)}")
    if as_json:
        t.print_json(results)
