"""The process that predicts: started on demand, one at a time, and nobody's answer depends on its health."""

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from models.settings import Settings
from tests.servers.waiting import until
from tests.unit.api.predictions.conftest import Oracle

JPEG = {"Content-Type": "image/jpeg"}


def ask(client: TestClient, url: str, content: bytes = b"picture") -> Any:
    return client.post(url, content=content, headers=JPEG)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_it_is_started_by_the_first_question_and_stays(client: TestClient, url: str, oracle: Oracle) -> None:
    assert not oracle.pids
    for _ in range(3):
        assert ask(client, url).status_code == 200
    assert len(oracle.pids) == 1


@pytest.mark.parametrize("limits", [{"idle_seconds": 0.2}])
def test_it_ends_when_nobody_asks(client: TestClient, url: str, oracle: Oracle) -> None:
    ask(client, url)
    until(lambda: is_gone(oracle.pids[0]), what="the process to end")
    assert ask(client, url).status_code == 200
    assert len(oracle.pids) == 2


@pytest.mark.parametrize("moment", ["asked", "idle"])
def test_a_killed_process_is_replaced(
    client: TestClient, url: str, oracle: Oracle, problem: Callable[..., Any], moment: str
) -> None:
    if moment == "asked":
        oracle.hold()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(ask, client, url)
            oracle.await_questions(1)
            os.kill(oracle.pids[0], signal.SIGKILL)
            problem(waiting.result(), 503, "prediction_failed")
            assert int(waiting.result().headers["retry-after"]) > 0
        oracle.let_go()
    else:
        ask(client, url)
        os.kill(oracle.pids[0], signal.SIGKILL)
        os.waitid(os.P_PID, oracle.pids[0], os.WEXITED | os.WNOWAIT)  # a kernel that is busy takes its time
    assert ask(client, url).status_code == 200
    assert len(oracle.pids) == 2


def test_an_image_that_crashes_it_harms_nobody_else(
    client: TestClient, url: str, problem: Callable[..., Any]
) -> None:
    body = problem(ask(client, url, b"crash"), 503, "prediction_failed")
    assert "secret" not in body["detail"]
    assert ask(client, url).status_code == 200


@pytest.mark.parametrize("limits", [{"limit_seconds": 0.5}])
def test_a_question_without_end_is_ended(
    client: TestClient, url: str, oracle: Oracle, problem: Callable[..., Any]
) -> None:
    oracle.hold()
    problem(ask(client, url), 503, "prediction_failed")
    assert is_gone(oracle.pids[0])
    oracle.let_go()
    assert ask(client, url).status_code == 200


@pytest.mark.parametrize("limits", [{"wait_seconds": 0.3}])
def test_who_waits_too_long_is_told_to_come_back(
    client: TestClient, url: str, oracle: Oracle, problem: Callable[..., Any]
) -> None:
    oracle.hold()
    for number in (1, 2):
        response = ask(client, url, b"question %d" % number)
        problem(response, 503, "prediction_not_ready")
        assert int(response.headers["retry-after"]) > 0
    oracle.let_go()
    until(lambda: ask(client, url, b"x").status_code == 200, what="an answer")
    assert len(oracle.pids) == 1
    assert not [asked for asked in oracle.asked if "question 2" in asked], "nobody waited for that any more"


@pytest.mark.parametrize("limits", [{"wait_seconds": 2.0}])
def test_images_that_wait_are_few(
    client: TestClient, job_id: str, url: str, oracle: Oracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seventh is not even read, and everything else is answered meanwhile."""
    monkeypatch.setattr("api.predicting.TURN_SECONDS", 0.1)
    oracle.hold()
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask, client, url) for _ in range(8)]
        assert client.get(f"/jobs/{job_id}").status_code == 200
        codes = {answer.result().json()["code"] for answer in answers}
        details = {answer.result().json()["detail"] for answer in answers}
    assert codes == {"prediction_not_ready"}
    assert any("Many images wait" in detail for detail in details)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("image_invalid", 422), ("checkpoint_damaged", 410), ("checkpoint_format_unknown", 503),
        ("torch_missing", 503), ("storage_failed", 503), ("internal_error", 503),
    ],
)  # fmt: skip
def test_what_it_reports_is_a_problem(
    client: TestClient, url: str, oracle: Oracle, problem: Callable[..., Any], code: str, status: int
) -> None:
    oracle.say(f'{{"code": "{code}", "message": "Do this or that."}}')
    expected = "prediction_failed" if code == "internal_error" else code
    assert problem(ask(client, url), status, expected)["detail"] == "Do this or that."
    assert len(oracle.pids) == 1


@pytest.mark.parametrize("said", ["", "no json", "[]", "null", "7", "{}", '{"predictions": 7}'])
def test_nonsense_is_a_failure(
    client: TestClient, url: str, oracle: Oracle, problem: Callable[..., Any], said: str
) -> None:
    oracle.say(said)
    problem(ask(client, url), 503, "prediction_failed")
    (oracle.folder / "say").unlink()
    assert ask(client, url).status_code == 200


def test_the_end_of_the_service_ends_it(
    oracle: Oracle, settings: Settings, client: TestClient, url: str, problem: Callable[..., Any]
) -> None:
    oracle.hold()
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(ask, client, url) for _ in range(2)]
        oracle.await_questions(1)
        client.app.state.services.predictor.close()  # type: ignore[attr-defined]
        answers = [each.result().json()["code"] for each in waiting]
    assert set(answers) <= {"prediction_failed", "prediction_not_ready"}
    assert is_gone(oracle.pids[0]) and len(oracle.pids) == 1
