"""watch: stay with a job until it ends."""

# ruff: noqa: PLC0415 - the HTTP client is imported when a command needs it, not for `perdure --help`

from dataclasses import fields
from typing import TYPE_CHECKING

import typer

from perdure import terminal as t
from perdure.commands.jobs import job_facts, resolve
from perdure.commands.options import AsJson, JobId
from perdure.connection import EXIT_INTERRUPTED, EXIT_JOB_FAILED, connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perdure.client import Perdure
    from perdure.following import Change, JobFollower
    from perdure.types import Job

#: A watch outlives a restart of the server; a server that stays away this long is not coming back.
PATIENCE_SECONDS = 120.0


def watch(job_id: JobId, as_json: AsJson = False) -> None:
    """Watch a job until it ends: progress, epochs, recoveries, result.

    Ctrl-C stops the watching only. With --json, one line for each change, the job last.
    """

    with connect() as client:
        job_id = resolve(client, job_id)
        try:
            job = _watch_as_json(client, job_id) if as_json else _watch(client, job_id)
        except KeyboardInterrupt:
            err = t.console(stderr=True)
            err.print(f"\nThe job goes on. [bold]perdure watch {t.plain(job_id)}[/] looks again.")
            raise typer.Exit(EXIT_INTERRUPTED) from None
    if not as_json:
        t.console().print()
        t.console().print(t.facts(job_facts(job)))
    if job.status in {"failed", "cancelled"}:
        raise typer.Exit(EXIT_JOB_FAILED)


def _watch(client: "Perdure", job_id: str) -> "Job":
    from perdure.following import JobFollower
    from perdure.live import LiveJob

    follower = JobFollower(client, job_id)
    with LiveJob(t.console()) as live:
        for change in _changes(client, follower, live.away):
            if change is not None:
                live.show(change)
            elif follower.job is not None:
                live.update(follower.job)
    assert follower.job is not None  # noqa: S101 - the loop ends only with a job at rest
    return follower.job


def _watch_as_json(client: "Perdure", job_id: str) -> "Job":
    from perdure.following import JobFollower

    follower = JobFollower(client, job_id)
    for change in _changes(client, follower, lambda reason: None):
        if change is not None:
            body = {
                field.name: getattr(change, field.name).model_dump(mode="json") for field in fields(change)
            }
            t.print_json_line({"change": type(change).__name__, **body})
    assert follower.job is not None  # noqa: S101 - the loop ends only with a job at rest
    return follower.job


def _changes(
    client: "Perdure", follower: "JobFollower", away: "Callable[[str], object]"
) -> "Iterator[Change | None]":
    """Every change until the job rests, and None after each event. The first look has to succeed."""
    told = client.jobs.stream(follower.job_id, patience_seconds=PATIENCE_SECONDS, on_away=away)
    for event in told:
        # What is recorded by the time that the first event is here: the next ones may repeat some of it.
        yield from follower.poll() if follower.job is None else follower.take(event)
        yield None
        if follower.is_at_rest:
            return
