"""Datasets through real processes: uploaded, checked by a light worker that is killed, trained on."""

import socket
import time
from typing import Any

import httpx2 as httpx
import pytest

from tests.archives import zipped
from tests.images import draw_dataset
from tests.servers.waiting import until
from tests.specs import full_fine_tune
from tests.stack import command_line, kill_tree, tree
from tests.torchvision_files import idx_files


@pytest.fixture
def stack(make_stack: Any) -> Any:
    # Nobody here waits for the end of a lease: who dies on this host is seen to be dead.
    with make_stack("sqlite", PERDURE_LEASE_SECONDS="600") as stack:
        stack.start_api()
        yield stack


def archive(stack: Any, **more: bytes) -> bytes:
    folder = draw_dataset(stack.home / "data/shapes", per_class=10)
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.jpg")}
    return zipped(files | more)


def upload(stack: Any, content: bytes) -> dict[str, Any]:
    headers = {"Content-Type": "application/zip"}
    answer = stack.http.post("/datasets", content=content, headers=headers, params={"name": "shapes"})
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


def checked(stack: Any, dataset_id: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        body: dict[str, Any] = stack.http.get(f"/datasets/{dataset_id}").json()
        return body if body["status"] != "checking" else None

    return until(look, seconds=60, what="the check of the dataset", every=0.1)


def test_an_upload_is_checked_though_its_light_worker_is_killed_and_then_trained_on(stack: Any) -> None:
    """Without any worker that trains: the check needs none."""
    dataset = upload(stack, archive(stack))
    assert "none is online" in dataset["status_reason"]
    spec = full_fine_tune(1, dataset={"id": dataset["id"]})
    refused = stack.http.post("/jobs", json=spec)
    assert (refused.status_code, refused.json()["code"]) == (409, "dataset_not_ready")

    light = stack.start_worker(arguments=["--light"])
    until(lambda: examining(light.pid), seconds=30, what="the check to begin")
    kill_tree(light.pid)
    stack.start_worker(arguments=["--light"])
    ready = checked(stack, dataset["id"])
    assert ready["status"] == "ready", ready
    assert ready["counts"]["all"] == {"circle": 10, "square": 10, "stripe": 10, "wave": 10}
    [folder] = (stack.home / "data/.uploads" / dataset["id"]).iterdir()
    assert folder.name == "files.attempt-2", "what the killed attempt unpacked is gone, and so is the archive"

    stack.start_worker()
    job = stack.await_status(stack.submit(spec), "succeeded")
    assert job["dataset"]["classes"] == ready["classes"]
    assert stack.http.delete(f"/datasets/{dataset['id']}").status_code == 204
    assert not folder.exists()

    broken = (stack.home / "data/shapes/wave/003.jpg").read_bytes()[:500]
    failed = checked(stack, upload(stack, archive(stack, **{"wave/broken.jpg": broken}))["id"])
    assert failed["status"] == "failed" and failed["error"]["code"] == "dataset_invalid"
    assert [problem["file"] for problem in failed["problems"]] == ["wave/broken.jpg"]
    refused = stack.http.post("/jobs", json=full_fine_tune(1, dataset={"id": failed["id"]}))
    assert (refused.status_code, refused.json()["code"]) == (422, "dataset_invalid")


def test_one_of_torchvisions_own_by_name_and_by_id(stack: Any) -> None:
    refused = stack.http.post("/jobs", json=full_fine_tune(1, dataset={"builtin": "mnist"}))
    assert (refused.status_code, refused.json()["code"]) == (422, "dataset_unavailable")
    idx_files(stack.home / "data/MNIST/raw")
    stack.start_worker()
    by_name = stack.submit(full_fine_tune(1, dataset={"builtin": "mnist"}))
    registered = stack.http.post("/datasets", json={"builtin": "mnist"}).json()
    stack.start_worker(arguments=["--light"])
    ready = checked(stack, registered["id"])
    assert ready["status"] == "ready", ready
    assert ready["counts"]["val"] == {"0 - zero": 1, "1 - one": 1}
    by_id = stack.submit(full_fine_tune(1, dataset={"id": ready["id"]}))
    jobs = [stack.await_status(job_id, "succeeded") for job_id in (by_name, by_id)]
    assert jobs[0]["weights_sha256"] == jobs[1]["weights_sha256"]
    assert jobs[0]["dataset"] == jobs[1]["dataset"] and jobs[0]["dataset"]["num_train"] == 4
    assert not any((stack.home / "data/.uploads/.builtin/.work").iterdir())


def test_a_form_is_taken_and_half_of_one_leaves_nothing(stack: Any) -> None:
    content = archive(stack)
    file = ("shapes.zip", content, "application/zip")
    answer = stack.http.post("/datasets", files={"file": file}, data={"name": "shapes"})
    assert answer.status_code == 202 and answer.json()["size_bytes"] == len(content)
    incoming = stack.home / "data/.uploads/.incoming"
    with socket.create_connection(("127.0.0.1", stack.port)) as sender:
        sender.sendall(
            b"POST /datasets HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.zip"\r\n\r\n' + bytes(10_000)
        )
        until(lambda: list(incoming.iterdir()), seconds=10, what="the upload to begin")
    until(lambda: not list(incoming.iterdir()), seconds=10, what="what was cut off to be gone")
    assert len(stack.rows("/datasets")) == 1


def examining(pid: int) -> bool:
    return any("worker.training.examine" in command_line(process) for process in tree(pid))


def test_an_endless_body_is_cut_off(make_stack: Any) -> None:
    with make_stack("sqlite", PERDURE_MAX_UPLOAD_BYTES="3000000") as stack:
        stack.start_api()
        sent = 0

        def endless() -> Any:
            nonlocal sent
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                sent += 2**16
                yield bytes(2**16)

        headers = {"Content-Type": "application/zip"}
        try:
            answer = stack.http.post("/datasets", content=endless(), headers=headers)
            assert answer.status_code == 413 and answer.json()["code"] == "upload_too_large"
        except httpx.TransportError:
            pass  # the connection was closed while we still sent, which is an answer, too
        assert sent < 100 * 2**20
        assert stack.rows("/datasets") == []
        uploads = stack.home / "data/.uploads"
        until(lambda: not [p for p in uploads.rglob("*") if p.is_file()], seconds=10, what="nothing left")
