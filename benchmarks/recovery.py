"""From the death of a process to the next step of its job, beside the same job under torchrun.

Measured, each time from the moment right before SIGKILL is sent to the moment at which the supervisor hears
from the new trainer that its first step is done (for torchrun: at which the script has done it):

- ``trainer_kill``: the trainer of a worker dies, and the worker resumes the job on the spot;
- ``worker_kill``: supervisor, zygote and trainer die, and an idle worker of the same host takes the job over;
- ``torchrun``: the process that trains dies, and ``torchrun --max-restarts`` starts the script again.

Each kill falls at a random moment within an epoch's length after a checkpoint; all save once an epoch. Also
measured: until the last step that was done before the kill is done again. ``identical`` says that every
killed job ended with the same weights, to the last bit, as the same job left alone in the same run.
"""

import argparse
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.figures import Distribution, distribution
from benchmarks.killing import PATIENCE_SECONDS, Killer, Recovery
from benchmarks.processes import ended_by_signals
from benchmarks.recovery_case import FULL, QUICK, Case
from benchmarks.recovery_perdure import Perdure
from benchmarks.recovery_torchrun import JOB, Torchrun
from benchmarks.step_log import SAVED, STEP, StepLog

#: A quick run begins no further kill after so long.
QUICK_SECONDS = 28.0
STARTED_AT = time.monotonic()
TITLES = {
    "trainer_kill": "Perdure, trainer killed",
    "worker_kill": "Perdure, worker killed",
    "torchrun": "torchrun, process killed",
}


@dataclass
class Results:
    """What was measured of one kind of kill."""

    recoveries: list[Recovery] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)  #: of the killed jobs' final weights, by job

    @property
    def next_step(self) -> Distribution:
        return distribution([recovery.next_step_seconds for recovery in self.recoveries])

    @property
    def caught_up(self) -> Distribution:
        return distribution([recovery.caught_up_seconds for recovery in self.recoveries])

    def to_json(self, expected_hash: str | None = None) -> dict[str, Any]:
        lost = statistics.mean(recovery.steps_lost for recovery in self.recoveries)
        measured = {
            "kills": len(self.recoveries),
            **self.next_step.to_json(),
            **self.caught_up.to_json("caught_up_"),
            "mean_steps_lost": round(lost, 2),
        }
        if expected_hash is None:
            return measured
        same = sum(found == expected_hash for found in self.hashes)
        return measured | {
            "identical": same == len(self.hashes) > 0,
            "jobs": len(self.hashes),
            "jobs_identical": same,
        }


class Benchmark:
    """One run of it, in a folder of its own."""

    def __init__(self, case: Case, kills: dict[str, int], seed: int, folder: Path, deadline: float) -> None:
        self.case, self.kills, self.seed, self.folder = case, kills, seed, folder
        self.deadline = deadline  #: on time.monotonic(); every kind of kill is done once all the same
        self.results = {kind: Results() for kind in TITLES}
        self.untouched_hash = ""
        self.epoch_seconds = self.step_seconds = 0.0

    def run(self) -> None:
        """Rounds of one killed job and a few kills under torchrun, so that both see the same machine."""
        self.case.draw(self.folder / "data" / "images")
        with Perdure(self.folder / "perdure", self.case.threads) as perdure:
            first = perdure.start_worker()
            second = perdure.start_worker() if self.is_short else None
            perdure.await_warm(first)
            self.leave_alone(perdure)
            rounds = 0
            while self.is_wanted("trainer_kill") or self.is_wanted("torchrun"):
                if self.is_wanted("trainer_kill"):
                    self.kill_job(perdure, "trainer_kill", perdure.kill_trainer)
                done = len(self.results["trainer_kill"].recoveries) / self.kills["trainer_kill"]
                self.kill_torchrun(rounds, until=round(self.kills["torchrun"] * min(1.0, done)))
                rounds += 1
            second = second or perdure.start_worker()
            perdure.await_warm(second)
            while self.is_wanted("worker_kill"):
                self.kill_job(perdure, "worker_kill", perdure.kill_worker)

    @property
    def is_short(self) -> bool:
        return self.deadline < float("inf")

    def is_wanted(self, kind: str) -> bool:
        """Whether another kill of this kind is to be done."""
        done = len(self.results[kind].recoveries)
        return done == 0 or (done < self.kills[kind] and time.monotonic() < self.deadline)

    def leave_alone(self, perdure: Perdure) -> None:
        """The run that all others are compared with; it also tells how long an epoch takes."""
        say("the job is left alone once")
        job_id = perdure.submit(self.case.spec("images"))
        self.untouched_hash = perdure.await_success(job_id, PATIENCE_SECONDS * self.case.epochs)
        self.epoch_seconds = interval(perdure.log, job_id, SAVED)
        self.step_seconds = interval(perdure.log, job_id, STEP)
        perdure.forget(job_id)

    def kill_job(self, perdure: Perdure, kind: str, kill: Callable[[str], float]) -> None:
        """One job, killed once an epoch, and seen through to its end."""
        results = self.results[kind]
        job_id = perdure.submit(self.case.spec("images"))
        killer = Killer(
            perdure.log,
            job_id,
            lambda: kill(job_id),
            self.random(kind, len(results.hashes)),
            self.epoch_seconds,
            last_checkpoint=(self.case.epochs - 1) * self.case.steps_per_epoch,
        )
        while self.is_wanted(kind) and (recovery := killer.strike()) is not None:
            results.recoveries.append(recovery)
            say(f"{kind} {len(results.recoveries)} of {self.kills[kind]}: {recovery.next_step_seconds:.2f} s")
            if kind == "worker_kill" and self.is_wanted(kind):
                perdure.await_warm(perdure.start_worker())
        results.hashes.append(perdure.await_success(job_id, PATIENCE_SECONDS * self.case.epochs))
        perdure.forget(job_id)

    def kill_torchrun(self, number: int, until: int) -> None:
        """Kills of the script's process until there are so many in all, under one agent."""
        results = self.results["torchrun"]
        if len(results.recoveries) >= max(1, until):
            return
        with Torchrun(self.folder / f"torchrun-{number}", self.case, self.folder / "data/images") as torchrun:
            killer = Killer(
                torchrun.log, JOB, torchrun.kill, self.random("torchrun", number), self.epoch_seconds
            )
            while len(results.recoveries) < max(1, until) and self.is_wanted("torchrun"):
                recovery = killer.strike()
                assert recovery is not None
                results.recoveries.append(recovery)
                done = len(results.recoveries)
                say(f"torchrun {done} of {self.kills['torchrun']}: {recovery.next_step_seconds:.2f} s")

    def random(self, kind: str, number: int) -> random.Random:
        return random.Random(f"{self.seed} {kind} {number}")


