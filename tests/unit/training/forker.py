"""A warm parent for the trainers of these tests: imports once, then forks one for each line on stdin.

A line holds the paths of two named pipes and of a log. The child's pid goes to stdout.
"""

import os
import signal
import sys

from worker.training.trainer import run
from worker.wire import read_task


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    for line in sys.stdin:
        inbox_path, outbox_path, log_path = line.rstrip("\n").split("\t")
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 2)
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)
            os.dup2(log, 1)
            inbox = os.open(inbox_path, os.O_RDONLY)
            outbox = os.open(outbox_path, os.O_WRONLY)
            run(read_task(inbox), inbox, outbox)
        print(pid, flush=True)


main()
