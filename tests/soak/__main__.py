"""``python -m tests.soak --seconds 1800 --every 10 --seed 7``: exit status 1 if any rule is broken.

Ctrl-C (or SIGTERM) ends the faults; jobs get their time to finish, and the verdict follows. A second one ends
everything at once. The folder is kept unless every rule held.
"""

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from tests.soak.faults import choose
from tests.soak.run import Soak, run
from tests.soak.specs import LOADS


def main() -> int:
    given = _arguments()
    home = (given.home or Path(tempfile.mkdtemp(prefix="perdure-soak-"))).absolute()
    soak = Soak(home, given.seconds, given.every, given.seed, tuple(given.faults), given.jobs)
    _end_early_when_asked(soak)
    print(f"Seed {soak.seed}; everything is in {home}", flush=True)
    try:
        report = run(soak)
    except KeyboardInterrupt:
        print(f"Ended without a verdict; what there is is in {home}")
        return 130
    (home / "report.txt").write_text(report.text + "\n")
    (home / "report.json").write_text(json.dumps(report.as_json(), indent=2))
    print(report.text)
    if given.report is not None:
        given.report.write_text(report.text + "\n")
    if report.is_good and given.home is None:
        shutil.rmtree(home)
    else:
        print(f"The history, the report, the logs and the store are kept in {home}")
    return 0 if report.is_good else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800.0, help="how long faults come")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two faults, on average")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="of their schedule")
    parser.add_argument(
        "--faults", nargs="+", default=["all"], metavar="FAULT", help="all, kill, or single ones by name"
    )
    parser.add_argument(
        "--jobs",
        choices=LOADS,
        default="medium",
        help="their length; long ones come one at a time, for goodput",
    )
    parser.add_argument("--report", type=Path, help="where to write the report as text, too")
    parser.add_argument("--home", type=Path, help="an empty folder for everything, to be kept in any case")
    given = parser.parse_args()
    try:
        choose(given.faults)
    except ValueError as error:
        parser.error(str(error))
    return given


def _end_early_when_asked(soak: Soak) -> None:
    def ask(number: int, frame: FrameType | None) -> None:
        if soak.ended_early.is_set():
            raise KeyboardInterrupt
        soak.ended_early.set()
        print("No more faults; jobs get their time to finish. Once more to end at once.", flush=True)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)


if __name__ == "__main__":
    sys.exit(main())
