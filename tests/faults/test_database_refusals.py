"""Fault 16: deadlocks and serialization failures. Each write is tried again, and has its effect once."""

from typing import Any

import pytest

from tests.faults.partitions import await_commit
from tests.faults.sabotage import Pace
from tests.faults.untouched import Untouched
from tests.faults.usual_job import EPOCHS, PER_CLASS, SPEC
from tests.images import draw_dataset
from tests.results import event_types
from tests.servers.waiting import until
from tests.stack import Stack

#: One update in five of any job is refused, by turns as a serialization failure and as a deadlock. A sequence
#: counts on when a transaction is rolled back, so that one of up to four updates passes when tried again.
REFUSE = """
CREATE SEQUENCE writes;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE number bigint := nextval('writes');
BEGIN
    IF number % 10 = 1 THEN RAISE EXCEPTION 'forced' USING ERRCODE = '40001'; END IF;
    IF number % 10 = 6 THEN RAISE EXCEPTION 'forced' USING ERRCODE = '40P01'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION refuse();
"""

#: A checkpoint within an epoch: never the best, so that the very next commit prunes it.
HOLD = """
SELECT id FROM checkpoints WHERE job_id = %s AND status = 'committed' AND val_loss IS NULL FOR UPDATE
"""


def name_of(stack: Stack) -> str:
    return str(stack.db.engine.url.database)


@pytest.mark.long
def test_one_update_in_five_is_refused(make_stack: Any, postgres: Any, quiet: Untouched) -> None:
    with make_stack("postgresql") as stack:
        draw_dataset(stack.home / "data/shapes", per_class=PER_CLASS)
        stack.start_api()
        job_id = stack.submit(SPEC)  # a user whose write is refused is told to try again
        postgres.execute(REFUSE, database=name_of(stack))
        worker = stack.start_worker()
        done = stack.await_status(job_id, "succeeded")
        [(num_writes,)] = postgres.execute("SELECT last_value FROM writes", database=name_of(stack))
        assert num_writes / 5 > 4, "hardly anything was refused"
        assert "database.away" in stack.log_of(worker)
        assert done["attempt"] == 1
        quiet.check(stack, job_id)
        types = event_types(stack, job_id)
        assert types.count("claimed") == types.count("succeeded") == 1
        recorded = len(stack.rows(f"/jobs/{job_id}/checkpoints"))
        assert types.count("checkpoint.committed") == recorded >= EPOCHS


@pytest.mark.long
def test_a_deadlock_with_a_commit(make_stack: Any, postgres: Any, pace: Pace, quiet: Untouched) -> None:
    """Somebody holds the checkpoint that a commit prunes, and then wants the job that the commit holds."""
    with make_stack("postgresql", **pace.environment) as stack:
        draw_dataset(stack.home / "data/shapes", per_class=PER_CLASS)
        # Of two that wait for each other, the service's must be the one that looks.
        postgres.execute(f"ALTER DATABASE {name_of(stack)} SET deadlock_timeout = '3s'")
        stack.start_api()
        stack.start_worker()
        pace.dawdle()
        job_id = stack.submit(
            SPEC | {"fault_tolerance": {"keep_last": 1, "checkpoint_every": {"seconds": 1}}}
        )
        await_commit(stack, job_id)
        with postgres.connect(name_of(stack)) as outside, outside.transaction():
            outside.execute("SET LOCAL deadlock_timeout = '60s'")
            until(lambda: outside.execute(HOLD, [job_id]).fetchall(), seconds=60, what="a checkpoint to hold")
            pace.hurry()
            blocked = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s"
            until(lambda: postgres.execute(blocked, name_of(stack)), seconds=30, what="a commit to wait")
            outside.execute("UPDATE jobs SET priority = priority WHERE id = %s", [job_id])
        done = stack.await_status(job_id, "succeeded")
        deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = %s"
        found = until(lambda: postgres.execute(deadlocks, name_of(stack))[0][0], what="its being counted")
        assert found  # the next try may meet it again
        assert done["attempt"] == 1
        quiet.check(stack, job_id)
