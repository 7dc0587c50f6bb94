"""A trainer from a cold start: ``python -m worker.training --inbox FD --outbox FD``.

Where processes cannot be forked from a warm one (macOS), and in tests. The inbox begins with the task.
"""

import argparse
import os

from worker.messages import Task, decode
from worker.training.trainer import run


def read_task(inbox_fd: int) -> Task:
    """The first line, byte by byte: what follows belongs to the session."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(inbox_fd, 1)
        if not byte:
            raise SystemExit("The inbox ended before it held a task.")
        line += byte
    task = decode(bytes(line))
    if not isinstance(task, Task):
        raise SystemExit(f"The inbox began with {type(task).__name__} instead of a task.")
    return task


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m worker.training", description=__doc__)
    parser.add_argument("--inbox", type=int, required=True, help="descriptor to read messages from")
    parser.add_argument("--outbox", type=int, required=True, help="descriptor to write messages to")
    arguments = parser.parse_args()
    run(read_task(arguments.inbox), arguments.inbox, arguments.outbox)


if __name__ == "__main__":
    main()
