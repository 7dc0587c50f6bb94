"""For Schemathesis: what fits the document is made to fit the installation, too.

No schema can say which folders, architectures and jobs there are. Only cases that are to be accepted are
changed, and only where they would name what is not there: so that a refusal of one is a fault.
"""

import json
import os
import random
from typing import Any

import schemathesis

from models.catalogue import architecture
from models.errors import SpecInvalid
from models.job_spec import MAX_BATCH_BYTES

#: Ids that exist, by the name of the parameter.
_HERE: dict[str, list[str]] = json.loads(os.environ["PERDURE_TEST_IDS"])
_ARCHITECTURES = ("resnet18", "mobilenet_v3_small", "vit_b_16", "efficientnet_b1")
#: What computes with torch, which a checkpoint of random bytes is not worth.
_COMPUTES = ("/model/content", "/predict")
_MAX_PAIRS = 2


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    trained, cancelled, *_ = _HERE["job_id"]
    if case.operation.path.endswith(_COMPUTES) and case.path_parameters.get("job_id") == trained:
        case.path_parameters["job_id"] = cancelled
    if case.meta is None or case.meta.generation.mode.is_negative:
        return
    choose = random.Random(repr((case.path_parameters, case.query, case.body)))
    if case.meta.phase.name.value != "stateful":
        _name_what_is_there(case, choose)
    if isinstance(case.body, dict):
        case.body = _in_digits(case.body)
    act = _BODIES.get(case.operation.label)
    if act is not None and isinstance(case.body, dict):
        act(case.body, choose)
    if case.operation.label == "POST /datasets":
        case.query.pop("name", None)
    if case.operation.path == "/jobs/compare":
        case.query["ids"] = f"{trained},{cancelled}"
    if "Idempotency-Key" in (case.headers or {}):
        case.headers["Idempotency-Key"] = f"{case.headers['Idempotency-Key'][:200]}-{case.id}"


def _in_digits(body: Any) -> Any:
    """JSON Schema takes 4.0 for a whole number. Ours are written as such: who writes 4.0 may mean 4.5."""
    if isinstance(body, dict):
        return {name: _in_digits(value) for name, value in body.items()}
    if isinstance(body, list):
        return [_in_digits(value) for value in body]
    return int(body) if isinstance(body, float) and body.is_integer() else body


def _name_what_is_there(case: schemathesis.Case, choose: random.Random) -> None:
    """Half of the time: what is not there is asked for by the other half."""
    if choose.random() < 0.5:
        return
    for name in case.path_parameters:
        if name in _HERE and not case.operation.path.endswith(_COMPUTES):
            case.path_parameters[name] = choose.choice(_HERE[name])


def _fit_spec(spec: dict[str, Any], choose: random.Random) -> None:
    spec["dataset"] = {"path": "flowers"}
    model = spec["model"] = dict(spec.get("model") or {})
    model["weights"] = None
    try:
        arch = architecture(model.get("arch", ""))
    except SpecInvalid:
        arch = architecture(choose.choice(_ARCHITECTURES))
        model["arch"] = arch.name
    if isinstance(model.get("freeze"), int):
        model["freeze"] = min(model["freeze"], arch.num_stages)
    numbers = spec.get("hyperparameters")
    if numbers is not None:
        size = numbers.get("image_size")
        if size is not None:
            size = max(size, arch.min_size) // arch.size_multiple * arch.size_multiple
            numbers["image_size"] = size = max(size, arch.size_multiple * 2)
        most = MAX_BATCH_BYTES // (12 * max(size or 0, arch.image_size) ** 2)
        numbers["batch_size"] = min(numbers.get("batch_size", 32), most)
    every = (spec.get("fault_tolerance") or {}).get("checkpoint_every")
    if every is not None and "min_seconds" in every:
        every["max_seconds"] = max(every["min_seconds"], every.get("max_seconds", 60.0))


def _fit_clone(body: dict[str, Any], choose: random.Random) -> None:
    if "overrides" in body:
        _fit_spec(body["overrides"], choose)


def _fit_changes(body: dict[str, Any], choose: random.Random) -> None:
    """A job's pairs add up from one change to the next."""
    if isinstance(body.get("metadata"), dict):
        values = list(body["metadata"].values())[:_MAX_PAIRS]
        body["metadata"] = {f"key {number}": value for number, value in enumerate(values)}


def _fit_dataset(body: dict[str, Any], choose: random.Random) -> None:
    body.pop("builtin", None)  # none of torchvision's is there, and downloads are off
    body["path"] = "flowers"
    if body.get("name"):
        body["name"] = "flowers"  # a file's name, which has rules that no pattern says


def _fit_webhook(body: dict[str, Any], choose: random.Random) -> None:
    body["url"] = "http://127.0.0.1:9/nobody-listens"


def _fit_key(body: dict[str, Any], choose: random.Random) -> None:
    body["name"] = "".join(filter(str.isprintable, body["name"])) or "ci"


_BODIES = {
    "POST /jobs": _fit_spec,
    "POST /jobs/{job_id}/clone": _fit_clone,
    "PATCH /jobs/{job_id}": _fit_changes,
    "POST /datasets": _fit_dataset,
    "POST /webhooks": _fit_webhook,
    "POST /keys": _fit_key,
}
