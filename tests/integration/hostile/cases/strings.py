"""Text that would end a line, steer a terminal or fill a table."""

from typing import Any

from tests.integration.hostile.case import Case, posted, spoilt

_OF_SPECS: list[tuple[str, Any]] = [
    ("name", "two\nlines"), ("name", "\x1b[2J"), ("name", "\x9b2J"), ("name", "\x7f"), ("name", "a\0b"),
    ("name", ""),
    ("name", "\r"), ("name", "\t"), ("name", "a\u2028b"), ("name", "x" * 201), ("name", 7), ("name", ["x"]),
    ("metadata", {"k": "a\nb"}), ("metadata", {"a\tb": "v"}), ("metadata", {"k": "\x1b]0;x\x07"}),
    ("metadata", {"": "v"}), ("metadata", {"k": "x" * 513}), ("metadata", {"k" * 65: "v"}),
    ("metadata", {str(i): "" for i in range(17)}), ("metadata", {"k": 1}), ("metadata", {"k": None}),
    ("metadata", {"k": {}}), ("metadata", []), ("metadata", "k=v"),
    ("hyperparameters.optimizer", "rmsprop"), ("hyperparameters.optimizer", "Adam"),
    ("hyperparameters.scheduler", "constant\n"), ("hyperparameters.precision", "float16"),
    ("resources.device", "tpu"), ("resources.device", "cuda:0"), ("resources.device", ""),
    ("dataset", {"id": "ds_1", "path": "flowers"}), ("dataset", {}), ("dataset", "flowers"), ("dataset",
    None),
    ("dataset", {"builtin": "imagenet"}), ("dataset", {"path": None}),
    ("fault_tolerance.on_non_finite", "ignore"),
]  # fmt: skip

_ELSEWHERE = [
    *(
        posted(f"renamed to {ascii(n)[:30]}", "/jobs/JOB", {"name": n}, at="name", method="PATCH")
        for n in ("", "a\nb", "\x1b[31m", "x" * 201, 1)
    ),
    posted("metadata that is no text", "/jobs/JOB", {"metadata": {"k": 1}}, at="metadata.k", method="PATCH"),
    posted(
        "17 pairs", "/jobs/JOB", {"metadata": {str(i): "" for i in range(17)}}, "spec_invalid", at="metadata",
        method="PATCH",
    ),
    *(
        posted(f"key named {ascii(n)[:30]}", "/keys", {"name": n}, at="name")
        for n in ("", "a\nb", "\u202egnp", "\x1b[2J", "x" * 201, None)
    ),
    *(
        posted(f"scopes {scopes!r}"[:60], "/keys", {"name": "x", "scopes": scopes}, at="scopes")
        for scopes in ([], ["root"], ["admin\n"], "admin", ["read"] * 1000, [None], {"admin": True})
    ),
    posted("a tenant for a key", "/keys", {"name": "x", "tenant_id": "other"}, at="tenant_id"),
    posted("a fault that is none", "/jobs/JOB/drill", {"fault": "rm -rf /"}, at="fault"),
    posted("a schedule that is none", "/jobs/JOB/extend",
    {"additional_epochs": 1, "scheduler": "x"}, at="scheduler"),
    *(
        posted(f"clone with {ascii(value)[:40]}", "/jobs/JOB/clone", {"overrides": value}, at=at)
        for value, at in (
            ({"sed": 1}, "overrides.sed"), ({"hyperparameters": {"lr": -1}}, "overrides.hyperparameters.lr"),
            ({"name": "a\nb"}, "overrides.name"), ({"dataset": None}, "overrides.dataset"), ([], "overrides"),
            ({"hyperparameters": []}, "overrides.hyperparameters"), ({"seed": 2**64}, "overrides.seed"),
        )
    ),
]  # fmt: skip

CASES: list[Case] = [*(spoilt(name, value) for name, value in _OF_SPECS), *_ELSEWHERE]
