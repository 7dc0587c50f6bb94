"""From a task to everything that an attempt trains with: new, or as the last checkpoint left it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import DatasetChanged
from models.job_spec import JobSpec, Segment
from models.storage import Storage, storage_from_url
from worker.messages import CheckpointRef, FileRef, Task
from worker.training import checkpoint
from worker.training.data import BatchSource, cut_into_batches
from worker.training.dataset import Dataset, prepare_dataset
from worker.training.fingerprint import fingerprint
from worker.training.learner import Learner
from worker.training.network import Architecture, Classifier, build_empty, load
from worker.training.numerics import Numerics
from worker.training.optimization import Plan
from worker.training.pretrained import initial_network
from worker.training.resumption import frozen_part, newest_usable
from worker.training.session import Session
from worker.training.state import RunState


@dataclass(frozen=True)
class Attempt:
    """What one attempt trains with; only the learner and the state change from here on."""

    spec: JobSpec
    storage: Storage
    numerics: Numerics
    fingerprint: dict[str, Any]
    plan: Plan
    classes: list[str]
    train_indices: list[int]
    val_batches: list[list[int]]
    source: BatchSource
    learner: Learner
    state: RunState
    resumed_from: CheckpointRef | None
    frozen: FileRef | None  #: the stored frozen part that further checkpoints may refer to


def prepare(task: Task, session: Session) -> Attempt:
    """Raises TrainingError, StopRequested and CancelRequested."""
    session.progress("starting", 0, 1)
    spec, storage = JobSpec.model_validate(task.spec), storage_from_url(task.storage_url)
    numerics = Numerics.of_attempt(task.numerics, spec, task.slot)
    device = numerics.apply()

    # Reading and hashing a checkpoint leave the interpreter free for all that comes before it is needed.
    with ThreadPoolExecutor(1, thread_name_prefix="checkpoint") as reader:
        newest = reader.submit(newest_usable, task, storage, session)
        data = prepare_dataset(task, spec, storage, session)
        architecture = Architecture.of(spec, len(data.manifest.classes))
        empty = build_empty(architecture) if task.checkpoints else None
        found = newest.result()

    def begin() -> Classifier:
        return initial_network(
            architecture,
            spec.model.weights,
            seed=spec.seed,
            data_root=Path(task.data_root),
            downloads=task.downloads,
            on_bytes=lambda done, total: session.progress("starting", done, total),
        )

    session.boundary()
    batch_size = spec.hyperparameters.batch_size
    train_indices = data.manifest.indices("train")
    plan = Plan(
        segments=tuple(Segment.model_validate(segment) for segment in task.segments),
        steps_per_epoch=len(cut_into_batches(train_indices, batch_size)),
        peak_rate=spec.hyperparameters.lr,
    )
    state, frozen, content = RunState(), None, None
    if empty and found:
        classifier, content = empty, checkpoint.parse(found.content)
        unchanging, frozen = frozen_part(found, content, begin, session)
        load(classifier.module, {**unchanging, **content["model_state_dict"]})
        state = _resumed_state(content, plan, data)
    else:
        classifier = begin()
    learner = Learner(classifier, spec, numerics, device)
    if content:
        learner.restore_optimizer(content["optimizer_state_dict"])

    return Attempt(
        spec=spec,
        storage=storage,
        numerics=numerics,
        fingerprint=fingerprint(numerics, task.slot, data.manifest.digest),
        plan=plan,
        classes=data.manifest.classes,
        train_indices=train_indices,
        val_batches=cut_into_batches(data.manifest.indices("val"), batch_size),
        source=BatchSource(
            data.folder,
            data.manifest,
            image_size=architecture.image_size,
            augment=spec.hyperparameters.augment,
            seed=spec.seed,
            workers=task.slot.loading_workers,
            pin_memory=device.type == "cuda",
            private_fds=(session.inbox_fd, session.outbox_fd),
        ),
        learner=learner,
        state=state,
        resumed_from=found.ref if found else None,
        frozen=frozen,
    )


def _resumed_state(content: dict[str, Any], plan: Plan, data: Dataset) -> RunState:
    if content["fingerprint"]["dataset"] != data.manifest.digest:
        raise DatasetChanged
    state = RunState.from_dict(content)
    if not state.batch and plan.ends_segment(state.epochs_done):
        state.patience.renew()  # what was the end when this was written no longer is
    return state
