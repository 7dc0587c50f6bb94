"""Links of the OpenAPI document: which answers name what can be asked about next."""

from typing import Any

#: Of an operation with a status: the parameters of paths that are known from then on, and where from.
_KNOWN: list[tuple[str, str, str, dict[str, str]]] = [
    ("/jobs", "post", "201", {"job_id": "$response.body#/id"}),
    ("/jobs/{job_id}/clone", "post", "201", {"job_id": "$response.body#/id"}),
    ("/datasets", "post", "201", {"dataset_id": "$response.body#/id"}),
    ("/datasets", "post", "202", {"dataset_id": "$response.body#/id"}),
    ("/webhooks", "post", "201", {"webhook_id": "$response.body#/id"}),
    ("/keys", "post", "201", {"key_id": "$response.body#/id"}),
    ("/workers", "get", "200", {"worker_id": "$response.body#/data/0/id"}),
    (
        "/jobs/{job_id}/checkpoints", "get", "200",
        {"job_id": "$request.path.job_id", "checkpoint_id": "$response.body#/data/0/id"},
    ),
    (
        "/webhooks/{webhook_id}/deliveries", "get", "200",
        {"webhook_id": "$request.path.webhook_id", "delivery_id": "$response.body#/data/0/id"},
    ),
]  # fmt: skip


def add_links(document: dict[str, Any]) -> None:
    """To every operation whose path takes what an answer has just told, and nothing else."""
    for path, method, status, known in _KNOWN:
        *_, new = known
        links = {
            operation["operationId"]: {
                "operationId": operation["operationId"],
                "parameters": {name: known[name] for name in _parameters_of(target)},
            }
            for target, operations in document["paths"].items()
            if new in _parameters_of(target) and set(_parameters_of(target)) <= set(known)
            for operation in operations.values()
        }
        document["paths"][path][method]["responses"][status]["links"] = links


def _parameters_of(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]
