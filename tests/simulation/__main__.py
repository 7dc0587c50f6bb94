"""``python -m tests.simulation SEED``: replay one schedule, telling everything."""

import sys

from tests.simulation.schedule import GuaranteeBroken, simulator


def main() -> int:
    with simulator() as ready:
        try:
            counts = ready.run(int(sys.argv[1]), is_verbose="--quiet" not in sys.argv)
        except GuaranteeBroken as error:
            print(error, file=sys.stderr)
            return 1
    print(dict(sorted(counts.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
