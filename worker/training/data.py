"""Samples in batches: which ones is the trainer's choice, how they are loaded changes no bit."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from models.errors import DatasetChanged
from worker.process_guard import die_with_parent
from worker.training.images import Augment, decode, evaluation_transform, training_transform
from worker.training.manifest import Manifest, expect_bytes
from worker.training.randomness import seed_sample

#: The epoch of a request for a sample as validation sees it; training epochs count from 1.
UNAUGMENTED = 0

#: (epoch, index into the manifest): all that a sample depends on, beside the seed.
Request = tuple[int, int]


@dataclass(frozen=True)
class Batch:
    pixels: torch.Tensor  #: (N, 3, image_size, image_size), uint8
    labels: torch.Tensor  #: (N,), int64


@dataclass(frozen=True)
class _Sample:
    pixels: torch.Tensor
    label: int


class _Samples(Dataset[_Sample | DatasetChanged]):
    """Gives a sample for a request. A changed file is given as an error, not raised: a loading worker's
    exception would arrive as another text."""

    def __init__(
        self, folder: Path, manifest: Manifest, image_size: int, augment: Augment, seed: int
    ) -> None:
        self._folder, self._manifest, self._seed = folder, manifest, seed
        self._evaluation = evaluation_transform(image_size)
        self._training = training_transform(image_size, augment)

    def __getitem__(self, request: Request) -> _Sample | DatasetChanged:
        epoch, index = request
        file = self._manifest.files[index]
        try:
            content = (self._folder / file.path).read_bytes()
            expect_bytes(file, content)
        except FileNotFoundError:
            return DatasetChanged(f"{file.path!r} is gone; restore it and retry.")
        except DatasetChanged as error:
            return error
        image = decode(content)
        if epoch == UNAUGMENTED:
            return _Sample(self._evaluation(image), file.label)
        seed_sample(self._seed, epoch, index)
        return _Sample(self._training(image), file.label)


class _Requests(Sampler[list[Request]]):
    """What the loader asks for; set anew for each pass, so that its worker processes live on."""

    def __init__(self) -> None:
        self.batches: Sequence[list[Request]] = ()

    def __iter__(self) -> Iterator[list[Request]]:
        return iter(self.batches)


class BatchSource:
    """Loads batches in this process, or in worker processes that are forked on first use."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        *,
        image_size: int,
        augment: Augment,
        seed: int,
        workers: int,
        pin_memory: bool,
        private_fds: Sequence[int] = (),
    ) -> None:
        self._requests = _Requests()
        several: dict[str, Any] = {"multiprocessing_context": "fork", "persistent_workers": True}
        self._loader: DataLoader[Any] = DataLoader(
            _Samples(folder, manifest, image_size, augment, seed),
            batch_sampler=self._requests,
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=pin_memory,
            worker_init_fn=partial(_start_worker, os.getpid(), tuple(private_fds)),
            **(several if workers else {}),
        )

    def load(self, epoch: int, batches: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """The samples of these manifest indices, batch by batch. Raises DatasetChanged."""
        self._requests.batches = [[(epoch, index) for index in batch] for batch in batches]
        for batch in self._loader:
            if isinstance(batch, DatasetChanged):
                raise batch
            yield Batch(*batch)


def cut_into_batches(indices: Sequence[int], batch_size: int) -> list[list[int]]:
    """Batches in order. A last one of a single sample joins its predecessor: BatchNorm needs two values."""
    batches = [list(indices[start : start + batch_size]) for start in range(0, len(indices), batch_size)]
    if batch_size > 1 and len(batches) > 1 and len(batches[-1]) == 1:
        *rest, before, single = batches
        return [*rest, before + single]
    return batches


def _collate(
    samples: Sequence[_Sample | DatasetChanged],
) -> tuple[torch.Tensor, torch.Tensor] | DatasetChanged:
    good = []
    for sample in samples:
        if isinstance(sample, DatasetChanged):
            return sample
        good.append(sample)
    return torch.stack([sample.pixels for sample in good]), torch.tensor([sample.label for sample in good])


def _start_worker(trainer_pid: int, private_fds: Sequence[int], _worker: int) -> None:
    """A loading worker dies with its trainer, and holds none of the trainer's pipes open after it."""
    die_with_parent(trainer_pid)
    for descriptor in private_fds:
        os.close(descriptor)
    # A fork inherits no threads: a parallel region in it would wait for the trainer's pool for ever.
    torch.set_num_threads(1)
