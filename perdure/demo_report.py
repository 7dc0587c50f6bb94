"""What the demo found, as a table and in one sentence."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from perdure import terminal as t

if TYPE_CHECKING:
    from perdure.demo import Run
    from perdure.demo_data import DemoData

#: The metrics that have to be the same to the last bit; times and speeds are not among them.
EXACT_METRICS = ("epoch", "step", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "learning_rate")


@dataclass(frozen=True)
class Verdict:
    """Whether the two runs ended the same, and how that is known."""

    are_weights_equal: bool
    are_metrics_equal: bool
    are_hashes_confirmed: bool  #: what the server reported is what the downloads hash to
    num_kills: int

    @property
    def is_equal(self) -> bool:
        """Everything that was promised holds."""
        return (
            self.are_weights_equal
            and self.are_metrics_equal
            and self.are_hashes_confirmed
            and self.num_kills > 0
        )

    @property
    def sentence(self) -> str:
        """The result for people."""
        if self.is_equal:
            return (
                f"[bold green]EQUAL[/]: {self.num_kills} × kill -9, and not a single bit of the weights or "
                "of the metrics differs from the run that nobody touched."
            )
        reasons = [
            reason
            for is_good, reason in (
                (self.are_weights_equal, "the weights differ"),
                (self.are_metrics_equal, "the metrics differ"),
                (self.are_hashes_confirmed, "a download does not hash to what the server reported"),
                (self.num_kills > 0, "no kill happened"),
            )
            if not is_good
        ]
        return f"[bold red]DIFFERENT[/]: {', and '.join(reasons)}."

    def as_json(
        self, killed: "Run", quiet: "Run", recomputed: list[str], *, quick: bool, data: "DemoData"
    ) -> dict[str, Any]:
        """Everything in the table, for programs."""
        return {
            "equal": self.is_equal,
            "weights_equal": self.are_weights_equal,
            "metrics_equal": self.are_metrics_equal,
            "hashes_confirmed": self.are_hashes_confirmed,
            "kills": self.num_kills,
            "quick": quick,
            "photographs": data.has_photographs,
            "pretrained": data.has_weights,
            "runs": {
                name: {
                    "job": run.job.id,
                    "epochs": len(run.epochs),
                    "val_accuracy": _accuracy(run),
                    "kills": [
                        {
                            "target": kill.fault.target,
                            "step": kill.step,
                            "uncommitted_steps": kill.uncommitted_steps,
                        }
                        for kill in run.kills
                    ],
                    "steps_redone": _steps_redone(run),
                    "recovery_seconds": run.recovery_seconds,
                    "weights_sha256": run.job.weights_sha256,
                    "recomputed_sha256": digest,
                }
                for (name, run), digest in zip(
                    (("killed", killed), ("untouched", quiet)), recomputed, strict=True
                )
            },
        }


def verdict(killed: "Run", quiet: "Run", recomputed: list[str]) -> Verdict:
    """Compare the two runs: the bits that were downloaded, the metrics, and what the server says of them."""
    return Verdict(
        are_weights_equal=recomputed[0] == recomputed[1],
        are_metrics_equal=_metrics(killed) == _metrics(quiet) and bool(killed.epochs),
        are_hashes_confirmed=recomputed == [killed.job.weights_sha256, quiet.job.weights_sha256],
        num_kills=len(killed.kills),
    )


def report(killed: "Run", quiet: "Run", recomputed: list[str], proof: Verdict) -> Table:
    """Both runs side by side."""
    table = Table(header_style="bold", title_justify="left")
    table.add_column("")
    for name in ("killed run", "untouched run"):
        table.add_column(name, overflow="fold", max_width=36)
    runs = (killed, quiet)
    table.add_row("epochs", *(str(len(run.epochs)) for run in runs))
    table.add_row("validation accuracy", *(t.number(_accuracy(run)) for run in runs))
    table.add_row("kills survived", *(_kills(run) for run in runs))
    table.add_row("steps done again", *(str(_steps_redone(run)) for run in runs))
    table.add_row("seconds to recover", *(_recoveries(run) for run in runs))
    table.add_row("time", *(t.seconds(_wall_seconds(run)) for run in runs))
    table.add_row(
        "metrics of every epoch", *(["[green]same[/]" if proof.are_metrics_equal else "[red]differ[/]"] * 2)
    )
    style = "green" if proof.are_weights_equal else "red"
    table.add_row("weights_sha256", *(f"[{style}]{t.plain(run.job.weights_sha256)}[/]" for run in runs))
    table.add_row(
        "… of the download",
        *(
            "[green]confirmed[/]" if digest == run.job.weights_sha256 else f"[red]{t.plain(digest)}[/]"
            for run, digest in zip(runs, recomputed, strict=True)
        ),
    )
    return table


def _metrics(run: "Run") -> list[tuple[Any, ...]]:
    return [tuple(getattr(row, name) for name in EXACT_METRICS) for row in run.epochs]


def _accuracy(run: "Run") -> float | None:
    return run.epochs[-1].val_accuracy if run.epochs else None


def _kills(run: "Run") -> str:
    return f"{len(run.kills)} ({', '.join(kill.fault.target for kill in run.kills)})" if run.kills else "–"


def _steps_redone(run: "Run") -> int:
    return sum(attempt.steps_redone or 0 for attempt in run.attempts)


def _recoveries(run: "Run") -> str:
    return ", ".join(f"{seconds:.2f}" for seconds in run.recovery_seconds) or "–"


def _wall_seconds(run: "Run") -> float | None:
    if run.job.started_at is None or run.job.finished_at is None:
        return None
    return (run.job.finished_at - run.job.started_at).total_seconds()
