"""What supervisor and trainer say to each other; ``worker.wire`` carries it.

The supervisor never imports torch and the trainer never opens the database: these words are all they share.
"""

from dataclasses import dataclass
from typing import Any, Literal

# -- Supervisor to trainer -----------------------------------------------------------------------


@dataclass(frozen=True)
class Slot:
    """The share of a machine that one worker process trains on."""

    device: Literal["cpu", "cuda"]
    threads: int  #: CPU threads for the step itself
    kind: str  #: what decides the bits: the instruction set of a CPU, the model of a GPU
    loading_workers: int = 0  #: processes that decode images; they do not change the bits

    @property
    def key(self) -> str:
        """Equal for slots that compute equal bits from equal numerics."""
        return f"{self.device}:{self.kind}"


@dataclass(frozen=True)
class FileRef:
    """A recorded file: only bytes that match are ever parsed."""

    path: str  #: key in the checkpoint store
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class CheckpointRef:
    """A recorded checkpoint that the trainer may resume from."""

    id: str
    file: FileRef
    frozen: FileRef | None  #: the tensors that never change, which the job stores once
    epoch: int  #: 1-based epoch that it lies in or ends
    step: int
    val_loss: float | None  #: recorded where the checkpoint ends an epoch


@dataclass(frozen=True)
class DatasetRef:
    """A registered dataset that was checked already; the trainer compares its files with that list."""

    folder: str  #: on this machine
    root: str  #: no link in the folder may lead out of it
    manifest_path: str  #: key in the checkpoint store
    digest: str  #: of that manifest


@dataclass(frozen=True)
class Task:
    """The first line to a new trainer: everything that one attempt needs to know."""

    job_id: str
    attempt: int
    spec: dict[str, Any]
    segments: list[dict[str, Any]]
    slot: Slot
    numerics: dict[str, Any] | None  #: None on the first attempt: the trainer resolves and reports them
    storage_url: str
    data_root: str
    cache_dir: str
    downloads: bool
    checkpoints: list[CheckpointRef]  #: newest first
    manifest_path: str | None  #: key in the store; None until the dataset was checked
    verify: bool  #: compute the recorded validation loss again before going on
    fingerprint: dict[str, Any] | None  #: of the attempt before, to say what changed
    lease_confirmed_at: float  #: boot time from before the lease was last granted
    park_after_seconds: float  #: park when no heartbeat came for so long
    store_patience_seconds: float  #: so long a checkpoint store that refuses is asked again
    seconds_between_failures: float  #: what the fleet has seen on average; decides how often to save
    dataset: DatasetRef | None = None  #: of a spec that names it by id; None also when it was deleted
    builtins_dir: str = ""  #: where torchvision's own datasets are, or are put


@dataclass(frozen=True)
class Heartbeat:
    """The lease was renewed; ``at`` is CLOCK_BOOTTIME from before the renewal was sent."""

    at: float


@dataclass(frozen=True)
class Stop:
    """Write a checkpoint at the next step boundary, then exit (SIGTERM and pause)."""


@dataclass(frozen=True)
class Cancel:
    """Exit at the next step boundary and leave no checkpoint."""


# -- Trainer to supervisor -----------------------------------------------------------------------


@dataclass(frozen=True)
class Progress:
    """A phase and how far it got; any change of either counts as progress."""

    phase: str
    done: int
    total: int


@dataclass(frozen=True)
class DatasetChecked:
    """Every file was listed, hashed and decoded; the manifest is in the store."""

    digest: str
    manifest_path: str
    classes: list[str]
    num_train: int
    num_val: int


@dataclass(frozen=True)
class CheckpointRejected:
    """A recorded checkpoint is missing or is not the file that was recorded."""

    checkpoint_id: str
    reason: str


@dataclass(frozen=True)
class Prepared:
    """Network, data and state are ready; the next thing is a step."""

    numerics: dict[str, Any]
    fingerprint: dict[str, Any]
    inexact_reasons: list[str]
    from_checkpoint: str | None
    epochs: int  #: over all segments
    epochs_done: int
    step: int  #: steps done so far
    steps: int  #: over all segments


@dataclass(frozen=True)
class ResumeVerified:
    """The validation loss of the checkpoint, recorded and computed again."""

    checkpoint_id: str
    recorded: float
    recomputed: float
    equal: bool


@dataclass(frozen=True)
class StepDone:
    """One optimizer update is done; its number only, for progress and recovery times."""

    step: int
    epoch: int


@dataclass(frozen=True)
class StepRow:
    step: int
    epoch: int
    loss: float
    learning_rate: float


@dataclass(frozen=True)
class StepMetrics:
    """A batch of step rows, at most a second old."""

    rows: list[StepRow]


@dataclass(frozen=True)
class EpochMetrics:
    """One epoch's row; losses are means over samples, accuracies 0 to 1."""

    epoch: int
    step: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    learning_rate: float
    images_per_second: float
    duration_seconds: float


@dataclass(frozen=True)
class CheckpointWritten:
    """A checkpoint is durable and verified; it becomes one when the supervisor records it."""

    id: str
    file: FileRef
    frozen: FileRef | None
    epoch: int  #: 1-based epoch that it lies in or ends
    epochs_done: int
    step: int
    val_loss: float | None
    epochs: list[EpochMetrics]  #: of the epochs that ended since the checkpoint before; sealed with this one
    stall_seconds: float  #: for which training stood still
    write_seconds: float  #: from the snapshot until the file was durable and verified


@dataclass(frozen=True)
class CheckpointDelayed:
    """The store refused a checkpoint. Training goes on; the same snapshot is tried again."""

    reason: str
    retry_seconds: float


@dataclass(frozen=True)
class FrozenPartRebuilt:
    """The stored frozen part was damaged or missing; the weights that the job began with replace it."""

    path: str
    reason: str


@dataclass(frozen=True)
class Parked:
    """No heartbeat for too long: the state waits in memory for a renewal of the same attempt."""

    parked: bool


@dataclass(frozen=True)
class Finished:
    """The last epoch is written."""

    weights_sha256: str
    stopped_early: bool = False


@dataclass(frozen=True)
class Stopped:
    """The trainer did as told and leaves: after a Stop with a checkpoint, after a Cancel without."""


@dataclass(frozen=True)
class Failed:
    """An error of the trainer's own, typed as in ``models.errors``."""

    code: str
    message: str
    retryable: bool


ToTrainer = Task | Heartbeat | Stop | Cancel
FromTrainer = (
    Progress
    | DatasetChecked
    | CheckpointRejected
    | FrozenPartRebuilt
    | Prepared
    | ResumeVerified
    | StepDone
    | StepMetrics
    | CheckpointWritten
    | CheckpointDelayed
    | Parked
    | Finished
    | Stopped
    | Failed
)
Message = ToTrainer | FromTrainer
