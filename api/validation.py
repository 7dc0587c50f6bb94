"""A spec against what is really there: dataset, architecture, weights. Everything wrong is told at once."""

from collections.abc import Callable
from typing import TypeVar

from api.dataset_layout import Layout, below_data_root
from api.known_layouts import KnownLayouts
from api.problems import Refused, field_error
from models import builtin_datasets, dataset_store
from models.catalogue import Architecture, architecture, resolve_weights, weights_present
from models.database import Database
from models.errors import (
    DatasetNotReady,
    DatasetUnavailable,
    PerdureError,
    SpecInvalid,
    WeightsInvalid,
    WeightsUnavailable,
)
from models.job_spec import MAX_BATCH_BYTES, DatasetSpec, JobSpec, ModelSpec, WeightsFile
from models.settings import Settings

T = TypeVar("T")

WEIGHTS_SUFFIXES = (".pth", ".pt", ".safetensors")
#: The length of the header that a safetensors file begins with; nobody's is larger.
_MAX_HEADER_BYTES = 100_000_000
_WEIGHTS_FIELD = "model.weights"
#: One for the process, as its file system is.
_layouts = KnownLayouts()


def checked(spec: JobSpec, settings: Settings, db: Database, tenant_id: str) -> tuple[JobSpec, list[str]]:
    """The spec with its weights by their concrete name, and warnings.

    Raises Refused (422), and DatasetNotReady where that is all that is wrong.
    """
    found: list[PerdureError] = []
    warnings: list[str] = []
    model = _gather(found, lambda: _model(spec, settings, warnings))
    layout = _gather(found, lambda: _layout(spec.dataset, settings, db, tenant_id, warnings))
    lasting = [error for error in found if not isinstance(error, DatasetNotReady)]
    if found:
        raise _all_of(lasting) if lasting else found[0]
    if layout is not None:
        warnings += _about_data(spec, layout)
    return spec.model_copy(update={"model": model}), warnings


def expect_builtin(name: str, settings: Settings, field: str) -> bool:
    """Whether it is here; raises DatasetUnavailable where it is not, and nobody may fetch it."""
    is_here = builtin_datasets.is_present(name, settings.data_folder, settings.uploads_folder)
    if not is_here and not settings.downloads:
        raise DatasetUnavailable(builtin_datasets.missing(name), field=field)
    return is_here


def _layout(
    dataset: DatasetSpec, settings: Settings, db: Database, tenant_id: str, warnings: list[str]
) -> Layout | None:
    """What can be told of it beforehand."""
    if dataset.path is not None:
        return _layouts.look_at(settings.data_folder, dataset.path, uploads=settings.uploads_folder)
    if dataset.builtin is not None:
        if not expect_builtin(dataset.builtin, settings, "dataset.builtin"):
            warnings.append(
                f"{dataset.builtin} is not here yet; the worker that takes the job will fetch it."
            )
        return None
    row = dataset_store.usable_dataset(db, str(dataset.id), tenant_id)
    counts = {side: sum(of_class.values()) for side, of_class in row.found["counts"].items()}
    return Layout(row.found["classes"], counts.get("all") or counts["train"], counts.get("val"), True)


def _gather(found: list[PerdureError], look: Callable[[], T]) -> T | None:
    try:
        return look()
    except PerdureError as error:
        found.append(error)
        return None


def _all_of(found: list[PerdureError]) -> Refused:
    errors = [field_error(error.field or "", error.message, error.code) for error in found]
    code = found[0].code if len({error.code for error in found}) == 1 else SpecInvalid.code
    return Refused(422, code, " ".join(error.message for error in found), errors=errors)


def _model(spec: JobSpec, settings: Settings, warnings: list[str]) -> ModelSpec:
    arch = architecture(spec.model.arch)
    _expect_size(spec, arch)
    freeze = spec.model.freeze
    if isinstance(freeze, int) and freeze > arch.num_stages:
        raise SpecInvalid(
            f"{arch.name} has {arch.num_stages} stages; {freeze} of them cannot be frozen.",
            field="model.freeze",
        )
    if spec.hyperparameters.batch_size == 1 and freeze != "backbone" and not arch.batch_of_one:
        warnings.append(f"{arch.name} normalises over the batch; batches of one image may not train.")
    return _with_weights(spec.model, arch, settings, warnings)


def _expect_size(spec: JobSpec, arch: Architecture) -> None:
    asked, batch_size = spec.hyperparameters.image_size, spec.hyperparameters.batch_size
    field = "hyperparameters.image_size"
    if asked is not None and asked < arch.min_size:
        raise SpecInvalid(f"{arch.name} needs images of at least {arch.min_size} pixels.", field=field)
    if asked is not None and asked % arch.size_multiple:
        raise SpecInvalid(f"{arch.name} needs an image_size that {arch.size_multiple} divides.", field=field)
    size = asked or arch.image_size
    if batch_size * size * size * 3 * 4 > MAX_BATCH_BYTES:
        raise SpecInvalid(
            f"{batch_size} images of {size} pixels exceed any device's memory; lower one of the two.",
            field="hyperparameters.batch_size",
        )


def _with_weights(model: ModelSpec, arch: Architecture, settings: Settings, warnings: list[str]) -> ModelSpec:
    if model.weights is None:
        if model.freeze == "backbone":
            warnings.append("The backbone is frozen with random weights; only the head will learn.")
        return model
    if isinstance(model.weights, WeightsFile):
        _expect_weights_file(settings, model.weights.file)
        return model
    entry = resolve_weights(arch.name, model.weights)
    if not weights_present(entry):
        if not settings.downloads:
            raise WeightsUnavailable(
                f"{entry.file} is not on this machine and downloads are off; add the file to torch's cache, "
                'name one of your own with {"file": …}, or take null for a random start.',
                field=_WEIGHTS_FIELD,
            )
        warnings.append(f"{entry.file} is not here yet; the worker that takes the job will fetch it.")
    return model.model_copy(update={"weights": entry.name})


def _expect_weights_file(settings: Settings, relative: str) -> None:
    field = f"{_WEIGHTS_FIELD}.file"
    path = below_data_root(settings.data_folder, relative, field, uploads=settings.uploads_folder)
    if not path.is_file() or path.suffix.lower() not in WEIGHTS_SUFFIXES:
        raise SpecInvalid(f"The path is no file of the kind {', '.join(WEIGHTS_SUFFIXES)}.", field=field)
    if path.suffix.lower() == ".safetensors":
        try:
            with path.open("rb") as stream:
                length = int.from_bytes(stream.read(8), "little")
        except OSError as error:
            raise WeightsInvalid(f"The weights file cannot be read: {error.strerror}.", field=field) from None
        if not 0 < length <= min(_MAX_HEADER_BYTES, path.stat().st_size - 8):
            raise WeightsInvalid(
                "The weights file is no safetensors file: its header is not whole.", field=field
            )


def _about_data(spec: JobSpec, layout: Layout) -> list[str]:
    warnings = []
    share = 1.0 if layout.num_val is not None else 1.0 - spec.validation.split
    if layout.is_exact and layout.num_train * share < spec.hyperparameters.batch_size:
        warnings.append(
            f"There are fewer training images (of {layout.num_train}) than batch_size: an epoch is one step."
        )
    if layout.num_val is not None and "validation" in spec.model_fields_set:
        warnings.append("The dataset has a `val` folder, so validation.split is not used.")
    return warnings
