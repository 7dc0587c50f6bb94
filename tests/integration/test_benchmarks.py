"""Each benchmark does what its page says: the quick case ends, and its last line has the promised keys."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
KEYS = {
    "recovery": {"trainer_kill", "worker_kill", "torchrun", "torchrun_p50_seconds", "ratio_to_torchrun"},
    "checkpoint": {"overhead_percent", "stall_ratio", "rows", "epoch_seconds"},
    "service": {"post_per_second", "p99_ratio", "claim_p99_ms"},
}


@pytest.mark.long
@pytest.mark.timeout(900)  # within a minute, where nothing else runs
@pytest.mark.parametrize("name", ["recovery", "service", pytest.param("checkpoint", marks=pytest.mark.hours)])
def test_the_quick_case(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert figures["quick"] is True
    assert not KEYS[name] - figures.keys()
