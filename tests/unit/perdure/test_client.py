"""The client: retries that are safe, failures as types, lists without seams, downloads that are whole."""

import base64
import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from perdure import Perdure, ServerUnreachableError
from perdure.errors import (
    ConflictError,
    DownloadError,
    InvalidRequestError,
    NotAllowedError,
    NotFoundError,
    UnavailableError,
    WaitTimeoutError,
)

JOB = {"id": "job_1", "status": "queued", "attempt": 0, "something_new": 1}


def test_create_sends_the_spec_with_a_key_of_its_own_each_time(client: Perdure, server: Any) -> None:
    server.routes["POST /jobs"] = JOB
    spec = {"dataset": {"path": "flowers"}}
    assert client.jobs.create(spec).id == "job_1"
    client.jobs.create(spec)
    assert server.bodies() == [spec, spec]
    keys = [request.headers["idempotency-key"] for request in server.requests]
    assert len(set(keys)) == 2
    assert server.requests[0].headers["authorization"] == "Bearer secret"


def test_a_retried_post_carries_the_same_key_and_honours_retry_after(client: Perdure, server: Any) -> None:
    answers = iter([server.problem(503, "database_unavailable", "away", headers={"retry-after": "0.01"})])
    server.routes["POST /jobs"] = lambda request: next(answers, httpx2.Response(201, json=JOB))
    assert client.jobs.create({"dataset": {"path": "x"}}).id == "job_1"
    first, second = (request.headers["idempotency-key"] for request in server.requests)
    assert first == second


def test_a_broken_connection_is_tried_again(client: Perdure, server: Any) -> None:
    tries = itertools.count()

    def answer(request: httpx2.Request) -> httpx2.Response:
        if next(tries) == 0:
            raise httpx2.ReadError("reset")
        return httpx2.Response(200, json=JOB)

    server.routes["GET /jobs/job_1"] = answer
    assert client.jobs.get("job_1").status == "queued"


def test_no_server_is_an_error_that_names_the_address() -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("[Errno 111] Connection refused")

    with (
        Perdure("http://nobody.test", retry_seconds=0.0, transport=httpx2.MockTransport(refuse)) as client,
        pytest.raises(ServerUnreachableError, match=r"nobody\.test.*connection refused"),
    ):
        client.version()


@pytest.mark.parametrize(
    ("status", "error_type"),
    [(401, NotAllowedError), (404, NotFoundError), (409, ConflictError), (422, InvalidRequestError)],
)
def test_problems_are_typed_and_not_retried(
    client: Perdure, server: Any, status: int, error_type: type[Exception]
) -> None:
    errors = [{"field": "hyperparameters.epochs", "message": "must be at least 1"}]
    server.routes["GET /jobs/job_1"] = lambda request: server.problem(
        status, "some_code", "Said why.", errors=errors, request_id="req_1"
    )
    with pytest.raises(error_type) as caught:
        client.jobs.get("job_1")
    problem_error = caught.value
    assert (problem_error.status, problem_error.code) == (status, "some_code")  # type: ignore[attr-defined]
    assert problem_error.errors == errors  # type: ignore[attr-defined]
    assert problem_error.request_id == "req_1"  # type: ignore[attr-defined]
    assert len(server.requests) == 1


def test_an_answer_that_is_no_problem_json_is_still_a_typed_error(client: Perdure, server: Any) -> None:
    server.routes["GET /version"] = lambda request: httpx2.Response(404, text="<html>nginx</html>")
    with pytest.raises(NotFoundError):
        client.version()


def test_health_reports_the_checks_of_a_no(client: Perdure, server: Any) -> None:
    body = {"status": "unavailable", "checks": {"database": "unreachable"}}
    server.routes["GET /health/ready"] = lambda request: httpx2.Response(503, json=body)
    assert client.health() == body
    assert len(server.requests) == 1


