"""Real processes under faults of every kind, and a checker that looks at all that is left."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.soak.run import Soak, describe, run


def soak(tmp_path: Path, seconds: float, seed: int, record_property: Any) -> None:
    report = run(Soak(tmp_path / "soak", seconds=seconds, fault_every=4.0, seed=seed))
    assert not report["findings"], describe(report)
    assert report["faults"] >= seconds / 10
    assert report["jobs"] >= 3
    assert report["refused"] == [], json.dumps(report["refused"])
    record_property("soak", describe(report))
    shutil.rmtree(tmp_path / "soak")


@pytest.mark.timeout(400)
def test_a_minute_of_chaos(tmp_path: Path, record_property: Any) -> None:
    soak(tmp_path, seconds=40, seed=17, record_property=record_property)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_five_minutes_of_chaos(tmp_path: Path, record_property: Any) -> None:
    soak(tmp_path, seconds=300, seed=18, record_property=record_property)
