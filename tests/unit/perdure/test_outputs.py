"""What jobs leave behind, from Python and from a terminal."""

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from perdure.client import Perdure
from perdure.errors import InvalidRequestError
from tests.unit.perdure.command_line import Run

PREDICTION = {
    "object": "prediction", "job_id": "job_1", "checkpoint_id": "ckpt_1", "epoch": 2,
    "predictions": [
        {"class": "da\x1b[2Jisy", "index": 0, "probability": 0.75},
        {"class": "[red]rose", "index": 1, "probability": 0.25},
    ],
}  # fmt: skip


def row(epoch: int, loss: float) -> dict[str, Any]:
    return {"epoch": epoch, "val_loss": loss, "val_accuracy": 1 - loss}


def comparison(epochs: list[int], *, has_more: bool = False) -> dict[str, Any]:
    results = {
        "status": "succeeded", "exact": True, "epochs_done": 2, "weights_sha256": "ab" * 32,
        "best": {"epoch": 2, "val_loss": 0.125, "val_accuracy": 0.875}, "last": row(2, 0.125),
    }  # fmt: skip
    jobs = [{"id": "job_1", **results}, {"id": "job_2", **results}]
    return {
        "object": "comparison", "jobs": jobs, "spec": [{"field": "seed", "values": [0, "[x]"]}],
        "same_dataset": True, "same_weights": True, "has_more": has_more, "last_id": epochs[-1],
        "epochs": [{"epoch": n, "metrics": [row(n, 0.5), None]} for n in epochs],
    }  # fmt: skip


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpeg"
    path.write_bytes(b"\xff\xd8picture")
    return path


def test_predict(client: Perdure, server: Any, image: Path) -> None:
    server.routes["POST /jobs/job_1/predict"] = PREDICTION
    found = client.jobs.predict("job_1", image, checkpoint="best", top_k=2)
    [sent] = server.requests
    assert sent.content == image.read_bytes() and sent.headers["content-type"] == "image/jpeg"
    assert dict(sent.url.params) == {"checkpoint": "best", "top_k": "2"}
    assert [each.probability for each in found.predictions] == [0.75, 0.25]
    client.jobs.predict("job_1", b"content")
    assert server.requests[-1].content == b"content"
    assert server.requests[-1].headers["content-type"] == "application/octet-stream"


def test_a_refused_image(client: Perdure, server: Any, image: Path) -> None:
    server.routes["POST /jobs/job_1/predict"] = lambda r: server.problem(422, "image_invalid", "It is none.")
    with pytest.raises(InvalidRequestError, match="It is none"):
        client.jobs.predict("job_1", image)
    assert len(server.requests) == 1


def test_a_model_that_is_being_loaded_is_awaited(server: Any, image: Path) -> None:
    """Beyond the patience with a server that is away."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if len(server.requests) < 4:
            return server.problem(503, "prediction_not_ready", "later", headers={"retry-after": "0.01"})
        return httpx2.Response(200, json=PREDICTION)

    server.routes["POST /jobs/job_1/predict"] = answer
    with Perdure("http://s.test", retry_seconds=0.0, transport=httpx2.MockTransport(server)) as client:
        assert client.jobs.predict("job_1", image).epoch == 2
    assert len(server.requests) == 4


def test_compare_joins_the_pages(client: Perdure, server: Any) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.url.params["ids"] == "job_1,job_2"
        is_first = request.url.params["after"] == "0"
        page = comparison([1, 2], has_more=True) if is_first else comparison([3])
        return httpx2.Response(200, json=page)

    server.routes["GET /jobs/compare"] = answer
    found = client.jobs.compare("job_1", "job_2")
    assert [each.epoch for each in found.epochs] == [1, 2, 3] and not found.has_more
    assert found.epochs[0].metrics[1] is None


def test_the_manifest(client: Perdure, server: Any) -> None:
    server.routes["GET /jobs/job_1/model"] = {
        "job_id": "job_1", "checkpoint": {"id": "ckpt_1"}, "arch": "resnet18", "classes": ["a", "b"],
    }  # fmt: skip
    assert client.jobs.model("job_1", checkpoint="best").classes == ["a", "b"]
    assert server.requests[-1].url.params["checkpoint"] == "best"


def test_predict_in_a_terminal(run: Run, server: Any, image: Path) -> None:
    server.routes["POST /jobs/job_1/predict"] = PREDICTION
    code, out, _ = run("predict", "job_1", str(image), str(image), "--top-k", "2")
    assert code == 0 and len(server.requests) == 2
    assert "0.7500" in out and "[red]rose" in out and "\x1b[2J" not in out
    code, out, _ = run("predict", "job_1", str(image), "--json")
    [found] = json.loads(out)
    assert found["file"] == str(image) and found["predictions"] == PREDICTION["predictions"]
    assert run("predict", "job_1", str(image) + ".not")[0] == 2
    assert run("predict", "job_1")[0] == 2


def test_compare_in_a_terminal(run: Run, server: Any) -> None:
    server.routes["GET /jobs/compare"] = comparison([1, 2])
    code, out, _ = run("compare", "job_1", "job_2")
    assert code == 0
    for text in ("job_1", "job_2", "seed", '"[x]"', "0.5000", "0.8750", "bit for bit"):
        assert text in out, out
    code, out, _ = run("compare", "job_1", "job_2", "--json")
    assert code == 0 and json.loads(out)["same_weights"] is True


def test_download_of_the_model(run: Run, server: Any, tmp_path: Path) -> None:
    server.routes["GET /jobs/job_1/model/content"] = lambda request: httpx2.Response(200, content=b"zip")
    code, out, _ = run("download", "job_1", "model", "--to", str(tmp_path), "--json")
    path = Path(json.loads(out)["path"])
    assert code == 0 and path.name == "job_1-last.zip" and path.read_bytes() == b"zip"
    code, out, _ = run("download", "job_1", "onnx", "--to", str(tmp_path), "--checkpoint", "best", "--json")
    assert code == 0 and Path(json.loads(out)["path"]).name == "job_1-best.onnx"
    assert dict(server.requests[-1].url.params) == {"checkpoint": "best", "format": "onnx"}
