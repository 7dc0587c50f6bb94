"""Two stored files become one that needs nothing else; damaged ones are told, and never parsed."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.errors import CheckpointDamaged
from tests.unit.training.conftest import ENVIRONMENT
from tests.unit.training.jobs import Job
from worker.messages import CheckpointWritten, FileRef, Finished
from worker.training import checkpoint
from worker.training.materialise import materialise
from worker.training.network import torchvision_network
from worker.training.weights_hash import weights_sha256


@pytest.fixture
def job(new_job: Callable[..., Job]) -> Job:
    return new_job(epochs=1, freeze="backbone")


def hashes(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def parts(written: CheckpointWritten) -> tuple[FileRef, FileRef]:
    assert written.frozen is not None
    return written.file, written.frozen


@pytest.mark.parametrize("freeze", ["backbone", 3])
def test_it_holds_everything_in_the_networks_order(
    new_job: Callable[..., Job], tmp_path: Path, freeze: Any
) -> None:
    job = new_job(epochs=1, freeze=freeze)
    trainer = job.run()
    written = trainer.only(CheckpointWritten)
    before = hashes(job.store)
    target = tmp_path / "whole.pth"
    made = materialise(job.store.as_uri(), *parts(written), target)
    content = target.read_bytes()
    assert (made.size_bytes, made.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert made.modified_ns == target.stat().st_mtime_ns
    whole = torch.load(target, weights_only=True)
    network = torchvision_network("mobilenet_v3_small", 32)
    assert list(whole["model_state_dict"]) == list(network.state_dict())
    assert weights_sha256(whole["model_state_dict"]) == trainer.only(Finished).weights_sha256
    stored = torch.load(job.file(written), weights_only=True)
    assert whole["frozen"] is None and whole.keys() == stored.keys()
    assert whole["fingerprint"] == stored["fingerprint"] and whole["epoch"] == 1
    assert hashes(job.store) == before, "what is stored stays as it is"
    again = materialise(job.store.as_uri(), *parts(written), tmp_path / "again.pth")
    assert again.sha256 == made.sha256, "so that an ETag outlives the cache"
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("which", [0, 1], ids=["checkpoint", "frozen part"])
def test_a_damaged_part_is_told_before_anything_is_parsed(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    refs = parts(job.run().only(CheckpointWritten))
    file = job.store / refs[which].path
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    parsed: list[object] = []
    monkeypatch.setattr(checkpoint, "parse", parsed.append)
    with pytest.raises(CheckpointDamaged, match=r"SHA-256.*another checkpoint"):
        materialise(job.store.as_uri(), *refs, tmp_path / "whole.pth")
    file.unlink()
    with pytest.raises(CheckpointDamaged, match="missing"):
        materialise(job.store.as_uri(), *refs, tmp_path / "whole.pth")
    assert not parsed and not list(tmp_path.glob("whole*"))


# -- As a process --------------------------------------------------------------------------------------


def ask(request: dict[str, Any], *before: str) -> "subprocess.CompletedProcess[str]":
    """The module as the API starts it; ``before`` is code that runs first."""
    code = "; ".join(
        [*before, "import runpy", "runpy.run_module('worker.training.materialise', {}, '__main__')"]
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps({"parent_pid": os.getpid()} | request),
        capture_output=True, text=True, check=False, env=ENVIRONMENT,
    )  # fmt: skip


def request(job: Job, refs: tuple[FileRef, FileRef], target: Path) -> dict[str, Any]:
    return {
        "storage_url": job.store.as_uri(), "kind": "checkpoint", "job_id": "job_1", "checkpoint_id": "ckpt_1",
        "checkpoint": vars(refs[0]), "frozen": vars(refs[1]), "destination": str(target),
    }  # fmt: skip


def request_of_nothing(tmp_path: Path) -> dict[str, Any]:
    """For files that are not there, in a store that is."""
    (tmp_path / "jobs").mkdir()
    ref = {"path": "jobs/x", "sha256": "00" * 32, "size_bytes": 1}
    return {
        "storage_url": tmp_path.as_uri(), "kind": "checkpoint", "job_id": "job_1", "checkpoint_id": "ckpt_1",
        "checkpoint": ref, "frozen": ref, "destination": str(tmp_path / "w"),
    }  # fmt: skip


def test_its_answers_are_one_line(job: Job, tmp_path: Path) -> None:
    refs, target = parts(job.run().only(CheckpointWritten)), tmp_path / "whole.pth"
    good = ask(request(job, refs, target))
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()

    packed = ask({**request(job, refs, tmp_path / "model.zip"), "kind": "model"})
    assert (
        json.loads(packed.stdout)["sha256"]
        == hashlib.sha256((tmp_path / "model.zip").read_bytes()).hexdigest()
    )
    with zipfile.ZipFile(tmp_path / "model.zip") as model:
        said = json.loads(model.read("manifest.json"))
    assert said["checkpoint_id"] == "ckpt_1"
    whole = torch.load(target, weights_only=True)["model_state_dict"]
    assert said["weights_sha256"] == weights_sha256(whole), "with what is stored apart"

    wrong = (refs[0], replace(refs[1], sha256="00" * 32))
    damaged = ask(request(job, wrong, tmp_path / "other.pth"))
    assert damaged.returncode == 1
    assert json.loads(damaged.stdout)["code"] == "checkpoint_damaged"

    nowhere = ask(request(job, refs, tmp_path / "no such folder/whole.pth"))
    assert json.loads(nowhere.stdout)["code"] == "download_failed"
    assert [path.name for path in tmp_path.glob("*.pth*")] == ["whole.pth"]


def test_without_torch_it_says_what_to_install(tmp_path: Path) -> None:
    asked = request_of_nothing(tmp_path)
    done = ask(
        asked,
        "import sys, importlib.abc",
        "F = type('F', (importlib.abc.MetaPathFinder,), {'find_spec': lambda s, n, p, t=None: "
        "(_ for _ in ()).throw(ModuleNotFoundError('none', name=n)) if n == 'torch' else None})",
        "sys.meta_path.insert(0, F())",
    )
    answer = json.loads(done.stdout)
    assert done.returncode == 1 and answer["code"] == "torch_missing" and "worker extra" in answer["message"]


def test_nobody_works_for_a_parent_that_is_gone(tmp_path: Path) -> None:
    asked = request_of_nothing(tmp_path)
    assert json.loads(ask(asked).stdout)["code"] == "checkpoint_damaged"
    done = ask(asked | {"parent_pid": 1})
    assert done.returncode == 1 and not done.stdout
