"""A job begins; one idempotency key makes one job (I9)."""

import pytest
from sqlalchemy import select, update

from models import job_store
from models.database import Database
from models.errors import IdempotencyInFlight, IdempotencyMismatch
from models.job_store import Replay
from models.tables import idempotency_keys
from tests.contract.world import World, at_once, spec


def test_a_new_job_waits_with_every_default_written_out(world: World) -> None:
    created = job_store.create_job(world.db, spec(name="flowers", priority=3, metadata={"team": "a"}))
    job = world.job(created.job.id)
    assert created.is_new
    assert (job.status, job.attempt, job.priority, job.name) == ("queued", 0, 3, "flowers")
    assert job.metadata == {"team": "a"}
    assert job.spec == spec(name="flowers", priority=3, metadata={"team": "a"}).to_json()
    assert job.segments == [{"epochs": 4, "scheduler": "constant", "planned_epochs": None, "slowdowns": []}]
    assert job.device_class == "any"
    assert job.exact and job.inexact_reasons == []
    assert world.events(job.id) == ["created"]


@pytest.mark.parametrize(("device", "device_class"), [("auto", "any"), ("cpu", "cpu"), ("cuda", "cuda")])
def test_the_device_decides_who_may_claim(world: World, device: str, device_class: str) -> None:
    assert world.job(world.submit(resources={"device": device})).device_class == device_class


def test_ids_sort_by_age(world: World) -> None:
    made = [world.submit() for _ in range(20)]
    assert made == sorted(made)
    assert [job.id for job in job_store.list_jobs(world.db)] == made[::-1]


def test_a_used_key_answers_with_its_job(world: World) -> None:
    first = job_store.create_job(world.db, spec(), idempotency_key="k")
    again = job_store.create_job(world.db, spec(seed=9), idempotency_key="k")
    other_tenant = job_store.create_job(world.db, spec(), idempotency_key="k", tenant_id="other")
    assert first.is_new and not again.is_new and other_tenant.is_new
    assert first.job.id == again.job.id != other_tenant.job.id
    assert again.job.spec["seed"] == 0


def test_fifty_submissions_at_once_with_one_key_make_one_job(world: World) -> None:
    def submit() -> job_store.submission.Created:
        return job_store.create_job(world.db, spec(), idempotency_key="once")

    answers = at_once(*[submit] * 50)
    assert [a for a in answers if isinstance(a, BaseException)] == []
    assert len({a.job.id for a in answers}) == 1  # type: ignore[union-attr]
    assert sum(a.is_new for a in answers) == 1  # type: ignore[union-attr]
    assert len(job_store.list_jobs(world.db)) == 1


def test_jobs_without_a_key_are_never_the_same(world: World) -> None:
    answers = at_once(*[world.submit] * 20)
    assert len(set(map(str, answers))) == len(job_store.list_jobs(world.db, limit=100)) == 20


def test_a_job_is_its_tenants(world: World) -> None:
    mine = world.submit()
    theirs = str(job_store.create_job(world.db, spec(), tenant_id="other").job.id)
    assert job_store.tenant_of_job(world.db, mine) == "default"
    assert job_store.tenant_of_job(world.db, theirs) == "other"
    assert job_store.tenant_of_job(world.db, "job_nobodys") is None
    assert [job.id for job in job_store.list_jobs(world.db)] == [mine]
    assert [job.id for job in job_store.list_jobs(world.db, tenant_id="other")] == [theirs]


# -- Whole requests: one answer for one key ----------------------------------------------------------


def begin(db: Database, key: str = "k", request_hash: str = "h") -> Replay | None:
    return job_store.begin_request(db, "default", key, request_hash)


def test_the_answer_is_replayed(db: Database) -> None:
    assert begin(db) is None
    job_store.complete_request(db, "default", "k", 201, {"id": "job_1"}, {"Location": "/jobs/job_1"})
    assert begin(db) == Replay(201, {"id": "job_1"}, {"Location": "/jobs/job_1"})
    with pytest.raises(IdempotencyMismatch):
        begin(db, request_hash="another")
    assert job_store.begin_request(db, "other tenant", "k", "another") is None


def test_a_request_in_flight_is_not_begun_twice(db: Database) -> None:
    assert begin(db) is None
    with pytest.raises(IdempotencyInFlight):
        begin(db)
    with pytest.raises(IdempotencyMismatch):
        begin(db, request_hash="another")


def test_fifty_requests_at_once_with_one_key_begin_once(db: Database) -> None:
    answers = at_once(*[lambda: begin(db)] * 50)
    assert answers.count(None) == 1
    assert sum(isinstance(answer, IdempotencyInFlight) for answer in answers) == 49


def test_a_request_without_effect_gives_its_key_back(db: Database) -> None:
    begin(db)
    job_store.forget_request(db, "default", "k")
    assert begin(db, request_hash="another") is None


def test_an_answer_is_not_forgotten_by_mistake(db: Database) -> None:
    begin(db)
    job_store.complete_request(db, "default", "k", 201, {}, {})
    job_store.forget_request(db, "default", "k")
    assert begin(db) == Replay(201, {}, {})


def age(db: Database, seconds: float) -> None:
    with db.writing() as tx:
        tx.execute(update(idempotency_keys).values(claimed_at=idempotency_keys.c.claimed_at - seconds))


def test_the_key_of_a_process_that_died_is_taken_over_by_one(db: Database) -> None:
    begin(db)
    age(db, 61.0)
    answers = at_once(*[lambda: begin(db)] * 10)
    assert answers.count(None) == 1
    assert sum(isinstance(answer, IdempotencyInFlight) for answer in answers) == 9


def test_answers_are_kept_for_a_day(db: Database) -> None:
    begin(db)
    job_store.complete_request(db, "default", "k", 201, {}, {})
    age(db, 86_390.0)
    assert begin(db) is not None
    age(db, 20.0)
    assert begin(db, request_hash="another") is None


def test_keys_are_judged_by_a_clock_that_outlives_a_reboot(db: Database) -> None:
    """On SQLite the clock of leases begins anew with each boot, and a key is kept for a day."""
    begin(db)
    with db.reading() as tx:
        claimed_at = tx.execute(select(idempotency_keys.c.claimed_at)).scalar_one()
        now = tx.execute(select(db.unix_now())).scalar_one()
    assert abs(now - claimed_at) < 60.0
