"""Numbers beyond every bound, and what is no number."""

from typing import Any

from tests.integration.hostile.case import Case, posted, spoilt, with_field

_OF_SPECS: list[tuple[str, Any]] = [
    ("hyperparameters.batch_size", 10**9), ("hyperparameters.batch_size", 0),
    ("hyperparameters.batch_size", -1), ("hyperparameters.batch_size", 1.5),
    ("hyperparameters.batch_size", "32"), ("hyperparameters.batch_size", True),
    ("hyperparameters.batch_size", [32]), ("hyperparameters.batch_size", {}),
    ("hyperparameters.epochs", 10**9), ("hyperparameters.epochs", 0), ("hyperparameters.epochs", -1),
    ("hyperparameters.epochs", True), ("hyperparameters.epochs", None), ("hyperparameters.epochs", 10**30),
    ("hyperparameters.epochs", "4"), ("hyperparameters.epochs", 4.0),
    ("hyperparameters.image_size", 10**5), ("hyperparameters.image_size", 1),
    ("hyperparameters.image_size", "224"), ("hyperparameters.image_size", False),
    ("hyperparameters.lr", 0), ("hyperparameters.lr", -1), ("hyperparameters.lr", True),
    ("hyperparameters.lr", "0.1"), ("hyperparameters.lr", 10**20), ("hyperparameters.lr", None),
    ("hyperparameters.lr", 100.0000001), ("hyperparameters.lr", 10**39),
    ("hyperparameters.weight_decay", -1), ("hyperparameters.weight_decay", -1e-300),
    ("hyperparameters.label_smoothing", 1.0), ("model.dropout", 1.0), ("model.dropout", -0.1),
    ("model.dropout", "0"), ("seed", 2**64), ("seed", 2**63), ("seed", -1), ("seed", 1.0), ("seed", "0"),
    ("seed", False), ("resources.num_devices", 10**4), ("resources.num_devices", 0),
    ("resources.max_runtime_seconds", 0), ("resources.max_runtime_seconds", 10**12), ("priority", 10**6),
    ("priority", -101), ("priority", 0.5), ("validation.split", 0), ("validation.split", 1),
    ("validation.split", True), ("model.freeze", -1), ("model.freeze", 10**6), ("model.freeze", True),
    ("model.freeze", "2"), ("model.freeze", 1.0), ("fault_tolerance.max_failures", 0),
    ("fault_tolerance.keep_last", 0), ("fault_tolerance.keep_last", 10**6),
    ("fault_tolerance.exact_wait_seconds", -1), ("fault_tolerance.checkpoint_every.seconds", 0),
    ("fault_tolerance.checkpoint_every.epochs", 0),
    ("fault_tolerance.checkpoint_every", {"min_seconds": 50.0, "max_seconds": 2.0}),
    ("early_stopping.patience", 0), ("early_stopping.min_delta", -1),
]  # fmt: skip

#: Each is legal, the product is beyond any memory.
_TOGETHER = [
    posted(
        "batch_size × image_size²", "/jobs",
        with_field("hyperparameters", {"batch_size": 8192, "image_size": 2048}),
    ),
    posted(
        "batch_size × the architecture's own size", "/jobs",
        with_field("model.arch", "efficientnet_b7") | {"hyperparameters": {"batch_size": 8000}},
        "spec_invalid", at="hyperparameters.batch_size",
    ),
    posted(
        "an image_size below the architecture's least", "/jobs",
        with_field("model.arch", "inception_v3") | {"hyperparameters": {"image_size": 32}},
        "spec_invalid", at="hyperparameters.image_size",
    ),
    posted(
        "an image_size that the architecture cannot divide", "/jobs",
        with_field("model.arch", "vit_b_16") | {"hyperparameters": {"image_size": 225}},
        "spec_invalid", at="hyperparameters.image_size",
    ),
]  # fmt: skip

_ELSEWHERE = [
    *(
        posted(f"{n!r} more epochs", "/jobs/JOB/extend", {"additional_epochs": n}, at="additional_epochs")
        for n in (0, -1, 10**9, 2**63, "4", True, 1.0, None)
    ),
    *(
        posted(f"priority {p!r} for a job", "/jobs/JOB", {"priority": p}, at="priority", method="PATCH")
        for p in (10**6, -(10**6), "1", True, 1.5, None)
    ),
]

CASES: list[Case] = [*(spoilt(name, value) for name, value in _OF_SPECS), *_TOGETHER, *_ELSEWHERE]
