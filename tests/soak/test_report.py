"""The report counts what was hit, measures goodput under faults, and shows what surrounds a broken rule."""

from pathlib import Path
from typing import Any

from tests.soak.checker import Finding, Verdict
from tests.soak.report import Report

ENDED_UNIX = 1000.0


def told(kind: str, **data: Any) -> dict[str, Any]:
    return {"at": 0.0, "unix": ENDED_UNIX, "kind": kind, **data}


def finished(job_id: str, goodput: float, seconds: float, *, before_the_end: float = 1.0) -> dict[str, Any]:
    unix = ENDED_UNIX - before_the_end
    return told("finished", job_id=job_id, goodput=goodput, seconds=seconds, finished_unix=unix)


HISTORY = [
    told("soak", seed=7, seconds=1800, every_seconds=10, load="medium", load_average=[0.5, 0, 0], cores=2),
    told("faults_begin") | {"at": 30.0},
    told("submitted", job_id="job_1"),
    told("submitted", job_id="job_2"),
    told("submitted", job_id="job_3"),
    told("fault", name="kill_trainer", pid=1),
    told("fault", name="kill_trainer", nothing=True),
    told("fault", name="stop_worker", pid=2),
    told("thawed", superseded=True),
    told("thawed", superseded=False),
    told("faults_end", early=False, load_average=[6.5, 0, 0]) | {"at": 1830.5},
    told("audited", writes=1234),
    finished("job_0", 1.0, 100),  # a reference
    finished("job_1", 0.9, 30),
    finished("job_2", 0.8, 10),
    finished("job_3", 1.0, 1000, before_the_end=-5.0),  # in peace, for the most part
]
SOUND = Verdict(num_jobs=3, num_finished=3, num_identical=3, num_attempts=5, num_recoveries=2)


def test_of_a_sound_soak() -> None:
    report = Report(Path("home"), HISTORY, SOUND, {}, 2000.0)
    assert report.is_good
    figures = report.figures
    assert (figures["faults"], figures["faults_that_found_nothing"], figures["kills_survived"]) == (2, 1, 1)
    assert (figures["zombies"], figures["goodput"], figures["goodput_jobs"]) == (1, 0.875, 2)
    for said in (
        "seed 7",
        "3 of 3 finished jobs",
        "of 1234 writes",
        "87.5 %",
        "kill_trainer",
        "Every rule held.",
    ):
        assert said in report.text


def test_of_a_broken_rule() -> None:
    findings = [Finding("no_zombie_writes", "job_1", f"attempt 1 wrote step {step}") for step in range(9)]
    verdict = Verdict(findings=findings, num_jobs=3, num_finished=3)
    report = Report(Path("home"), HISTORY, verdict, {"job_1": ["12:00  fault  freeze_worker"]}, 2000.0)
    assert not report.is_good
    assert report.figures["zombie_writes"] == 9
    assert "BROKEN no_zombie_writes job_1: attempt 1 wrote step 2\n" in report.text
    assert "BROKEN no_zombie_writes job_1: and 6 more of that kind\n" in report.text
    assert "12:00  fault  freeze_worker" in report.text


def test_where_no_job_finished() -> None:
    begun_and_ended = [
        entry for entry in HISTORY if entry["kind"] in {"soak", "faults_begin", "faults_end", "audited"}
    ]
    report = Report(Path("home"), begun_and_ended, Verdict(), {}, 2000.0)
    assert "goodput                unknown" in report.text


def test_a_refusal_that_no_fault_explains() -> None:
    report = Report(Path("home"), [*HISTORY, told("refused", status=500, body="?")], SOUND, {}, 2000.0)
    assert not report.is_good
    assert "REFUSED" in report.text
