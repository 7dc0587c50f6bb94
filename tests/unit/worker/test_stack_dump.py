"""Where a stalled process hangs is in its log within a second, or that it could not say."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.servers.waiting import until
from worker.stack_dump import ANSWER_SECONDS, dump_stacks

HANGS = """
import threading
from worker.process_guard import print_stacks_on_request
print_stacks_on_request()
def hang_here():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()
threading.Thread(target=hang_here).start()
print("ready", flush=True)
hang_here()
"""


class Child:
    """As much of a trainer as is asked here."""

    def __init__(self, log: Path) -> None:
        with log.open("ab") as output:  # as a trainer's log is opened: others may write to it, too
            self.process = subprocess.Popen(
                [sys.executable, "-c", HANGS], stdout=output, stderr=output, cwd=Path(__file__).parents[3]
            )

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def exited(self) -> Any:
        return self.process.poll()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "attempt-1.log"


@pytest.fixture
def child(log: Path) -> Iterator[Any]:
    hanging = Child(log)
    until(lambda: "ready" in log.read_text(), seconds=30)
    yield cast(Any, hanging)
    hanging.process.kill()
    hanging.process.wait()


def test_all_threads_are_shown_with_the_reason(child: Any, log: Path) -> None:
    assert dump_stacks(child, log, "No progress in training for 31 s.")
    text = log.read_text()
    assert "No progress in training for 31 s." in text
    assert text.count("in hang_here") == 2, text
    assert child.exited() is None, "asking harms nobody"


def test_one_that_is_stopped_is_not_waited_for(child: Any, log: Path) -> None:
    child.signal(signal.SIGSTOP)
    began = time.monotonic()
    assert not dump_stacks(child, log, "No progress.")
    assert time.monotonic() - began < ANSWER_SECONDS + 5.0
    assert "did not answer" in log.read_text()


def test_one_that_is_gone(child: Any, log: Path) -> None:
    child.process.kill()
    child.process.wait()
    assert not dump_stacks(child, log, "No progress.")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_a_disk_without_room_keeps_no_stall_alive(child: Any) -> None:
    assert not dump_stacks(child, Path("/dev/full"), "No progress.")
