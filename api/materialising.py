"""One child process that makes a file for download of what is stored; torch is its affair alone."""

import json
import os
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import structlog

from api.download_cache import Entry
from api.torch_process import command_of, environment, recorded_files
from models.errors import (
    CheckpointDamaged,
    CheckpointFormatUnknown,
    DownloadFailed,
    DownloadNotReady,
    OnnxMissing,
    OnnxUnsupported,
    PerdureError,
    TorchMissing,
)
from models.job_store.fence import JobRow

COMMAND = command_of("worker.training.materialise")
#: A whole checkpoint, or what a user needs to predict with its model: a zip, or an ONNX file.
Kind = Literal["checkpoint", "model", "onnx"]
_ERRORS: dict[str, type[PerdureError]] = {
    kind.code: kind
    for kind in (
        CheckpointDamaged, CheckpointFormatUnknown, DownloadFailed, OnnxMissing, OnnxUnsupported, TorchMissing
    )
}  # fmt: skip
_log = structlog.get_logger()


@dataclass(frozen=True)
class Request:
    """What the child reads from its stdin."""

    storage_url: str
    kind: Kind
    checkpoint: JobRow
    destination: Path

    def encode(self) -> bytes:
        return json.dumps(
            {
                "parent_pid": os.getpid(),
                "storage_url": self.storage_url,
                "kind": self.kind,
                "job_id": self.checkpoint.job_id,
                "checkpoint_id": self.checkpoint.id,
                **recorded_files(self.checkpoint),
                "destination": str(self.destination),
            }
        ).encode()


class Materialising:
    """Starts the processes and, at the end, ends those that still run."""

    def __init__(self, command: Sequence[str] = COMMAND, *, limit_seconds: float) -> None:
        self._command, self._limit_seconds = command, limit_seconds
        self._running: set[subprocess.Popen[bytes]] = set()
        self._changing = threading.Lock()
        self._closed = False

    def run(self, request: Request) -> Entry:
        """Blocks until the file is there, in a thread that lives on: the child dies with the thread.

        Raises what the child may answer (``_ERRORS``), DownloadFailed, DownloadNotReady.
        """
        process = self._start()
        try:
            output, errors = process.communicate(request.encode(), timeout=self._limit_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise DownloadFailed(
                f"Putting the file together took longer than {self._limit_seconds:g} s; try again when the "
                "checkpoint store or this machine is less busy."
            ) from None
        finally:
            with self._changing:
                self._running.discard(process)
        return _entry_of(process.returncode, output, errors)

    def close(self) -> None:
        with self._changing:
            self._closed = True
            for process in self._running:
                process.kill()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._changing:
            if self._closed:
                raise DownloadNotReady("The API is stopping; try again in a few seconds.")
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # a Ctrl-C in the terminal is for the API, which ends its children
                env=environment(),
            )
            self._running.add(process)
        return process


def _entry_of(status: int, output: bytes, errors: bytes) -> Entry:
    try:
        answer: dict[str, Any] = json.loads(output.splitlines()[-1])
        if "code" in answer:
            raise _ERRORS.get(answer["code"], DownloadFailed)(answer["message"])
        return Entry(**answer)
    except (IndexError, ValueError, TypeError, KeyError):
        tail = errors.decode(errors="replace")[-2000:]
        _log.error("materialise.failed", status=status, stderr=tail)
        if status < 0:
            raise DownloadFailed(
                f"The process that puts the file together was ended by signal {-status}; try again."
            ) from None
        raise DownloadFailed from None
