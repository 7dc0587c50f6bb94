"""Every statement that reads or changes a job. Each public function is one transaction.

Fencing: a claim raises ``attempt``, and each later write of a worker passes through
:func:`models.job_store.fence.holding`, which locks the job's row only while it still is ``running`` under
that attempt. Zero rows mean that the lease is lost: LeaseLost, and nothing was changed.
"""

from models.job_store.changes import Changes, change_job
from models.job_store.checkpoints import (
    RecordedFiles,
    commit_checkpoint,
    recorded_files,
    reject_checkpoint,
)
from models.job_store.claims import Claim, claim, unheard_claim
from models.job_store.deletions import cleared, delete_job, jobs_to_clear
from models.job_store.drills import (
    Drill,
    carry_out_drill,
    choose_checkpoint_to_damage,
    job_drills,
    request_drill,
)
from models.job_store.endings import expire_lost_leases, fail, finish, release
from models.job_store.fence import Fence, Requests
from models.job_store.fleet import (
    drain_worker,
    enable_worker,
    list_workers,
    quarantine_worker,
    register_worker,
    seconds_between_failures,
    worker_beat,
    worker_stopped,
)
from models.job_store.following import News, stream_news
from models.job_store.idempotency import Replay, begin_request, complete_request, forget_request
from models.job_store.listing import claimable_classes, list_jobs
from models.job_store.overview import Overview, overview
from models.job_store.progress import (
    Position,
    dataset_checked,
    first_step,
    prepared,
    record_event,
    record_metrics,
    record_progress,
    renew,
    trainer_started,
)
from models.job_store.quotas import stored_bytes
from models.job_store.reading import (
    epoch_metrics,
    get_checkpoint,
    get_job,
    job_attempts,
    job_checkpoints,
    job_events,
    step_metrics,
    tenant_of_job,
)
from models.job_store.requests import cancel, extend, pause, resume, retry
from models.job_store.restarts import restart_attempt
from models.job_store.rollbacks import roll_back
from models.job_store.statistics import Statistics, statistics
from models.job_store.submission import create_job

__all__ = [
    "Changes",
    "Claim",
    "Drill",
    "Fence",
    "News",
    "Overview",
    "Position",
    "RecordedFiles",
    "Replay",
    "Requests",
    "Statistics",
    "begin_request",
    "cancel",
    "carry_out_drill",
    "change_job",
    "choose_checkpoint_to_damage",
    "claim",
    "claimable_classes",
    "cleared",
    "commit_checkpoint",
    "complete_request",
    "create_job",
    "dataset_checked",
    "delete_job",
    "drain_worker",
    "enable_worker",
    "epoch_metrics",
    "expire_lost_leases",
    "extend",
    "fail",
    "finish",
    "first_step",
    "forget_request",
    "get_checkpoint",
    "get_job",
    "job_attempts",
    "job_checkpoints",
    "job_drills",
    "job_events",
    "jobs_to_clear",
    "list_jobs",
    "list_workers",
    "overview",
    "pause",
    "prepared",
    "quarantine_worker",
    "record_event",
    "record_metrics",
    "record_progress",
    "recorded_files",
    "register_worker",
    "reject_checkpoint",
    "release",
    "renew",
    "request_drill",
    "restart_attempt",
    "resume",
    "retry",
    "roll_back",
    "seconds_between_failures",
    "statistics",
    "step_metrics",
    "stored_bytes",
    "stream_news",
    "tenant_of_job",
    "trainer_started",
    "unheard_claim",
    "worker_beat",
    "worker_stopped",
]
