"""One job, asked about its validation images: by POST predict, and by the model's zip in an empty folder."""

import json
import math
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import psutil
import pytest
from PIL import Image

from models.host import ProcessId
from perdure import Perdure
from tests.images import CLASSES, draw_dataset
from tests.independent import weights_sha256_of
from tests.results import metrics_of
from tests.servers.waiting import until
from tests.stack import Stack, command_line
from worker.training.images import evaluation_transform

#: A frozen backbone, so that the model is put together; a rate at which the classes are told apart.
SPEC: dict[str, Any] = {
    "dataset": {"path": "shapes"},
    "model": {"arch": "mobilenet_v3_small", "weights": None, "freeze": 2, "dropout": 0.3},
    "hyperparameters": {"epochs": 3, "lr": 0.01, "image_size": 48, "batch_size": 8},
}


@pytest.fixture
def stack(make_stack: Any) -> Iterator[Stack]:
    with make_stack("sqlite") as stack:
        for name, seed in (("train", 1), ("val", 2)):
            draw_dataset(stack.home / "data/shapes" / name, per_class=6, seed=seed)
        stack.start_api()
        stack.start_worker()
        yield stack


def predictors(stack: Stack) -> list[psutil.Process]:
    assert stack.api is not None
    children = psutil.Process(stack.api.pid).children()
    return [process for process in children if "training.predictor" in command_line(process)]


@pytest.mark.long
@pytest.mark.timeout(600)  # the conversion to ONNX stands behind whatever else the machine does
def test_the_zip_the_service_and_validation_agree(stack: Stack, tmp_path: Path) -> None:
    job_id = stack.submit(SPEC)
    job = stack.await_status(job_id, "succeeded")
    images = sorted((stack.home / "data/shapes/val").rglob("*.jpg"))
    assert not predictors(stack), "started by the first question alone"

    with Perdure(stack.url) as client:
        asked = [client.jobs.predict(job_id, image, top_k=10) for image in images]
        packed = client.jobs.download_model(job_id, tmp_path / "model.zip")
        as_onnx = client.jobs.download_model(job_id, tmp_path / "model.onnx", format="onnx")
        whole = client.jobs.download_checkpoint(job_id, "last", tmp_path / "whole.pth")
        described = client.jobs.model(job_id)
    by_service = [{each.name: each.probability for each in found.predictions} for found in asked]
    assert all(set(found) == set(CLASSES) for found in by_service)

    # As validation: the recorded loss and accuracy are those of these probabilities.
    recorded = metrics_of(stack, job_id)["epoch"][-1]
    labels = [image.parent.name for image in images]
    losses = [-math.log(found[label]) for found, label in zip(by_service, labels, strict=True)]
    assert sum(losses) / len(losses) == pytest.approx(recorded["val_loss"], abs=1e-5)
    guesses = [found.predictions[0].name for found in asked]
    right = [guess == label for guess, label in zip(guesses, labels, strict=True)]
    assert sum(right) / len(right) == recorded["val_accuracy"]
    assert len({round(loss, 3) for loss in losses}) > 1, "an answer depends on the image"

    # The zip, in an empty folder, by an interpreter that finds nothing of Perdure.
    folder = tmp_path / "empty"
    zipfile.ZipFile(packed).extractall(folder)
    names = {path.name for path in folder.iterdir()}
    assert names == {"manifest.json", "model.safetensors", "predict.py"}
    done = subprocess.run(
        [sys.executable, "-I", "predict.py", *map(str, images), "--json", "--top-k", "10"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [each["file"] for each in said] == [str(image) for image in images]
    for each, found in zip(said, asked, strict=True):
        assert len(each["predictions"]) == len(CLASSES)
        for alone, entry in zip(each["predictions"], found.predictions, strict=True):
            assert alone["class"] == entry.name
            assert alone["probability"] == pytest.approx(entry.probability, abs=1e-5)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["weights_sha256"] == job["weights_sha256"] == weights_sha256_of(whole)
    assert manifest["classes"] == described.classes == list(CLASSES)
    assert manifest["preprocessing"] | described.preprocessing == manifest["preprocessing"]

    # The ONNX file, by a runtime without torch.
    session = onnxruntime.InferenceSession(as_onnx)
    shown = evaluation_transform(manifest["image_size"])
    pixels = np.stack([shown(Image.open(image).convert("RGB")).numpy() for image in images])
    [probabilities] = session.run(None, {"pixels": pixels})
    for row, found in zip(probabilities, by_service, strict=True):
        assert dict(zip(manifest["classes"], row.tolist(), strict=True)) == pytest.approx(found, abs=1e-4)
    assert json.loads(session.get_modelmeta().custom_metadata_map["manifest"]) == manifest

    # A process that is killed is replaced, and the API takes its own along.
    [process] = predictors(stack)
    assert "PERDURE_DATABASE_URL" not in process.environ()
    killed = ProcessId.of(process.pid)
    process.kill()
    until(lambda: not killed.is_alive(), what="the predictor to be dead")
    with Perdure(stack.url) as client:
        assert client.jobs.predict(job_id, images[0], top_k=10).predictions == asked[0].predictions
    [process] = predictors(stack)
    orphaned = ProcessId.of(process.pid)
    assert stack.api is not None
    stack.api.kill()
    stack.api.wait()
    until(lambda: not orphaned.is_alive(), what="the predictor to follow its API")
