"""How training ended, as a message: whatever happens in a trainer, its supervisor hears a typed cause."""

import errno
import traceback
from collections.abc import Callable

import torch

from models.errors import OutOfMemory, TrainerCrashed, TrainingError
from worker.messages import Failed, Finished, Stopped
from worker.training.session import CancelRequested, StopRequested

#: What allocators of torch and of the C library say; their exceptions have no type of their own.
_MEMORY_WORDS = (
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "could not create a primitive",  # oneDNN, which says no more when it finds no room for its scratchpad
)


def outcome_of(train: Callable[[], Finished]) -> Finished | Stopped | Failed:
    """Never raises. Tracebacks go to stderr, which is the job's log."""
    try:
        return train()
    except (StopRequested, CancelRequested):
        return Stopped()
    except TrainingError as error:
        return Failed(error.code, error.message, error.retryable)
    except BaseException as error:  # noqa: BLE001
        traceback.print_exc()
        if is_out_of_memory(error):
            return Failed(OutOfMemory.code, OutOfMemory().message, OutOfMemory.retryable)
        return Failed(TrainerCrashed.code, _in_one_line(error), TrainerCrashed.retryable)


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _MEMORY_WORDS)


def _in_one_line(error: BaseException) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"[:500]
