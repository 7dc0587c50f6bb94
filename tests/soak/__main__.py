"""``python -m tests.soak --seconds 1800 --seed 7 --fault-every 5``: exit status 1 if any rule is broken."""

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

from tests.soak.run import Soak, describe, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="how long faults come")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="of their schedule")
    parser.add_argument("--fault-every", type=float, default=5.0, help="seconds between two, on average")
    parser.add_argument("--report", type=Path, help="where to write the report as JSON")
    parser.add_argument("--home", type=Path, help="an empty folder for everything; a new one without it")
    given = parser.parse_args()
    home = given.home or Path(tempfile.mkdtemp(prefix="perdure-soak-"))
    soak = Soak(home.absolute(), given.seconds, given.fault_every, given.seed)
    print(f"Seed {soak.seed}; the history is in {soak.history_path}", flush=True)
    report = run(soak)
    print(describe(report))
    if given.report is not None:
        given.report.write_text(json.dumps(report, indent=2))
    return 1 if report["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
