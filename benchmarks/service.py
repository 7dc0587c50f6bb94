"""What a large installation costs: submissions a second, lists, single jobs, metrics, and claims.

On PostgreSQL, each time with the API's own processes and real requests:

- ``post_per_second``: ``POST /jobs`` by several clients at once, and what each takes of the cores;
- ``p99_ratio``: the 99th percentile of ``list``, ``show`` and ``metrics`` with many jobs to that with few;
- ``claim_p99_ms``: what one claim takes with a long queue, for a worker whose jobs make up the queue and for
  one whose jobs stand behind a queue of others; the slower of the two.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.figures import Distribution, distribution
from benchmarks.processes import cpu_seconds, ended_by_signals
from benchmarks.service_api import Api, post_all
from benchmarks.service_claims import time_claims
from benchmarks.service_data import Databases, draw_dataset
from benchmarks.service_requests import READS, Reads, time_reads

#: A quick run begins no further round after so long.
QUICK_SECONDS = 30.0
STARTED_AT = time.monotonic()
TARGETS = {"post_per_second": 200.0, "p99_ratio": 1.5, "claim_p99_ms": 20.0}


@dataclass(frozen=True)
class Case:
    """How much there is of everything."""

    few_jobs: int
    many_jobs: int
    rows_per_job: int  #: of metrics
    posts: int
    rounds: int  #: of reading
    claims: int  #: of each kind of worker


FULL = Case(few_jobs=1_000, many_jobs=100_000, rows_per_job=100, posts=4_000, rounds=500, claims=1_000)
QUICK = Case(few_jobs=1_000, many_jobs=10_000, rows_per_job=20, posts=300, rounds=60, claims=150)


@dataclass
class Results:
    """Seconds, but for the rate."""

    post_per_second: float = 0.0
    num_posts: int = 0
    reads: dict[str, Reads] = field(default_factory=dict)  #: by what is read
    claims: dict[str, Distribution] = field(default_factory=dict)  #: by device
    post_cpu: dict[str, float] = field(default_factory=dict)  #: of one submission, by who computed


def run(case: Case, folder: Path, deadline: float) -> Results:
    """Each part on its own, so that none takes the cores from another."""
    results = Results()
    draw_dataset(folder / "data" / "images")
    with Databases() as databases:
        queue = databases.make("queue")
        say(f"a queue of {case.many_jobs} jobs")
        databases.fill_queue(queue, case.many_jobs, behind=2 * case.claims)
        say("claims")
        for device in ("cuda", "cpu"):
            results.claims[device] = distribution(time_claims(databases.url(queue), device, case.claims))
        few, many = databases.make("few"), databases.make("many")
        for name, num_jobs in ((few, case.few_jobs), (many, case.many_jobs)):
            say(f"an installation of {num_jobs} jobs and {num_jobs * case.rows_per_job} metric rows")
            databases.fill(name, num_jobs, case.rows_per_job)
        with (
            Api(databases.url(few), folder / "few") as small,
            Api(databases.url(many), folder / "many") as large,
        ):
            say("reading from both in turns")
            results.reads = time_reads(
                (small, case.few_jobs), (large, case.many_jobs), rounds=case.rounds, deadline=deadline
            )
        # Two processes, as many as the cores of the target; into the large installation.
        with Api(databases.url(many), folder / "one") as one, Api(databases.url(many), folder / "two") as two:
            say(f"{case.posts} submissions")
            until = max(deadline, time.monotonic() + 3.0)
            parts = {"api": [one.pid, two.pid], "postgresql": [databases.pid], "clients": [os.getpid()]}
            before = {part: _cpu_seconds(pids) for part, pids in parts.items()}
            results.num_posts, results.post_per_second = post_all([one, two], case.posts, until)
            results.post_cpu = {
                part: (_cpu_seconds(pids) - before[part]) / results.num_posts for part, pids in parts.items()
            }
    return results


def _cpu_seconds(pids: Sequence[int]) -> float:
    """Without what else this process started, which is counted by itself."""
    own = sum(os.times()[:2])
    return sum(own if pid == os.getpid() else cpu_seconds(pid) for pid in pids)


def summary(results: Results, case: Case, quick: bool, seconds: float) -> dict[str, Any]:
    """What ``--json`` prints."""
    reads = results.reads
    return {
        "benchmark": "service",
        "quick": quick,
        "case": f"{case.many_jobs} jobs with {case.many_jobs * case.rows_per_job} metric rows, beside "
        f"{case.few_jobs} jobs with {case.few_jobs * case.rows_per_job}; PostgreSQL",
        "post_per_second": round(results.post_per_second, 1),
        "post_cpu_ms": {part: round(1e3 * seconds, 2) for part, seconds in results.post_cpu.items()},
        "p99_ratio": {name: round(reads[name].p99_ratio, 3) for name in READS},
        "claim_p99_ms": round(1e3 * max(d.percentile(99) for d in results.claims.values()), 2),
        "claims": {
            device: {"p50_ms": _ms(found, 50), "p99_ms": _ms(found, 99), "claims": len(found.seconds)}
            for device, found in results.claims.items()
        },
        "reads": {
            name: {
                size: {"p50_ms": _ms(found, 50), "p99_ms": _ms(found, 99)}
                for size, found in (("few", reads[name].few), ("many", reads[name].many))
            }
            for name in READS
        },
        "repetitions": {
            "post": results.num_posts,
            **{name: len(reads[name].many.seconds) for name in READS},
            **{f"claim_{device}": len(found.seconds) for device, found in results.claims.items()},
        },
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "seconds": round(seconds, 1),
    }


def _ms(found: Distribution, percent: float) -> float:
    return round(1e3 * found.percentile(percent), 2)


def print_table(figures: dict[str, Any]) -> None:
    print(f"\n{figures['case']}; {figures['cores']} cores, load average {figures['load_average']:.1f}\n")
    print(f"POST /jobs: {figures['post_per_second']:.0f} a second (target: at least 200)")
    shares = ", ".join(f"{part} {spent:.1f}" for part, spent in figures["post_cpu_ms"].items())
    print(f"  (milliseconds of a core for each: {shares})\n")
    print(f"{'milliseconds':12}{'few p50':>10}{'many p50':>10}{'few p99':>10}{'many p99':>10}{'ratio':>8}")
    for name, sizes in figures["reads"].items():
        cells = [sizes[size][part] for part in ("p50_ms", "p99_ms") for size in ("few", "many")]
        print(f"{name:12}{''.join(f'{cell:10.1f}' for cell in cells)}{figures['p99_ratio'][name]:8.2f}")
    print("  (target: a ratio of at most 1.5)\n")
    for device, found in figures["claims"].items():
        print(f"claim by a {device} worker: p50 {found['p50_ms']:.1f} ms, p99 {found['p99_ms']:.1f} ms")
    print("  (target: p99 of at most 20 ms)")


def say(what: str) -> None:
    """Progress, apart from the result."""
    print(f"  {time.monotonic() - STARTED_AT:5.1f} s  {what}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 when everything was measured, whatever came out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service", description="The service at scale.")
    parser.add_argument("--quick", action="store_true", help="a smaller case, within 50 s; proves no target")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = parser.parse_args(arguments)
    case = QUICK if options.quick else FULL
    deadline = STARTED_AT + QUICK_SECONDS if options.quick else float("inf")
    try:
        with ended_by_signals(), tempfile.TemporaryDirectory(prefix="perdure-service-") as folder:
            results = run(case, Path(folder), deadline)
    except KeyboardInterrupt:
        say("stopped; nothing is left running")
        return 130
    figures = summary(results, case, options.quick, time.monotonic() - STARTED_AT)
    if options.json:
        print(json.dumps(figures))
    else:
        print_table(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
