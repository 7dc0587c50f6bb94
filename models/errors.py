"""Every failure that a user can meet: a stable code and a sentence that says what to do next.

A class docstring is its default message. HTTP status codes are given to these once, in ``api/problems.py``.
"""

from typing import ClassVar


class PerdureError(Exception):
    """Something went wrong inside Perdure; the server's log has the details."""

    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str | None = None, *, field: str | None = None) -> None:
        self.message = message or " ".join((type(self).__doc__ or "").split())
        self.field = field
        super().__init__(self.message)


# -- Requests that cannot be granted -------------------------------------------------------------


class NotFound(PerdureError):
    """There is nothing with that id here; look at the list for the ids that exist."""

    code = "not_found"


class WrongState(PerdureError):
    """The job's state does not allow this."""

    code = "wrong_state"


class SpecInvalid(PerdureError):
    """The job's spec cannot be run as it stands."""

    code = "spec_invalid"


class IdempotencyMismatch(PerdureError):
    """This Idempotency-Key was used with another body; use a new key for a new request."""

    code = "idempotency_key_reused"


class IdempotencyInFlight(PerdureError):
    """A request with this Idempotency-Key is still being answered; try again in a second."""

    code = "idempotency_in_flight"


class DatabaseUnavailable(PerdureError):
    """The database does not answer; nothing was changed. Try again in a few seconds."""

    code = "database_unavailable"

    @property
    def reason(self) -> str:
        """For a log: what the driver said, in a line and without the statement."""
        said = getattr(self.__cause__, "orig", None) or self.__cause__ or self.message
        return " ".join(str(said).split())[:300]


class SchemaBehind(DatabaseUnavailable):
    """The database does not have the tables of this version; run `perdure migrate`."""

    code = "schema_behind"

    @property
    def reason(self) -> str:
        """What to do is all that there is to say."""
        return self.message


class QuotaExceeded(PerdureError):
    """The tenant has used up a quota; try again when there is room."""

    code = "quota_exceeded"


class SettingsInvalid(PerdureError):
    """The settings are not valid."""

    code = "settings_invalid"


class DrillsDisabled(PerdureError):
    """Drills break jobs on purpose and are off here: start the service with `perdure up --drills`, or set
    PERDURE_DRILLS=true for the API."""

    code = "drills_disabled"


class DrillUnsupported(PerdureError):
    """This drill cannot be carried out on this installation; choose another fault."""

    code = "drill_unsupported"


class DatasetNotReady(PerdureError):
    """The dataset is still being checked; try again in a few seconds."""

    code = "dataset_not_ready"


class DatasetInUse(PerdureError):
    """A job that is not finished uses this dataset; wait for its end, or cancel it first."""

    code = "dataset_in_use"


class ArchiveInvalid(PerdureError):
    """The archive is not one that can be taken; the message names the entry at fault."""

    code = "archive_invalid"


class UploadTooLarge(PerdureError):
    """The upload has more bytes than this server takes; raise PERDURE_MAX_UPLOAD_BYTES, or send less."""

    code = "upload_too_large"


class CheckFailed(PerdureError):
    """The check of the dataset never came to an end; look at the light worker's log, and upload it again."""

    code = "dataset_check_failed"


class ContentGone(PerdureError):
    """The file was pruned by retention or quarantined; choose a checkpoint whose status is committed."""

    code = "content_gone"


class CheckpointDamaged(PerdureError):
    """A stored file of this checkpoint is damaged; choose another checkpoint."""

    code = "checkpoint_damaged"


class DownloadNotReady(PerdureError):
    """The file is still being put together; try again in a few seconds."""

    code = "download_not_ready"


class DownloadFailed(PerdureError):
    """Putting the file together failed; try again, and if it stays so look at the API's log."""

    code = "download_failed"


class TorchMissing(PerdureError):
    """This takes torch, which is not installed here: install the worker extra beside the API
    (`pip install -e '.[worker]'`), or ask an API that has it."""

    code = "torch_missing"


class OnnxMissing(PerdureError):
    """The converter to ONNX is not installed here: install the onnx extra beside the API
    (`pip install -e '.[onnx]'`), ask an API that has it, or take the zip."""

    code = "onnx_missing"


class OnnxUnsupported(PerdureError):
    """This model cannot be converted to ONNX; take the zip."""

    code = "onnx_unsupported"


class WebhookUrlInvalid(PerdureError):
    """This URL cannot be called."""

    code = "webhook_url_invalid"


class ImageInvalid(PerdureError):
    """The image cannot be decoded; send another one."""

    code = "image_invalid"


class PredictionNotReady(PerdureError):
    """The model is still being loaded, or others are being asked; try again in a few seconds."""

    code = "prediction_not_ready"


class PredictionFailed(PerdureError):
    """The prediction failed; try again, and if it stays so look at the API's log."""

    code = "prediction_failed"


# -- Fencing -------------------------------------------------------------------------------------


class LeaseLost(PerdureError):
    """Another attempt owns the job now: change nothing and stop at once."""

    code = "lease_lost"


# -- Failures of training ------------------------------------------------------------------------


class TrainingError(PerdureError):
    """Training failed."""

    code = "training_error"
    #: An error that another attempt cannot mend fails the job at once and spends no budget.
    retryable: ClassVar[bool] = False


class TrainerCrashed(TrainingError):
    """The trainer stopped on an unexpected error; its output is under the job's logs."""

    code = "trainer_error"
    retryable = True


class OutOfMemory(TrainingError):
    """The device ran out of memory; use a smaller batch_size or image_size, or a bigger device."""

    code = "out_of_memory"
    retryable = True


class StorageFailed(TrainingError):
    """The checkpoint store refused a write; free some space or repair it, and the job goes on."""

    code = "storage_failed"
    retryable = True


class DatasetInvalid(TrainingError):
    """The dataset cannot be trained on."""

    code = "dataset_invalid"


class DatasetChanged(TrainingError):
    """The dataset changed since the job began; restore it and retry, or submit a new job for the new data."""

    code = "dataset_changed"


class DatasetUnavailable(TrainingError):
    """The dataset is not on this machine and could not be fetched."""

    code = "dataset_unavailable"


class WeightsUnavailable(TrainingError):
    """The pretrained weights are not on this machine and could not be fetched."""

    code = "weights_unavailable"


class WeightsInvalid(TrainingError):
    """The weights file does not fit the architecture."""

    code = "weights_invalid"


class NonFiniteLoss(TrainingError):
    """The loss became NaN or infinite; lower the learning rate. The last checkpoint is intact."""

    code = "non_finite_loss"


class RuntimeExceeded(TrainingError):
    """The job ran for longer than its max_runtime_seconds; clone it with a larger limit to go on."""

    code = "max_runtime_exceeded"


class CheckpointFormatUnknown(TrainingError):
    """The checkpoint was written by a newer version of Perdure; upgrade this worker and retry."""

    code = "checkpoint_format_unknown"


class NumericsUnavailable(TrainingError):
    """This worker cannot compute with the job's numerics."""

    code = "numerics_unavailable"


class NoProgress(TrainingError):
    """The job was given up: it failed again and again without getting any further."""

    code = "no_progress"
