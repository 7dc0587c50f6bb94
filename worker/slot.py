"""The share of this machine that one worker process trains on, found without torch."""

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.dataset_state import LIGHT
from models.settings import Settings
from worker.messages import Slot

#: From the widest down, as oneDNN picks its kernels; each name stands for the flags that it needs.
_INSTRUCTION_SETS = (
    ("amx", {"amx_tile", "amx_int8", "amx_bf16"}),
    ("avx512_bf16", {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_bf16"}),
    ("avx512_vnni", {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"}),
    ("avx512", {"avx512f", "avx512bw", "avx512vl", "avx512dq"}),
    ("avx2", {"avx2", "fma"}),
)


@dataclass(frozen=True)
class NoDevice:
    """What a light worker has in the place of a slot: it trains nothing."""

    device: str = LIGHT
    key: str = LIGHT
    threads: int = 1


def this_slot(settings: Settings) -> Slot:
    """The slot that the settings and the hardware make."""
    gpu = None if settings.device == "cpu" else _visible_gpu()
    device: Literal["cpu", "cuda"] = "cuda" if settings.device == "cuda" or gpu else "cpu"
    return Slot(
        device=device,
        threads=settings.threads or num_cores(),
        kind=(gpu or "unknown") if device == "cuda" else instruction_set(),
        loading_workers=settings.loading_workers,
    )


def num_cores() -> int:
    """The cores that this process may use: affinity and a container's quota considered."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(available, int(quota) // int(period)))
    except (OSError, ValueError):  # no such limit: the file is missing, or says "max"
        return available


def instruction_set() -> str:
    """The widest vector instructions of this CPU: what decides the last bits of a float32 sum."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine()
    flags = {
        flag
        for line in text.splitlines()
        if line.startswith(("flags", "Features"))
        for flag in line.partition(":")[2].split()
    }
    widest = next((name for name, needed in _INSTRUCTION_SETS if needed <= flags), "baseline")
    return f"{platform.machine()}-{widest}"


def _visible_gpu() -> str | None:
    """The model of the first GPU that CUDA_VISIBLE_DEVICES leaves, None without a driver."""
    index = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    query = ["nvidia-smi", f"--id={index}", "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
