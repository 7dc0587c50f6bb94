"""Specs from files and from options."""

import json
import sys
from pathlib import Path
from typing import Any, NoReturn

import typer

from perdure import terminal as t
from perdure.connection import EXIT_USAGE


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file, or on stdin for ``-``; ends the command where there is none."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        value = json.loads(text, object_pairs_hook=_without_duplicates)
    except OSError as error:
        usage(f"{path}: {error.strerror or error}")
    except UnicodeDecodeError:
        usage(f"{path} is not UTF-8 text.")
    except json.JSONDecodeError as error:
        usage(f"{path} is not JSON: {error.msg} in line {error.lineno}, column {error.colno}.")
    except RecursionError:
        usage(f"{path} is nested too deeply.")
    except ValueError as error:  # a key that is there twice, or a number of thousands of digits
        usage(f"{path} cannot be read: {error}.")
    if not isinstance(value, dict):
        usage(f'{path} must hold one JSON object, like {{"dataset": {{"path": "flowers"}}}}.')
    return dict(value)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """As the server, which never sees the first of two: whoever wrote both meant one of them."""
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {max(names, key=names.count)!r} is there twice")
    return value


def put(spec: dict[str, Any], path: tuple[str, ...], values: dict[str, Any]) -> None:
    """Set those of ``values`` that are given, in the part of the spec at ``path``."""
    given = {key: value for key, value in values.items() if value is not None}
    if given:
        target = spec
        for key in path:
            target = target.setdefault(key, {})
            if not isinstance(target, dict):
                usage(f"{key!r} must hold a JSON object.")
        target.update(given)


def set_by_name(spec: dict[str, Any], text: str) -> None:
    """``hyperparameters.lr=0.0003``: the value is JSON where it can be read as such, else text."""
    name, is_pair, value = text.partition("=")
    *path, last = name.split(".")
    if not (is_pair and last and all(path)):
        usage(f"{text!r} is not NAME=VALUE, like hyperparameters.lr=0.0003.")
    try:
        read = json.loads(value)
    except json.JSONDecodeError:
        read = value
    target = spec
    for part in path:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            usage(f"{name!r} leads through what is no part of a spec.")
    target[last] = read


def freeze_of(value: str | None) -> str | int | None:
    """A number of stages, or a word."""
    return int(value) if value is not None and value.isdecimal() else value


def weights_of(value: str) -> str | dict[str, str] | None:
    """``none``, a file, or a name."""
    if value.lower() == "none":
        return None
    return {"file": value} if value.endswith((".pth", ".pt", ".safetensors")) else value


def usage(message: str) -> NoReturn:
    """Say what is wrong with the command, and end it."""
    t.console(stderr=True).print(f"[red]✗[/] {t.plain(message)}")
    raise typer.Exit(EXIT_USAGE)
