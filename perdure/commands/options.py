"""Arguments and options that several commands share."""

from typing import Annotated

import typer

JobId = Annotated[
    str,
    typer.Argument(
        metavar="JOB", help="A job's id, or [bold]last[/] for the newest one.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
CONTROL = "Jobs"
READING = "What happened"
SERVICE = "The service"
