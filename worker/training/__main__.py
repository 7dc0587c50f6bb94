"""A trainer from a cold start: ``python -m worker.training --inbox FD --outbox FD``.

Where processes cannot be forked from a warm one (macOS), and in tests. The inbox begins with the task.
"""

import argparse

from worker.process_guard import be_first_to_go, leave_terminal_signals
from worker.training.trainer import run
from worker.wire import read_task


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m worker.training", description=__doc__)
    parser.add_argument("--inbox", type=int, required=True, help="descriptor to read messages from")
    parser.add_argument("--outbox", type=int, required=True, help="descriptor to write messages to")
    arguments = parser.parse_args()
    be_first_to_go()
    leave_terminal_signals()
    task = read_task(arguments.inbox)
    if task is not None:
        run(task, arguments.inbox, arguments.outbox)


if __name__ == "__main__":
    main()
