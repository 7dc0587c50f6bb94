"""What tests of faults share: trainers without a service around them, results of jobs left alone."""

import os
from pathlib import Path

import pytest

from tests.faults import usual_job
from tests.faults.sabotage import Pace
from tests.faults.untouched import Untouched, UntouchedRuns
from tests.servers.valkey import ValkeyServer
from tests.unit.training.conftest import data_root, forker, new_job, painted, start

__all__ = ["data_root", "forker", "new_job", "painted", "start"]


@pytest.fixture(scope="session")
def untouched(tmp_path_factory: pytest.TempPathFactory, valkey: ValkeyServer) -> UntouchedRuns:
    """``untouched(spec, per_class=50)``: what such a job comes to."""
    own = tmp_path_factory.getbasetemp()
    common = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    return UntouchedRuns(lambda: tmp_path_factory.mktemp("untouched"), valkey.url, common)


@pytest.fixture
def quiet(untouched: UntouchedRuns) -> Untouched:
    """What the usual job comes to."""
    return untouched(usual_job.SPEC, per_class=usual_job.PER_CLASS)


@pytest.fixture
def pace(tmp_path: Path) -> Pace:
    """Of the trainers of whatever is started with its environment."""
    folder = tmp_path / "pace"
    folder.mkdir()
    return Pace(folder)
