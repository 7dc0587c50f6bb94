"""The parts of the checkpoint benchmark that take no time: what is counted, and what is said of it."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import checkpoint
from benchmarks.checkpoint_case import FULL, QUICK, STATES, Job, State
from benchmarks.checkpoint_overhead import Epoch, Overhead, balanced, epochs_of
from benchmarks.checkpoint_report import print_tables, summary
from benchmarks.checkpoint_rows import Row, rows_of, stall_ratio
from benchmarks.step_log import SAVED, STEP, Moment
from models.job_spec import JobSpec


def line(method: str, stall: float, durable: float) -> str:
    return json.dumps(
        {
            "method": method,
            "repetition": 0,
            "stall_seconds": stall,
            "durable_seconds": durable,
            "size_bytes": 10,
        }
    )


def test_the_first_repetition_of_a_method_stands_apart() -> None:
    rows = rows_of(
        "full",
        [line("perdure", 9.0, 90.0), line("torch_save", 1.0, 1.0)]
        + [line("perdure", stall, 10 * stall) for stall in (0.1, 0.3, 0.2)],
    )
    assert [row.method for row in rows] == ["perdure", "torch_save"]
    assert rows[0].to_json() == {
        "case": "full",
        "method": "perdure",
        "stall_ms": 200.0,
        "stall_p90_ms": 300.0,
        "stall_first_ms": 9000.0,
        "durable_ms": 2000.0,
        "durable_p90_ms": 3000.0,
        "durable_first_ms": 90_000.0,
        "is_durable": True,
        "bytes": 10,
        "repetitions": 3,
    }


def test_a_file_that_nobody_flushed_is_not_called_durable() -> None:
    durable = {row.method: row.to_json()["is_durable"] for row in rows()}
    assert durable == {"perdure": True, "torch_save": False, "torch_save_fsync": True}


def rows() -> list[Row]:
    stalls = {"perdure": (1.0, 0.03), "torch_save": (1.0, 0.08), "torch_save_fsync": (1.0, 0.12)}
    return [Row("full", method, values, values, 10) for method, values in stalls.items()]


def test_the_ratio_is_that_of_the_network_that_learns() -> None:
    head = [Row("head", method, (1.0, 1.0), (1.0, 1.0), 10) for method in ("perdure", "torch_save_fsync")]
    assert stall_ratio(rows() + head) == pytest.approx(0.25)


def moments(steps: dict[int, float], saved: dict[int, float]) -> list[Moment]:
    done = [Moment(at, "job", 1, STEP, number) for number, at in steps.items()]
    return done + [Moment(at, "job", 1, SAVED, number) for number, at in saved.items()]


def test_an_epoch_goes_from_last_step_to_last_step() -> None:
    steps = {1: 1.0, 2: 2.0, 3: 4.0, 4: 5.0, 5: 7.5, 6: 8.5, 7: 9.0}
    epochs = epochs_of(moments(steps, {4: 7.7, 6: 99.0}), steps_per_epoch=2)
    assert epochs == [
        Epoch(2, intervals=(2.0, 1.0), saving=0),
        # The checkpoint of epoch 2: recorded during the second step of this one.
        Epoch(3, intervals=(2.5, 1.0), saving=2),
    ]
    assert epochs[1].seconds == 3.5


def test_a_checkpoint_that_is_recorded_at_once_disturbs_one_step() -> None:
    steps = {1: 1.0, 2: 2.0, 3: 4.0, 4: 5.0}
    assert epochs_of(moments(steps, {2: 2.5}), steps_per_epoch=2)[0].saving == 1


def test_an_even_drift_is_no_overhead() -> None:
    epochs = [Epoch(number, (10.0 + number, 10.0), saving=number % 2) for number in range(4, 12)]
    overhead = Overhead(balanced(epochs), (0.1,), (0.5,))
    assert [epoch.number for epoch in overhead.epochs] == [4, 5, 6, 7, 8, 9, 10]
    assert overhead.percent == 0.0


def overhead() -> Overhead:
    without = [Epoch(number, (3.0, 1.0, 1.0), saving=0) for number in (4, 6, 8)]
    saving = [Epoch(number, (3.1, 1.2, 1.1), saving=2) for number in (5, 7)]
    return Overhead((*without, *saving), stalls=(0.1, 0.1), writes=(0.5, 0.5))


def test_the_overhead_is_counted_by_epochs_and_by_the_steps_of_a_checkpoint() -> None:
    found = overhead()
    assert found.percent == pytest.approx(8.0)
    assert found.interval() == (pytest.approx(8.0), pytest.approx(8.0))
    assert found.noise_percent == 0.0
    # Its third step was no longer disturbed, whatever it took.
    assert found.direct_seconds == pytest.approx(0.3)
    assert found.direct_percent == pytest.approx(6.0)
    assert found.direct_noise_percent == 0.0


def test_noise_is_what_epochs_without_a_checkpoint_differ_by() -> None:
    without = [Epoch(number, (seconds,), saving=0) for number, seconds in ((4, 10.0), (6, 11.0), (8, 10.0))]
    found = Overhead((*without, Epoch(5, (10.0,), saving=1)), (0.1,), (0.5,))
    assert found.noise_percent == pytest.approx(10.0)
    assert found.interval()[0] < found.interval()[1]


@pytest.mark.parametrize("job", [FULL, QUICK])
def test_both_jobs_save_at_every_second_epoch_only(job: Job) -> None:
    spec = JobSpec.model_validate(job.spec("images"))
    assert spec.fault_tolerance.checkpoint_every.epochs == 2
    assert spec.fault_tolerance.checkpoint_every.seconds == 86_400.0
    assert spec.model.freeze == "none"


def test_a_state_is_left_out_where_it_has_no_room(tmp_path: Path) -> None:
    huge = State("huge", "vit_l_16", "none", 1, 0, needs_memory_bytes=10**18)
    assert "of memory are free, 1000000000 needed" in str(
        checkpoint.reason_to_leave_out(huge, tmp_path, False)
    )
    wide = State("wide", "vit_l_16", "none", 1, 0, needs_disk_bytes=10**18)
    assert "of disk are free" in str(checkpoint.reason_to_leave_out(wide, tmp_path, False))
    assert checkpoint.reason_to_leave_out(STATES["large"], tmp_path, True) == "left out of a quick run"
    assert checkpoint.reason_to_leave_out(STATES["full"], tmp_path, True) is None


def test_the_summary_has_what_is_promised_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    left_out = {"head": "not today", "large": "left out of a quick run"}
    figures = json.loads(json.dumps(summary(QUICK, rows(), overhead(), left_out, True, 40.0)))
    assert figures["overhead_percent"] == pytest.approx(8.0)
    assert figures["stall_ratio"] == pytest.approx(0.25)
    assert figures["slowed_steps_ms"] == pytest.approx(200.0)
    assert {"case", "method", "stall_ms", "durable_ms", "bytes", "repetitions"} <= figures["rows"][0].keys()
    assert figures["repetitions"] == {"epochs_with_checkpoint": 2, "epochs_without": 3, "full": 1}
    assert figures["quick"] is True
    assert {"cores", "load_average", "seconds", "noise_percent", "direct_overhead_percent"} <= figures.keys()
    print_tables(figures)
    printed = capsys.readouterr().out
    assert "returned, not durable" in printed
    assert "ViT-L/16, all of it learning: not measured, left out of a quick run" in printed
    assert "it proves no target" in printed


def test_files_are_removed_when_it_is_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stopped(_options: SimpleNamespace, folder: Path) -> None:
        (folder / "half.pth").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "run", stopped)
    assert checkpoint.main(["--folder", str(tmp_path)]) == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--repetitions", "0"], ["--epochs", "5"]])
def test_too_little_to_compare_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        checkpoint.main(arguments)
