"""Fault 16: deadlocks and serialization failures. Each write is tried again, and has its effect once."""

from typing import Any

from tests.faults.partitions import await_commit
from tests.images import draw_dataset
from tests.results import event_types, metrics_of
from tests.servers.waiting import until
from tests.specs import full_fine_tune
from tests.stack import Stack

EPOCHS = 6

#: One write in four to any job is refused, by turns as a serialization failure and as a deadlock.
REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF random() < 0.125 THEN RAISE EXCEPTION 'forced' USING ERRCODE = '40001'; END IF;
    IF random() < 0.125 THEN RAISE EXCEPTION 'forced' USING ERRCODE = '40P01'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION refuse();
"""


def name_of(stack: Stack) -> str:
    return str(stack.db.engine.url.database)


def test_one_write_in_four_is_refused(make_stack: Any, postgres: Any) -> None:
    with make_stack("postgresql") as stack:
        draw_dataset(stack.home / "data/shapes", per_class=30)
        stack.start_api()
        worker = stack.start_worker()
        quiet = stack.submit(full_fine_tune(EPOCHS))
        untouched = stack.await_status(quiet, "succeeded")
        postgres.execute(REFUSE, database=name_of(stack))
        job_id = stack.submit(full_fine_tune(EPOCHS))
        done = stack.await_status(job_id, "succeeded")
        assert stack.log_of(worker).count("database.away") > 5, "hardly anything was refused"
        assert done["attempt"] == 1
        assert done["weights_sha256"] == untouched["weights_sha256"]
        assert metrics_of(stack, job_id) == metrics_of(stack, quiet)
        types = event_types(stack, job_id)
        assert types.count("claimed") == types.count("succeeded") == 1
        assert types.count("checkpoint.committed") == EPOCHS


def test_a_deadlock_with_a_commit(make_stack: Any, postgres: Any) -> None:
    """Somebody holds the checkpoint that a commit prunes, and then wants the job that the commit holds."""
    with make_stack("postgresql") as stack:
        draw_dataset(stack.home / "data/shapes", per_class=30)
        stack.start_api()
        worker = stack.start_worker()
        spec = full_fine_tune(EPOCHS, fault_tolerance={"keep_last": 1})
        quiet = stack.submit(spec)
        untouched = stack.await_status(quiet, "succeeded")
        job_id = stack.submit(spec)
        await_commit(stack, job_id)
        with postgres.connect(name_of(stack)) as outside, outside.transaction():
            outside.execute("SELECT id FROM checkpoints WHERE job_id = %s FOR UPDATE", [job_id])
            blocked = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s"
            until(lambda: postgres.execute(blocked, name_of(stack)), seconds=30, what="a commit to wait")
            # The one that has waited longer finds the deadlock and gives way: the service's.
            outside.execute("UPDATE jobs SET priority = priority WHERE id = %s", [job_id])
        done = stack.await_status(job_id, "succeeded")
        assert "deadlock detected" in stack.log_of(worker) + postgres.log.read_text(errors="replace")
        assert done["attempt"] == 1
        assert done["weights_sha256"] == untouched["weights_sha256"]
        assert metrics_of(stack, job_id) == metrics_of(stack, quiet)
