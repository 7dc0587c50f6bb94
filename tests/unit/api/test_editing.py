"""PATCH, DELETE and clone: every code of the contract, and what each leaves behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.clearing import Clearing
from models import job_store
from models.errors import StorageFailed
from models.settings import Settings
from models.storage import storage_from_url
from tests.unit.api.conftest import make_dataset

NOBODYS = "job_0123456789abcdef"
Problem = Callable[..., dict[str, Any]]
Submit = Callable[..., dict[str, Any]]


# -- PATCH -------------------------------------------------------------------------------------------


def test_a_patch_changes_what_it_names(client: TestClient, submit: Submit) -> None:
    job = submit(name="first", metadata={"a": "1", "b": "2"}, priority=1)
    changed = client.patch(f"/jobs/{job['id']}", json={"priority": 5, "metadata": {"a": None, "c": "3"}})
    assert changed.status_code == 200
    body = changed.json()
    assert (body["name"], body["priority"], body["metadata"]) == ("first", 5, {"b": "2", "c": "3"})
    assert body["spec"] == job["spec"], "as it was submitted"
    assert client.get(f"/jobs/{job['id']}").json() == body
    assert client.patch(f"/jobs/{job['id']}", json={"name": None}).json()["name"] is None
    assert client.patch(f"/jobs/{job['id']}", json={}).json()["metadata"] == {"b": "2", "c": "3"}
    assert client.patch(f"/jobs/{job['id']}", json={"metadata": None}).json()["metadata"] == {}


def test_a_new_priority_is_a_new_place(client: TestClient, submit: Submit, worker: Any) -> None:
    first, second = submit(), submit()
    assert client.patch(f"/jobs/{second['id']}", json={"priority": 1}).json()["queue_position"] == 1
    assert client.get(f"/jobs/{first['id']}").json()["queue_position"] == 2
    assert worker.claim() == second["id"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"priority": 101}, "priority"),
        ({"priority": None}, "priority"),
        ({"priority": True}, "priority"),
        ({"priority": "5"}, "priority"),
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "\u001b[31m"}, "name"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {"a": "x" * 513}}, "metadata.a"),
        ({"metadata": {"": "x"}}, "metadata"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"metadata": []}, "metadata"),
        ({"seed": 1}, "seed"),
        ({"status": "queued"}, "status"),
        ([], ""),
    ],
)
def test_a_patch_that_is_refused_changes_nothing(
    client: TestClient, submit: Submit, problem: Problem, body: Any, field: str
) -> None:
    job = submit(metadata={"a": "1"})
    found = problem(client.patch(f"/jobs/{job['id']}", json=body), 422)
    assert found["errors"][0]["field"].startswith(field)
    assert client.get(f"/jobs/{job['id']}").json()["metadata"] == {"a": "1"}


def test_there_is_nothing_to_patch_or_delete_or_clone(client: TestClient, problem: Problem) -> None:
    for job_id in (NOBODYS, "x", "..%2f", "job_%00"):
        problem(client.patch(f"/jobs/{job_id}", json={"name": "x"}), 404, "not_found")
        problem(client.delete(f"/jobs/{job_id}"), 404, "not_found")
        problem(client.post(f"/jobs/{job_id}/clone", json={}), 404, "not_found")


def test_pages_of_other_sites_change_nothing(client: TestClient, submit: Submit, problem: Problem) -> None:
    job_id = submit()["id"]
    foreign = {"Sec-Fetch-Site": "cross-site"}
    problem(client.patch(f"/jobs/{job_id}", json={"name": "x"}, headers=foreign), 403, "cross_site_refused")
    problem(client.delete(f"/jobs/{job_id}", headers=foreign), 403, "cross_site_refused")


# -- DELETE ------------------------------------------------------------------------------------------


def store(settings: Settings) -> Path:
    return Path(settings.storage_url.removeprefix("file://"))


def files_of(settings: Settings, job_id: str) -> list[Path]:
    return [path for path in (store(settings) / "jobs" / job_id).rglob("*") if path.is_file()]


def test_a_finished_job_goes_with_its_files(
    client: TestClient, submit: Submit, worker: Any, settings: Settings, problem: Problem
) -> None:
    other = submit()["id"]
    worker.run()
    job_id = submit()["id"]
    worker.run()
    worker.log(1, "text")
    assert len(files_of(settings, job_id)) == 3
    deleted = client.delete(f"/jobs/{job_id}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert not (store(settings) / "jobs" / job_id).exists()
    for below in ("", "/metrics", "/events", "/attempts", "/checkpoints", "/logs", "/model"):
        problem(client.get(f"/jobs/{job_id}{below}"), 404, "not_found")
    assert [job["id"] for job in client.get("/jobs").json()["data"]] == [other]
    assert len(files_of(settings, other)) == 2
    assert client.delete(f"/jobs/{job_id}").status_code == 204, "asked again, as after a lost answer"


def test_one_that_is_not_finished_stays(
    client: TestClient, submit: Submit, worker: Any, problem: Problem
) -> None:
    paused, queued = submit()["id"], submit()["id"]
    client.post(f"/jobs/{paused}/pause")
    for job_id in (paused, queued):
        problem(client.delete(f"/jobs/{job_id}"), 409, "wrong_state")
    worker.claim()
    worker.prepare()
    worker.epoch(1)
    problem(client.delete(f"/jobs/{queued}"), 409, "wrong_state")
    assert client.get(f"/jobs/{queued}/checkpoints/last/content").status_code == 200


def test_what_a_full_store_or_a_crash_leaves_is_cleared_later(
    client: TestClient,
    submit: Submit,
    worker: Any,
    settings: Settings,
    db: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    submit()
    job_id = worker.run()

    def refuse(storage: object, job_id: str) -> int:
        raise StorageFailed("The store is away.")

    with monkeypatch.context() as away:
        away.setattr("api.clearing.remove_job_files", refuse)
        assert client.delete(f"/jobs/{job_id}").status_code == 204
    assert files_of(settings, job_id)
    assert job_store.jobs_to_clear(db) == [job_id]
    clearing = Clearing(db, storage_from_url(settings.storage_url))
    clearing.tick()
    assert not files_of(settings, job_id)
    # A worker that lost the job long ago goes on to write.
    late = store(settings) / f"jobs/{job_id}/checkpoints/late.pth"
    late.parent.mkdir(parents=True)
    late.write_bytes(b"x")
    clearing.tick()
    assert not late.exists()


# -- Clone -------------------------------------------------------------------------------------------


def clone(client: TestClient, job_id: str, overrides: Any = None, **headers: str) -> Any:
    return client.post(f"/jobs/{job_id}/clone", json={"overrides": overrides or {}}, headers=headers)


def test_a_clone_is_a_new_job_of_the_same_spec(
    client: TestClient, submit: Submit, worker: Any, bell: Any
) -> None:
    parent = submit(name="first", metadata={"a": "1"}, seed=7, priority=3)
    worker.run()
    client.patch(f"/jobs/{parent['id']}", json={"name": "renamed", "metadata": {"b": "2"}})
    bell.rings.clear()
    answer = clone(client, parent["id"])
    assert answer.status_code == 201
    body = answer.json()
    assert answer.headers["location"] == f"/jobs/{body['id']}"
    assert (body["parent_id"], body["status"], body["attempt"]) == (parent["id"], "queued", 0)
    assert (body["name"], body["metadata"], body["priority"]) == ("renamed", {"a": "1", "b": "2"}, 3)
    assert body["spec"] == parent["spec"] | {"name": "renamed", "metadata": {"a": "1", "b": "2"}}
    assert body["numerics"] == client.get(f"/jobs/{parent['id']}").json()["numerics"] == {"threads": 2}
    assert body["progress"]["epochs_done"] == 0 and body["error"] is None and body["exact"] is True
    assert bell.rings == ["any"]


def test_overrides_are_merged_deeply(
    client: TestClient, submit: Submit, worker: Any, settings: Settings
) -> None:
    parent = submit(
        hyperparameters={"lr": 0.01, "epochs": 2}, early_stopping={"patience": 3}, metadata={"a": "1"}
    )
    worker.run()
    make_dataset(settings.data_folder / "others")
    overrides = {
        "hyperparameters": {"lr": 0.002}, "early_stopping": None, "metadata": {"b": "2"},
        "dataset": {"path": "others"}, "model": {"dropout": 0.5},
    }  # fmt: skip
    body = clone(client, parent["id"], overrides).json()
    expected = parent["spec"] | {
        "hyperparameters": parent["spec"]["hyperparameters"] | {"lr": 0.002},
        "model": parent["spec"]["model"] | {"dropout": 0.5},
        "early_stopping": None, "metadata": {"a": "1", "b": "2"}, "dataset": {"path": "others"},
    }  # fmt: skip
    assert body["spec"] == expected
    assert body["numerics"] is None, "it computes something else"


def test_another_architecture_begins_with_its_own_weights(client: TestClient, submit: Submit) -> None:
    parent = submit(model={"arch": "efficientnet_b1", "weights": "IMAGENET1K_V2"})
    body = clone(client, parent["id"], {"model": {"arch": "mobilenet_v3_small"}}).json()
    assert body["spec"]["model"]["weights"] == "IMAGENET1K_V1"
    random_start = submit()
    assert (
        clone(client, random_start["id"], {"model": {"arch": "resnet18"}}).json()["spec"]["model"]["weights"]
        is None
    )


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        ({"hyperparameters": {"lr": -1}}, "overrides.hyperparameters.lr"),
        ({"hyperparameters": {"lr": None}}, "overrides.hyperparameters.lr"),
        ({"hyperparameters": 5}, "overrides.hyperparameters"),
        ({"hyperparameters": {"typo": 1}}, "overrides.hyperparameters.typo"),
        ({"typo": 1}, "overrides.typo"),
        ({"dataset": {"path": "../etc"}}, "overrides.dataset.path"),
        ({"dataset": {"path": "missing"}}, "overrides.dataset.path"),
        ({"dataset": {}}, "overrides.dataset"),
        ({"model": {"arch": "os.system"}}, "overrides.model.arch"),
        ({"model": {"weights": "NO_SUCH"}}, "overrides.model.weights"),
        ({"metadata": {"a": None}}, "overrides.metadata.a"),
        ({"hyperparameters": {"batch_size": 8192, "image_size": 2048}}, "overrides"),
        ([], "overrides"),
    ],
)
def test_what_is_wrong_is_pointed_at_in_the_overrides(
    client: TestClient,
    submit: Submit,
    problem: Problem,
    num_jobs: Callable[[], int],
    overrides: Any,
    field: str,
) -> None:
    job_id = submit()["id"]
    body = problem(client.post(f"/jobs/{job_id}/clone", json={"overrides": overrides}), 422)
    assert [error["field"] for error in body["errors"]] == [field]
    assert num_jobs() == 1


def test_the_request_has_nothing_but_overrides(client: TestClient, submit: Submit, problem: Problem) -> None:
    job_id = submit()["id"]
    body = problem(client.post(f"/jobs/{job_id}/clone", json={"hyperparameters": {}}), 422)
    assert [error["field"] for error in body["errors"]] == ["hyperparameters"]
    assert client.post(f"/jobs/{job_id}/clone").status_code == 201


def test_a_key_makes_one_clone(
    client: TestClient, submit: Submit, problem: Problem, num_jobs: Callable[[], int]
) -> None:
    job_id = submit()["id"]
    key = {"Idempotency-Key": "key-1"}
    first = clone(client, job_id, {"seed": 1}, **key)
    again = clone(client, job_id, {"seed": 1}, **key)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    problem(clone(client, job_id, {"seed": 2}, **key), 422, "idempotency_key_reused")
    assert num_jobs() == 2


def test_a_clone_outlives_its_parent(client: TestClient, submit: Submit) -> None:
    parent = submit()["id"]
    child = clone(client, parent).json()["id"]
    client.post(f"/jobs/{parent}/cancel")
    assert client.delete(f"/jobs/{parent}").status_code == 204
    assert client.get(f"/jobs/{child}").json()["parent_id"] == parent
