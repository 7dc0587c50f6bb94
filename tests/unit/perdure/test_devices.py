"""The machine's devices as slots."""

import pytest

from perdure.devices import Slot, find_gpus, slots
from perdure.errors import LocalStackError


def test_cores_are_shared_out_evenly() -> None:
    assert slots("cpu", None, gpus=[], cores=8) == [Slot("cpu", 8)]
    assert slots("auto", 3, gpus=[], cores=8) == [Slot("cpu", 2)] * 3
    assert slots("cpu", 4, gpus=[], cores=2) == [Slot("cpu", 1)] * 4


def test_one_worker_for_each_gpu() -> None:
    assert slots("auto", None, gpus=["0", "1"], cores=8) == [Slot("cuda", 4, "0"), Slot("cuda", 4, "1")]
    assert slots("cpu", None, gpus=["0", "1"], cores=8) == [Slot("cpu", 8)]


def test_more_workers_than_gpus_go_to_the_cpu_unless_cuda_is_asked_for() -> None:
    assert [slot.device for slot in slots("auto", 2, gpus=["0"], cores=8)] == ["cuda", "cpu"]
    with pytest.raises(LocalStackError, match="lower --workers"):
        slots("cuda", 2, gpus=["0"], cores=8)


def test_cuda_without_a_gpu_is_refused() -> None:
    with pytest.raises(LocalStackError, match="--device cpu"):
        slots("cuda", None, gpus=[], cores=8)


def test_gpus_that_were_hidden_stay_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-abc")
    assert find_gpus() == ["2", "GPU-abc"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert find_gpus() == []
