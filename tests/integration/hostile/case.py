"""One input that nobody should send, and what is to be answered."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

JSON = {"Content-Type": "application/json"}
ZIP = {"Content-Type": "application/zip"}
#: A spec that would be accepted, to be spoilt.
SPEC: dict[str, Any] = {"dataset": {"path": "flowers"}, "model": {"weights": None}}

Content = bytes | Callable[[], bytes]


@dataclass(frozen=True)
class Case:
    """``JOB``, ``CKPT``, ``OTHER_JOB`` and so on in paths and bodies stand for what the installation has."""

    name: str
    method: str
    path: str
    status: int
    code: str
    content: Content = b""
    headers: Mapping[str, str | bytes] = field(default_factory=dict)
    who: str = "acme"  #: whose key is sent along; empty for none
    at: str = ""  #: the field that the first error names, or a part of it

    def body(self) -> bytes:
        """What is sent: made only now where it is large."""
        return self.content if isinstance(self.content, bytes) else self.content()


def posted(
    name: str, path: str, value: Any, code: str = "validation_failed", *, at: str = "", status: int = 422,
    method: str = "POST", who: str = "acme",
) -> Case:  # fmt: skip
    """JSON that is refused."""
    content = json.dumps(value).encode()
    return Case(name, method, path, status, code, content, JSON, who, at)


def with_field(dotted: str, value: Any) -> dict[str, Any]:
    """``SPEC`` with another value in one place."""
    spec: dict[str, Any] = json.loads(json.dumps(SPEC))
    *parents, last = dotted.split(".")
    part = spec
    for name in parents:
        part = part.setdefault(name, {})
    part[last] = value
    return spec


def spoilt(dotted: str, value: Any, code: str = "validation_failed") -> Case:
    """A submission in which one field is not as it should be."""
    at = dotted
    return posted(f"{dotted}={ascii(value)[:50]}", "/jobs", with_field(dotted, value), code, at=at)


def asked(
    path: str, code: str = "validation_failed", *, status: int = 422, at: str = "", **more: Any
) -> Case:
    """A GET that is refused."""
    return Case(f"GET {ascii(path)[:70]}", "GET", path, status, code, at=at, **more)
