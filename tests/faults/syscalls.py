"""System calls of one thread, watched, failed or made deadly by strace."""

import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pytest

#: Whatever takes a path or a descriptor; locks and clocks are left out.
FILE_CALLS = "%file,%desc"


@dataclass(frozen=True)
class Call:
    """The ``nth`` call of that name that a thread makes on its way, and what it is about."""

    name: str
    nth: int
    path: str


@dataclass(frozen=True)
class Fault:
    """What befalls a call: ``signal=SIGKILL`` or ``error=EIO``, right before it would be done."""

    call: Call
    kind: str

    def __str__(self) -> str:
        return f"{self.kind} at {self.call.name} {self.call.nth} ({Path(self.call.path).name})"


class Strace:
    """Follows a thread (or with ``threads`` a process and all its threads) while the context lasts.

    Occurrences are counted from here on, for each thread by itself.
    """

    def __init__(
        self,
        tid: int,
        log: Path,
        fault: Fault | None = None,
        *,
        calls: str = FILE_CALLS,
        threads: bool = False,
    ) -> None:
        self.log = log
        self._command = ["strace", *(["-f"] if threads else []), "-y", "-s", "0", "-o", str(log)]
        self._command += ["-e", f"trace={calls}", "-p", str(tid)]
        if fault is not None:
            self._command += ["-e", f"inject={fault.call.name}:{fault.kind}:when={fault.call.nth}"]

    def __enter__(self) -> "Strace":
        self._process = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        said = self._process.stderr.readline()  # comes when every thread is attached
        if "attached" not in said:
            self._process.wait()
            if "not permitted" in said:
                pytest.skip(f"strace may not attach to processes here: {said.strip()}")
            raise AssertionError(f"strace: {said}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)  # lets the thread go
        assert self._process.stderr is not None
        self._process.communicate(timeout=30)

    def wait(self) -> None:
        """Until whom it follows is gone."""
        self._process.wait(timeout=30)

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()


def calls_in(lines: list[str], below: Path) -> list[Call]:
    """Those about anything below a folder, numbered among all calls of their name."""
    path = re.compile(re.escape(str(below)) + r"[^\">]*")
    counts: dict[str, int] = {}
    calls = []
    for line in lines:
        if (name := re.match(r"(?:\d+ +)?(\w+)\(", line)) is None:
            continue
        counts[name[1]] = counts.get(name[1], 0) + 1
        if (found := path.search(line)) is not None:
            calls.append(Call(name[1], counts[name[1]], found[0]))
    return calls


def require_strace() -> None:
    """Skips visibly where the tool is missing."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace (apt-get install strace)")
