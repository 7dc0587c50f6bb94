"""What there is to do with a job's results: the model as a file, predictions, comparisons."""

import mimetypes
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from perdure.downloads import OnBytes, download, while_it_is_prepared
from perdure.errors import NotFoundError
from perdure.transport import Transport
from perdure.types import Comparison, Model, Prediction


class Outputs:
    """The part of ``client.jobs`` that uses what jobs leave behind."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def model(self, job_id: str, *, checkpoint: str = "last") -> Model:
        """What one needs to know to use the trained model. Raises ConflictError before the first epoch."""
        return Model.model_validate(self._transport.get(path_of(job_id, "model"), {"checkpoint": checkpoint}))

    def download_model(
        self,
        job_id: str,
        target: str | Path,
        *,
        checkpoint: str = "last",
        format: Literal["zip", "onnx"] = "zip",  # noqa: A002 - as the API calls it
        on_bytes: OnBytes = lambda done, total: None,
    ) -> Path:
        """Save the trained model as a zip of ``model.safetensors``, ``manifest.json`` and ``predict.py``.

        With ``onnx`` as one file for ONNX Runtime and others: RGB pixels in, probabilities out.
        ``checkpoint`` is ``last``, ``best`` or an id. ``download_checkpoint`` gives the ``.pth`` instead.
        """
        return download(
            self._transport,
            path_of(job_id, "model", "content"),
            file_in(target, f"{job_id}-{checkpoint}.{format}"),
            params={"checkpoint": checkpoint, "format": format},
            on_bytes=on_bytes,
        )

    def predict(
        self, job_id: str, image: str | Path | bytes, *, checkpoint: str = "last", top_k: int = 5
    ) -> Prediction:
        """The likeliest classes of an image: a file, or its content.

        The first question of a server takes some seconds: it loads the model. Raises InvalidRequestError for
        what is no image, ConflictError before the first epoch, UnavailableError if it takes minutes.
        """
        kind = None
        if not isinstance(image, bytes):
            kind, _ = mimetypes.guess_type(str(image))
            image = Path(image).expanduser().read_bytes()
        is_image = kind is not None and kind.startswith("image/")
        for preparation in while_it_is_prepared():
            with preparation:
                # Nothing is changed by asking, so it may be sent again without an Idempotency-Key.
                response = self._transport.request(
                    "POST",
                    path_of(job_id, "predict"),
                    params={"checkpoint": checkpoint, "top_k": top_k},
                    content=image,
                    headers={"Content-Type": kind if kind and is_image else "application/octet-stream"},
                )
        return Prediction.model_validate(response.json())

    def compare(self, *job_ids: str) -> Comparison:
        """2 to 6 jobs side by side: what their specs differ in, and all of their epochs."""
        comparison = self._compare(job_ids, 0)
        page = comparison
        while page.has_more and page.last_id is not None:
            page = self._compare(job_ids, page.last_id)
            comparison = comparison.model_copy(update={"epochs": [*comparison.epochs, *page.epochs]})
        return comparison.model_copy(update={"has_more": False, "last_id": None})

    def _compare(self, job_ids: tuple[str, ...], after: int) -> Comparison:
        params = {"ids": ",".join(job_ids), "after": after, "limit": 1000}
        return Comparison.model_validate(self._transport.get("/jobs/compare", params))


def path_of(job_id: str, *parts: str) -> str:
    """The path of a job, or of something below it. Raises NotFoundError for what can be no id."""
    # Quoted, so that an id typed with a slash cannot become another request; a client takes dots away.
    nobody = {"", ".", ".."}.intersection((job_id, *parts))
    if nobody:
        raise NotFoundError(404, "not_found", "Not Found", f"There is nothing with the id {nobody.pop()!r}.")
    return "/".join(["/jobs", *(quote(part, safe="", errors="replace") for part in (job_id, *parts))])


def file_in(target: str | Path, name: str) -> Path:
    """``target``, or ``name`` in it if it is a folder, or is to be one."""
    path = Path(target).expanduser()
    return path / name if path.is_dir() or str(target).endswith("/") else path
