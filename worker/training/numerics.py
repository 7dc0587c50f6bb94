"""What decides the bits besides data and seed: resolved once a job, stored with it, applied by every attempt.

A fixed rule from spec and slot, never from the load of the moment: an attempt that chose other threads or
another memory format would end with other weights.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import torch

from models.errors import NumericsUnavailable
from models.job_spec import JobSpec
from worker.messages import Slot

#: Their tensors are not images most of the way, so the layout of images only costs them copies.
_TRANSFORMERS = ("vit", "swin", "maxvit")


@dataclass(frozen=True)
class Numerics:
    device: Literal["cpu", "cuda"]
    threads: int
    precision: Literal["float32", "bfloat16"]
    memory_format: Literal["contiguous", "channels_last"]
    optimizer_impl: Literal["fused", "foreach", "single"]
    isa: str  #: instruction set of the CPU or model of the GPU at the first attempt
    micro_batches: int = 1  #: parts that a batch is computed in, where memory is too small for all of it
    cudnn_benchmark: bool = False
    tf32: bool = False

    @classmethod
    def resolve(cls, spec: JobSpec, slot: Slot) -> Self:
        precision = spec.hyperparameters.precision
        if precision == "auto":
            precision = "bfloat16" if slot.device == "cuda" and torch.cuda.is_bf16_supported() else "float32"
        return cls(
            device=slot.device,
            threads=slot.threads,
            precision=precision,
            memory_format="contiguous" if spec.model.arch.startswith(_TRANSFORMERS) else "channels_last",
            optimizer_impl="fused",
            isa=slot.kind,
        )

    @classmethod
    def of_attempt(cls, stored: dict[str, Any] | None, spec: JobSpec, slot: Slot) -> Self:
        """Those of the job; resolved anew at its first attempt, or where this worker has no such device."""
        if stored is None or (stored["device"] != slot.device and spec.resources.device == "auto"):
            return cls.resolve(spec, slot)
        numerics = cls(**stored)
        if numerics.device != slot.device:
            raise NumericsUnavailable(
                f"The job computes on {numerics.device!r}, but this worker has {slot.device!r}."
            )
        return numerics

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def apply(self) -> torch.device:
        """Set up this process; once, before anything is computed.

        What libraries read from the environment as they load is set where the process is started.
        """
        torch.set_num_threads(self.threads)
        # Warnings only: a CUDA kernel without a deterministic version would otherwise fail the job.
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = self.cudnn_benchmark
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = self.tf32
        torch.backends.cuda.matmul.allow_tf32 = self.tf32
        return torch.device(self.device)

    @property
    def format(self) -> torch.memory_format:
        return torch.channels_last if self.memory_format == "channels_last" else torch.contiguous_format

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bfloat16")
