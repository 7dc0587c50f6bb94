"""What a job comes to that is left alone: the measure of every job that is not."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import FileLock

from tests.images import draw_dataset
from tests.independent import hashes_of
from tests.results import download_model, event_types, metrics_of
from tests.stack import Stack


@dataclass(frozen=True)
class Untouched:
    """The results that any run of its spec must have, on any database and whatever hit it."""

    weights_sha256: str
    metrics: dict[str, list[dict[str, Any]]]
    hashes: dict[str, str] | None = None  #: of its last checkpoint as it is downloaded, if it was asked for

    def check(self, stack: Stack, job_id: str) -> None:
        """Weights, and every epoch and step once, with the same numbers."""
        metrics = metrics_of(stack, job_id)
        assert [row["step"] for row in metrics["step"]] == [row["step"] for row in self.metrics["step"]]
        assert metrics == self.metrics
        assert stack.job(job_id)["weights_sha256"] == self.weights_sha256
        assert "determinism.mismatch" not in event_types(stack, job_id)
        if self.hashes is not None:
            assert hashes_of(download_model(stack, job_id, stack.home / "downloaded.pth")) == self.hashes


class UntouchedRuns:
    """Each is trained once, by an installation of its own, for all processes that run tests."""

    def __init__(self, new_home: Callable[[], Path], broker_url: str, known: Path) -> None:
        """``known``: folder of what was trained so far."""
        self._new_home = new_home
        self._broker_url = broker_url
        self._known = known

    def __call__(self, spec: dict[str, Any], *, per_class: int, optimizer: bool = False) -> Untouched:
        """``per_class``: images of the drawn dataset ``shapes``; ``optimizer``: compare its state, too."""
        key = json.dumps([spec, per_class, optimizer], sort_keys=True).encode()
        file = self._known / f"untouched-{sha256(key).hexdigest()}.json"
        with FileLock(file.with_suffix(".lock")):
            if not file.exists():
                file.write_text(json.dumps(asdict(self._train(spec, per_class, optimizer))))
            return Untouched(**json.loads(file.read_text()))

    def _train(self, spec: dict[str, Any], per_class: int, optimizer: bool) -> Untouched:
        home = self._new_home()
        with Stack(home, f"sqlite:///{home / 'perdure.db'}", self._broker_url) as stack:
            draw_dataset(home / "data/shapes", per_class=per_class)
            stack.start_api()
            stack.start_worker()
            job_id = stack.submit(spec)
            job = stack.await_status(job_id, "succeeded", seconds=1200)
            assert job["attempt"] == 1
            metrics = metrics_of(stack, job_id)
            steps, epochs = ([row[name] for row in metrics[name]] for name in ("step", "epoch"))
            assert steps == list(range(1, job["progress"]["steps"] + 1))
            assert epochs == list(range(1, spec["hyperparameters"]["epochs"] + 1))
            hashes = hashes_of(download_model(stack, job_id, home / "last.pth")) if optimizer else None
            return Untouched(job["weights_sha256"], metrics, hashes)
