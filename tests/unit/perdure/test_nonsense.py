"""What no server can be asked for, and what no server of ours says: errors of a type, never a stack trace."""

from pathlib import Path
from typing import Any

import httpx2
import pytest

from perdure import Perdure
from perdure.errors import ForeignAnswerError, NotFoundError, UsageError
from tests.unit.perdure.command_line import JOB, Run


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(200, text="<html>Welcome to nginx!</html>"),
        httpx2.Response(200, json={"name": "something else", "data": 3}),
    ],
)
def test_another_service_on_that_port(client: Perdure, server: Any, answer: httpx2.Response) -> None:
    server.routes["GET /jobs/job_1"] = server.routes["GET /jobs"] = lambda request: answer
    for ask in (lambda: client.jobs.get("job_1"), lambda: list(client.jobs.list())):
        with pytest.raises(ForeignAnswerError, match="another service"):
            ask()


@pytest.mark.parametrize("job_id", ["", ".", ".."])
def test_what_is_no_id_is_asked_for_nowhere(client: Perdure, server: Any, job_id: str) -> None:
    for ask in (client.jobs.get, client.jobs.cancel, client.jobs.logs):
        with pytest.raises(NotFoundError):
            ask(job_id)
    assert server.requests == []


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"hyperparameters": {"lr": float("nan")}}, "finite"),
        ({"hyperparameters": {"lr": float("inf")}}, "finite"),
        ({"dataset": {"path": "\udc80"}}, "not Unicode"),
        ({"dataset": {"path": Path("flowers")}}, "not JSON"),
    ],
)
def test_what_json_cannot_hold_is_not_sent(client: Perdure, server: Any, spec: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        client.jobs.create(spec)
    assert server.requests == []


def test_keys_are_visible_text(client: Perdure, server: Any) -> None:
    for key in ("a b", "\xe4", "a\nb"):
        with pytest.raises(UsageError, match="idempotency key"):
            client.jobs.create({}, idempotency_key=key)
    for key in ("\xe4", "a\n"):
        with pytest.raises(UsageError, match="PERDURE_API_KEY"):
            Perdure("http://server.test", key)
    assert server.requests == []


@pytest.mark.parametrize(
    "arguments",
    [
        "submit --data flowers --lr nan",
        "submit --data f\udc80",
        "submit --data flowers --idempotency-key \xe4",
        "list --name \udc80",
    ],
)
def test_on_the_command_line_it_is_wrong_usage(run: Run, server: Any, arguments: str) -> None:
    server.routes["POST /jobs"] = JOB
    code, out, err = run(*arguments.split())
    assert (code, out) == (2, "")
    assert err.startswith("✗ ")
    assert server.requests == []


def test_a_download_without_a_place(run: Run, server: Any, tmp_path: Path) -> None:
    row = {"id": "ckpt_1", "step": 5, "status": "committed", "path": "jobs/job_1/checkpoints/one.pth"}
    server.routes["GET /jobs/job_1/checkpoints"] = server.page([row])
    content = "GET /jobs/job_1/checkpoints/ckpt_1/content"
    server.routes[content] = lambda request: httpx2.Response(200, content=b"weights")
    (tmp_path / "file").touch()
    code, _, err = run("download", "job_1", "--to", str(tmp_path / "file/model.pth"))
    assert (code, "cannot be written" in err) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
