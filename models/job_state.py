"""The states of a job, why attempts end, and what happens at the edges between states."""

from enum import StrEnum


class JobStatus(StrEnum):
    QUEUED = "queued"  #: waits for a worker
    RUNNING = "running"  #: held by a worker under a lease
    PAUSED = "paused"  #: stopped by request at a checkpoint; `resume` queues it again
    SUCCEEDED = "succeeded"  #: the last epoch is committed; `extend` queues it again
    FAILED = "failed"  #: budget spent, or an error that retrying cannot mend; `retry` queues it again
    CANCELLED = "cancelled"  #: stopped by request for good; `retry` queues it again


FINISHED = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})


class EndCause(StrEnum):
    """Why an attempt ended."""

    FINISHED = "finished"  #: the last epoch was committed
    TRAINER_KILLED = "trainer_killed"  #: the trainer died by a signal
    TRAINER_ERROR = "trainer_error"  #: the trainer reported an error
    OUT_OF_MEMORY = "out_of_memory"  #: the device or the host ran out of memory
    STALLED = "stalled"  #: alive, but without progress; killed by its supervisor
    WORKER_LOST = "worker_lost"  #: the lease expired, or its holder was found dead
    WORKER_ERROR = "worker_error"  #: the worker's own code failed; it gave the job back
    PREEMPTED = "preempted"  #: the worker was asked to stop; it left a checkpoint
    PAUSED = "paused"  #: the user asked
    CANCELLED = "cancelled"  #: the user asked
    LEASE_LOST = "lease_lost"  #: the holder learnt that another attempt owns the job


#: Ends that nobody asked for; what follows them is a recovery.
FAILURES = frozenset(
    {
        EndCause.TRAINER_KILLED,
        EndCause.TRAINER_ERROR,
        EndCause.OUT_OF_MEMORY,
        EndCause.STALLED,
        EndCause.WORKER_LOST,
        EndCause.WORKER_ERROR,
        EndCause.LEASE_LOST,
    }
)


class Fault(StrEnum):
    """What a drill breaks, for real."""

    KILL_TRAINER = "kill_trainer"  #: SIGKILL of the trainer
    KILL_WORKER = "kill_worker"  #: SIGKILL of the worker with every process below it
    STALL = "stall"  #: SIGSTOP of the trainer, which the stall watch has to notice
    CORRUPT_CHECKPOINT = "corrupt_checkpoint"  #: bytes of the newest checkpoint flipped, then SIGKILL


class EventType(StrEnum):
    """What a job's audit trail records; transitions are named by their edge."""

    CREATED = "created"  #: (nothing) -> queued
    CLAIMED = "claimed"  #: queued -> running
    RESTARTED = "restarted"  #: running -> running: the trainer died, the same worker goes on
    ROLLED_BACK = "rolled_back"  #: running -> running: the loss had no bounds; on from an epoch's end, slower
    RELEASED = "released"  #: running -> queued: the worker stops in order
    EXPIRED = "expired"  #: running -> queued: the worker is gone
    SUCCEEDED = "succeeded"  #: running -> succeeded
    FAILED = "failed"  #: running -> failed
    PAUSED = "paused"  #: queued or running -> paused
    CANCELLED = "cancelled"  #: queued, running or paused -> cancelled
    RESUMED = "resumed"  #: paused -> queued
    RETRIED = "retried"  #: failed or cancelled -> queued
    EXTENDED = "extended"  #: succeeded -> queued
    CANCEL_REQUESTED = "cancel_requested"
    PAUSE_REQUESTED = "pause_requested"
    DATASET_CHECKED = "dataset.checked"
    CHECKPOINT_COMMITTED = "checkpoint.committed"
    CHECKPOINT_DELAYED = "checkpoint.delayed"  #: the store refused it; it is tried again
    CHECKPOINT_QUARANTINED = "checkpoint.quarantined"
    CHECKPOINT_PRUNED = "checkpoint.pruned"
    FROZEN_PART_REBUILT = "frozen_part.rebuilt"
    RESUME_STARTED = "resume.started"
    RESUME_VERIFIED = "resume.verified"
    DETERMINISM_MISMATCH = "determinism.mismatch"
    PARKED = "parked"
    INEXACT = "inexact"
    DRILL_REQUESTED = "drill.requested"
    DRILL_CARRIED_OUT = "drill.carried_out"  #: recorded right before the worker does it


#: Events after which a job has another status, or was asked to take one.
MOVES = frozenset(
    {
        EventType.CREATED,
        EventType.CLAIMED,
        EventType.RELEASED,
        EventType.EXPIRED,
        EventType.SUCCEEDED,
        EventType.FAILED,
        EventType.PAUSED,
        EventType.CANCELLED,
        EventType.RESUMED,
        EventType.RETRIED,
        EventType.EXTENDED,
        EventType.CANCEL_REQUESTED,
        EventType.PAUSE_REQUESTED,
    }
)


class StreamKind(StrEnum):
    """What is told of a job as it happens, in one order."""

    METRIC = "metric"  #: an epoch is sealed, or steps are done
    STATUS = "status"  #: the job has another status, or was asked to take one
    ATTEMPT = "attempt"  #: one begins, does its first step, or ends
    CHECKPOINT = "checkpoint"  #: one is committed, pruned or quarantined
    EVENT = "event"  #: a line of the audit trail


class Phase(StrEnum):
    """What a trainer is doing; each phase counts its own progress and has its own stall limit."""

    STARTING = "starting"  #: process start, network and weights built
    DATASET = "dataset"  #: files listed, hashed and decoded, or compared with the manifest
    TRAINING = "training"  #: optimizer steps
    VALIDATION = "validation"  #: validation batches
    CHECKPOINT = "checkpoint"  #: bytes written and verified
    VERIFYING = "verifying"  #: the recorded validation loss computed again after a resume
