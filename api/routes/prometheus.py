"""Numbers for Prometheus, read from the database when they are asked for."""

from collections.abc import Iterator, Mapping

from fastapi import APIRouter
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from starlette.responses import Response

from api.dependencies import ServicesDep
from api.openapi import Responses, problems
from models import job_store
from models.job_store import Statistics

router = APIRouter(tags=["health"])

_TEXT: Responses = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


@router.get("/metrics", response_class=Response, responses=_TEXT | problems())
def prometheus(services: ServicesDep) -> Response:
    """The installation in Prometheus' text format: each API process tells the same, and its own load."""
    # Read before anything is rendered, so that a database that is away is a 503 and not half an answer.
    found = job_store.statistics(services.db, silent_after_seconds=2 * services.settings.lease_seconds)
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Rendered(found))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


class _Rendered(Collector):
    """Statistics as metric families."""

    def __init__(self, found: Statistics) -> None:
        self._found = found

    def collect(self) -> Iterator[GaugeMetricFamily]:
        found = self._found
        yield _by("perdure_jobs", "Jobs by status.", "status", found.jobs)
        yield _by("perdure_workers", "Workers by status, of the last day.", "status", found.workers)
        yield _by(
            "perdure_attempts", "Attempts that ended, by cause, without drills.", "end_cause", found.attempts
        )
        yield _by("perdure_drills", "Drills that were carried out, by fault.", "fault", found.drills)
        yield GaugeMetricFamily(
            "perdure_queue_oldest_seconds",
            "How long the oldest queued job has waited; 0 for an empty queue.",
            found.oldest_queued_seconds,
        )
        yield GaugeMetricFamily(
            "perdure_recoveries", "How often jobs went on after a fault.", found.recoveries
        )
        yield GaugeMetricFamily("perdure_steps_redone", "Steps that were done again.", found.steps_redone)
        yield GaugeMetricFamily(
            "perdure_detection_seconds",
            "How long the ends of attempts went unnoticed, in all.",
            found.detection_seconds,
        )
        yield GaugeMetricFamily(
            "perdure_restart_seconds",
            "How long it took from there to the next attempts' first steps, in all.",
            found.restart_seconds,
        )
        if found.goodput is not None:
            yield GaugeMetricFamily(
                "perdure_goodput_ratio",
                "Of the last 100 jobs that succeeded: surviving seconds by seconds since the claim.",
                found.goodput,
            )


def _by(name: str, text: str, label: str, numbers: Mapping[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, number in numbers.items():
        family.add_metric([value], number)
    return family
