"""Which machine and which process this is, so that a death on the same host is seen without waiting."""

import os
import socket
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

#: Start times are whole clock ticks; two processes of one number differ by far more.
_START_TOLERANCE_SECONDS = 0.005


@cache
def boot_id() -> str:
    """Equal for all processes since this machine's last boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"{socket.gethostname()}-{psutil.boot_time():.0f}"


@cache
def pid_namespace() -> str:
    """Process numbers mean the same thing only within one namespace (containers have their own)."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return socket.gethostname()


def boot_time_clock() -> float:
    """Seconds since boot, suspended time included: the clock that a lease on one host is judged by."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True)
class ProcessId:
    """A process, told apart from a later one that got the same number."""

    pid: int
    started_at: float  #: seconds since boot, which no change of the wall clock moves (Linux)

    @classmethod
    def of(cls, pid: int) -> "ProcessId":
        """The process that has this number now. Raises psutil.NoSuchProcess."""
        return cls(pid, _look_at(pid)[0])

    def is_alive(self) -> bool:
        """False for zombies too: a dead child whose parent has not looked yet does nothing any more."""
        try:
            started_at, is_dead = _look_at(self.pid)
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True
        return not is_dead and abs(started_at - self.started_at) < _START_TOLERANCE_SECONDS


def _look_at(pid: int) -> tuple[float, bool]:
    """When the process started, and whether it is dead but for its entry. Raises psutil.NoSuchProcess.

    On Linux straight from the kernel: psutil adds the boot instant, which moves with the wall clock, and a
    worker must not be held for dead because somebody set the time.
    """
    if sys.platform.startswith("linux"):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError) as error:
            raise psutil.NoSuchProcess(pid) from error
        # A process is a zombie as soon as its first thread ended; the others may still be on their way out.
        is_dead = fields[0] in {"Z", "X"} and int(fields[17]) <= 1
        return int(fields[19]) / os.sysconf("SC_CLK_TCK"), is_dead
    process = psutil.Process(pid)
    return process.create_time(), process.status() in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}


@dataclass(frozen=True)
class Owner:
    """The worker process that holds a lease."""

    worker_id: str
    host: str
    boot_id: str
    pid_namespace: str
    process: ProcessId

    @classmethod
    def this_process(cls, worker_id: str) -> "Owner":
        return cls(worker_id, socket.gethostname(), boot_id(), pid_namespace(), ProcessId.of(os.getpid()))
