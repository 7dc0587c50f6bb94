"""Specs: what is taken is kept as it is; what cannot be meant is refused with the name of its field."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.job_spec import JobSpec, Segment


def with_field(field: str, value: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {"dataset": {"path": "flowers4"}}
    part = spec
    *parents, last = field.split(".")
    for parent in parents:
        part = part.setdefault(parent, {})
    part[last] = value
    return spec


def refusals(spec: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as refusal:
        JobSpec.model_validate(spec)
    return " ".join(".".join(map(str, error["loc"])) for error in refusal.value.errors())


def test_only_the_dataset_is_required() -> None:
    spec = JobSpec.model_validate({"dataset": {"path": "flowers4"}})
    assert spec.to_json() == {
        "name": None, "dataset": {"path": "flowers4"},
        "model": {"arch": "efficientnet_b1", "weights": "DEFAULT", "freeze": "backbone", "dropout": 0.3},
        "hyperparameters": {
            "epochs": 4, "batch_size": 32, "image_size": None, "optimizer": "adam", "lr": 0.001,
            "weight_decay": 0.0, "scheduler": "constant", "augment": "none", "label_smoothing": 0.0,
            "precision": "auto",
        },
        "validation": {"split": 0.2}, "seed": 0,
        "resources": {"device": "auto", "num_devices": 1, "max_runtime_seconds": None},
        "fault_tolerance": {
            "max_failures": 5, "keep_last": 2,
            "checkpoint_every": {"epochs": 1, "seconds": None, "min_seconds": 2.0, "max_seconds": 60.0},
            "exact_wait_seconds": 300, "verify_on_resume": False,
            "on_non_finite": "fail", "on_out_of_memory": "fail",
        },
        "early_stopping": None, "priority": 0, "metadata": {},
    }  # fmt: skip
    assert "dataset" in refusals({})


#: Every number of a spec: a value that is taken, the smallest and the largest that are, and their neighbours.
INTEGERS = {
    "hyperparameters.epochs": (1, 10_000), "hyperparameters.batch_size": (1, 8192),
    "hyperparameters.image_size": (16, 2048), "seed": (0, 2**63 - 1), "priority": (-100, 100),
    "resources.num_devices": (1, 1), "resources.max_runtime_seconds": (1, 31_536_000),
    "fault_tolerance.max_failures": (1, 1000), "fault_tolerance.keep_last": (1, 1000),
    "fault_tolerance.exact_wait_seconds": (0, 604_800),
    "fault_tolerance.checkpoint_every.epochs": (1, 10_000),
    "model.freeze": (0, 1000), "early_stopping.patience": (1, 10_000),
}  # fmt: skip
FLOATS = [
    "hyperparameters.lr", "hyperparameters.weight_decay", "hyperparameters.label_smoothing", "model.dropout",
    "validation.split", "fault_tolerance.checkpoint_every.seconds", "early_stopping.min_delta",
]  # fmt: skip


@pytest.mark.parametrize("field", INTEGERS)
def test_the_limits_of_whole_numbers(field: str) -> None:
    least, most = INTEGERS[field]
    for value in (least, most):
        assert JobSpec.model_validate(with_field(field, value))
    for value in (least - 1, most + 1, -(2**63), 2**63, 2**64, 10**30):
        assert field in refusals(with_field(field, value))


@pytest.mark.parametrize("field", INTEGERS)
@pytest.mark.parametrize("value", [True, False, "1", "x", 1.5, 2.0, math.nan, math.inf, [], {}, b"1"])
def test_nothing_else_is_a_whole_number(field: str, value: Any) -> None:
    assert field in refusals(with_field(field, value))


@pytest.mark.parametrize("field", FLOATS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, 1e999, True, "0.1", [], {}, 10**30])
def test_nothing_else_is_a_number(field: str, value: Any) -> None:
    assert field in refusals(with_field(field, value))


@pytest.mark.parametrize(
    ("field", "value"),
    [("hyperparameters.lr", 0), ("hyperparameters.lr", 0.0), ("hyperparameters.lr", 100.1),
     ("hyperparameters.label_smoothing", 1.0), ("model.dropout", 1.0), ("validation.split", 0.0),
     ("validation.split", 1.0), ("fault_tolerance.checkpoint_every.seconds", 0.5)],
)  # fmt: skip
def test_the_limits_of_other_numbers(field: str, value: float) -> None:
    assert field in refusals(with_field(field, value))


@pytest.mark.parametrize(
    ("batch_size", "image_size", "fits"),
    [(8192, 2048, False), (8192, 224, True), (8192, 418, True), (8192, 419, False), (341, 2048, True),
     (342, 2048, False), (8192, None, True), (1, 2048, True)],
)  # fmt: skip
def test_legal_numbers_whose_product_no_memory_holds(
    batch_size: int, image_size: int | None, fits: bool
) -> None:
    spec = with_field("hyperparameters", {"batch_size": batch_size, "image_size": image_size})
    if not fits:
        with pytest.raises(ValidationError, match="exceed any device's memory"):
            JobSpec.model_validate(spec)
    else:
        JobSpec.model_validate(spec)


TEXTS = ["name", "dataset.path", "model.arch", "model.weights", "metadata.k", "model.weights.file"]
CONTROL = [
    "a\nb", "a\rb", "\0", "a\0b", "\x1b[31mred", "\x1b]0;title\x07", "\x7f", "\t", "\x9b31m", "\x85",
    "\u2028", "\u2029", "\ud800", "\udc80", "a\udfff",
]  # fmt: skip


@pytest.mark.parametrize("field", TEXTS)
@pytest.mark.parametrize("text", CONTROL, ids=ascii)
def test_control_characters_and_half_characters_are_refused(field: str, text: str) -> None:
    assert field.partition(".")[0] in refusals(with_field(field, text))


@pytest.mark.parametrize("text", CONTROL, ids=ascii)
def test_in_the_keys_of_metadata_too(text: str) -> None:
    assert "metadata" in refusals(with_field("metadata", {text: "v"}))


@pytest.mark.parametrize("field", ["name", "metadata.k"])
@pytest.mark.parametrize(
    "text",
    ["<script>alert(1)</script>", "'; DROP TABLE jobs; --", "{{7*7}}", "${x}", "%s%n", "ünï 🌷", "a'b\"c"],
)
def test_text_is_only_text(field: str, text: str) -> None:
    assert json.dumps(text) in json.dumps(JobSpec.model_validate(with_field(field, text)).to_json())


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", ""), ("name", "x" * 201), ("name", 7), ("dataset.path", ""), ("dataset.path", "x" * 1001),
     ("dataset.path", None), ("dataset", {}), ("dataset", {"id": "ds_1", "path": "x"}),
     ("dataset", {"id": None, "path": None}), ("dataset", {"id": "job_1"}), ("dataset", {"id": "ds_"}),
     ("dataset", {"id": "ds_../x"}), ("dataset", {"id": 1}), ("dataset", "flowers4"), ("dataset", []),
     ("metadata", {"k" * 65: "v"}),
     ("metadata", {"": "v"}), ("metadata", {"k": "v" * 513}), ("metadata", {"k": 1}),
     ("metadata", {"k": None}), ("metadata", {str(n): "" for n in range(17)}), ("metadata", {1: "v"}),
     ("model.arch", None), ("model.freeze", "head"), ("model.freeze", None), ("model.weights", 7),
     ("model.weights", {"url": "x"}),
     ("hyperparameters.optimizer", "rmsprop"), ("hyperparameters.scheduler", "step"),
     ("hyperparameters.augment", None), ("resources.device", "tpu"), ("resources.device", "cuda:0"),
     ("hyperparameters", None), ("fault_tolerance.verify_on_resume", 1), ("early_stopping", True),
     ("unknown", 1), ("model.unknown", 1), ("hyperparameters.learning_rate", 0.1), ("dataset.url", "http://x")],
)  # fmt: skip
def test_other_nonsense(field: str, value: Any) -> None:
    refusals(with_field(field, value))


@pytest.mark.parametrize(
    ("field", "value"),
    [("dataset", {"id": "ds_0190"}), ("dataset", {"id": None, "path": "x"}),
     ("model.weights", None), ("model.weights", {"file": "a/b.pth"}), ("model.freeze", "none"),
     ("model.freeze", 3), ("hyperparameters.lr", 1), ("early_stopping", {}), ("resources.device", "cuda")],
)  # fmt: skip
def test_what_is_meant_is_taken(field: str, value: Any) -> None:
    JobSpec.model_validate(with_field(field, value))


def test_a_spec_does_not_change() -> None:
    spec = JobSpec.model_validate({"dataset": {"path": "x"}})
    with pytest.raises(ValidationError):
        spec.seed = 3  # type: ignore[misc]
    with pytest.raises(ValidationError):
        spec.hyperparameters.lr = 3.0  # type: ignore[misc]


printable = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=60)


@given(
    name=st.none() | printable,
    seed=st.integers(0, 2**63 - 1),
    lr=st.floats(1e-300, 100.0),
    metadata=st.dictionaries(printable, printable, max_size=5),
)
def test_what_is_stored_is_what_was_asked_for(
    name: str | None, seed: int, lr: float, metadata: dict[str, str]
) -> None:
    asked = {
        "dataset": {"path": "x"}, "name": name, "seed": seed, "hyperparameters": {"lr": lr},
        "metadata": metadata,
    }  # fmt: skip
    spec = JobSpec.model_validate(asked)
    stored = json.loads(json.dumps(spec.to_json()))
    assert JobSpec.model_validate(stored) == spec
    assert (stored["name"], stored["seed"], stored["hyperparameters"]["lr"], stored["metadata"]) == (
        name, seed, lr, metadata,
    )  # fmt: skip


@given(st.dictionaries(st.text(max_size=12), st.none() | st.integers() | st.text()))
def test_random_objects_are_refused_and_never_worse(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JobSpec.model_validate(spec)


def test_segments() -> None:
    assert Segment(epochs=3, scheduler="cosine").schedule_epochs == 3
    assert Segment(epochs=3, scheduler="cosine", planned_epochs=10).schedule_epochs == 10
    for epochs in (0, 10_001, True, "3", 2.0):
        with pytest.raises(ValidationError):
            Segment.model_validate({"epochs": epochs, "scheduler": "cosine"})


def test_a_dataset_is_shown_as_it_was_named() -> None:
    for dataset in ({"id": "ds_0190"}, {"path": "flowers4"}):
        assert JobSpec.model_validate({"dataset": dataset}).to_json()["dataset"] == dataset
