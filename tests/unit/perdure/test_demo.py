"""The demo's parts: what it trains on, when it kills, and what it calls equal."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from perdure import demo_data
from perdure.client import Perdure
from perdure.demo import Run, run_demo
from perdure.demo_data import DemoData, prepare
from perdure.demo_faults import Fault, FaultPlan, Kill, check_all_happened
from perdure.demo_report import report, verdict
from perdure.errors import LocalStackError
from perdure.terminal import console
from perdure.types import Attempt, EpochMetrics, Job

# -- data ----------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package that looks like the one with the photographs."""
    folder = tmp_path / "elpv"
    (folder / "data" / "images").mkdir(parents=True)
    lines = []
    for number in range(60):
        name = f"images/cell{number:04d}.png"
        (folder / "data" / name).write_bytes(f"{number}".encode())
        probability = ("0.0", "1.0", "0.3333333333333333")[number % 3]
        lines.append(f"{name}  {probability}                 {'mono' if number % 2 else 'poly'}")
    (folder / "data" / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_photographs_are_split_by_their_names_alone(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        demo_data, "package_folder", lambda name: package if name == demo_data.PHOTOGRAPHS else None
    )
    first = prepare(tmp_path / "a", tmp_path / "torch", quick=False)
    second = prepare(tmp_path / "b", tmp_path / "torch", quick=False)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert first == second
    assert first.classes == ["mono-defect", "mono-ok", "poly-defect", "poly-ok"]
    assert first.num_train + first.num_val == 40  # the uncertain third is left out
    assert not first.has_weights
    assert first.spec(quick=False)["model"]["weights"] is None


def test_weights_go_where_torchvision_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "fdet"
    (package / "weights").mkdir(parents=True)
    (package / "weights" / demo_data.WEIGHTS_FILE).write_bytes(b"weights")
    monkeypatch.setattr(
        demo_data, "package_folder", lambda name: package if name == demo_data.WEIGHTS else None
    )
    data = prepare(tmp_path / "data", tmp_path / "torch", quick=True)
    assert data.has_weights
    assert files(tmp_path / "torch") == [f"hub/checkpoints/{demo_data.WEIGHTS_FILE}"]


def test_without_packages_it_draws_and_knows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_data, "package_folder", lambda name: None)
    data = prepare(tmp_path / "data", tmp_path / "torch", quick=True)
    assert (data.has_photographs, data.has_weights) == (False, False)
    assert data.classes == ["circle", "cross", "square", "triangle"]
    assert data.num_train == 4 * demo_data.QUICK_TRAIN
    before = {name: (tmp_path / "data" / name).stat().st_mtime_ns for name in files(tmp_path / "data")}
    prepare(tmp_path / "data", tmp_path / "torch", quick=True)  # the second time nothing is done
    assert before == {name: (tmp_path / "data" / name).stat().st_mtime_ns for name in before}


def test_a_preparation_that_broke_off_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_data, "package_folder", lambda name: None)

    def full(target: Path, *, quick: bool) -> None:
        target.mkdir()
        raise OSError("No space left on device")

    monkeypatch.setattr(demo_data, "_draw", full)
    with pytest.raises(OSError, match="space"):
        prepare(tmp_path / "data", tmp_path / "torch", quick=True)
    assert list((tmp_path / "data").iterdir()) == []


# -- faults --------------------------------------------------------------------------------------


def job(step: int, *, phase: str = "training", status: str = "running", attempt: int = 1) -> Job:
    progress = {"phase": phase, "epochs_done": step // 20, "epochs": 5, "step": step, "steps": 100}
    return Job.model_validate({"id": "j", "status": status, "attempt": attempt, "progress": progress})


@pytest.mark.parametrize(
    ("state", "committed", "is_due"),
    [
        (job(30), 20, True),
        (job(19), 0, False),  # too early in the run
        (job(42), 40, False),  # too little to lose
        (job(39), 20, False),  # the next checkpoint is near
        (job(30, phase="validation"), 20, False),
        (job(30, status="queued"), 20, False),
    ],
)
def test_a_kill_is_due_in_the_middle_of_unsaved_work(state: Job, committed: int, is_due: bool) -> None:
    assert Fault("trainer", after_epochs=1).is_due(state, committed) == is_due


def plan_of(client: Perdure, server: Any, committed: int, *faults: Fault) -> FaultPlan:
    server.routes["GET /jobs/j/checkpoints"] = server.page([{"id": "c", "step": committed}])
    return FaultPlan(client, os.getpid(), list(faults), clock=lambda: 1000.0)


def attempt(number: int, pid: int, **fields: Any) -> Attempt:
    row = {"attempt": number, "trainer_pid": pid, "worker_pid": pid, "first_step_at": "2025-01-01T00:00:01Z"}
    return Attempt.model_validate({**row, **fields})


def sleeper() -> Any:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)


