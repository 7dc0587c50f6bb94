"""A seed decides what comes when, every kind comes, and a store that is full is full for trainers alone."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.servers.guard import die_with_tests
from tests.soak import store_faults
from tests.soak.faults import FAULTS, choose
from tests.soak.schedule import Schedule

#: A worker and what it starts: each writes a file of 100 kB whenever it is told to.
WRITER = """
import subprocess, sys
path, *below = sys.argv[1:]
child = subprocess.Popen([sys.executable, __file__, *below], stdin=subprocess.PIPE) if below else None
for line in sys.stdin:
    with open(path, "wb", buffering=0) as file:
        said = "took" if file.write(bytes(100_000)) == 100_000 else "short"
    if child:
        child.stdin.write(line.encode())
        child.stdin.flush()
    print(path.rpartition("/")[2], said, flush=True)
"""


def test_a_seed_is_a_schedule() -> None:
    first, second, other = (Schedule(seed, choose(["all"]), 5.0) for seed in (1, 1, 2))
    strikes = [first.next() for _ in range(100)]
    assert strikes == [second.next() for _ in range(100)]
    assert strikes != [other.next() for _ in range(100)]


def test_every_kind_comes_before_any_comes_again() -> None:
    schedule = Schedule(3, choose(["all"]), 5.0)
    assert {schedule.next().fault for _ in FAULTS} == set(FAULTS)


def test_faults_are_chosen_by_name_or_as_a_group() -> None:
    assert set(choose(["all"])) == set(FAULTS)
    assert all(name.startswith("kill_") for name in choose(["kill"]))
    assert list(choose(["kill_api", "flush_broker"])) == ["kill_api", "flush_broker"]
    with pytest.raises(ValueError, match="flood"):
        choose(["flood"])


def test_a_full_store_refuses_what_a_worker_starts_until_there_is_room(tmp_path: Path) -> None:
    script = tmp_path / "writer.py"
    script.write_text(WRITER)
    with subprocess.Popen(
        [sys.executable, script, tmp_path / "worker", tmp_path / "trainer"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_tests(),
    ) as worker:  # fmt: skip
        fleet: Any = SimpleNamespace(workers=[worker])

        def write() -> set[str]:
            assert worker.stdin is not None and worker.stdout is not None
            worker.stdin.write("now\n")
            worker.stdin.flush()
            return {worker.stdout.readline().strip() for _ in range(2)}

        assert write() == {"worker took", "trainer took"}
        store_faults.fill(fleet, 0)
        assert write() == {"worker took", "trainer short"}
        store_faults.make_room(fleet)
        assert write() == {"worker took", "trainer took"}
        assert worker.stdin is not None
        worker.stdin.close()
