"""Real trainer processes over real pipes, on images that take milliseconds."""

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from models.job_spec import JobSpec
from tests.unit.training.desk import Desk, Store
from tests.unit.training.jobs import Job, Trainer, alive, paint
from worker.messages import Slot, Task
from worker.training import patience as patience_module
from worker.training.session import boot_seconds

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Several would spin for each other wherever tests share cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def forker(tmp_path_factory: pytest.TempPathFactory) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("forker.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def start(forker: "subprocess.Popen[str]", tmp_path: Path) -> Iterator[Callable[[Task], Trainer]]:
    """Starts a trainer by a fork from the warm parent."""
    trainers: list[Trainer] = []

    def start_trainer(task: Task) -> Trainer:
        number = len(trainers)
        inbox, outbox, log = (tmp_path / f"{name}{number}" for name in ("inbox", "outbox", "log"))
        os.mkfifo(inbox)
        os.mkfifo(outbox)
        assert forker.stdin is not None and forker.stdout is not None
        forker.stdin.write(f"{inbox}\t{outbox}\t{log}\n")
        forker.stdin.flush()
        pid = int(forker.stdout.readline())
        trainer = Trainer(pid, os.open(inbox, os.O_WRONLY), os.open(outbox, os.O_RDONLY), log)
        trainers.append(trainer)
        trainer.send(task)
        return trainer

    yield start_trainer
    for trainer in trainers:
        if not trainer.ended and alive(trainer.pid):
            trainer.kill()
        os.close(trainer.outbox)
        if trainer.inbox >= 0:
            os.close(trainer.inbox)


@pytest.fixture(scope="session")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """29 training and 9 validation images of two classes; batches of 4 leave one over."""
    root = tmp_path_factory.mktemp("painted")
    suffixes = itertools.cycle([".png", ".jpg", ".bmp"])
    for side, counts in (("train", (15, 14)), ("val", (5, 4))):
        for label, name in enumerate(("brick", "sky")):
            for number in range(counts[label]):
                paint(
                    root / side / name / f"{number:02d}{next(suffixes)}",
                    label,
                    number + 100 * (side == "val"),
                )
    return root


@pytest.fixture
def data_root(painted: Path, tmp_path: Path) -> Path:
    """A data root with a dataset ``painted`` that a test may change."""
    root = tmp_path / "data"
    shutil.copytree(painted, root / "painted")
    return root


@pytest.fixture
def new_job(start: Callable[[Task], Trainer], data_root: Path, tmp_path: Path) -> Callable[..., Job]:
    """A job of a small network; ``job(epochs=3, arch=…, early_stopping=…)`` changes any part of its spec."""
    numbers = itertools.count()

    def make(
        *,
        epochs: int = 2,
        arch: str = "mobilenet_v3_small",
        weights: Any = None,
        freeze: Any = "none",
        seed: int = 7,
        dataset: str = "painted",
        loading_workers: int = 0,
        threads: int = 1,
        checkpoint_every: dict[str, Any] | None = None,
        early_stopping: dict[str, Any] | None = None,
        park_after_seconds: float = 3600.0,
        store_patience_seconds: float = 0.2,
        **hyperparameters: Any,
    ) -> Job:
        spec = JobSpec.model_validate(
            {
                "dataset": {"path": dataset},
                "model": {"arch": arch, "weights": weights, "freeze": freeze},
                "hyperparameters": {
                    "epochs": epochs,
                    "batch_size": 4,
                    "image_size": 32,
                    "augment": "flip",
                    **hyperparameters,
                },
                # Within an epoch only where a test asks for it: when, that depends on the machine's speed.
                "fault_tolerance": {"checkpoint_every": {"seconds": 86_400.0} | (checkpoint_every or {})},
                "early_stopping": early_stopping,
                "seed": seed,
            }
        )
        store = tmp_path / f"store{next(numbers)}"
        task = Task(
            job_id="job_1",
            attempt=1,
            spec=spec.to_json(),
            segments=[{"epochs": epochs, "scheduler": spec.hyperparameters.scheduler}],
            slot=Slot("cpu", threads=threads, kind="test", loading_workers=loading_workers),
            numerics=None,
            storage_url=store.as_uri(),
            data_root=str(data_root),
            cache_dir=str(tmp_path / "cache"),
            downloads=False,
            checkpoints=[],
            manifest_path=None,
            verify=False,
            fingerprint=None,
            lease_confirmed_at=boot_seconds(),
            park_after_seconds=park_after_seconds,
            store_patience_seconds=store_patience_seconds,
            seconds_between_failures=3600.0,
            builtins_dir=str(tmp_path / "builtins"),
        )
        return Job(task, start, store)

    return make


# -- The writer alone ----------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def trainer() -> Iterator[ThreadPoolExecutor]:
    """The training thread, while the test watches it wait."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience_module, "_pauses", lambda: itertools.repeat(0.001))
