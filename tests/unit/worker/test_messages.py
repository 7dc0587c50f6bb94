"""What supervisor and trainer say comes over whole, to the last bit, or is refused."""

import json
import math
import os
import struct
import typing
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker import wire
from worker.messages import (
    Finished,
    Heartbeat,
    Message,
    Slot,
    StepMetrics,
    StepRow,
    Stop,
    Task,
)
from worker.wire import LineBuffer, decode, encode, finite, read_task

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
st.register_type_strategy(dict, st.dictionaries(st.text(), json_values, max_size=3))
json_objects = st.dictionaries(st.text(), json_values, max_size=3)


def strategy_of(kind: Any) -> st.SearchStrategy[Any]:
    if typing.get_origin(kind) is dict:
        return json_objects
    if typing.get_origin(kind) is list:
        return st.lists(strategy_of(typing.get_args(kind)[0]), max_size=3)
    if typing.get_origin(kind) is not None and type(None) in typing.get_args(kind):
        return st.none() | strategy_of(typing.get_args(kind)[0])
    if hasattr(kind, "__dataclass_fields__"):
        hints = typing.get_type_hints(kind)
        return st.builds(kind, **{field.name: strategy_of(hints[field.name]) for field in fields(kind)})
    if kind is float:
        return st.floats(allow_nan=False)
    return st.from_type(kind)


KINDS = typing.get_args(Message)
anything = st.one_of([strategy_of(kind) for kind in KINDS])


def test_every_message_can_be_said() -> None:
    assert {kind.__name__ for kind in KINDS} == set(wire._TYPES)


@given(anything)
def test_what_is_said_is_heard(message: Message) -> None:
    line = encode(message)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert decode(line) == message
    assert type(decode(line)) is type(message)


@given(st.floats())
def test_floats_keep_every_bit(value: float) -> None:
    [heard] = decode(encode(StepMetrics([StepRow(1, 1, value, 0.1)]))).rows  # type: ignore[union-attr]
    if math.isnan(value):
        assert math.isnan(heard.loss)
    else:
        assert struct.pack("d", heard.loss) == struct.pack("d", value)


@given(st.lists(anything, max_size=6), st.data())
def test_lines_are_whole_however_the_bytes_arrive(said: list[Message], data: st.DataObject) -> None:
    stream = b"".join(map(encode, said))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    buffer, heard = LineBuffer(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        heard += [decode(line) for line in buffer.feed(stream[start:end])]
    assert heard == said


@given(anything, st.data())
def test_a_torn_last_line_is_never_heard(message: Message, data: st.DataObject) -> None:
    """Its writer was killed in the middle of it."""
    line = encode(message)
    torn = line[: data.draw(st.integers(0, len(line) - 1))]
    assert LineBuffer().feed(encode(Stop()) + torn) == [encode(Stop()).strip()]


@pytest.mark.parametrize(
    "line",
    [b"", b"{}", b"5", b"null", b"[]", b'["Stop"]', b'["Stop", {}, 1]', b'["Nonsense", {}]', b'["Stop", 5]',
     b'[["Stop"], {}]', b'["Heartbeat", {}]', b'["Heartbeat", {"at": 1.0, "more": 2}]', b'["Stop", null]',
     b'["StepMetrics", {}]', b'["StepMetrics", {"rows": [1]}]', b'["Task", {"slot": 1}]', b"\xff\xfe",
     b'["Stop", {}'],
)  # fmt: skip
def test_anything_else_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError):
        decode(line)


@given(st.binary(max_size=60))
def test_random_bytes_are_a_value_error(line: bytes) -> None:
    try:
        decode(line)
    except ValueError:
        pass
    else:
        assert json.loads(line)[0] in wire._TYPES


def task(**more: Any) -> Task:
    values: dict[str, Any] = {
        "job_id": "job_1", "attempt": 1, "spec": {}, "segments": [], "slot": Slot("cpu", 2, "x"),
        "numerics": None, "storage_url": "file:///s", "data_root": "/d", "cache_dir": "/c",
        "downloads": False, "checkpoints": [], "manifest_path": None, "verify": False,
        "fingerprint": None, "lease_confirmed_at": 17.5,
        "park_after_seconds": 12.0, "store_patience_seconds": 300.0, "seconds_between_failures": 3600.0,
    }  # fmt: skip
    return Task(**(values | more))


def test_the_task_is_read_and_not_a_byte_beyond_it() -> None:
    """What follows belongs to the session."""
    reading, writing = os.pipe()
    said = encode(task(spec={"name": "ü" * 1000})) + encode(Heartbeat(1.0))
    os.write(writing, said)
    os.close(writing)
    assert read_task(reading) == task(spec={"name": "ü" * 1000})
    assert os.read(reading, 1000) == encode(Heartbeat(1.0))
    os.close(reading)


@pytest.mark.parametrize("torn", [b"", b'["Ta', encode(task())[:-1]])
def test_a_supervisor_that_left_gives_no_task(torn: bytes) -> None:
    reading, writing = os.pipe()
    os.write(writing, torn)
    os.close(writing)
    assert read_task(reading) is None
    os.close(reading)


def test_another_first_message_is_an_error() -> None:
    reading, writing = os.pipe()
    os.write(writing, encode(Finished("ab")))
    os.close(writing)
    with pytest.raises(TypeError, match="Finished"):
        read_task(reading)
    os.close(reading)


@pytest.mark.parametrize(
    ("value", "stored"), [(0.5, 0.5), (-0.0, 0.0), (math.nan, None), (math.inf, None), (-math.inf, None)]
)
def test_what_is_not_finite_is_none(value: float, stored: float | None) -> None:
    assert finite(value) == stored


def test_slots_are_equal_where_the_bits_are() -> None:
    assert Slot("cpu", 2, "x86_64-avx2").key == Slot("cpu", 8, "x86_64-avx2", loading_workers=3).key
    assert Slot("cpu", 2, "x86_64-avx2").key != Slot("cpu", 2, "x86_64-avx512").key
    assert Slot("cuda", 2, "A100").key != Slot("cpu", 2, "A100").key
