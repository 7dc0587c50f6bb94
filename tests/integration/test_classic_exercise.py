"""The exercise of many a course: EfficientNet-B1, frozen features, a new head, four epochs, four more."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.images import draw_dataset
from tests.independent import weights_sha256_of
from tests.results import download_model, metrics_of

SPEC: dict[str, Any] = {
    "dataset": {"path": "shapes"},
    "model": {"arch": "efficientnet_b1", "weights": None, "freeze": "backbone", "dropout": 0.3},
    "hyperparameters": {"epochs": 4, "optimizer": "adam", "lr": 0.001, "image_size": 64, "batch_size": 16},
    "fault_tolerance": {"keep_last": 8},
}

#: As a notebook would load it, with torch and torchvision alone.
NOTEBOOK = """
import sys, torch, torchvision
from torch import nn
model = torchvision.models.efficientnet_b1()
model.classifier = nn.Sequential(nn.Dropout(p=0.3), nn.Linear(1280, 4))
optimizer = torch.optim.Adam(model.classifier.parameters(), lr=0.001)
checkpoint = torch.load(sys.argv[1], weights_only=True)
model.load_state_dict(checkpoint["model_state_dict"])
optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
print(checkpoint["epoch"], sum(state["step"].item() for state in optimizer.state.values()))
"""


def test_four_epochs_and_four_more(make_stack: Any, tmp_path: Path) -> None:
    with make_stack("sqlite") as stack:
        draw_dataset(stack.home / "data/shapes", per_class=20)
        stack.start_api()
        stack.start_worker()
        job_id = stack.submit(SPEC)
        first = stack.await_status(job_id, "succeeded")
        checkpoints = stack.rows(f"/jobs/{job_id}/checkpoints")
        assert sorted(row["epoch"] for row in checkpoints) == [1, 2, 3, 4]
        downloaded = download_model(stack, job_id, tmp_path / "four.pth")
        assert weights_sha256_of(downloaded) == first["weights_sha256"]
        steps = first["progress"]["steps"]
        notebook = subprocess.run(
            [sys.executable, "-I", "-c", NOTEBOOK, str(downloaded)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert notebook.stdout.split() == ["4", str(float(2 * steps))]  # the head's weight and bias

        answer = stack.http.post(f"/jobs/{job_id}/extend", json={"additional_epochs": 4})
        assert answer.status_code == 202, answer.text
        second = stack.await_status(job_id, "succeeded")
        assert second["progress"]["epochs"] == 8
        epochs = metrics_of(stack, job_id)["epoch"]
        assert [row["epoch"] for row in epochs] == list(range(1, 9))
        [verified] = [e for e in stack.rows(f"/jobs/{job_id}/events") if e["type"] == "resume.verified"]
        assert verified["data"]["recomputed"] == verified["data"]["recorded"] == epochs[3]["val_loss"]
        assert verified["data"]["equal"] is True
