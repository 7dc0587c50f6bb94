"""Predictions by a process with torch: started when it is asked first, ended when nobody asks any more.

One thread of this API starts that process and talks to it, since the process dies with the thread that
started it. Questions come one after the other; none of them can hold that thread for longer than its limit.
"""

import asyncio
import json
import os
import queue
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import IO, Any

import structlog

from api.torch_process import command_of, environment, recorded_files
from models.errors import (
    CheckpointDamaged,
    CheckpointFormatUnknown,
    ImageInvalid,
    PerdureError,
    PredictionFailed,
    PredictionNotReady,
    StorageFailed,
    TorchMissing,
    WeightsInvalid,
)
from models.job_store.fence import JobRow

COMMAND = command_of("worker.training.predictor")
#: For one question, on a crowded machine the start of the process included. Whoever asked gives up before.
LIMIT_SECONDS = 120.0
#: Below the patience of usual clients, so that they read the answer that says when to come back.
WAIT_SECONDS = 20.0
#: Before that, for a place among those who wait.
TURN_SECONDS = 5.0
#: The process has hundreds of megabytes; after this long without a question it is worth its start (3 s).
IDLE_SECONDS = 300.0
#: Images that may be in memory at once, each with a thread of the API while it waits for its answer.
MAX_IN_WORK = 6
_ERRORS: dict[str, type[PerdureError]] = {
    kind.code: kind
    for kind in (
        CheckpointDamaged, CheckpointFormatUnknown, ImageInvalid, StorageFailed, TorchMissing, WeightsInvalid,
    )
}  # fmt: skip
_log = structlog.get_logger()


@dataclass(frozen=True)
class Question:
    """What the process is asked, and who waits for the answer."""

    checkpoint: JobRow
    image: bytes
    top_k: int
    answer: "Future[list[dict[str, Any]]]" = field(default_factory=Future)


class Predictor:
    """What the API process knows of predictions. Thread-safe."""

    def __init__(
        self,
        storage_url: str,
        *,
        command: Sequence[str] = COMMAND,
        limit_seconds: float = LIMIT_SECONDS,
        wait_seconds: float = WAIT_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._storage_url, self._command = storage_url, command
        self._limit_seconds, self._wait_seconds = limit_seconds, wait_seconds
        self._idle_seconds = idle_seconds
        self._turns = asyncio.Semaphore(MAX_IN_WORK)
        self._questions: queue.SimpleQueue[Question | None] = queue.SimpleQueue()
        self._child: _Child | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="predictor", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the process at once; who waits for it is told to come back."""
        self._closed = True
        self._questions.put(None)
        if child := self._child:
            child.kill()
        self._thread.join()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """From before an image is read until it is answered for. Raises PredictionNotReady."""
        try:
            async with asyncio.timeout(min(TURN_SECONDS, self._wait_seconds)):
                await self._turns.acquire()
        except TimeoutError:
            raise PredictionNotReady("Many images wait already; try again in a few seconds.") from None
        try:
            yield
        finally:
            self._turns.release()

    def predict(self, checkpoint: JobRow, image: bytes, top_k: int) -> list[dict[str, Any]]:
        """``class, index, probability`` of the likeliest classes.

        Raises ImageInvalid, CheckpointDamaged, CheckpointFormatUnknown, StorageFailed, TorchMissing,
        PredictionFailed, PredictionNotReady.
        """
        question = Question(checkpoint, image, top_k)
        self._questions.put(question)
        try:
            return question.answer.result(self._wait_seconds)
        except (TimeoutError, CancelledError):
            question.answer.cancel()  # if its turn has not come: nobody waits for it any more
            raise PredictionNotReady from None

    # -- The thread ------------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            try:
                question = self._questions.get(timeout=self._idle_seconds if self._child else None)
            except queue.Empty:
                self._end_child()
                continue
            if question is None:
                break
            if question.answer.set_running_or_notify_cancel():
                try:
                    question.answer.set_result(self._ask(question))
                except BaseException as error:  # noqa: BLE001 - whoever asked is told
                    question.answer.set_exception(error)
        self._end_child()
        while not self._questions.empty():
            if question := self._questions.get():
                question.answer.cancel()

    def _ask(self, question: Question) -> list[dict[str, Any]]:
        if self._child is None or self._child.is_gone:
            self._end_child()
            self._child = _Child(self._command)
        if self._closed:  # looked at once the process is there, so that either side ends it
            raise PredictionNotReady("The API is stopping; try again in a few seconds.")
        child = self._child
        request = {
            "storage_url": self._storage_url,
            **recorded_files(question.checkpoint),
            "top_k": question.top_k,
            "image_bytes": len(question.image),
        }
        # The deadline kills, and whatever blocks on the pipes comes back: no call here needs one of its own.
        deadline = threading.Timer(self._limit_seconds, child.kill)
        deadline.start()
        try:
            answer = child.ask(json.dumps(request).encode() + b"\n", question.image)
        except (OSError, ValueError):
            self._end_child(failed=True)
            raise PredictionFailed from None
        finally:
            deadline.cancel()
        if "code" in answer:
            raise _ERRORS.get(answer["code"], PredictionFailed)(answer["message"])
        predictions: list[dict[str, Any]] = answer["predictions"]
        return predictions

    def _end_child(self, *, failed: bool = False) -> None:
        if self._child is not None:
            self._child.end(failed=failed or self._child.is_gone)
            self._child = None


class _Child:
    """The process, and what it prints beside its answers."""

    def __init__(self, command: Sequence[str]) -> None:
        self._printed: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - `end` closes it
        self._process = subprocess.Popen(
            [*command, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._printed,
            start_new_session=True,  # a Ctrl-C in the terminal is for the API, which ends its children
            env=environment(),
        )
        _log.info("predictor.started", pid=self._process.pid)

    @property
    def is_gone(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        self._process.kill()

    def ask(self, line: bytes, image: bytes) -> dict[str, Any]:
        """Raises OSError or ValueError if the process left, or printed what is no answer."""
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101 - both are pipes
        self._process.stdin.write(line)
        self._process.stdin.write(image)
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        if not isinstance(answer, dict) or not (
            {"code", "message"} <= answer.keys() or isinstance(answer.get("predictions"), list)
        ):
            raise ValueError("not an answer")
        return answer

    def end(self, *, failed: bool) -> None:
        """Killed, collected, and its last words logged if something went wrong."""
        self._process.kill()
        status = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:  # the rest of a request that nobody reads any more
                pass
        if failed:
            self._printed.seek(-min(2000, self._printed.seek(0, os.SEEK_END)), os.SEEK_END)
            tail = self._printed.read().decode(errors="replace")
            _log.error("predictor.failed", status=status, stderr=tail)
        self._printed.close()
