"""What a server answers, as the client hands it out.

Fields that a newer server adds are kept, and fields that an older one lacks are None.
"""

from perdure.types.answer import Answer, Page
from perdure.types.history import (
    Attempt,
    Checkpoint,
    Drill,
    EpochMetrics,
    Event,
    StepBatch,
    StepMetrics,
)
from perdure.types.jobs import AT_REST, FINISHED, Best, Job, JobError, JobStatus, Progress, ResumePoint
from perdure.types.outputs import (
    ClassProbability,
    ComparedEpoch,
    ComparedJob,
    Comparison,
    Difference,
    Model,
    Prediction,
)
from perdure.types.service import Dataset, Delivery, Key, Webhook, Worker

__all__ = [
    "AT_REST", "FINISHED", "Answer", "Attempt", "Best", "Checkpoint", "ClassProbability", "ComparedEpoch",
    "ComparedJob", "Comparison", "Dataset", "Delivery", "Difference", "Drill", "EpochMetrics", "Event", "Job",
    "JobError", "JobStatus", "Key", "Model", "Page", "Prediction", "Progress", "ResumePoint", "StepBatch",
    "StepMetrics", "Webhook", "Worker",
]  # fmt: skip
