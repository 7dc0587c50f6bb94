"""What a job comes to that is left alone: the measure of every job that is not."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.images import draw_dataset
from tests.results import event_types, metrics_of
from tests.stack import Stack


@dataclass(frozen=True)
class Untouched:
    """The results that any run of its spec must have, on any database and whatever hit it."""

    weights_sha256: str
    metrics: dict[str, list[dict[str, Any]]]

    def check(self, stack: Stack, job_id: str) -> None:
        """Weights, and every epoch and step once, with the same numbers."""
        metrics = metrics_of(stack, job_id)
        assert [row["step"] for row in metrics["step"]] == [row["step"] for row in self.metrics["step"]]
        assert metrics == self.metrics
        assert stack.job(job_id)["weights_sha256"] == self.weights_sha256
        assert "determinism.mismatch" not in event_types(stack, job_id)


class UntouchedRuns:
    """Each is trained once, by an installation of its own, and remembered."""

    def __init__(self, new_home: Callable[[], Path], broker_url: str) -> None:
        self._new_home = new_home
        self._broker_url = broker_url
        self._known: dict[str, Untouched] = {}

    def __call__(self, spec: dict[str, Any], *, per_class: int) -> Untouched:
        """``per_class``: images of the drawn dataset ``shapes``."""
        key = json.dumps([spec, per_class], sort_keys=True)
        if key not in self._known:
            self._known[key] = self._train(spec, per_class)
        return self._known[key]

    def _train(self, spec: dict[str, Any], per_class: int) -> Untouched:
        home = self._new_home()
        with Stack(home, f"sqlite:///{home / 'perdure.db'}", self._broker_url) as stack:
            draw_dataset(home / "data/shapes", per_class=per_class)
            stack.start_api()
            stack.start_worker()
            job_id = stack.submit(spec)
            job = stack.await_status(job_id, "succeeded", seconds=240)
            assert job["attempt"] == 1
            metrics = metrics_of(stack, job_id)
            steps, epochs = ([row[name] for row in metrics[name]] for name in ("step", "epoch"))
            assert steps == list(range(1, job["progress"]["steps"] + 1))
            assert epochs == list(range(1, spec["hyperparameters"]["epochs"] + 1))
            return Untouched(job["weights_sha256"], metrics)