def interval(log: StepLog, job: str, event: str) -> float:
    """The usual time between two such moments of a job that nobody disturbed."""
    moments = [moment.at for moment in log.read() if (moment.job, moment.event) == (job, event)]
    return statistics.median(after - before for before, after in itertools.pairwise(moments))


def summary(benchmark: Benchmark, quick: bool, seconds: float) -> dict[str, Any]:
    """What ``--json`` prints."""
    results, case = benchmark.results, benchmark.case
    kinds = {
        kind: results[kind].to_json(None if kind == "torchrun" else benchmark.untouched_hash)
        for kind in TITLES
    }
    ours, theirs = results["trainer_kill"], results["torchrun"]
    return {
        "benchmark": "recovery",
        "quick": quick,
        "case": f"{case.arch}, {case.image_size} px, batches of {case.batch_size}, "
        f"{case.steps_per_epoch} steps an epoch, a checkpoint an epoch",
        "seed": benchmark.seed,
        "step_seconds": round(benchmark.step_seconds, 4),
        "epoch_seconds": round(benchmark.epoch_seconds, 4),
        **kinds,
        "torchrun_p50_seconds": kinds["torchrun"]["p50_seconds"],
        "ratio_to_torchrun": round(ours.next_step.percentile(50) / theirs.next_step.percentile(50), 4),
        "caught_up_ratio_to_torchrun": round(
            ours.caught_up.percentile(50) / theirs.caught_up.percentile(50), 4
        ),
        "repetitions": {kind: len(results[kind].recoveries) for kind in TITLES},
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "seconds": round(seconds, 1),
    }


def print_table(benchmark: Benchmark, figures: dict[str, Any]) -> None:
    print(f"\n{figures['case']}; {figures['cores']} cores, seed {figures['seed']}")
    print(f"A step takes {figures['step_seconds']:.2f} s, an epoch {figures['epoch_seconds']:.2f} s.\n")
    print(f"{'seconds from SIGKILL to …':28}{'kills':>6}{'min':>7}{'p50':>7}{'p90':>7}{'p99':>7}{'max':>7}")
    for heading, part in (("the next step done", "next_step"), ("the last lost step redone", "caught_up")):
        print(f"{heading}")
        for kind, title in TITLES.items():
            spread: Distribution = getattr(benchmark.results[kind], part)
            values = [spread.least, *map(spread.percentile, (50, 90, 99)), spread.most]
            numbers = "".join(f"{value:7.2f}" for value in values)
            print(f"  {title:26}{len(spread.seconds):6}{numbers}  |{spread.histogram()}|")
    for kind in ("trainer_kill", "worker_kill"):
        found = figures[kind]
        print(
            f"{TITLES[kind]}: {found['jobs_identical']} of {found['jobs']} jobs ended with the weights "
            "of the job that was left alone, to the last bit."
        )
    print(
        f"Perdure's median recovery from the death of a trainer takes {figures['ratio_to_torchrun']:.2f} of "
        f"torchrun's; until the last lost step is redone, {figures['caught_up_ratio_to_torchrun']:.2f}."
    )


def say(what: str) -> None:
    """Progress, apart from the result."""
    print(f"  {time.monotonic() - STARTED_AT:5.1f} s  {what}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 when every killed job ended like the one that was left alone."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recovery", description="Recovery times.")
    parser.add_argument("--quick", action="store_true", help="a smaller case, within 50 s; proves no target")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--kills", type=int, default=100, help="of trainers; of workers, torchrun 3 in 10")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    options = parser.parse_args(arguments)
    if options.kills < 1:
        parser.error("--kills must be at least 1")
    some = max(1, round(0.3 * options.kills))
    kills = {"trainer_kill": options.kills, "worker_kill": some, "torchrun": some}
    if options.quick:
        kills = {"trainer_kill": 4, "worker_kill": 1, "torchrun": 2}
    deadline = STARTED_AT + QUICK_SECONDS if options.quick else float("inf")
    say(f"moments of the kills from seed {options.seed}")
    case = QUICK if options.quick else FULL
    try:
        with ended_by_signals(), tempfile.TemporaryDirectory(prefix="perdure-recovery-") as folder:
            benchmark = Benchmark(case, kills, options.seed, Path(folder), deadline)
            benchmark.run()
    except KeyboardInterrupt:
        say("stopped; nothing is left running")
        return 130
    figures = summary(benchmark, options.quick, time.monotonic() - STARTED_AT)
    if options.json:
        print(json.dumps(figures))
    else:
        print_table(benchmark, figures)
    return 0 if figures["trainer_kill"]["identical"] and figures["worker_kill"]["identical"] else 1


if __name__ == "__main__":
    sys.exit(main())
