"""Predictions for an API process that has no torch: ``python -m worker.training.predictor PARENT_PID``.

Stays alive between requests and keeps the model that was asked last. It has neither database nor broker;
what it needs comes with each request: one JSON line on stdin, ``storage_url, checkpoint, frozen, top_k,
image_bytes`` (both files the recorded ``path, sha256, size_bytes``; ``frozen`` may be null), and after it so
many bytes of an image file. The answer is one JSON line on stdout: ``predictions``, or ``code, message``. The
end of stdin ends the process.
"""

# ruff: noqa: PLC0415 - what loads torch is imported late: that it is not installed is an answer, too

import json
import os
import resource
import sys
import warnings
from typing import IO, TYPE_CHECKING, Any

from models.errors import ImageInvalid, PerdureError, TorchMissing
from models.storage import storage_from_url
from worker.messages import FileRef
from worker.process_guard import be_first_to_go, die_with_parent

if TYPE_CHECKING:
    import torch

    from worker.training.inference import TrainedModel

#: Of what libraries print about broken files, which is all that this process ever writes to a file.
MAX_FILE_BYTES = 2**20


class Predictor:
    """Answers one request after the other."""

    def __init__(self) -> None:
        self._known: tuple[Any, ...] = ()
        self._model: TrainedModel | None = None

    def answer(self, request: dict[str, Any], content: bytes) -> dict[str, Any]:
        """What went wrong is part of the answer; a bug ends the process, and its parent's log says how."""
        try:
            model = self._model_of(request)
            return {"predictions": model.predict(pixels_of(content, model), request["top_k"])}
        except PerdureError as error:
            return {"code": error.code, "message": error.message}
        except ModuleNotFoundError as error:
            if error.name not in {"torch", "torchvision", "numpy", "PIL"}:
                raise
            return {"code": TorchMissing.code, "message": TorchMissing().message}

    def _model_of(self, request: dict[str, Any]) -> "TrainedModel":
        """Raises CheckpointDamaged, CheckpointFormatUnknown, StorageFailed, WeightsInvalid."""
        from worker.training import checkpoint
        from worker.training.inference import TrainedModel

        frozen = request["frozen"]
        ref, frozen_ref = FileRef(**request["checkpoint"]), None if frozen is None else FileRef(**frozen)
        wanted = (request["storage_url"], ref, frozen_ref)
        if self._model is None or wanted != self._known:
            self._model = None  # before the next one is loaded: there is room for one
            whole = checkpoint.read_whole(storage_from_url(request["storage_url"]), ref, frozen_ref)
            self._model, self._known = TrainedModel(whole), wanted
        return self._model


def pixels_of(content: bytes, model: "TrainedModel") -> "torch.Tensor":
    """What the model looks at. Raises ImageInvalid."""
    from worker.training.image_limits import memory_for_one_image
    from worker.training.images import decode

    try:
        # Resizing is part of it: of a picture of one row, the shorter side grows as much as the longer one.
        with memory_for_one_image():
            return model.pixels(decode(content))
    except (MemoryError, OverflowError):
        raise ImageInvalid("The image takes too much memory; send a smaller or less elongated one.") from None
    except ValueError as error:
        said = "".join(c if c.isprintable() else " " for c in str(error))[:200]
        raise ImageInvalid(f"The image cannot be decoded: {said}. Send another one.") from None


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Until the requests end."""
    predictor = Predictor()
    while line := requests.readline():
        request = json.loads(line)
        content = requests.read(request["image_bytes"])
        if len(content) < request["image_bytes"]:
            return
        answers.write(json.dumps(predictor.answer(request, content)).encode() + b"\n")
        answers.flush()


def main() -> int:
    die_with_parent(int(sys.argv[1]))
    be_first_to_go()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, MAX_FILE_BYTES))
    warnings.simplefilter("ignore")  # they quote what strangers wrote into their files
    # Whatever a library prints must not stand between two answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