def test_each_fault_has_its_turn_after_the_recovery_from_the_one_before(client: Perdure, server: Any) -> None:
    faults = [Fault("trainer", after_epochs=1), Fault("worker", after_epochs=3)]
    plan = plan_of(client, server, 20, *faults)
    first, second = sleeper(), sleeper()
    kill = plan.after_poll(job(30), [attempt(1, first.pid)])
    assert first.wait(10) == -9
    assert kill is not None
    assert (kill.step, kill.uncommitted_steps) == (30, 10)

    server.routes["GET /jobs/j/checkpoints"] = server.page([{"id": "c", "step": 60}])
    assert plan.after_poll(job(70), [attempt(1, second.pid)]) is None  # not recovered yet
    assert plan.after_poll(job(70), [attempt(2, second.pid, first_step_at=None)]) is None
    assert plan.after_poll(job(70), [attempt(2, second.pid)]) is not None
    assert second.wait(10) == -9
    check_all_happened(plan)
    rows = [attempt(1, 0), attempt(2, 0, first_step_at="1970-01-01T00:16:40.75Z")]
    assert plan.recovery_seconds(kill, rows) == 0.75


def test_a_process_that_is_not_ours_is_never_hit(client: Perdure, server: Any) -> None:
    plan = plan_of(client, server, 20, Fault("trainer", after_epochs=1))
    plan.service_pid = 2**22 + 1
    process = sleeper()
    assert plan.after_poll(job(30), [attempt(1, process.pid)]) is None
    assert process.poll() is None
    process.kill()
    process.wait()
    with pytest.raises(LocalStackError, match="trainer could be killed"):
        check_all_happened(plan)


# -- verdict -------------------------------------------------------------------------------------

DATA = DemoData("solar-cells", 10, 5, ["a", "b"], has_photographs=True, has_weights=True)


def run_of(digest: str, *, kills: int, val_loss: float = 0.5) -> Run:
    fault = Fault("trainer", after_epochs=1)
    return Run(
        job=Job(id="job_1", status="succeeded", weights_sha256=digest),
        attempts=[attempt(1, 1), attempt(2, 2, steps_redone=7)][: kills + 1],
        epochs=[
            EpochMetrics(epoch=1, step=9, val_loss=val_loss, val_accuracy=0.8, duration_seconds=kills + 1.0)
        ],
        kills=[Kill(fault, 1, [1], 30, 10, 0.0)] * kills,
        recovery_seconds=[0.5] * kills,
        file=Path("x.pth"),
    )


def test_equal_means_weights_metrics_and_downloads() -> None:
    killed, quiet = run_of("a" * 64, kills=2), run_of("a" * 64, kills=0)
    proof = verdict(killed, quiet, ["a" * 64] * 2)
    assert proof.is_equal
    assert "EQUAL" in proof.sentence
    body = json.loads(json.dumps(proof.as_json(killed, quiet, ["a" * 64] * 2, quick=True, data=DATA)))
    assert body["equal"] is True
    assert body["runs"]["killed"]["steps_redone"] == 7


@pytest.mark.parametrize(
    ("quiet", "kills", "recomputed", "words"),
    [
        (run_of("b" * 64, kills=0), 2, ["a" * 64, "b" * 64], "the weights differ"),
        (run_of("a" * 64, kills=0, val_loss=0.25), 2, ["a" * 64] * 2, "the metrics differ"),
        (run_of("a" * 64, kills=0), 2, ["c" * 64] * 2, "does not hash"),
        (run_of("a" * 64, kills=0), 0, ["a" * 64] * 2, "no kill happened"),
    ],
)
def test_anything_else_is_different(quiet: Run, kills: int, recomputed: list[str], words: str) -> None:
    proof = verdict(run_of("a" * 64, kills=kills), quiet, recomputed)
    assert not proof.is_equal
    assert "DIFFERENT" in proof.sentence
    assert words in proof.sentence


def test_the_report_fits_a_terminal_of_100_columns() -> None:
    killed, quiet = run_of("a" * 64, kills=2), run_of("b" * 64, kills=0)
    hashes = ["c" * 64, "d" * 64]
    out = console()
    out.width = 100
    with out.capture() as capture:
        out.print(report(killed, quiet, hashes, verdict(killed, quiet, hashes)))
    assert all(len(line) <= 100 for line in capture.get().splitlines())


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LocalStackError, match="choose another --home"):
        run_demo(tmp_path / "file/demo", quick=True, as_json=False)
