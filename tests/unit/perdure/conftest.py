"""A server made of a function, for everything that only has to talk to one."""

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from perdure import cli
from perdure.client import Perdure
from tests.unit.perdure.command_line import Run


class FakeServer:
    """Answers from ``routes`` and remembers every request."""

    def __init__(self) -> None:
        self.requests: list[httpx2.Request] = []
        self.routes: dict[str, Callable[[httpx2.Request], httpx2.Response] | Any] = {}

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self.routes.get(f"{request.method} {request.url.path}")
        if answer is None:
            return self.problem(404, "not_found", "There is nothing here.")
        return answer(request) if callable(answer) else httpx2.Response(200, json=answer)

    @staticmethod
    def problem(status: int, code: str, detail: str, **more: Any) -> httpx2.Response:
        headers = {"content-type": "application/problem+json", **more.pop("headers", {})}
        body = {
            "type": "about:blank",
            "title": "Problem",
            "status": status,
            "code": code,
            "detail": detail,
            **more,
        }
        return httpx2.Response(status, content=json.dumps(body), headers=headers)

    @staticmethod
    def page(rows: list[dict[str, Any]], *, has_more: bool = False, last_id: Any = None) -> dict[str, Any]:
        return {"object": "list", "data": rows, "has_more": has_more, "last_id": last_id}

    def bodies(self) -> list[Any]:
        return [json.loads(request.content) if request.content else None for request in self.requests]


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def client(server: FakeServer) -> Iterator[Perdure]:
    transport = httpx2.MockTransport(server)
    with Perdure("http://server.test", "secret", retry_seconds=5.0, transport=transport) as client:
        yield client


@pytest.fixture
def run(server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line against the fake server: exit code, stdout, stderr."""

    def connect(retry_seconds: float = 0.0) -> Perdure:
        return Perdure("http://server.test", retry_seconds=0.0, transport=httpx2.MockTransport(server))

    modules = (
        "datasets", "jobs", "reading", "submit", "watch", "download", "drill", "editing", "fleet", "webhooks",
        "predict", "compare",
    )  # fmt: skip
    for module in modules:
        monkeypatch.setattr(f"perdure.commands.{module}.connect", connect)

    def invoke(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["perdure", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        code = ended.value.code
        return code if isinstance(code, int) else 0, captured.out, captured.err

    return invoke


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "URL",
        "API_KEY",
        "API_KEYS",
        "HOME",
        "HOST",
        "PORT",
        "DEVICE",
        "DATABASE_URL",
        "BROKER_URL",
    ):
        monkeypatch.delenv(f"PERDURE_{name}", raising=False)
