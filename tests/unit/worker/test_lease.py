"""The lease is renewed from a thread of its own, and what is learnt there reaches who must know."""

import threading
from typing import Any, cast

import pytest

from models.database import Database
from models.errors import DatabaseUnavailable, LeaseLost
from models.job_store import Fence, Requests
from models.settings import Settings
from tests.servers.waiting import until
from worker import lease as module
from worker.lease import Lease

FENCE = Fence("job_1", 3)
NOTHING = Requests(cancel=False, pause=False)


class Renewals:
    """Answers renewals one by one, as a database would."""

    def __init__(self) -> None:
        self.now = 500.0
        self.answers: list[Requests | Exception] = []
        self.asked = 0
        self.open = threading.Event()
        self.open.set()

    def renew(self, db: object, fence: Fence, lease_seconds: float) -> Requests:
        assert (fence, lease_seconds) == (FENCE, 15.0)
        self.asked += 1
        self.now += 1.0  # the request takes its time
        assert self.open.wait(30)
        answer = self.answers.pop(0) if self.answers else NOTHING
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def renewals(monkeypatch: pytest.MonkeyPatch) -> Renewals:
    fake = Renewals()
    monkeypatch.setattr(module, "job_store", fake)
    monkeypatch.setattr(module, "boot_time_clock", lambda: fake.now)
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.01)
    return fake


def leased(renewed: list[float], news: list[int]) -> Lease:
    settings: Any = Settings(lease_seconds=15.0, heartbeat_seconds=0.01)
    return Lease(
        cast(Database, None), FENCE, settings, on_renewed=renewed.append, on_news=lambda: news.append(1)
    )


def test_each_renewal_is_told_with_the_instant_before_it_was_sent(renewals: Renewals) -> None:
    """The lease surely runs from then on, however late the answer comes."""
    renewed: list[float] = []
    with leased(renewed, []):
        until(lambda: len(renewed) >= 3)
    assert renewed[:3] == [500.0, 501.0, 502.0]


def test_what_users_asked_for_wakes_the_follower_once(renewals: Renewals) -> None:
    asked = Requests(cancel=True, pause=False)
    renewals.answers = [NOTHING, asked, asked, asked]
    news: list[int] = []
    with leased([], news) as lease:
        until(lambda: renewals.asked >= 4)
        assert lease.requests in (asked, NOTHING)
        until(lambda: news)
    assert len(news) <= 2


def test_a_lost_lease_is_final(renewals: Renewals) -> None:
    renewals.answers = [NOTHING, LeaseLost()]
    renewed: list[float] = []
    news: list[int] = []
    with leased(renewed, news) as lease:
        until(lambda: lease.lost)
        until(lambda: news == [1])
    assert renewals.asked == 2
    assert len(renewed) == 1


def test_a_database_that_is_away_is_asked_again_and_no_heartbeat_is_made_up(renewals: Renewals) -> None:
    renewals.answers = [NOTHING, *[DatabaseUnavailable()] * 3, NOTHING]
    renewed: list[float] = []
    with leased(renewed, []) as lease:
        until(lambda: len(renewed) >= 2)
        assert not lease.lost
    assert renewed[:2] == [500.0, 504.0]


def test_an_answer_that_comes_after_the_end_is_told_to_nobody(renewals: Renewals) -> None:
    """The trainer's pipe may be closed by then, and its number be that of another file."""
    renewals.open.clear()
    renewed: list[float] = []
    with leased(renewed, []) as lease:
        until(lambda: renewals.asked == 1)
    renewals.open.set()
    lease._thread.join(10)
    assert not lease._thread.is_alive()
    assert renewed == []


def test_a_lease_lost_after_the_end_is_no_news(renewals: Renewals) -> None:
    """The job was finished: that its next renewal finds no lease is as it should be."""
    renewals.open.clear()
    renewals.answers = [LeaseLost()]
    with leased([], []) as lease:
        until(lambda: renewals.asked == 1)
    renewals.open.set()
    lease._thread.join(10)
    assert not lease.lost


def test_other_writes_hear_of_requests_too(renewals: Renewals) -> None:
    news: list[int] = []
    lease = leased([], news)
    lease.heard(NOTHING)
    assert news == []
    lease.heard(Requests(cancel=False, pause=True))
    lease.heard(Requests(cancel=False, pause=True))
    assert news == [1] and lease.requests.pause
