"""What decides the bits is resolved by a fixed rule, kept, and compared in words."""

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import PIL
import pytest

from models.errors import NumericsUnavailable
from models.job_spec import JobSpec
from tests.unit.training.conftest import ENVIRONMENT
from worker.messages import Slot
from worker.training.fingerprint import differences, fingerprint
from worker.training.numerics import Numerics

CPU = Slot("cpu", threads=3, kind="avx2")


def spec(arch: str = "efficientnet_b1", **parts: Any) -> JobSpec:
    return JobSpec.model_validate({"dataset": {"path": "x"}, "model": {"arch": arch}, **parts})


def test_the_rule() -> None:
    numerics = Numerics.resolve(spec(), CPU)
    assert numerics == Numerics("cpu", 3, "float32", "channels_last", "fused", "avx2")
    for arch in ("vit_b_16", "swin_t", "maxvit_t"):
        assert Numerics.resolve(spec(arch), CPU).memory_format == "contiguous"
    half = spec(hyperparameters={"precision": "bfloat16"})
    assert Numerics.resolve(half, CPU).precision == "bfloat16"


def test_later_attempts_keep_them() -> None:
    stored = Numerics.resolve(spec(), CPU).to_json()
    assert Numerics.of_attempt(stored, spec(), Slot("cpu", threads=64, kind="amx")).to_json() == stored


def test_another_device() -> None:
    stored = replace(Numerics.resolve(spec(), CPU), device="cuda").to_json()
    assert Numerics.of_attempt(stored, spec(), CPU).device == "cpu"
    with pytest.raises(NumericsUnavailable):
        Numerics.of_attempt(stored, spec(resources={"device": "cuda"}), CPU)


def test_differences_are_sentences() -> None:
    now = fingerprint(Numerics.resolve(spec(), CPU), CPU, "d1")
    assert differences(None, now) == []
    assert differences(now, now) == []
    before = {**now, "torch": "2.13.0", "numerics": {**now["numerics"], "threads": 8}}
    assert differences(before, now) == ["CPU threads 8 → 3", f"torch 2.13.0 → {now['torch']}"]


def test_another_decoder_of_images_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(Numerics.resolve(spec(), CPU), CPU, "d1")
    monkeypatch.setattr(PIL, "__version__", "99.0")
    now = fingerprint(Numerics.resolve(spec(), CPU), CPU, "d1")
    assert differences(before, now) == [f"decoding of images {before['images']} → {now['images']}"]


def test_a_fingerprint_is_plain() -> None:
    found = fingerprint(Numerics.resolve(spec(), CPU), CPU, "d1")
    assert {type(value) for value in found.values()} <= {str, int, dict}


def test_importing_the_trainer_leaves_a_process_that_may_fork() -> None:
    """No thread and no op: a child forked after a multi-threaded convolution hangs."""
    code = """
import os
import worker.training.trainer
threads = len(os.listdir("/proc/self/task"))
assert threads == 1, threads
import torch
if os.fork() == 0:
    torch.set_num_threads(2)
    torch.nn.functional.conv2d(torch.randn(8, 16, 64, 64), torch.randn(16, 16, 3, 3))
    assert len(os.listdir("/proc/self/task")) > 1
    os._exit(7)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=ENVIRONMENT | os.environ, timeout=120)
