"""``client.datasets``: folders of images for jobs, sent to the server or registered there."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from perdure.archive import OnBytes, files_below, read_file, zipped
from perdure.errors import LocalStackError, WaitTimeoutError
from perdure.transport import Transport
from perdure.types import Dataset, Page


class Datasets:
    """The datasets of one server."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        source: str | Path,
        *,
        name: str | None = None,
        on_bytes: OnBytes = lambda done, total: None,
    ) -> Dataset:
        """Send a local folder, zipped on the way, or a zip archive; ``wait`` tells when it is ready.

        A folder holds ``train/<class>/*`` and ``val/<class>/*``, or ``<class>/*`` alone, or a CSV of
        ``file,label`` beside its images. Raises LocalStackError where there is nothing to send.
        """
        path = Path(source).expanduser()
        if path.is_dir():
            files_below(path)

            def pieces() -> Iterator[bytes]:
                return zipped(path, on_bytes)
        elif path.is_file():

            def pieces() -> Iterator[bytes]:
                return read_file(path, on_bytes)
        else:
            raise LocalStackError(f"There is no folder or archive {path}.")
        params = {"name": name or path.resolve().name.removesuffix(".zip")}
        answer = self._transport.upload("/datasets", pieces, content_type="application/zip", params=params)
        return Dataset.model_validate(answer)

    def register(self, path: str, *, name: str | None = None) -> Dataset:
        """Register a folder that lies below the server's data root already."""
        body = {"path": path} if name is None else {"path": path, "name": name}
        return Dataset.model_validate(self._transport.post("/datasets", body))

    def builtin(self, which: str, *, name: str | None = None) -> Dataset:
        """Register one of torchvision's own datasets (``cifar10``); the server fetches it where it has to."""
        body = {"builtin": which} if name is None else {"builtin": which, "name": name}
        return Dataset.model_validate(self._transport.post("/datasets", body))

    def list(self, *, limit: int | None = None) -> Iterator[Dataset]:
        """Datasets, newest first; at most ``limit`` of them (all, if it is None)."""
        after: str | int | None = None
        remaining = limit
        while remaining is None or remaining > 0:
            size = 100 if remaining is None else min(100, remaining)
            page = Page.model_validate(self._transport.get("/datasets", {"limit": size, "after": after}))
            for row in page.data:
                yield Dataset.model_validate(row)
            if not page.has_more or page.last_id is None:
                return
            after = page.last_id
            remaining = None if remaining is None else remaining - len(page.data)

    def get(self, dataset_id: str) -> Dataset:
        """One dataset. Raises NotFoundError."""
        return Dataset.model_validate(self._transport.get(_path(dataset_id)))

    def delete(self, dataset_id: str) -> None:
        """Forget it; files that were uploaded are removed. Raises ConflictError while a job uses it."""
        self._transport.request("DELETE", _path(dataset_id))

    def wait(
        self,
        dataset_id: str,
        *,
        timeout_seconds: float | None = None,
        poll_seconds: float = 0.5,
        on_look: Callable[[Dataset], object] = lambda dataset: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> Dataset:
        """Block until it is ready or has failed, and return it. Raises WaitTimeoutError."""
        deadline = None if timeout_seconds is None else clock() + timeout_seconds
        while (dataset := self.get(dataset_id)).status == "checking":
            on_look(dataset)
            if deadline is not None and clock() + poll_seconds > deadline:
                raise WaitTimeoutError(
                    f"{dataset_id} is still being checked after {timeout_seconds:g} s; it goes on. "
                    f"{dataset.status_reason or ''}"
                )
            sleep(poll_seconds)
        return dataset


def _path(dataset_id: str) -> str:
    # Quoted, so that an id typed with a slash or `..` cannot become another request.
    return f"/datasets/{quote(dataset_id, safe='')}"
