"""How this machine's devices are shared out: one worker for each GPU, or for each share of the cores."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from perdure.errors import LocalStackError


@dataclass(frozen=True)
class Slot:
    """What one worker gets."""

    device: str
    threads: int
    gpu: str | None = None  #: its name in CUDA_VISIBLE_DEVICES


def slots(
    device: str, workers: int | None, *, gpus: list[str] | None = None, cores: int | None = None
) -> list[Slot]:
    """One slot for each worker. Raises LocalStackError for what this machine cannot do.

    Without a number of workers: one for each GPU, or a single one on the CPU. The threads of a slot follow
    from the machine and the number of workers alone, since they decide the last bits of every result.
    """
    gpus = (find_gpus() if gpus is None else gpus) if device != "cpu" else []
    cores = cores or num_cores()
    if device == "cuda" and not gpus:
        raise LocalStackError("No NVIDIA GPU was found (`nvidia-smi -L` lists none); use --device cpu.")
    count = workers or len(gpus) or 1
    if device == "cuda" and count > len(gpus):
        raise LocalStackError(
            f"This machine has {len(gpus)} GPU(s), and each worker needs one; lower --workers."
        )
    threads = max(1, cores // count)
    return [
        Slot("cuda", threads, gpus[index]) if index < len(gpus) else Slot("cpu", threads)
        for index in range(count)
    ]


def find_gpus() -> list[str]:
    """The GPUs that we may use, by their names for CUDA_VISIBLE_DEVICES; asks no torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in {"", "-1"}]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        listing = subprocess.run(
            [program, "-L"], capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(index) for index, line in enumerate(filter(_is_gpu, listing.splitlines()))]


def num_cores() -> int:
    """The cores that this process may use: affinity and a container's quota considered."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(available, int(quota) // int(period)))
    except (OSError, ValueError):  # no such limit: the file is missing, or says "max"
        return available


def _is_gpu(line: str) -> bool:
    return line.startswith("GPU ")