def test_lists_go_on_over_pages_and_stop_at_the_limit(client: Perdure, server: Any) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        start = int(request.url.params.get("after", "0"))
        size = min(int(request.url.params["limit"]), 2)
        rows = [{"id": str(number), "status": "queued"} for number in range(start + 1, start + 1 + size)]
        return httpx2.Response(200, json=server.page(rows, has_more=start < 8, last_id=str(start + size)))

    server.routes["GET /jobs"] = answer
    assert [job.id for job in client.jobs.list(limit=5)] == ["1", "2", "3", "4", "5"]
    assert len(list(client.jobs.list(status="queued"))) == 10
    assert server.requests[-1].url.params["status"] == "queued"


def test_an_id_cannot_become_another_path(client: Perdure, server: Any) -> None:
    with pytest.raises(NotFoundError):
        client.jobs.get("../workers?x=1")
    assert server.requests[0].url.raw_path == b"/jobs/..%2Fworkers%3Fx%3D1"


def test_wait_returns_the_job_at_rest_and_gives_up_at_the_deadline(client: Perdure, server: Any) -> None:
    statuses = iter(["running", "running"])
    server.routes["GET /jobs/job_1"] = lambda request: httpx2.Response(
        200, json={"id": "job_1", "status": next(statuses, "paused")}
    )
    assert client.jobs.wait("job_1", sleep=lambda seconds: None).status == "paused"

    server.routes["GET /jobs/job_1"] = {"id": "job_1", "status": "running"}
    ticks = itertools.count()
    with pytest.raises(WaitTimeoutError):
        client.jobs.wait("job_1", timeout_seconds=5, clock=lambda: float(next(ticks)), sleep=lambda s: None)


def test_extend_says_how_many_epochs_and_how(client: Perdure, server: Any) -> None:
    server.routes["POST /jobs/job_1/extend"] = JOB
    client.jobs.extend("job_1", 4)
    client.jobs.extend("job_1", 2, scheduler="cosine")
    assert server.bodies() == [{"additional_epochs": 4}, {"additional_epochs": 2, "scheduler": "cosine"}]


# -- Downloads -----------------------------------------------------------------------------------

CONTENT = b"weights" * 1000


def described(content: bytes) -> dict[str, str]:
    """The headers of an answer that holds this content."""
    digest = hashlib.sha256(content)
    sha256 = base64.b64encode(digest.digest()).decode()
    return {"etag": f'"{digest.hexdigest()}"', "repr-digest": f"sha-256=:{sha256}:"}


def checkpoint_routes(server: Any, content: bytes, **changes: object) -> None:
    row = {
        "id": "ckpt_1",
        "step": 3,
        "status": "committed",
        "path": "jobs/job_1/checkpoints/epoch-0001.pth",
        # Of the stored file, which holds less than a download does
        "size_bytes": 12,
        "sha256": "ab" * 32,
        **changes,
    }
    server.routes["GET /jobs/job_1/checkpoints"] = server.page([row])
    server.routes["GET /jobs/job_1/checkpoints/ckpt_1/content"] = lambda request: httpx2.Response(
        200, content=content, headers=described(CONTENT)
    )


