"""Every statement that reads or changes a dataset. Each public function is one transaction.

A check is fenced as a job is: a claim raises ``attempt``, and each later write of the light worker says
``WHERE status = 'checking' AND attempt = :mine AND worker_id = :me``. Zero rows mean that the lease is lost.
"""

from models.dataset_store.checks import (
    Check,
    abandon_check,
    claim_check,
    fail_check,
    finish_check,
    release_check,
    release_dead_checks,
    renew_check,
)
from models.dataset_store.records import (
    ReadyDataset,
    create_dataset,
    delete_dataset,
    get_dataset,
    light_workers_online,
    list_datasets,
    ready_dataset,
    recorded_ids,
    require_ready,
    usable_dataset,
)

__all__ = [
    "Check",
    "ReadyDataset",
    "abandon_check",
    "claim_check",
    "create_dataset",
    "delete_dataset",
    "fail_check",
    "finish_check",
    "get_dataset",
    "light_workers_online",
    "list_datasets",
    "ready_dataset",
    "recorded_ids",
    "release_check",
    "release_dead_checks",
    "renew_check",
    "require_ready",
    "usable_dataset",
]
