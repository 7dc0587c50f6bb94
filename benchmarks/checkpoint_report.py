"""What the checkpoint benchmark says of its measurements: one JSON object, or tables with a few sentences."""

import os
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.checkpoint_case import STATES, Job
from benchmarks.checkpoint_overhead import Overhead
from benchmarks.checkpoint_rows import Row, milliseconds, stall_ratio

TARGET_PERCENT = 1.0
TARGET_STALL_RATIO = 1 / 3
TITLES = {
    "perdure_first": "Perdure, first of a job",
    "perdure": "Perdure",
    "torch_save": "torch.save",
    "torch_save_fsync": "torch.save, fsync, rename",
    "dcp_async_save": "DCP async_save",
}


def summary(
    job: Job,
    rows: Sequence[Row],
    overhead: Overhead,
    left_out: dict[str, str],
    is_quick: bool,
    seconds: float,
) -> dict[str, Any]:
    """What ``--json`` prints."""
    slowed = overhead.direct_seconds - overhead.stall_seconds
    return {
        "benchmark": "checkpoint",
        "quick": is_quick,
        "case": str(job),
        "overhead_percent": round(overhead.percent, 3),
        "overhead_90_percent_interval": [round(bound, 3) for bound in overhead.interval()],
        "noise_percent": round(overhead.noise_percent, 3),
        "direct_overhead_percent": round(overhead.direct_percent, 3),
        "direct_noise_percent": round(overhead.direct_noise_percent, 3),
        "epoch_seconds": _spread([epoch.seconds for epoch in overhead.without]),
        "epoch_with_checkpoint_seconds": _spread([epoch.seconds for epoch in overhead.with_checkpoint]),
        "stall_ms": milliseconds(overhead.stall_seconds),
        "slowed_steps_ms": milliseconds(slowed),
        "write_ms": milliseconds(statistics.median(overhead.writes)),
        "stall_ratio": round(stall_ratio(rows), 4),
        "rows": [row.to_json() for row in rows],
        "left_out": left_out,
        "repetitions": {
            "epochs_with_checkpoint": len(overhead.with_checkpoint),
            "epochs_without": len(overhead.without),
        }
        | {row.case: len(row.stalls) - 1 for row in rows},
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "seconds": round(seconds, 1),
    }


def print_tables(figures: dict[str, Any]) -> None:
    print(f"\n{figures['cores']} cores; load average {figures['load_average']:.1f}; medians, times in ms")
    for case, state in STATES.items():
        if case in figures["left_out"]:
            print(f"\n{state.title}: not measured, {figures['left_out'][case]}")
            continue
        own = [row for row in figures["rows"] if row["case"] == case]
        print(f"\n{state.title} ({own[0]['repetitions']} repetitions)")
        print(f"  {'':26}{'MB':>8}{'stall':>8}{'p90':>8}{'first':>8}{'durable':>9}{'p90':>8}")
        for row in own:
            print(
                f"  {TITLES[row['method']]:26}{row['bytes'] / 1e6:8.1f}{row['stall_ms']:8.1f}"
                f"{row['stall_p90_ms']:8.1f}{row['stall_first_ms']:8.1f}{row['durable_ms']:9.1f}"
                f"{row['durable_p90_ms']:8.1f}{'' if row['is_durable'] else '  returned, not durable'}"
            )
    print_overhead(figures)
    print_sentences(figures)


def print_overhead(figures: dict[str, Any]) -> None:
    print(f"\nA job: {figures['case']}")
    print(f"  {'epochs, seconds':26}{'epochs':>8}{'min':>8}{'p50':>8}{'max':>8}")
    for title, key, count in (
        ("with a checkpoint", "epoch_with_checkpoint_seconds", "epochs_with_checkpoint"),
        ("without", "epoch_seconds", "epochs_without"),
    ):
        spread = figures[key]
        numbers = "".join(f"{spread[name]:8.2f}" for name in ("min", "p50", "max"))
        print(f"  {title:26}{figures['repetitions'][count]:8}{numbers}")
    print(
        f"  A checkpoint stalls training for {figures['stall_ms']:.0f} ms, and is written within "
        f"{figures['write_ms']:.0f} ms, in which the steps lose {figures['slowed_steps_ms']:.0f} ms."
    )


def print_sentences(figures: dict[str, Any]) -> None:
    """One for each target."""
    low, high = figures["overhead_90_percent_interval"]
    print(
        f"\nA checkpoint at every epoch makes epochs {figures['overhead_percent']:.2f} % longer "
        f"(nine in ten times between {low:.2f} and {high:.2f}); counted from its own steps alone, "
        f"{figures['direct_overhead_percent']:.2f} %. The target is less than {TARGET_PERCENT:.0f} %."
    )
    if figures["noise_percent"] > TARGET_PERCENT:
        print(
            f"Epochs without any checkpoint differ by {figures['noise_percent']:.2f} % among themselves: the "
            "machine is too busy for the first of these figures; the second is sure to "
            f"{figures['direct_noise_percent']:.2f} %."
        )
    print(
        f"Training waits {figures['stall_ratio']:.2f} of the time that torch.save, fsync and rename take. "
        f"The target is at most {TARGET_STALL_RATIO:.2f}."
    )
    if figures["quick"]:
        print("This was a quick run: it proves no target.")


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    return {
        "min": round(min(seconds), 3),
        "p50": round(statistics.median(seconds), 3),
        "max": round(max(seconds), 3),
    }
