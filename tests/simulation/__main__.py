"""``python -m tests.simulation SEED``: replay one schedule, telling everything; or the traces of many."""

import argparse
import sys

from tests.simulation.schedule import GuaranteeBroken, simulator


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("stop", type=int, nargs="?", help="with --traces: the first seed that is left out")
    parser.add_argument("--quiet", action="store_true", help="tell only how it ended")
    parser.add_argument("--traces", action="store_true", help="a checksum for each seed, one a line")
    given = parser.parse_args()
    with simulator() as ready:
        if given.traces:
            for seed in range(given.seed, given.stop or given.seed + 1):
                print(ready.trace_of(seed))
            return 0
        try:
            counts = ready.run(given.seed, is_verbose=not given.quiet)
        except GuaranteeBroken as error:
            print(error, file=sys.stderr)
            return 1
    print(dict(sorted(counts.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
