"""A job's progress in a terminal: one bar that moves, and lines above it that stay.

Where the output is not a terminal there is no bar, only the lines.
"""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from perdure import terminal as t
from perdure.following import AttemptEnded, Change, EpochDone, Recovered, StatusChanged
from perdure.types import Job

#: What a trainer does, as people say it.
PHASES = {
    "starting": "starting",
    "dataset": "checking the dataset",
    "training": "training",
    "validation": "validating",
    "checkpoint": "writing a checkpoint",
    "verifying": "verifying the resume",
}


class LiveJob:
    """Shows changes of a job as they come."""

    def __init__(self, console: Console, label: str = "") -> None:
        self.console = console
        columns: list[ProgressColumn] = [
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[note]}", style="dim"),
            TimeElapsedColumn(),
        ]
        self._progress = Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal, refresh_per_second=8
        )
        self._prefix = f"{t.plain(label)}  " if label else ""
        self._task = self._progress.add_task(self._prefix + "waiting", total=None, note="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, markup: str) -> None:
        """A line that stays, above the bar."""
        # In a pipe one change stays one line; a terminal gets it wrapped at words.
        text = Text.from_markup(f"{self._prefix}{markup}")
        self._progress.console.print(text, soft_wrap=not self.console.is_terminal)

    def update(self, job: Job) -> None:
        """Move the bar to where the job is."""
        progress = job.progress
        description, note = job.status, ""
        if progress and job.status == "running":
            description = f"epoch {progress.epoch or 0}/{progress.epochs or '?'}"
            note = PHASES.get(progress.phase or "", t.plain(progress.phase or ""))
        self._progress.update(
            self._task,
            description=self._prefix + description,
            total=progress.steps if progress else None,
            completed=(progress.step or 0) if progress else 0,
            note=note,
        )

    def away(self, reason: str) -> None:
        """The server does not answer at the moment; the job is not concerned."""
        self._progress.update(
            self._task, note=f"the server does not answer ({t.plain(reason)}); trying again"
        )

    def show(self, change: Change) -> None:
        """Print the line that tells a change, if it deserves one."""
        line = describe(change)
        if line:
            self.say(line)


def describe(change: Change) -> str | None:
    """A change as one line of markup."""
    match change:
        case EpochDone(row):
            return (
                f"[green]●[/] epoch {row.epoch}  "
                f"train loss {t.number(row.train_loss)}  val loss {t.number(row.val_loss)}  "
                f"val accuracy [bold]{t.number(row.val_accuracy)}[/]  "
                f"[dim]{t.seconds(row.duration_seconds)}[/]"
            )
        case AttemptEnded(attempt):
            noticed = (
                f", noticed after {t.seconds(attempt.detection_seconds)}"
                if attempt.detection_seconds is not None
                else ""
            )
            return f"[yellow]▲[/] attempt {attempt.attempt} ended: {t.cause(attempt.end_cause)}{noticed}"
        case Recovered(attempt):
            again = attempt.steps_redone or 0
            steps = f"{again} step{'' if again == 1 else 's'} to do again"
            after = t.seconds(attempt.restart_seconds)
            return f"[green]▶[/] attempt {attempt.attempt} trains again after {after}, {steps}"
        case StatusChanged(job) if job.status not in {"running", "succeeded"}:
            reason = f"  [dim]{t.plain(job.status_reason)}[/]" if job.status_reason else ""
            return f"[dim]·[/] {t.status(job.status)}{reason}"
    return None
