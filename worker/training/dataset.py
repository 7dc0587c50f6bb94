"""The dataset of one attempt: checked and listed the first time, compared with that list every other time."""

from dataclasses import dataclass
from pathlib import Path

from models.errors import DatasetChanged, DatasetInvalid
from models.job_spec import JobSpec
from models.storage import Storage
from worker.messages import DatasetChecked, Task
from worker.training import dataset_check
from worker.training.manifest import Manifest
from worker.training.patience import persistently
from worker.training.session import Session


@dataclass(frozen=True)
class Dataset:
    folder: Path
    manifest: Manifest


def prepare_dataset(task: Task, spec: JobSpec, storage: Storage, session: Session) -> Dataset:
    """Raises DatasetInvalid at the first attempt and DatasetChanged at later ones."""

    def on_files(done: int, total: int) -> None:
        session.boundary()
        session.progress("dataset", done, total)

    data_root = Path(task.data_root)
    known = None
    if (path := task.manifest_path) is not None:
        known = persistently(session, task.store_patience_seconds, lambda: Manifest.read(storage, path))
    if known is not None:
        try:
            folder = dataset_check.dataset_folder(data_root, spec.dataset.path)
        except DatasetInvalid as error:
            raise DatasetChanged(error.message) from error
        dataset_check.compare(folder, data_root, known, on_files)
        return Dataset(folder, known)

    folder = dataset_check.dataset_folder(data_root, spec.dataset.path)
    manifest = dataset_check.check(
        folder, data_root, spec.validation.split, spec.seed, task.slot.threads, on_files
    )
    # The list may be lost after a crash, but what it listed is known from the attempt before.
    digest_before = (task.fingerprint or {}).get("dataset", manifest.digest)
    if manifest.digest != digest_before:
        raise DatasetChanged(
            "The dataset changed since the job began, and the list of its files is lost; "
            "restore the data and retry, or submit a new job."
        )
    key = f"jobs/{task.job_id}/manifest.attempt-{task.attempt}.json"
    persistently(session, task.store_patience_seconds, lambda: manifest.write(storage, key))
    session.send(
        DatasetChecked(
            digest=manifest.digest,
            manifest_path=key,
            classes=manifest.classes,
            num_train=len(manifest.indices("train")),
            num_val=len(manifest.indices("val")),
        )
    )
    return Dataset(folder, manifest)
