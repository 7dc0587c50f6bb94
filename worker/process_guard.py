"""A child that must not outlive its parent, whatever becomes of the parent."""

import contextlib
import ctypes
import faulthandler
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int) -> None:
    """SIGKILL for this process as soon as the parent *thread* that started it ends (Linux).

    The parent may have died before the call took effect; then nobody would send the signal any more,
    so it is looked at again afterwards.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent_pid:
        os._exit(1)


def be_first_to_go() -> None:
    """When memory runs out, the kernel ends this process rather than the one that watches it (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def leave_terminal_signals() -> None:
    """Only the supervisor stops a trainer: a TERM or Ctrl-C meant for it must not end the trainer first."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def print_stacks_on_request() -> None:
    """On SIGUSR1 the stacks of all threads go to stderr, also while every one of them is blocked.

    The handler is C code that needs no lock of the interpreter.
    """
    faulthandler.register(signal.SIGUSR1, file=sys.stderr, all_threads=True)
