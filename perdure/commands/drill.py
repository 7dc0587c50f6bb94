"""drill: break a running job on purpose, follow its recovery, and say what that cost."""

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from perdure import terminal as t
from perdure.commands.jobs import resolve
from perdure.commands.options import AsJson, JobId
from perdure.connection import EXIT_INTERRUPTED, EXIT_JOB_FAILED, connect

if TYPE_CHECKING:
    from perdure.client import Perdure
    from perdure.types import Drill

POLL_SECONDS = 0.25
#: As long as a job may look for a broken server: `kill_worker` may take parts of a small installation along.
RETRY_SECONDS = 30.0


class Fault(StrEnum):
    """What to break."""

    KILL_TRAINER = "kill_trainer"
    KILL_WORKER = "kill_worker"
    STALL = "stall"
    CORRUPT_CHECKPOINT = "corrupt_checkpoint"


MEANING = {
    Fault.KILL_TRAINER: "Its worker kills its own trainer (SIGKILL) and has to notice and resume.",
    Fault.KILL_WORKER: "Its worker kills itself with all that it runs (SIGKILL); whoever is left takes over.",
    Fault.STALL: "Its trainer is stopped (SIGSTOP); the stall watch has to notice, which takes its time: "
    "30 s without a training step unless PERDURE_STALL_SECONDS says otherwise.",
    Fault.CORRUPT_CHECKPOINT: "Bytes of the newest checkpoint are flipped and the trainer is killed; "
    "the checkpoint before that has to do.",
}


def drill(
    job_id: JobId,
    fault: Annotated[Fault, typer.Option(help="What to break.")] = Fault.KILL_TRAINER,
    timeout: Annotated[float, typer.Option(min=1.0, help="Seconds to wait for the recovery.")] = 300.0,
    as_json: AsJson = False,
) -> None:
    """Break a running job on purpose, and report how it recovered.

    It really is broken; the service has to allow it (`perdure up --drills`). Exit code 1 unless the job
    trains again and stays exact.
    """
    with connect(RETRY_SECONDS) as client:
        job_id = resolve(client, job_id)
        asked = client.jobs.drill(job_id, fault.value)
        if not as_json:
            t.console().print(f"Drill [bold]{fault.value}[/] of {t.plain(job_id)}. {MEANING[fault]}")
        try:
            report = _follow(client, job_id, asked, timeout)
        except KeyboardInterrupt:
            t.console(stderr=True).print("\nThe drill goes on; the job's list of drills has its end.")
            raise typer.Exit(EXIT_INTERRUPTED) from None
    if as_json:
        t.print_json(report.model_dump(mode="json"))
    else:
        _print(report)
    if not (report.recovered and report.exact):
        raise typer.Exit(EXIT_JOB_FAILED)


def _follow(client: "Perdure", job_id: str, asked: "Drill", timeout: float) -> "Drill":
    """The drill once nothing more will come of it, or as it stands when the time is over."""
    deadline = time.monotonic() + timeout
    latest = asked
    while not latest.is_over and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        latest = next((d for d in client.jobs.drills(job_id) if d.id == asked.id), latest)
    return latest


def _print(report: "Drill") -> None:
    out = t.console()
    out.print(_verdict(report))
    if report.carried_out_at is None:
        return
    rows = [
        ("fault", t.plain(report.fault)),
        ("hit attempt", str(report.attempt)),
        ("detected after", t.seconds(report.detected_seconds)),
        ("running again after", t.seconds(report.running_again_seconds)),
        ("steps done again", "–" if report.steps_redone is None else str(report.steps_redone)),
        ("exact", {True: "yes", False: "[yellow]no[/]", None: "–"}[report.exact]),
    ]
    if report.checkpoint_id:
        rows.append(("damaged", t.plain(report.checkpoint_id)))
    out.print(t.facts(rows))


def _verdict(report: "Drill") -> str:
    if report.recovered:
        how = "exactly as before" if report.exact else "but not exactly as before"
        return f"[green]✓[/] The job trains again, {how}."
    return {
        "requested": "[red]✗[/] No worker carried the drill out in time; does the job's worker still answer?",
        "dropped": "[red]✗[/] The job left its worker before the drill was carried out.",
        "recovering": "[red]✗[/] The job does not train again yet; [bold]perdure watch[/] follows it.",
    }.get(report.status or "", "[red]✗[/] The job came to rest before it trained again.")
