"""What supervisor and trainer say to each other over two pipes: one JSON object a line, tagged by its type.

The supervisor never imports torch and the trainer never opens the database: this file is all they share.
"""

import json
import math
import os
from dataclasses import asdict, dataclass, field
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
class CheckpointRef:
    """A recorded checkpoint that the trainer may resume from."""

    id: str
    path: str  #: key in the checkpoint store
    sha256: str
    size_bytes: int
    epoch: int  #: 1-based epoch that it lies in or ends
    step: int
    val_loss: float | None  #: recorded where the checkpoint ends an epoch


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
    park_after_seconds: float  #: park when no heartbeat came for so long


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
    path: str
    sha256: str
    size_bytes: int
    epoch: int
    step: int
    val_loss: float | None


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
    | Prepared
    | ResumeVerified
    | StepDone
    | StepMetrics
    | EpochMetrics
    | CheckpointWritten
    | Parked
    | Finished
    | Stopped
    | Failed
)
Message = ToTrainer | FromTrainer

_TYPES: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        *(Task, Heartbeat, Stop, Cancel),
        *(Progress, DatasetChecked, CheckpointRejected, Prepared, ResumeVerified, StepDone, StepMetrics),
        *(EpochMetrics, CheckpointWritten, Parked, Finished, Stopped, Failed),
    )
}
_NESTED: dict[str, dict[str, Any]] = {
    "Task": {
        "slot": lambda value: Slot(**value),
        "checkpoints": lambda rows: [CheckpointRef(**r) for r in rows],
    },
    "StepMetrics": {"rows": lambda rows: [StepRow(**row) for row in rows]},
}


def encode(message: Message) -> bytes:
    """One line; floats keep every bit (shortest round-trip form, NaN and infinities included)."""
    return json.dumps([type(message).__name__, asdict(message)]).encode() + b"\n"


def decode(line: bytes) -> Message:
    """The message of one line. Raises ValueError for anything else."""
    try:
        kind, fields = json.loads(line)
        for name, build in _NESTED.get(kind, {}).items():
            fields[name] = build(fields[name])
        message: Message = _TYPES[kind](**fields)
    except (TypeError, KeyError) as error:
        raise ValueError(f"not a message: {line[:200]!r}") from error
    return message


@dataclass
class LineBuffer:
    """Bytes in, whole lines out; a torn last line (its writer was killed) stays inside."""

    _rest: bytes = field(default=b"")

    def feed(self, data: bytes) -> list[bytes]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [line for line in lines if line]


def read_task(inbox: int) -> Task | None:
    """The first line of the inbox, and no byte beyond it; None if the supervisor left without a word."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(inbox, 1)
        if not byte:
            return None
        line += byte
    task = decode(bytes(line))
    if not isinstance(task, Task):
        raise TypeError(f"the first message was {type(task).__name__}, not Task")
    return task


def finite(value: float) -> float | None:
    """A number as the database stores it: NaN and infinities become NULL."""
    return value if math.isfinite(value) else None
