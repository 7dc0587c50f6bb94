"""Real processes under faults of every kind, and a checker that looks at all that is left."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.soak.run import Soak, run


def soak(tmp_path: Path, record_property: Any, **how: Any) -> None:
    report = run(Soak(tmp_path / "soak", **how))
    assert report.is_good, f"{report.text}\nEverything is in {report.home}"
    assert report.figures["faults"] > 0
    assert report.figures["jobs"] > 0
    record_property("measured", report.text)
    shutil.rmtree(tmp_path / "soak")


@pytest.mark.timeout(900)
def test_a_minute_of_chaos(tmp_path: Path, record_property: Any) -> None:
    soak(tmp_path, record_property, seconds=60, every_seconds=3, seed=17)


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_five_minutes_of_chaos(tmp_path: Path, record_property: Any) -> None:
    soak(tmp_path, record_property, seconds=300, every_seconds=5, seed=18)
