"""The checkers: tests by name, each in a process of its own, told apart by whether they raise an alarm."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

_SCHEDULES = "tests/simulation/test_simulation.py::test_every_schedule_keeps_every_guarantee"

CHECKERS: dict[str, list[str]] = {
    "state machine": ["tests/contract/test_state_machine.py", "-k", "sqlite"],
    "simulation": [f"{_SCHEDULES}[{first}-{first + 49}]" for first in range(0, 200, 50)],
    "best": ["tests/contract/test_best.py", "-k", "sqlite"],
    "checkpoints": ["tests/contract/test_checkpoints.py", "-k", "sqlite"],
    "claims": ["tests/contract/test_claims.py", "-k", "sqlite"],
    "endings": ["tests/contract/test_endings.py", "-k", "sqlite"],
    "events": ["tests/contract/test_events.py", "-k", "sqlite"],
    "expiry": ["tests/contract/test_expiry.py", "-k", "sqlite"],
    "expiry on PostgreSQL": ["tests/contract/test_expiry.py", "-k", "postgresql and clock"],
    "fencing": ["tests/contract/test_fencing.py", "-k", "sqlite"],
    "progress": ["tests/contract/test_progress.py", "-k", "sqlite"],
    "requests": ["tests/contract/test_requests.py", "-k", "sqlite"],
    "idempotency": ["tests/contract/test_submission.py", "-k", "sqlite and key"],
    "submission": ["tests/unit/api/test_submission.py"],
    "lease": ["tests/unit/worker/test_lease.py"],
    "supervision": ["tests/unit/worker/test_supervision.py"],
    "sweep": ["tests/unit/worker/test_sweep.py"],
    "optimization": ["tests/unit/training/test_optimization.py"],
    "cadence": ["tests/unit/training/test_cadence.py"],
    "randomness": ["tests/unit/training/test_randomness.py"],
    "early stop": ["tests/unit/training/test_extending.py", "-k", "early_stopping"],
    "silence": ["tests/unit/training/test_write_order.py", "-k", "once_the_job_may_be_lost"],
    "resume": ["tests/unit/training/test_resume.py", "-k", "within_an_epoch or damaged"],
    "storage": ["tests/contract/test_storage_local.py", "-k", "made_durable_in_order"],
    "power loss": ["tests/faults/test_power_loss.py"],
}

#: As many histories of the state machine as it takes, and none of them made shorter.
_SEARCHING = {"PERDURE_TEST_HISTORIES": "60", "PERDURE_TEST_SHRINKS": "no"}

_TESTS_FAILED = 1
#: A bug that no longer fits the code around it is noticed by anybody, and proves nothing.
_MISFIT = re.compile(
    r"^E .*\b(Attribute|Import|Name|NotImplemented|Type|UnboundLocal)Error\b.*", re.MULTILINE
)


def alarm(checker: str, root: Path) -> bool:
    """Whether it fails on the code there. Skips where this machine cannot run it."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-m",
        "not long and not hours",
    ]
    environment = os.environ | {"PYTHONPATH": str(root), **_SEARCHING}
    environment.pop("PERDURE_TEST_SKIPS", None)  # a checker that cannot be run here has seen nothing
    done = subprocess.run(
        [*command, *CHECKERS[checker]],
        cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    print(done.stdout[-6000:])  # shown where the answer is not the one that was expected
    summary = done.stdout.strip().rpartition("\n")[2]
    if done.returncode == 0 and "passed" not in summary:
        pytest.skip(f"{checker}: {summary}")
    assert done.returncode in {0, _TESTS_FAILED}, f"{checker} cannot be run"
    misfit = _MISFIT.search(done.stdout)
    assert misfit is None, f"{checker} did not see a broken guarantee, but code that cannot run: {misfit[0]}"
    return done.returncode == _TESTS_FAILED
