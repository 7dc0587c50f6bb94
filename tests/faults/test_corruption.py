"""Fault 21: a thousand damaged checkpoints and frozen parts, every one noticed and none loaded.

A trainer is killed after it recorded a score of checkpoints. Its store is copied again and again, damaged in
another way each time, and gone on with by another trainer, up to the end.
"""

import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.training.jobs import Job, Recorded, Trainer
from worker.messages import (
    CheckpointRef,
    CheckpointRejected,
    CheckpointWritten,
    FileRef,
    FrozenPartRebuilt,
    Prepared,
)

NUM_CHECKPOINTS = 16
EPOCHS = 20
#: The newest that is undamaged is one of the oldest, if any: whatever is newer must be noticed.
SURVIVORS = 4


@dataclass
class Killed:
    """A job whose first trainer was killed."""

    job: Job  #: as the next attempt finds it
    trainer: Trainer

    def copy(self, store: Path) -> Job:
        shutil.copytree(self.job.store, store)
        task = replace(self.job.task, storage_url=store.as_uri())
        return replace(self.job, task=task, store=store)


def kill_late(job: Job) -> Killed:
    trainer = job.attempt()
    for _ in range(NUM_CHECKPOINTS):
        trainer.wait_for(CheckpointWritten)
    trainer.kill()
    trainer.read_to_end()
    return Killed(job.after(trainer), trainer)


# -- Damage ------------------------------------------------------------------------------------------


def flip_a_bit(content: bytes, random_: random.Random) -> bytes:
    place = random_.randrange(len(content))
    changed = bytearray(content)
    changed[place] ^= 1 << random_.randrange(8)
    return bytes(changed)


def flip_a_bit_at_an_end(content: bytes, random_: random.Random) -> bytes:
    """Headers are at the front of an archive, its directory is at the back."""
    changed = bytearray(content)
    changed[random_.choice([-1, 1]) * random_.randrange(1, 200)] ^= 1 << random_.randrange(8)
    return bytes(changed)


def truncate(content: bytes, random_: random.Random) -> bytes:
    return content[: random_.choice([0, 1, len(content) - 1, random_.randrange(len(content))])]


def blank_a_page(content: bytes, random_: random.Random) -> bytes:
    """As a write that was lost leaves it."""
    start = random_.randrange(len(content)) // 4096 * 4096
    blank = bytes(len(content[start : start + 4096]))
    return content[:start] + blank + content[start + 4096 :]


def append(content: bytes, random_: random.Random) -> bytes:
    return content + random_.randbytes(random_.randrange(1, 100))


BYTES_CHANGED = (flip_a_bit, flip_a_bit_at_an_end, truncate, blank_a_page, append)
DELETED, SWAPPED = "delete", "swap"


class Vandal:
    """Damages recorded files in random ways, and keeps count."""

    def __init__(self, seed: int, strangers: Path) -> None:
        self.random = random.Random(seed)
        self.strangers = strangers  #: the store of another job
        self.count: Counter[str] = Counter()

    def damage(self, store: Path, file: FileRef) -> None:
        """Whatever is picked, other bytes are there afterwards, or none."""
        path = store / file.path
        before = path.read_bytes()
        while path.exists() and path.read_bytes() == before:
            way = self.random.choice([*BYTES_CHANGED, DELETED, SWAPPED])
            if way == DELETED:
                path.unlink()
            elif way == SWAPPED:
                path.write_bytes(self._of_a_stranger(path).read_bytes())
            else:
                path.write_bytes(way(before, self.random))
        self.count[way if isinstance(way, str) else way.__name__] += 1

    def _of_a_stranger(self, path: Path) -> Path:
        """A valid file of the same kind: of another job, or another one of the same."""
        folder = self.random.choice([path.parent, self.strangers / path.parent.relative_to(path.parents[3])])
        return self.random.choice(sorted(folder.glob("*.pth")))


# -- The tests ---------------------------------------------------------------------------------------

QUICK = pytest.param(50, "backbone", id="head-only")
HEAD_ONLY = pytest.param(800, "backbone", id="head-only-long", marks=pytest.mark.long)
FULL = pytest.param(150, "none", id="full-long", marks=pytest.mark.long)


@pytest.mark.parametrize(("corruptions", "freeze"), [QUICK, HEAD_ONLY, FULL])
def test_whatever_was_damaged_is_noticed_and_the_newest_whole_one_used(
    new_job: Callable[..., Job],
    corruptions: int,
    freeze: str,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    spec: dict[str, Any] = {"epochs": EPOCHS, "arch": "squeezenet1_1", "freeze": freeze, "optimizer": "sgd"}
    untouched = Recorded.of(new_job(**spec).run())
    killed = kill_late(new_job(**spec))
    stranger = kill_late(new_job(**spec, seed=8))
    seed = random.randrange(2**32)
    vandal = Vandal(seed, stranger.job.store)
    while vandal.count.total() < corruptions:
        job = killed.copy(tmp_path / "damaged")
        refs = job.task.checkpoints
        assert len(refs) >= NUM_CHECKPOINTS
        survivor = vandal.random.choice([*refs[-SURVIVORS:], None])
        newer = refs[: refs.index(survivor)] if survivor else refs
        for ref in newer:
            vandal.damage(job.store, ref.file)
        frozen_is_damaged = damage_frozen_part(vandal, job, survivor)
        trainer = job.run()

        where = f"seed {seed}, after {vandal.count.total()} corruptions"
        rejected = [message.checkpoint_id for message in trainer.all(CheckpointRejected)]
        assert rejected == [ref.id for ref in newer], where
        assert trainer.only(Prepared).from_checkpoint == (survivor.id if survivor else None), where
        assert len(trainer.all(FrozenPartRebuilt)) == frozen_is_damaged, where
        assert Recorded.of(killed.trainer, trainer) == untouched, where
        shutil.rmtree(job.store)
    record_property("corruptions", dict(vandal.count))


def damage_frozen_part(vandal: Vandal, job: Job, survivor: CheckpointRef | None) -> bool:
    """Half of the times, where there is one and someone will need it."""
    if survivor is None or survivor.frozen is None or vandal.random.random() < 0.5:
        return False
    vandal.damage(job.store, survivor.frozen)
    return True
