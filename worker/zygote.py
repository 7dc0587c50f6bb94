"""The zygote: a process that has imported torch and waits, so that a trainer starts in milliseconds.

It has one thread and runs no op, since a child forked after a multi-threaded convolution hangs, and it
never touches CUDA, which does not survive a fork. It dies with the supervisor's keeper thread, and its
trainers die with it.
"""

import argparse
import contextlib
import gc
import json
import os
import selectors
import socket
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from worker.process_guard import be_first_to_go, die_with_parent, leave_terminal_signals
from worker.wire import read_task

MAX_REQUEST = 4096


def main() -> None:
    parser = argparse.ArgumentParser(prog="worker.zygote")
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()
    die_with_parent(arguments.parent)
    leave_terminal_signals()
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":
        raise SystemExit(
            "OPENBLAS_NUM_THREADS must be 1: a zygote with a thread pool cannot be forked safely"
        )

    import worker.training.trainer  # noqa: F401, PLC0415 - the slow import that this process exists for

    if os.environ.get("PERDURE_STORAGE_URL", "").startswith("s3:"):
        with contextlib.suppress(ImportError):  # without it the trainer says what is missing
            import boto3.session  # noqa: F401, PLC0415 - a quarter of a second that trainers need not spend

    threads = _thread_count()
    if threads != 1:
        raise SystemExit(f"the zygote has {threads} threads after its imports; it cannot be forked safely")
    gc.freeze()  # children share these pages for good: their collector leaves them alone
    Zygote(socket.socket(fileno=arguments.socket)).serve()


class Zygote:
    """Forks on request and reports what became of the children."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._selector = selectors.DefaultSelector()
        self._children: dict[int, int] = {}  # pidfd -> pid

    def serve(self) -> None:
        """Until the supervisor closes its end."""
        self._selector.register(self._channel, selectors.EVENT_READ)
        self._tell({"ready": os.getpid()})
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is not self._channel:
                    self._bury(key.fd)
                    continue
                request, descriptors, _, _ = socket.recv_fds(self._channel, MAX_REQUEST, 3)
                if not request:
                    return
                self._fork(*descriptors)

    def _fork(self, inbox: int, outbox: int, log: int) -> None:
        zygote = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_trainer(zygote, inbox, outbox, log)
        # Opened here, before anybody can reap the child, so that the number cannot mean another process.
        pidfd = os.pidfd_open(pid)
        for descriptor in (inbox, outbox, log):
            os.close(descriptor)
        self._children[pidfd] = pid
        self._selector.register(pidfd, selectors.EVENT_READ)
        self._tell({"forked": pid}, pidfd)

    def _become_trainer(self, zygote: int, inbox: int, outbox: int, log: int) -> NoReturn:
        try:
            die_with_parent(zygote)
            be_first_to_go()
            os.setsid()
            self._selector.close()
            self._channel.close()
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.close(log)
            from worker.training import trainer  # noqa: PLC0415 - imported already, by the zygote

            task = read_task(inbox)
            if task is not None:
                trainer.run(task, inbox, outbox)
        except BaseException:  # noqa: BLE001 - nothing may climb back into the zygote's loop
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)  # `run` ends the process itself when all is well

    def _bury(self, pidfd: int) -> None:
        pid = self._children.pop(pidfd)
        self._selector.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        self._tell({"exited": pid, "status": status})

    def _tell(self, message: dict[str, int], *descriptors: int) -> None:
        # A supervisor that is gone needs no answer: the death signal is on its way.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(self._channel, [json.dumps(message).encode()], descriptors)


def _thread_count() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())


if __name__ == "__main__":
    main()
