"""Messages as bytes on a pipe: one JSON object a line, tagged by its type."""

import json
import math
import os
from dataclasses import asdict, dataclass, field
from typing import Any

from worker.messages import (
    CheckpointRef,
    DatasetRef,
    EpochMetrics,
    FileRef,
    FromTrainer,
    Message,
    Slot,
    StepRow,
    Task,
    ToTrainer,
)

_TYPES: dict[str, type[Any]] = {kind.__name__: kind for kind in (*ToTrainer.__args__, *FromTrainer.__args__)}


def _file(fields: dict[str, Any] | None) -> FileRef | None:
    return None if fields is None else FileRef(**fields)


def _checkpoint(fields: dict[str, Any]) -> CheckpointRef:
    return CheckpointRef(**fields | {name: _file(fields[name]) for name in ("file", "frozen")})


#: Fields that are not plain JSON, and what makes them again.
_NESTED: dict[str, dict[str, Any]] = {
    "Task": {
        "slot": lambda value: Slot(**value),
        "checkpoints": lambda rows: [_checkpoint(row) for row in rows],
        "dataset": lambda value: value and DatasetRef(**value),
    },
    "StepMetrics": {"rows": lambda rows: [StepRow(**row) for row in rows]},
    "CheckpointWritten": {
        "file": _file,
        "frozen": _file,
        "epochs": lambda rows: [EpochMetrics(**row) for row in rows],
    },
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
