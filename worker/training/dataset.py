"""The dataset of one attempt: checked and listed the first time, compared with that list every other time."""

from dataclasses import dataclass
from pathlib import Path

from models.errors import DatasetChanged, DatasetInvalid
from models.job_spec import JobSpec
from models.storage import Storage
from worker.messages import DatasetChecked, Task
from worker.training import dataset_check
from worker.training.builtin import ensure
from worker.training.dataset_check import OnFiles
from worker.training.manifest import Manifest
from worker.training.patience import persistently
from worker.training.session import Session


@dataclass(frozen=True)
class Dataset:
    folder: Path
    manifest: Manifest


def prepare_dataset(task: Task, spec: JobSpec, storage: Storage, session: Session) -> Dataset:
    """Raises DatasetInvalid at the first attempt of a path, DatasetChanged at later ones and of an id."""

    def on_files(done: int, total: int) -> None:
        session.boundary()
        session.progress("dataset", done, total)

    folder, root = _place(task, spec, on_files)
    known = None
    if (path := task.manifest_path) is not None:
        known = persistently(session, task.store_patience_seconds, lambda: Manifest.read(storage, path))
    if known is not None:
        dataset_check.compare(folder, root, known, on_files)
        return Dataset(folder, known)

    unsplit = _as_registered(task, storage, session, folder, root, on_files)
    if unsplit is None:
        unsplit = dataset_check.check_unsplit(folder, root, task.slot.threads, on_files)
        if task.dataset is not None and unsplit.digest != task.dataset.digest:
            raise DatasetChanged
    manifest = dataset_check.split(unsplit, spec.validation.split, spec.seed)
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


def _as_registered(
    task: Task, storage: Storage, session: Session, folder: Path, root: Path, on_files: OnFiles
) -> Manifest | None:
    """The list of a dataset that a light worker checked, whose files need not be decoded again; or None.

    Raises DatasetChanged where the files are others by now.
    """
    ref = task.dataset
    if ref is None:
        return None
    checked = persistently(
        session, task.store_patience_seconds, lambda: Manifest.read(storage, ref.manifest_path)
    )
    if checked is None or checked.digest != ref.digest:
        return None
    dataset_check.compare(folder, root, checked, on_files, since="it was checked")
    return checked


def _place(task: Task, spec: JobSpec, on_files: OnFiles) -> tuple[Path, Path]:
    """The dataset's folder, and the one that no link in it may lead out of."""
    if spec.dataset.builtin is not None:
        builtins, data_root = Path(task.builtins_dir), Path(task.data_root)
        folder = ensure(
            spec.dataset.builtin, builtins, data_root, downloads=task.downloads, on_files=on_files
        )
        return folder, folder
    if spec.dataset.path is None:
        if task.dataset is None:
            raise DatasetChanged(
                f"The dataset {spec.dataset.id} was deleted; upload it again and submit a new job."
            )
        folder = Path(task.dataset.folder)
        if not folder.is_dir():
            raise DatasetChanged(
                f"The folder of {spec.dataset.id} is not on this machine; mount the data root and the "
                "uploads on every worker, and retry."
            )
        return folder, Path(task.dataset.root)
    root = Path(task.data_root)
    try:
        return dataset_check.dataset_folder(root, spec.dataset.path), root
    except DatasetInvalid as error:
        raise (error if task.manifest_path is None else DatasetChanged(error.message)) from error
