"""What learns: a network with its optimizer, one step or one pass of validation at a time."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

from models.errors import NonFiniteLoss
from models.job_spec import JobSpec
from worker.training.data import Batch
from worker.training.freezing import Freezing
from worker.training.images import Normalisation
from worker.training.network import Classifier
from worker.training.numerics import Numerics
from worker.training.optimization import build_optimizer, set_learning_rate
from worker.training.randomness import seed_step
from worker.training.snapshot import Snapshot, one_thread


class Learner:
    """Its results are a function of its state, the batch and (seed, step), whatever was computed before."""

    def __init__(
        self, classifier: Classifier, spec: JobSpec, numerics: Numerics, device: torch.device
    ) -> None:
        hyperparameters = spec.hyperparameters
        self._seed, self._device, self._numerics = spec.seed, device, numerics
        self.network = classifier.module.to(device).to(memory_format=numerics.format)
        self._freezing = Freezing(classifier, spec.model.freeze)
        self._optimizer = build_optimizer(self.network.parameters(), hyperparameters, numerics.optimizer_impl)
        self._criterion = nn.CrossEntropyLoss(label_smoothing=hyperparameters.label_smoothing)
        self._normalise = Normalisation(device, numerics.format)
        self._frozen = self._freezing.frozen_tensors()
        pinned = device.type == "cuda"
        self._model_copy = Snapshot(contiguous=True, pinned=pinned)
        self._optimizer_copy = Snapshot(pinned=pinned)

    def train(self) -> None:
        """Before the steps of an epoch: validation leaves the network in eval mode."""
        self._freezing.train()

    def step(self, batch: Batch, step: int, learning_rate: float) -> tuple[torch.Tensor, torch.Tensor]:
        """One optimizer update; ``step`` is 1-based. The batch's mean loss and number of correct answers."""
        set_learning_rate(self._optimizer, learning_rate)
        seed_step(self._seed, step, self._device)
        losses, correct = [], []
        for pixels, labels in self._parts(batch):
            with self._numerics.autocast():
                logits = self.network(self._normalise(pixels))
                # Its share of the batch's mean: the gradients of all parts add up to that of the batch.
                loss = self._criterion(logits, labels) * (len(labels) / len(batch.labels))
            loss.backward()
            losses.append(loss.detach())
            correct.append((logits.detach().argmax(1) == labels).sum())
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return torch.stack(losses).sum(), torch.stack(correct).sum()

    def _parts(self, batch: Batch) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """One part, unless memory was too small; never of a single sample: BatchNorm needs two."""
        parts = max(1, min(self._numerics.micro_batches, len(batch.labels) // 2))
        labels = self._move(batch.labels)
        yield from zip(batch.pixels.tensor_split(parts), labels.tensor_split(parts), strict=True)

    @torch.inference_mode()
    def evaluate(self, batches: Iterable[Batch]) -> tuple[float, float]:
        """Mean loss and accuracy; equal only for equal batches, since their sizes decide last bits."""
        self.network.eval()
        total_loss, correct, samples = 0.0, 0, 0
        for batch in batches:
            labels = self._move(batch.labels)
            with self._numerics.autocast():
                logits = self.network(self._normalise(batch.pixels))
                loss = self._criterion(logits, labels)
            total_loss += float(loss) * len(labels)
            correct += int((logits.argmax(1) == labels).sum())
            samples += len(labels)
        return total_loss / samples, correct / samples

    def snapshot(self) -> dict[str, Any]:
        """Copies of what changes, overwritten by the next call."""
        self._expect_finite_weights()
        optimizer = self._optimizer.state_dict()
        return {
            "model_state_dict": self._model_copy.take(self._part(frozen=False)),
            # The implementation belongs to the numerics, not to the state: fused Adam computes nonsense,
            # without a word, for parameters whose memory format differs from their moments'.
            "optimizer_state_dict": self._optimizer_copy.take(
                {**optimizer, "param_groups": _with_implementation(optimizer, None)}
            ),
        }

    def frozen_tensors(self) -> dict[str, torch.Tensor]:
        """What never changes, on the CPU, in the usual order of elements."""
        return {name: tensor.cpu().contiguous() for name, tensor in self._part(frozen=True).items()}

    def checkpoint_bytes(self) -> int:
        """About the size of one checkpoint, before the optimizer has any state."""
        learning = sum(p.numel() * p.element_size() for p in self.network.parameters() if p.requires_grad)
        moments = 1 if isinstance(self._optimizer, torch.optim.SGD) else 2
        return moments * learning + _bytes_of(self._part(frozen=False))

    def frozen_bytes(self) -> int:
        return _bytes_of(self._part(frozen=True))

    def restore_optimizer(self, state_dict: dict[str, Any]) -> None:
        groups = _with_implementation(state_dict, self._numerics.optimizer_impl)
        self._optimizer.load_state_dict({**state_dict, "param_groups": groups})

    def _part(self, *, frozen: bool) -> dict[str, torch.Tensor]:
        state = self.network.state_dict()
        return {name: tensor for name, tensor in state.items() if (name in self._frozen) == frozen}

    def _move(self, labels: torch.Tensor) -> torch.Tensor:
        return labels.to(self._device, non_blocking=True)

    def _expect_finite_weights(self) -> None:
        """A finite loss may still have led to an update that is none; saving that would help nobody."""
        learning = [p.detach() for p in self.network.parameters() if p.requires_grad]
        with one_thread():
            norms = torch._foreach_norm(learning)
        if not torch.stack([norm.float() for norm in norms]).isfinite().all():
            raise NonFiniteLoss


def _bytes_of(tensors: dict[str, torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _with_implementation(state_dict: dict[str, Any], implementation: str | None) -> list[dict[str, Any]]:
    flags = {name: implementation == name if implementation else None for name in ("fused", "foreach")}
    return [{**group, **flags} for group in state_dict["param_groups"]]
