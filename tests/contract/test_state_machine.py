"""Any history of users, workers and faults: the database says what a model says, and all ends well (I1–I9).

The quick version takes the same histories each time. The long one draws new ones, and prints how to get one
again that failed.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import invariant, run_state_machine_as_test
from sqlalchemy import event

from models.database import Database
from tests.contract.invariants import check_invariants
from tests.contract.machine.comparing import expect_equal
from tests.contract.machine.faults import Faults
from tests.contract.machine.hands import Tripwire

#: Whoever only asks whether there is a failure needs no smallest one.
SHRINKS = os.environ.get("PERDURE_TEST_SHRINKS", "yes") == "yes"
QUICK = settings(
    derandomize=True,
    database=None,
    max_examples=int(os.environ.get("PERDURE_TEST_HISTORIES", "15")),
    stateful_step_count=40,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink] if SHRINKS else [Phase.generate],
    report_multiple_bugs=False,
)
LONG = settings(QUICK, derandomize=False, max_examples=600)


class Histories(Faults):
    @invariant()
    def holds(self) -> None:
        check_invariants(self.db)
        expect_equal(self.db, self.jobs)

    @invariant()
    def has_its_files(self) -> None:
        """Whatever is recorded and not let go can be resumed from (I2, I8)."""
        for job in self.jobs:
            missing = {c.path for c in job.checkpoints if c.status == "committed"} - self.store.files
            assert not missing, missing

    def teardown(self) -> None:
        self.recover()
        self.holds()


@pytest.fixture
def machine(db: Database) -> Iterator[type[Histories]]:
    with quick_commits(db):
        tripwire = Tripwire(db)
        yield type("Machine", (Histories,), {"db": db, "tripwire": tripwire})
        tripwire.remove()


@contextlib.contextmanager
def quick_commits(db: Database) -> Iterator[None]:
    """No power is cut here, so that nothing need be flushed for it; that took most of the time."""

    def configure(connection: Any, _: object) -> None:
        connection.execute("PRAGMA synchronous=OFF" if db.is_sqlite else "SET synchronous_commit=off")

    db.close()
    event.listen(db.engine, "connect", configure)
    yield
    event.remove(db.engine, "connect", configure)
    db.close()


@pytest.mark.parametrize(
    "effort",
    [
        pytest.param(QUICK, id="quick"),
        pytest.param(LONG, id="long", marks=[pytest.mark.hours, pytest.mark.timeout(3600)]),
    ],
)
def test_any_history(machine: type[Histories], effort: settings) -> None:
    run_state_machine_as_test(machine, settings=effort)
