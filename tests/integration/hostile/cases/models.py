"""Architectures and weights that are none, or more than that."""

from typing import Any

from tests.integration.hostile.case import Case, posted, spoilt

_NO_NAME: list[tuple[str, Any]] = [
    ("model.arch", ""), ("model.arch", "x" * 300), ("model.arch", "resnet18\n"), ("model.arch", None),
    ("model.arch", {"__class__": "os.system"}), ("model.weights", {"file": ""}), ("model.weights",
    {"file": 1}),
    ("model.weights", {"url": "http://example.com/x.pth"}), ("model.weights", []), ("model.weights", True),
    ("model.weights", ""), ("model", []), ("model", None), ("model.freeze", "all"), ("model.freeze", 1001),
]  # fmt: skip
_UNKNOWN: list[tuple[str, Any]] = [
    ("model.arch", "os.system"), ("model.arch", "__import__('os').system('true')"), ("model.arch", "resnet"),
    ("model.arch", "efficientnet_b9"), ("model.arch", "EfficientNet_B1_Weights"), ("model.arch", "__class__"),
    ("model.arch", "get_model"), ("model.arch", "fasterrcnn_resnet50_fpn"), ("model.arch", "../resnet18"),
    ("model.arch", "ＲesNet18"), ("model.weights", "NO_SUCH"), ("model.weights", "os.system"),
    ("model.weights", "ResNet18_Weights.DEFAULT"), ("model.weights", "http://example.com/x.pth"),
    ("model.weights", "/etc/passwd"), ("model.freeze", 1000),
    ("model.weights", {"file": "nowhere.pth"}), ("model.weights", {"file": "flowers"}),
    ("model.weights", {"file": "/etc/passwd"}), ("model.weights", {"file": "../../x.pth"}),
    ("model.weights", {"file": "notes.txt"}), ("model.weights", {"file": "out.pth"}),
    ("model.weights", {"file": "pipe.pth"}), ("model.weights", {"file": "pipe.safetensors"}),
    ("model.weights", {"file": "loop"}), ("model.weights", {"file": "way-out/x.pth"}),
    ("model.weights", {"file": ".uploads/x.pth"}), ("model.weights", {"file": "out.pth/../out.pth"}),
]  # fmt: skip
#: A header of 2⁶³ bytes, and a file that ends within the header's length.
_BROKEN = ["bomb.safetensors", "short.safetensors"]

CASES: list[Case] = [
    *(spoilt(name, value) for name, value in _NO_NAME),
    *(spoilt(name, value, "spec_invalid") for name, value in _UNKNOWN),
    *(spoilt("model.weights", {"file": name}, "weights_invalid") for name in _BROKEN),
    posted(
        "weights that are not here", "/jobs", {"dataset": {"path": "flowers"}, "model": {"arch": "vgg19"}},
        "weights_unavailable", at="model.weights",
    ),
    *(
        posted(f"clone as {arch!r}", "/jobs/JOB/clone",
        {"overrides": {"model": {"arch": arch}}}, "spec_invalid")
        for arch in ("os.system", "resnet")
    ),
]  # fmt: skip
