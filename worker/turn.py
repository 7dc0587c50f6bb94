"""A turn: an attempt that is this worker's to run, and the task that its trainer gets."""

from dataclasses import dataclass

from models import builtin_datasets
from models.dataset_state import Source
from models.dataset_store import ReadyDataset
from models.job_spec import JobSpec
from models.job_store import Claim, Fence
from models.job_store.fence import JobRow
from models.job_store.restarts import Restarted
from models.settings import Settings
from worker.messages import CheckpointRef, DatasetRef, FileRef, Slot, Task

#: A resume may fall back this many checkpoints.
MAX_CHECKPOINTS = 20


@dataclass(frozen=True)
class Turn:
    """What was granted, and since when."""

    fence: Fence
    job: JobRow
    checkpoints: list[JobRow]
    leased_at: float  #: boot time from before the lease was asked for

    @classmethod
    def of(cls, granted: Claim | Restarted, leased_at: float) -> "Turn":
        return cls(granted.fence, granted.job, granted.checkpoints, leased_at)

    def task(
        self,
        slot: Slot,
        settings: Settings,
        *,
        renewed_at: float,
        seconds_between_failures: float,
        dataset: ReadyDataset | None = None,
    ) -> Task:
        """All that a trainer is told.

        ``renewed_at``: boot time from before the last renewal, 0 without one. ``dataset``: the one that the
        spec names by id.
        """
        job = self.job
        spec = JobSpec.model_validate(job.spec)
        return Task(
            job_id=job.id,
            attempt=self.fence.attempt,
            spec=job.spec,
            segments=job.segments,
            slot=slot,
            numerics=job.numerics,
            storage_url=settings.storage_url,
            data_root=str(settings.data_folder),
            cache_dir=str(settings.home / "cache"),
            downloads=settings.downloads,
            checkpoints=[_reference(row) for row in self.checkpoints[:MAX_CHECKPOINTS]],
            manifest_path=job.manifest_path,
            verify=job.verify_next or spec.fault_tolerance.verify_on_resume,
            fingerprint=job.fingerprint,
            lease_confirmed_at=max(self.leased_at, renewed_at),
            park_after_seconds=settings.park_after_seconds,
            store_patience_seconds=settings.store_patience_seconds,
            seconds_between_failures=seconds_between_failures,
            dataset=None if dataset is None else _dataset(dataset, settings),
            builtins_dir=str(settings.uploads_folder / builtin_datasets.FOLDER),
        )


def _dataset(dataset: ReadyDataset, settings: Settings) -> DatasetRef:
    is_ours = dataset.source is not Source.PATH
    root = settings.uploads_folder if is_ours else settings.data_folder
    folder = root / dataset.folder
    return DatasetRef(str(folder), str(folder if is_ours else root), dataset.manifest_path, dataset.digest)


def _reference(row: JobRow) -> CheckpointRef:
    frozen = FileRef(row.frozen_path, row.frozen_sha256, row.frozen_size_bytes) if row.frozen_path else None
    file = FileRef(row.path, row.sha256, row.size_bytes)
    return CheckpointRef(row.id, file, frozen, row.epoch, row.step, row.val_loss)