@pytest.mark.parametrize("wanted", ["ckpt_1", "last"])
def test_a_checkpoint_arrives_verified_under_its_own_name(
    client: Perdure, server: Any, tmp_path: Path, wanted: str
) -> None:
    checkpoint_routes(server, CONTENT)
    path = client.jobs.download_checkpoint("job_1", wanted, tmp_path)
    assert path == tmp_path / "epoch-0001.pth"
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:-1] + b"X"], ids=["short", "changed"])
def test_wrong_bytes_leave_nothing_behind(
    client: Perdure, server: Any, tmp_path: Path, content: bytes
) -> None:
    checkpoint_routes(server, content)
    (tmp_path / "old.pth").write_bytes(b"old")
    with pytest.raises(DownloadError):
        client.jobs.download_checkpoint("job_1", "ckpt_1", tmp_path / "old.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["old.pth"]
    assert (tmp_path / "old.pth").read_bytes() == b"old"


def test_a_model_is_verified_by_the_digest_of_the_answer(
    client: Perdure, server: Any, tmp_path: Path
) -> None:
    content = [CONTENT]
    server.routes["GET /jobs/job_1/model/content"] = lambda request: httpx2.Response(
        200, content=content[0], headers=described(CONTENT)
    )
    assert client.jobs.download_model("job_1", tmp_path / "m.pth").read_bytes() == CONTENT
    assert server.requests[-1].url.params["checkpoint"] == "last"
    content[0] = CONTENT + b"X"
    with pytest.raises(DownloadError):
        client.jobs.download_model("job_1", tmp_path / "n.pth")


class Breaking(httpx2.SyncByteStream):
    """A body that ends in the middle."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        yield self._content
        raise httpx2.ReadError("reset")


@pytest.mark.parametrize("is_same", [True, False], ids=["same", "changed"])
def test_a_broken_download_goes_on_where_it_broke(
    client: Perdure, server: Any, tmp_path: Path, is_same: bool
) -> None:
    """Or begins again where the file is another one by now, as a server decides by `If-Range`."""
    now = CONTENT if is_same else CONTENT[::-1]

    def answer(request: httpx2.Request) -> httpx2.Response:
        if len(server.requests) == 1:
            headers = described(CONTENT) | {"content-length": str(len(CONTENT))}
            return httpx2.Response(200, stream=Breaking(CONTENT[:3000]), headers=headers)
        assert request.headers["range"] == "bytes=3000-"
        if request.headers["if-range"] != described(now)["etag"]:
            return httpx2.Response(200, content=now, headers=described(now))
        span = {"content-range": f"bytes 3000-{len(now) - 1}/{len(now)}"}
        return httpx2.Response(206, content=now[3000:], headers=described(now) | span)

    server.routes["GET /jobs/job_1/model/content"] = answer
    assert client.jobs.download_model("job_1", tmp_path / "m.pth").read_bytes() == now
    assert len(server.requests) == 2 and "range" not in server.requests[0].headers


def test_a_file_that_is_being_put_together_is_awaited(server: Any, tmp_path: Path) -> None:
    """Beyond the patience with a server that is away."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if len(server.requests) < 4:
            return server.problem(503, "download_not_ready", "later", headers={"retry-after": "0.01"})
        return httpx2.Response(200, content=CONTENT, headers=described(CONTENT))

    server.routes["GET /jobs/job_1/model/content"] = answer
    with Perdure("http://s.test", retry_seconds=0.0, transport=httpx2.MockTransport(server)) as client:
        assert client.jobs.download_model("job_1", tmp_path / "m.pth").read_bytes() == CONTENT
    assert len(server.requests) == 4


def test_a_part_that_was_not_asked_for_is_refused(client: Perdure, server: Any, tmp_path: Path) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if len(server.requests) == 1:
            return httpx2.Response(200, stream=Breaking(CONTENT[:3000]), headers=described(CONTENT))
        span = {"content-range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"}
        return httpx2.Response(206, content=CONTENT, headers=described(CONTENT) | span)

    server.routes["GET /jobs/job_1/model/content"] = answer
    with pytest.raises(DownloadError):
        client.jobs.download_model("job_1", tmp_path / "m.pth")
    assert not list(tmp_path.iterdir())


def test_a_pruned_checkpoint_is_not_the_last(client: Perdure, server: Any, tmp_path: Path) -> None:
    checkpoint_routes(server, CONTENT, status="pruned")
    with pytest.raises(NotFoundError):
        client.jobs.download_checkpoint("job_1", "last", tmp_path)


def test_unavailable_after_patience_is_an_error(server: Any) -> None:
    server.routes["GET /version"] = lambda request: server.problem(503, "database_unavailable", "away")
    with (
        Perdure("http://s.test", retry_seconds=0.01, transport=httpx2.MockTransport(server)) as client,
        pytest.raises(UnavailableError),
    ):
        client.version()
