"""Arguments and options that several commands share."""

import re
from typing import Annotated

import typer

#: Somebody waits at the keyboard, and can type on.
_COMPLETION_SECONDS = 2.0
_COMPLETED_JOBS = 50


def job_ids() -> list[str]:
    """What a shell offers where a job is wanted; without a server ``last`` alone, and not a word of why."""
    from perdure.client import Perdure  # noqa: PLC0415 - not for `perdure --help`
    from perdure.errors import PerdureClientError  # noqa: PLC0415

    try:
        with Perdure(retry_seconds=0.0, timeout_seconds=_COMPLETION_SECONDS) as client:
            found = [job.id for job in client.jobs.list(limit=_COMPLETED_JOBS)]
    except PerdureClientError:
        found = []
    # zsh evaluates what it is offered: nothing that others wrote, as jobs' names, and nothing but ids.
    return ["last", *(job_id for job_id in found if re.fullmatch(r"job_[0-9A-Za-z-]+", job_id))]


JobId = Annotated[
    str,
    typer.Argument(
        metavar="JOB",
        help="A job's id, or [bold]last[/] for the newest one.",
        show_default=False,
        autocompletion=job_ids,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
CONTROL = "Jobs"
READING = "What happened"
SERVICE = "The service"
