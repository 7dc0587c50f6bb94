"""The process that checks one dataset, as the light worker sees it: progress, a last word, an end."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from worker.wire import LineBuffer

#: Where ``worker`` lies; the check is started as a module of it, never imported.
ROOT = Path(__file__).resolve().parent.parent
COMMAND = (sys.executable, "-P", "-m", "worker.training.examine")
_READ_AT_ONCE = 65_536


class Examination:
    """One child process. Whoever started it looks at it until it ends, or kills it."""

    def __init__(self, request: dict[str, Any], command: Sequence[str] = COMMAND) -> None:
        """Started by a thread that lives for as long as the check: the child dies with it."""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C in the terminal is for the worker, which ends its children
            env=_environment(),
        )
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101
        self._output = self._process.stdout.fileno()
        self._buffer = LineBuffer()
        self.done = self.total = 0
        self.answer: dict[str, Any] | None = None  #: its last word
        self.is_over = False
        try:
            with self._process.stdin as stdin:
                stdin.write(json.dumps({**request, "parent_pid": os.getpid()}).encode())
        except BrokenPipeError:
            pass  # it died already; its end says so

    @property
    def pid(self) -> int:
        return self._process.pid

    def listen(self, timeout: float) -> bool:
        """Whether it said anything within so many seconds; its end counts."""
        if not select.select([self._output], [], [], timeout)[0]:
            return False
        data = os.read(self._output, _READ_AT_ONCE)
        for line in self._buffer.feed(data):
            said = json.loads(line)
            if "total" in said:
                self.done, self.total = said["done"], said["total"]
            else:
                self.answer = said
        self.is_over = not data
        return True

    def close(self) -> int:
        """End it if it still runs; its return code."""
        if not self.is_over:
            self._process.kill()
        code = self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code


def _environment() -> dict[str, str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    # One thread a decoder: libraries read these as they load.
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
    }  # fmt: skip
