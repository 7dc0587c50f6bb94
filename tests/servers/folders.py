"""Folders of servers, under a short path, gone after the tests."""

import os
import shutil
import tempfile
from pathlib import Path

import psutil


def server_folder(kind: str) -> Path:
    """A new folder that says whose it is; those of tests that were killed are swept away."""
    root = Path(tempfile.gettempdir())
    for left in root.glob(f"perdure-test-{kind}-*"):
        pid = left.name.removeprefix(f"perdure-test-{kind}-").partition("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"perdure-test-{kind}-{os.getpid()}-"))
