"""What the service benchmark says of its measurements, and that it asks only for what there is."""

import json
import random

import pytest

from benchmarks import service
from benchmarks.figures import distribution
from benchmarks.service import FULL, QUICK, Case, Results
from benchmarks.service_data import _FILLED, _QUEUED
from benchmarks.service_requests import READS, Reads, job_id
from models.tables import jobs


def results() -> Results:
    reads = Reads(few=distribution([0.008] * 98 + [0.010] * 2), many=distribution([0.012] * 98 + [0.015] * 2))
    claims = {"cuda": distribution([0.004, 0.006]), "cpu": distribution([0.003, 0.0085])}
    return Results(214.04, 300, dict.fromkeys(READS, reads), claims, {"api": 0.00614, "clients": 0.0004})


def test_the_summary_has_what_is_promised_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    figures = json.loads(json.dumps(service.summary(results(), QUICK, True, 40.0)))
    assert figures["quick"] is True
    assert figures["post_per_second"] == 214.0
    assert figures["post_cpu_ms"] == {"api": 6.14, "clients": 0.4}
    assert figures["p99_ratio"] == {"list": 1.5, "show": 1.5, "metrics": 1.5}
    assert figures["claim_p99_ms"] == 8.5, "the slower of the two"
    assert figures["repetitions"]["claim_cpu"] == 2 and figures["repetitions"]["list"] == 100
    service.print_table(figures)
    assert "214 a second" in capsys.readouterr().out


def test_the_cases_are_those_of_the_targets() -> None:
    assert (FULL.many_jobs, FULL.many_jobs * FULL.rows_per_job) == (100_000, 10_000_000)
    assert (QUICK.many_jobs, QUICK.many_jobs * QUICK.rows_per_job) == (10_000, 200_000)
    for case in (FULL, QUICK):
        assert isinstance(case, Case) and case.few_jobs == 1_000


def test_what_is_filled_is_there_and_can_be_asked_for() -> None:
    assert {*_FILLED, *_QUEUED} <= {column.name for column in jobs.c}
    assert job_id(255) == "job_" + 30 * "0" + "ff"
    for paths in READS.values():
        for path in paths:
            assert path(job_id(1), random.Random(0)).startswith("/jobs")
