"""Messages are written with their events, sent by one at a time, and settled once."""

from typing import Any

import pytest
from sqlalchemy import select, update

from models import job_store
from models.errors import LeaseLost, NotFound
from models.job_store import Fence
from models.tables import webhook_deliveries as deliveries
from models.webhooks import store
from models.webhooks.messages import Topic
from models.webhooks.sending import Outcome
from models.webhooks.store import Delivery
from tests.contract.world import WEIGHTS, World, at_once

TENANT = "default"
ALL = list(Topic)
REFUSED = Outcome(500, "It answered 500.")


def hook(world: World, *topics: Topic, tenant_id: str = TENANT) -> str:
    row = store.create_webhook(world.db, tenant_id, "https://hooks.example/", list(topics or ALL), "")
    return str(row.id)


def told(world: World, webhook_id: str, tenant_id: str = TENANT) -> list[str]:
    rows = store.list_deliveries(world.db, tenant_id, webhook_id, after=None, limit=100)
    return [row.topic for row in reversed(rows)]


def only(world: World, webhook_id: str) -> Delivery:
    claimed = store.claim_delivery(world.db)
    assert claimed is not None and claimed.webhook_id == webhook_id
    return claimed


def row(world: World, delivery_id: str) -> Any:
    with world.db.reading() as tx:
        return tx.execute(select(deliveries).where(deliveries.c.id == delivery_id)).one()


def make_due(world: World) -> None:
    with world.db.writing() as tx:
        tx.execute(update(deliveries).values(due_at=0.0))


def test_each_transition_is_told_to_whoever_asked_for_it(world: World) -> None:
    everything, ends = hook(world), hook(world, Topic.SUCCEEDED, Topic.FAILED)
    fence = world.running()
    world.prepare(fence)
    fence = world.restart(fence).fence
    world.prepare(fence)
    world.commit(fence, 100, val_loss=0.1)
    job_store.finish(world.db, fence, WEIGHTS)
    assert told(world, everything) == ["job.created", "job.started", "job.interrupted", "job.succeeded"]
    assert told(world, ends) == ["job.succeeded"]


def test_other_tenants_are_told_nothing_and_see_nothing(world: World) -> None:
    theirs = hook(world, tenant_id="other")
    world.submit()
    assert told(world, theirs, "other") == []
    for act in (store.get_webhook, store.delete_webhook):
        with pytest.raises(NotFound):
            act(world.db, TENANT, theirs)
    with pytest.raises(NotFound):
        store.list_deliveries(world.db, TENANT, theirs, after=None, limit=1)
    assert [found.id for found in store.list_webhooks(world.db, TENANT, after=None, limit=9)] == []


def test_an_event_that_did_not_happen_is_not_told(world: World) -> None:
    webhook_id = hook(world)
    fence = world.running()
    before = told(world, webhook_id)
    with pytest.raises(LeaseLost):
        job_store.finish(world.db, Fence(fence.job_id, fence.attempt + 1), WEIGHTS)
    assert told(world, webhook_id) == before


def test_one_sender_at_a_time(world: World) -> None:
    webhook_id = hook(world, Topic.CREATED)
    world.submit()
    claims = at_once(*[lambda: store.claim_delivery(world.db)] * 8)
    assert sum(claim is not None for claim in claims) == 1
    assert store.claim_delivery(world.db) is None, "for as long as its sender may take"
    make_due(world)
    assert only(world, webhook_id).attempts == 2, "a sender that died left it to others"


def test_an_outcome_counts_only_for_who_sent_last(world: World) -> None:
    webhook_id = hook(world, Topic.CREATED)
    world.submit()
    slow = only(world, webhook_id)
    make_due(world)
    fast = only(world, webhook_id)
    store.record_outcome(world.db, slow, Outcome(200, None))
    assert row(world, fast.id).status == "pending"
    store.record_outcome(world.db, fast, Outcome(200, None))
    assert row(world, fast.id).status == "delivered"
    again = store.redeliver(world.db, TENANT, webhook_id, fast.id)
    assert (again.status, again.delivered_at) == ("pending", None)


def test_it_is_tried_ten_times_over_three_days_and_then_given_up(world: World) -> None:
    webhook_id = hook(world, Topic.CREATED)
    world.submit()
    waited = 0.0
    for number in range(1, 11):
        delivery = only(world, webhook_id)
        assert delivery.attempts == number
        store.record_outcome(world.db, delivery, REFUSED)
        after = row(world, delivery.id)
        with world.db.reading() as tx:
            waited += max(0.0, after.due_at - tx.execute(select(world.db.unix_now())).scalar_one())
        make_due(world)
    assert (after.status, after.last_status_code, after.last_error) == ("failed", 500, "It answered 500.")
    assert store.claim_delivery(world.db) is None
    assert 2.5 * 86_400 < waited < 3.6 * 86_400
    again = store.redeliver(world.db, TENANT, webhook_id, delivery.id)
    assert (again.status, again.attempts) == ("pending", 0)
    assert only(world, webhook_id).body == delivery.body


def test_a_receiver_that_is_gone_is_told_nothing_more(world: World) -> None:
    webhook_id = hook(world, Topic.CREATED)
    world.submit()
    world.submit()
    first = only(world, webhook_id)
    store.record_outcome(world.db, first, Outcome(410, "It answered 410.", is_gone=True))
    assert store.claim_delivery(world.db) is None
    world.submit()
    assert len(told(world, webhook_id)) == 2
    assert "410" in store.get_webhook(world.db, TENANT, webhook_id).disabled_reason
    store.redeliver(world.db, TENANT, webhook_id, first.id)
    world.submit()
    assert len(told(world, webhook_id)) == 3


def test_a_webhook_goes_with_its_messages(world: World) -> None:
    webhook_id = hook(world, Topic.CREATED)
    world.submit()
    store.delete_webhook(world.db, TENANT, webhook_id)
    assert store.claim_delivery(world.db) is None
    with pytest.raises(NotFound):
        store.redeliver(world.db, TENANT, webhook_id, "msg_1")
