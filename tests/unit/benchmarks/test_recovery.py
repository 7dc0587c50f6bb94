"""The parts of the recovery benchmark that have no processes: what is counted, and what is said of it."""

import json
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import recovery
from benchmarks.figures import distribution
from benchmarks.killing import Killer, Recovery
from benchmarks.processes import NotInTime
from benchmarks.recovery import Results, interval
from benchmarks.recovery_case import FULL, QUICK
from benchmarks.step_log import SAVED, STEP, StepLog, StepLogWriter
from models.job_spec import JobSpec


def test_percentiles_are_values_that_were_measured() -> None:
    hundred = distribution([float(number) for number in range(100, 0, -1)])
    assert [hundred.percentile(p) for p in (50, 90, 99, 100)] == [50.0, 90.0, 99.0, 100.0]
    assert (hundred.least, hundred.most) == (1.0, 100.0)
    few = distribution([3.0, 1.0, 2.0])
    assert (few.percentile(50), few.percentile(99)) == (2.0, 3.0)
    assert distribution([0.5]).percentile(99) == 0.5


def test_nothing_measured_is_no_distribution() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        distribution([])


def test_a_histogram_shows_every_value() -> None:
    line = distribution([1.0] * 50 + [2.0]).histogram(columns=10)
    assert line == "█" + " " * 8 + "▁"
    assert distribution([1.0, 1.0]).histogram(columns=3) == "█  "


def test_a_torn_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "moments.log"
    log = StepLog(path)
    assert log.read() == []
    path.write_bytes(b"1.5 job_a 1 step 7\n2.5 job_a 1 st")
    assert [(m.at, m.job, m.run, m.event, m.number) for m in log.read()] == [(1.5, "job_a", 1, STEP, 7)]
    with path.open("ab") as file:
        file.write(b"ep 8\n")
    assert [moment.number for moment in log.read()] == [7, 8]


def test_a_moment_that_does_not_come_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(NotInTime, match="not within 0 s: a checkpoint"):
        StepLog(tmp_path / "none").first(lambda _: True, after=0, seconds=0.01, what="a checkpoint")


def write(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def killer_of(path: Path, kill: object, **changes: object) -> Killer:
    values = {"log": StepLog(path), "job": "job", "kill": kill, "random": random.Random(0)}
    return Killer(**{**values, "epoch_seconds": 0.0, **changes})  # type: ignore[arg-type]


def test_a_recovery_counts_from_the_kill_to_the_next_step_and_to_the_last_lost_one(tmp_path: Path) -> None:
    path = tmp_path / "moments.log"
    write(path, "1 job 1 step 4", "2 job 1 saved 4", "3 job 1 step 5", "4 job 1 step 6", "4 other 9 step 99")

    def kill() -> float:
        write(path, "10.1 job 1 step 7")  # its last word, heard after the kill
        write(path, "10.2 other 10 step 100", "11 job 2 step 5", "12 job 2 step 6", "13.5 job 2 step 7")
        return 10.0

    killer = killer_of(path, kill)
    assert killer.strike() == Recovery(next_step_seconds=1.0, caught_up_seconds=3.5, steps_lost=3)
    # The next kill waits for a checkpoint after this recovery, and not for the one before it.
    write(path, "15 job 2 saved 8")
    killer.kill = lambda: write(path, "21 job 3 step 9") or 20.0  # type: ignore[func-returns-value]
    assert killer.strike() == Recovery(next_step_seconds=1.0, caught_up_seconds=1.0, steps_lost=0)


def test_no_kill_falls_where_a_job_could_be_over(tmp_path: Path) -> None:
    path = tmp_path / "moments.log"
    write(path, "1 job 1 saved 12")
    killer = killer_of(path, lambda: pytest.fail("killed"), last_checkpoint=12)
    assert killer.strike() is None


def test_intervals_are_those_of_one_job(tmp_path: Path) -> None:
    path = tmp_path / "moments.log"
    writer = StepLogWriter(path)
    writer.note("other", 1, SAVED, 1)
    write(
        path, "1 job 1 saved 6", "3 job 1 saved 12", "4 job 1 step 13", "6 job 1 saved 18", "8 job 1 saved 24"
    )
    assert interval(StepLog(path), "job", SAVED) == 2.0


@pytest.mark.parametrize("case", [FULL, QUICK])
def test_both_cases_are_jobs(case: object) -> None:
    spec = JobSpec.model_validate(case.spec("images"))  # type: ignore[attr-defined]
    assert spec.fault_tolerance.max_failures == 1000
    assert spec.model.freeze == "none"


def results(*, hashes: list[str], seconds: list[float]) -> Results:
    return Results([Recovery(value, 2 * value, 1) for value in seconds], hashes)


def summary_of(trainer_hashes: list[str]) -> dict[str, object]:
    measured = {
        "trainer_kill": results(hashes=trainer_hashes, seconds=[0.5, 0.7, 0.6]),
        "worker_kill": results(hashes=["same"], seconds=[2.0]),
        "torchrun": results(hashes=[], seconds=[3.0, 3.0]),
    }
    benchmark = SimpleNamespace(
        results=measured, case=QUICK, untouched_hash="same", seed=0, step_seconds=0.2, epoch_seconds=1.0
    )
    figures = recovery.summary(benchmark, True, 40.0)  # type: ignore[arg-type]
    recovery.print_table(benchmark, figures)  # type: ignore[arg-type]
    return json.loads(json.dumps(figures))


def test_the_summary_has_what_is_promised_of_it() -> None:
    figures = summary_of(["same", "same"])
    for kind, kills in (("trainer_kill", 3), ("worker_kill", 1)):
        assert figures[kind]["kills"] == kills
        assert figures[kind]["identical"] is True
        assert {"p50_seconds", "p99_seconds"} <= figures[kind].keys()
    assert figures["torchrun_p50_seconds"] == 3.0
    assert figures["ratio_to_torchrun"] == 0.2
    assert figures["repetitions"] == {"trainer_kill": 3, "worker_kill": 1, "torchrun": 2}
    assert figures["quick"] is True


def test_one_job_with_other_weights_is_enough_to_say_so() -> None:
    figures = summary_of(["same", "different"])
    assert figures["trainer_kill"]["identical"] is False
    assert (figures["trainer_kill"]["jobs"], figures["trainer_kill"]["jobs_identical"]) == (2, 1)
