"""Reading a JSON body strictly: bounded in size, depth and time, without the leniencies of ``json``.

The usual parser takes duplicate keys (the last one wins, unseen), NaN, 1e999 and lone surrogates, which
then break whatever stores or shows them.
"""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from email.message import Message
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool

from api.problems import Refused, field_error, sentence, validation_failed

MAX_BYTES = 2**20
LARGE_BYTES = 2**14
MAX_VALUES = 10_000
MAX_SECONDS = 30.0
#: No number of a spec has more digits; Python's own limit ends in another kind of error.
MAX_DIGITS = 40

M = TypeVar("M", bound=BaseModel)


class NoBody(BaseModel, extra="forbid"):
    """Nothing needs to be sent; an empty object is fine too."""


def body_of(model: type[M]) -> Callable[[Request], Awaitable[M]]:
    """A dependency that reads the request's body as ``model``. Raises Refused: 400, 408, 413, 415 or 422.

    The parsed JSON stays on ``request.state.json`` for the fingerprint of idempotent requests.
    """

    async def read(request: Request) -> M:
        content = await read_bytes(request, MAX_BYTES)
        if not content and may_be_empty(model):
            request.state.json = None
            return model()
        _expect_json(request)
        # The thread that serves everybody has no time for a MiB.
        if len(content) > LARGE_BYTES:
            request.state.json, body = await run_in_threadpool(_read_as, model, content)
        else:
            request.state.json, body = _read_as(model, content)
        return body

    return read


def may_be_empty(model: type[BaseModel]) -> bool:
    """Whether a request without a body is a whole one."""
    try:
        model()
    except ValidationError:
        return False
    return True


def _read_as(model: type[M], content: bytes) -> tuple[Any, M]:
    value = parse(content)
    return value, validate(model, value)


def parse(content: bytes) -> Any:
    """JSON text to Python values. Raises Refused."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused(400, "invalid_utf8", f"The body is not UTF-8 (at byte {error.start}).") from None
    try:
        value = json.loads(
            text,
            object_pairs_hook=_without_duplicates,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_bounded,
        )
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Refused(400, "invalid_json", f"The body is not JSON: {error.msg} ({where}).") from None
    except RecursionError:
        raise Refused(400, "invalid_json", "The body is nested too deeply.") from None
    _expect_plain(value)
    return value


def validate(model: type[M], value: Any) -> M:
    """Raises Refused that names every field at fault."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise validation_failed(
            [field_error(_field(value, entry), sentence(entry), entry["type"]) for entry in found]
        ) from None


async def read_bytes(request: Request, max_bytes: int) -> bytes:
    """The body as it comes. Raises Refused: 408 or 413."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > 12 or int(announced) > max_bytes):
        raise _too_large(max_bytes)
    content = bytearray()
    try:
        async with asyncio.timeout(MAX_SECONDS):
            async for chunk in request.stream():
                content += chunk
                if len(content) > max_bytes:
                    raise _too_large(max_bytes)
    except TimeoutError:
        raise Refused(408, "request_timeout", "The body took too long to arrive.") from None
    return bytes(content)


def _too_large(max_bytes: int) -> Refused:
    return Refused(413, "body_too_large", f"The body has more than {max_bytes // 2**20} MiB.")


def _expect_json(request: Request) -> None:
    header = Message()
    header["content-type"] = request.headers.get("content-type", "text/plain")
    charset = header.get_content_charset("utf-8")
    if header.get_content_type() != "application/json" or charset not in {"utf-8", "utf8"}:
        raise Refused(
            415, "unsupported_media_type", "Send JSON, with the header Content-Type: application/json."
        )


def _invalid(message: str, code: str, field: str = "") -> Refused:
    return validation_failed([field_error(field, message, code)])


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _invalid("This key is there twice.", "duplicate_key", twice)
    return value


def _no_constant(name: str) -> Any:
    raise _invalid(f"{name} is not a JSON number.", "not_finite")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _invalid("A number is too large.", "not_finite")
    return value


def _bounded(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise _invalid(f"A number has more than {MAX_DIGITS} digits.", "too_many_digits")
    return int(digits)


def _expect_plain(value: Any) -> None:
    """Lone surrogates pass JSON's escapes, but no database and no UTF-8 answer takes them.

    The number of values is bounded since each may be wrong, and naming what is wrong takes time.
    """
    waiting = [value]
    seen = 0
    while waiting:
        item = waiting.pop()
        seen += 1
        if seen > MAX_VALUES:
            raise _invalid(f"There are more than {MAX_VALUES} values.", "too_many_values")
        if isinstance(item, str):
            try:
                item.encode()
            except UnicodeEncodeError:
                raise _invalid("A string has a lone surrogate.", "lone_surrogate") from None
        elif isinstance(item, dict):
            waiting += item
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item


def _field(value: Any, entry: Mapping[str, Any]) -> str:
    """The dotted path into the body; pydantic's also names the members of unions on the way."""
    path: list[str] = []
    for part in entry["loc"]:
        is_there = (
            part in value
            if isinstance(value, dict)
            else isinstance(value, list) and part in range(len(value))
        )
        if is_there:
            value = value[part]
        elif not (entry["type"] == "missing" and part is entry["loc"][-1]):
            continue
        path.append(str(part))
    return ".".join(path)
