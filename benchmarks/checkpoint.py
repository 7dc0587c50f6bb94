"""What a checkpoint costs: how long training waits for it, and how much longer an epoch takes.

Two questions, each with everything side by side in one run:

- The *stall* of one checkpoint, and the time until it is durable: Perdure, ``torch.save``, ``torch.save``
  with fsync and rename, and ``torch.distributed.checkpoint.async_save`` save the same state, in turns.
- The *overhead* of a checkpoint at the end of every epoch: a real job, of whose epochs every other one has a
  checkpoint to write.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.checkpoint_case import FULL, QUICK, STATES, State
from benchmarks.checkpoint_overhead import FEWEST_EPOCHS, measure
from benchmarks.checkpoint_report import print_tables, summary
from benchmarks.checkpoint_rows import Row, rows_of
from benchmarks.processes import NotInTime, end, ended_by_signals, start
from worker.slot import num_cores
from worker.zygote_keeper import trainer_environment

STARTED_AT = time.monotonic()
#: A quick run begins nothing more after so long: the costs, and then the epochs.
QUICK_SECONDS = {"costs": 14.0, "epochs": 34.0}
STATE_SECONDS = 3600.0


def save_repeatedly(name: str, repetitions: int, threads: int, folder: Path, deadline: float) -> list[Row]:
    """In a process of its own, so that no state is in memory beside another."""
    say(f"{STATES[name].title}: {repetitions} repetitions and one to warm up")
    results, log = folder / f"{name}.jsonl", folder / f"{name}.log"
    files = folder / name
    files.mkdir()
    arguments = [
        "-m",
        "benchmarks.checkpoint_costs",
        name,
        f"--folder={files}",
        f"--results={results}",
        f"--repetitions={repetitions}",
        f"--threads={threads}",
        f"--deadline={deadline}",
    ]
    process = start(arguments, log, trainer_environment())
    try:
        status = process.wait(STATE_SECONDS)
    finally:
        end(process)
    if status:
        raise RuntimeError(f"the process that saves ended with {status}:\n{log.read_text()}")
    shutil.rmtree(files)
    return rows_of(name, results.read_text().splitlines())


def reason_to_leave_out(state: State, folder: Path, is_quick: bool) -> str | None:
    if is_quick and not state.quick_repetitions:
        return "left out of a quick run"
    memory, disk = psutil.virtual_memory().available, shutil.disk_usage(folder).free
    if memory < state.needs_memory_bytes:
        return f"{memory / 1e9:.0f} GB of memory are free, {state.needs_memory_bytes / 1e9:.0f} needed"
    if disk < state.needs_disk_bytes:
        return f"{disk / 1e9:.0f} GB of disk are free, {state.needs_disk_bytes / 1e9:.0f} needed"
    return None


def say(what: str) -> None:
    """Progress, apart from the result."""
    print(f"  {time.monotonic() - STARTED_AT:5.1f} s  {what}", file=sys.stderr, flush=True)


@contextmanager
def emptied_afterwards(parent: Path | None) -> Iterator[Path]:
    """A folder for all files of all methods, on one file system."""
    with ended_by_signals(), tempfile.TemporaryDirectory(prefix="perdure-checkpoint-", dir=parent) as folder:
        yield Path(folder)


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    is_quick = options.quick
    limits = QUICK_SECONDS if is_quick else dict.fromkeys(QUICK_SECONDS, float("inf"))
    # On a busy machine several threads wait for each other, and a quick run would not be quick.
    threads = 1 if is_quick else num_cores()
    rows: list[Row] = []
    left_out: dict[str, str] = {}
    for name, state in STATES.items():
        if reason := reason_to_leave_out(state, folder, is_quick):
            left_out[name] = reason
            say(f"{state.title}: {reason}")
            continue
        repetitions = state.quick_repetitions if is_quick else options.repetitions or state.repetitions
        if not state.is_trained:
            repetitions = min(repetitions, state.repetitions)
        rows += save_repeatedly(name, repetitions, threads, folder, STARTED_AT + limits["costs"])
    job = QUICK if is_quick else replace(FULL, epochs=options.epochs or FULL.epochs)
    say(f"{job.epochs} epochs of a job: {job}")
    overhead = measure(job, folder, STARTED_AT + limits["epochs"])
    return summary(job, rows, overhead, left_out, is_quick, time.monotonic() - STARTED_AT)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checkpoint", description="Costs of saving.")
    parser.add_argument("--quick", action="store_true", help="a smaller case, within 50 s; proves no target")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--repetitions", type=int, help="of each method; at most 3 for the largest state")
    parser.add_argument("--epochs", type=int, help=f"of the job, {FULL.epochs} by default")
    parser.add_argument("--folder", type=Path, help="where to put files: the disk that is to be measured")
    options = parser.parse_args(arguments)
    if options.repetitions is not None and options.repetitions < 1:
        parser.error("--repetitions must be at least 1")
    if options.epochs is not None and options.epochs < FEWEST_EPOCHS:
        parser.error(f"--epochs must be at least {FEWEST_EPOCHS}")
    try:
        with emptied_afterwards(options.folder) as folder:
            figures = run(options, folder)
    except KeyboardInterrupt:
        say("stopped; nothing is left behind")
        return 130
    except (NotInTime, RuntimeError) as error:
        say(str(error))
        return 1
    if options.json:
        print(json.dumps(figures))
    else:
        print_tables(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
