"""What a user downloads of a job with a frozen backbone: one file that any notebook goes on with."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psutil
import pytest

from perdure import Perdure
from perdure.errors import GoneError
from tests.images import draw_dataset
from tests.independent import weights_sha256_of
from tests.results import metrics_of
from tests.servers.waiting import until
from tests.stack import Stack, command_line

SPEC: dict[str, Any] = {
    "dataset": {"path": "shapes"},
    "model": {"arch": "efficientnet_b1", "weights": None, "freeze": "backbone", "dropout": 0.3},
    "hyperparameters": {"epochs": 2, "optimizer": "adam", "lr": 0.01, "image_size": 64, "batch_size": 16},
}

#: A random backbone gives next to nothing; with statistics of some images, every layer of it matters.
BACKBONE = """
import sys, torch, torchvision
from torchvision.transforms import v2
torch.manual_seed(1)
torch.set_num_threads(1)
model = torchvision.models.efficientnet_b1()
for module in model.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
        module.momentum = None
transform = v2.Compose([v2.Resize((64, 64)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
images = torchvision.datasets.ImageFolder(sys.argv[1], transform)
with torch.no_grad():
    for pixels, _ in torch.utils.data.DataLoader(images, batch_size=22, shuffle=True):
        model(4 * pixels - 2)
# Enough of the random layers' own growth taken back that the last bits of a sum stay the last bits.
for module in model.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
        module.weight.data.mul_(0.5)
torch.save(model.state_dict(), sys.argv[2])
"""

#: Five lines that any notebook has.
LOAD = """
checkpoint = torch.load(sys.argv[1], weights_only=True)
model.load_state_dict(checkpoint["model_state_dict"])
optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
epoch = checkpoint["epoch"]
model.eval()
"""

#: Around them the network with its new head and a new Adam, and the usual validation loop.
NOTEBOOK = f"""
import json, sys
import torch, torchvision
from torch import nn
from torchvision.transforms import v2
torch.set_num_threads(1)
model = torchvision.models.efficientnet_b1()
model.classifier = nn.Sequential(nn.Dropout(p=0.3), nn.Linear(1280, 4))
optimizer = torch.optim.Adam(model.classifier.parameters(), lr=0.01)
{LOAD}
assert not [name for name in sys.modules if name.partition(".")[0] in ("api", "models", "perdure", "worker")]
transform = v2.Compose([
    v2.Resize(73, antialias=True), v2.CenterCrop(64), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
    v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
])
images = torchvision.datasets.ImageFolder(sys.argv[2], transform)
assert images.classes == checkpoint["classes"]
@torch.no_grad()
def validate(model, prepare=lambda pixels: pixels):
    total = 0.0
    for pixels, labels in torch.utils.data.DataLoader(images, batch_size=16):
        pixels = prepare(pixels)
        total += float(nn.functional.cross_entropy(model(pixels), labels)) * len(labels)
    return total / len(images)
loss = validate(model)
# As the trainer computes on a CPU: for the last bit the order of sums has to be the same.
images.transform = v2.Compose([v2.Resize(73, antialias=True), v2.CenterCrop(64), v2.PILToTensor()])
mean = 255 * torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
std = 255 * torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)
def prepare(pixels):
    return pixels.contiguous(memory_format=torch.channels_last).float().sub_(mean).mul_(1.0 / std)
model.to(memory_format=torch.channels_last)
exact = validate(model, prepare)
for name, buffer in model.named_buffers():
    if name.endswith("running_mean"):
        buffer += 0.001
steps = [state["step"].item() for state in optimizer.state.values()]
print(json.dumps({{
    "loss": loss, "exact": exact, "of_another_backbone": validate(model, prepare),
    "epoch": epoch, "steps": steps,
}}))
"""


@pytest.fixture
def stack(make_stack: Any) -> Iterator[Stack]:
    with make_stack("sqlite") as stack:
        drawn = draw_dataset(stack.home / "drawn", per_class=16)
        for kind in drawn.iterdir():
            for number, image in enumerate(sorted(kind.iterdir())):
                target = stack.home / "data/shapes" / ("val" if number < 5 else "train") / kind.name
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy(image, target)
        stack.start_api()
        stack.start_worker()
        yield stack


def stored(stack: Stack) -> dict[str, str]:
    folder = stack.home / "storage"
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*.pth")}


def materialising(stack: Stack) -> list[psutil.Process]:
    assert stack.api is not None
    return [
        process
        for process in psutil.Process(stack.api.pid).children()
        if "materialise" in command_line(process)
    ]


def num_started(stack: Stack) -> int:
    assert stack.api is not None
    return stack.log_of(stack.api).count("materialise.started")


@pytest.mark.long
def test_a_head_only_job_as_any_notebook_loads_it(stack: Stack, tmp_path: Path, record_property: Any) -> None:
    subprocess.run(
        [
            sys.executable,
            "-c",
            BACKBONE,
            str(stack.home / "data/shapes/train"),
            str(stack.home / "data/b1.pth"),
        ],
        check=True,
    )
    job_id = stack.submit(SPEC | {"model": SPEC["model"] | {"weights": {"file": "b1.pth"}}})
    job = stack.await_status(job_id, "succeeded")
    before = stored(stack)
    rows = stack.rows(f"/jobs/{job_id}/checkpoints")
    assert all(row["size_bytes"] < 1_000_000 for row in rows), "the backbone is stored once, beside them"

    # Twenty users at once, and none of them waits for more than one process.
    url = f"/jobs/{job_id}/checkpoints/last/content"
    began_at = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: stack.http.get(url), range(20)))
    first_seconds = time.monotonic() - began_at
    assert {answer.status_code for answer in answers} == {200}
    [content] = {answer.content for answer in answers}
    assert num_started(stack) == 1
    began_at = time.monotonic()
    again = stack.http.get(url)
    record_property("seconds", {"first": first_seconds, "cached": time.monotonic() - began_at})
    print(f"20 first downloads {first_seconds:.2f} s, one more {time.monotonic() - began_at:.3f} s")
    assert again.content == content and len(content) > 20_000_000
    assert again.headers["etag"] == f'"{hashlib.sha256(content).hexdigest()}"'

    part = stack.http.get(url, headers={"Range": "bytes=1000000-1999999", "If-Range": again.headers["etag"]})
    assert part.status_code == 206 and part.content == content[1_000_000:2_000_000]
    assert stack.http.get(url, headers={"If-None-Match": again.headers["etag"]}).status_code == 304

    with Perdure(stack.url) as client:
        model = client.jobs.download_checkpoint(job_id, "last", tmp_path / "model.pth")
    assert model.read_bytes() == content
    assert weights_sha256_of(model) == job["weights_sha256"]

    done = subprocess.run(
        [sys.executable, "-I", "-c", NOTEBOOK, str(model), str(stack.home / "data/shapes/val")],
        capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    recorded = metrics_of(stack, job_id)["epoch"][-1]["val_loss"]
    print(f"validation loss {recorded!r} recorded, {said['loss']!r} in the notebook, {said}")
    assert said["loss"] == pytest.approx(recorded, rel=2e-6)
    assert said["exact"] == recorded
    assert abs(said["of_another_backbone"] - recorded) > 1e-4, (
        "a slightly different backbone would be noticed"
    )
    assert said["epoch"] == 2 and said["steps"] == [job["progress"]["steps"]] * 2
    assert stored(stack) == before, "downloads leave what is stored as it is"
    assert num_started(stack) == 1


@pytest.mark.long
def test_kills_and_damage(stack: Stack, tmp_path: Path) -> None:
    job_id = stack.submit(SPEC | {"model": SPEC["model"] | {"arch": "mobilenet_v3_small"}})
    job = stack.await_status(job_id, "succeeded")
    last, before_last = stack.rows(f"/jobs/{job_id}/checkpoints")
    url = f"/jobs/{job_id}/checkpoints/last/content"

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(stack.http.get, url)
        [process] = until(lambda: materialising(stack), what="the process", every=0.005)
        process.send_signal(signal.SIGKILL)
        killed = waiting.result()
    assert killed.status_code == 503 and killed.json()["code"] == "download_failed"
    assert int(killed.headers["retry-after"]) > 0

    # The API itself: its process goes with it, and the next API clears away what that left.
    assert stack.api is not None
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(stack.http.get, url)
        [process] = until(lambda: materialising(stack), what="the process", every=0.005)
        stack.api.kill()
        stack.api.wait()
        process.wait(5)
        with pytest.raises(httpx.TransportError):
            waiting.result()
    assert not list((stack.home / "cache/materialised").glob("*.pth")), "nobody finishes for nobody"
    left = stack.home / "cache/materialised/ckpt_1.pth.0.partial"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(b"half")
    os.utime(left, (1e9, 1e9))
    stack.start_api()
    assert not left.exists()

    with Perdure(stack.url) as client:
        model = client.jobs.download_checkpoint(job_id, "last", tmp_path / "m.pth")
        assert weights_sha256_of(model) == job["weights_sha256"]

        # Cached files are served on; what has to be put together from damaged parts is not.
        [frozen] = (stack.home / f"storage/jobs/{job_id}/frozen").glob("*.pth")
        content = frozen.read_bytes()
        frozen.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        damaged = stack.http.get(f"/jobs/{job_id}/checkpoints/{before_last['id']}/content")
        assert damaged.status_code == 410 and damaged.json()["code"] == "checkpoint_damaged"
        assert "another checkpoint" in damaged.json()["detail"]
        with pytest.raises(GoneError):
            client.jobs.download_checkpoint(job_id, before_last["id"], tmp_path / "n.pth")
        assert stack.http.get(f"/jobs/{job_id}/checkpoints/{last['id']}/content").status_code == 200
        frozen.write_bytes(content)
        client.jobs.download_checkpoint(job_id, before_last["id"], tmp_path / "n.pth")
    assert not list((stack.home / "cache/materialised").glob("*.partial"))
