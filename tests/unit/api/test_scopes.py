"""What a key may do, decided by method and path for every route that there is, and any that is to come."""

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from api.dependencies import _any_job_id, _caller, _job_id
from api.routes import router
from models.database import Database
from models.key_spec import Scope
from tests.unit.api.keyed import bearer, make

Problem = Callable[..., dict[str, Any]]


def all_of(router: APIRouter) -> Iterator[APIRoute]:
    """Those of the routers that it includes, too."""
    for route in router.routes:
        if isinstance(route, APIRoute):
            yield route
        elif (included := getattr(route, "original_router", None)) is not None:
            yield from all_of(included)


def routes() -> list[tuple[str, str]]:
    """Every route, with ids in its path that could be real ones."""
    ids = {"job_id": "job_1", "checkpoint_id": "ckpt_1", "worker_id": "wrk_1", "key_id": "key_1"}
    found = [
        (method, re.sub(r"\{(\w+)\}", lambda name: ids.get(name[1], "x_1"), route.path_format))
        for route in all_of(router)
        for method in route.methods
        if not route.path.startswith("/health")
    ]
    assert len(found) > 20
    return sorted(found)


def expected_scope(method: str, path: str) -> Scope:
    if path.startswith("/keys") or re.fullmatch(r"/workers/\w+/(drain|enable)", path):
        return Scope.ADMIN
    return Scope.READ if method == "GET" else Scope.WRITE


@pytest.mark.parametrize(("method", "path"), routes())
def test_every_route_takes_its_scope_and_no_less(
    client: TestClient, db: Database, problem: Problem, method: str, path: str
) -> None:
    needed = expected_scope(method, path)
    for scope, before in itertools.product(Scope, ("", "/v1")):
        response = client.request(method, before + path, headers=bearer(make(db, scope)))
        assert response.status_code != 401
        if needed in scope.included:
            assert response.status_code != 403, response.text
        else:
            problem(response, 403, "insufficient_scope")
            assert response.headers["www-authenticate"].endswith(f'scope="{needed}"')


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/nope"), ("PUT", "/jobs/job_1"), ("PATCH", "/jobs/job_1"), ("DELETE", "/jobs/job_1"),
        ("POST", "/datasets"), ("TRACE", "/jobs"), ("PROPFIND", "/jobs"), ("post", "/jobs"),
        ("POST", "/workers/a/b/c"), ("GET", "/keys/"), ("GET", "/v1/keys/x/y"), ("DELETE", "/workers/wrk_1"),
    ],
)  # fmt: skip
def test_what_is_not_known_takes_more_than_reading(
    client: TestClient, db: Database, problem: Problem, method: str, path: str
) -> None:
    problem(client.request(method, path, headers=bearer(make(db, "read"))), 403, "insufficient_scope")


def test_a_key_that_may_read_cancels_nothing(client: TestClient, db: Database, submit: Any) -> None:
    job_id = submit()["id"]
    headers = bearer(make(db, "read"))
    assert client.post(f"/jobs/{job_id}/cancel", headers=headers).status_code == 403
    assert client.get(f"/jobs/{job_id}", headers=headers).json()["status"] == "queued"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/metrics", 403), ("POST", "/workers/wrk_1/drain", 403),
        ("POST", "/workers/wrk_1/enable", 403), ("GET", "/workers", 200), ("GET", "/models", 200),
    ],
)  # fmt: skip
def test_what_concerns_the_whole_installation_is_the_operators(
    client: TestClient, db: Database, problem: Problem, method: str, path: str, status: int
) -> None:
    for before in ("", "/v1"):
        response = client.request(method, before + path, headers=bearer(make(db, "admin", "acme")))
        assert response.status_code == status
        if status == 403:
            problem(response, 403, "operator_only")


def test_every_route_of_a_job_asks_whose_it_is() -> None:
    """A route that takes the id as a mere string would show other tenants' jobs."""
    below_jobs = [route for route in all_of(router) if "{job_id}" in route.path_format]
    assert len(below_jobs) > 12
    for route in below_jobs:
        waiting, calls = [route.dependant], set()
        while waiting:
            dependant = waiting.pop()
            calls.add(dependant.call)
            waiting += dependant.dependencies
        # A deletion is asked for again when the job is gone already: the store knows whose it was.
        asks = {_any_job_id, _caller} if route.methods == {"DELETE"} else {_job_id}
        assert asks <= calls, route.path
