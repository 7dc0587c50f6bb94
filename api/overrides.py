"""The spec of a clone: that of its source with some parts replaced."""

from collections.abc import Mapping
from typing import Any

from api.body import validate
from api.problems import FieldError, Refused, field_error, validation_failed
from api.validation import checked
from models.database import Database
from models.job_spec import JobSpec
from models.job_store.fence import JobRow
from models.settings import Settings

#: Replaced as a whole: of the ways to name a dataset, or a weights file, one excludes the others.
_WHOLE = {("dataset",), ("model", "weights")}


def overridden(
    source: JobRow, overrides: Mapping[str, Any], settings: Settings, db: Database
) -> tuple[JobSpec, list[str]]:
    """The spec, checked against what is really there, and warnings.

    Raises Refused (422) whose fields point into ``overrides``, which is where they can be corrected.
    """
    # Its name, metadata and priority as they are now: they may have been changed since it was submitted.
    before = {**source.spec, "name": source.name, "metadata": source.metadata, "priority": source.priority}
    try:
        spec = validate(JobSpec, _merged(_with_fitting_weights(before, overrides), overrides))
        return checked(spec, settings, db, source.tenant_id)
    except Refused as refused:
        found = [field_error(f"overrides.{e.field}".rstrip("."), e.message, e.code) for e in refused.errors]
        raise _pointing(refused, found) from None


def _pointing(refused: Refused, found: list[FieldError]) -> Refused:
    if refused.code == "validation_failed":
        return validation_failed(found)
    return Refused(refused.status, refused.code, refused.detail, errors=found)


def _with_fitting_weights(before: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Weights of one architecture fit no other: another one begins with its own default, unless told."""
    model, new = before["model"], overrides.get("model")
    if not isinstance(new, dict) or new.get("arch", model["arch"]) == model["arch"]:
        return before
    return (
        {**before, "model": {**model, "weights": "DEFAULT"}} if isinstance(model["weights"], str) else before
    )


def _merged(before: Any, after: Any, path: tuple[str, ...] = ()) -> Any:
    """Objects part by part, all else replaced; null is a value like any other."""
    if not isinstance(before, dict) or not isinstance(after, Mapping) or path in _WHOLE:
        return after
    changed = {
        name: _merged(before[name], value, (*path, name)) if name in before else value
        for name, value in after.items()
    }
    return {**before, **changed}
