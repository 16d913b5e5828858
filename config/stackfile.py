"""Reads a committed stack file the way the engine does, without the engine: for ``python -m config check``.

The engine's YAML differs from Python's usual reader (measured with CLI 3.250): ``yes``, ``no``, ``on``,
``off`` and ``04:30`` are texts, ``010`` is eight, a date becomes a text with a time behind it, and what is
directly under ``config:`` arrives as a text or a table.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from config.loader import NAMESPACE, Sealed, parse, seal
from config.model import Registry, Stack
from config.report import ConfigError, Problem


class _Reader(yaml.SafeLoader):
    """YAML as the engine reads it; a key written twice is refused, as there."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - the base's own type

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, "the same key twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _integer(_: yaml.SafeLoader, node: yaml.ScalarNode) -> int | float:
    text = str(node.value).replace("_", "")
    digits = text.lstrip("+-")
    base = 8 if re.fullmatch(r"0[0-7]+", digits) else 0
    value = int(text, base) if base or not re.fullmatch(r"0\d+", digits) else int(text, 10)
    return value if -(2**63) <= value < 2**64 else float(value)


def _date(_: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    value = datetime.date.fromisoformat(str(node.value))
    return f"{value} 00:00:00 +0000 UTC"


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(0|[1-9][0-9_]*|0[0-9_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0b[01_]+)", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("timestamp", r"\d{4}-\d\d-\d\d", "0123456789"),
):
    _Reader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
_Reader.add_constructor("tag:yaml.org,2002:int", _integer)
_Reader.add_constructor("tag:yaml.org,2002:timestamp", _date)


def read(text: str, file: str) -> dict[str, Any]:
    """What ``config:`` of a stack file holds for berth, as :func:`config.loader.parse` takes it."""
    try:
        # the reader is a SafeLoader with fewer conversions
        whole = yaml.load(text, Loader=_Reader)  # noqa: S506
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError([_not_yaml(file, error)]) from None
    settings = whole.get("config") if isinstance(whole, Mapping) else None
    if not isinstance(settings, Mapping):
        raise ConfigError(
            [Problem(file, "config", "required, and missing", "write the settings under config:")]
        )
    raw: dict[str, Any] = {}
    for full, value in settings.items():
        space, _, key = str(full).partition(":")
        if space == NAMESPACE:
            raw[key] = _secret_tree(value) if key == "secrets" else _top(_sealed(value))
    return raw


def check(path: Path, registry: Registry, caller: str | None = None) -> Stack:
    """The stack in the file at ``path``, without its secrets, which need not be there yet.

    Raises ConfigError, OSError.
    """
    raw = read(path.read_text(encoding="utf-8"), path.name)
    return parse(raw, file=path.name, registry=registry, caller=caller, secrets=False)


def _not_yaml(file: str, error: Exception) -> Problem:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or "not YAML"
    place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "the file"
    # the parser's own words quote at most one character of the file
    return Problem(file, place, str(what), "correct the line; values with : # { [ or a leading % need quotes")


def _is_sealed(value: Any) -> bool:
    return isinstance(value, Mapping) and list(value) == ["secure"]


def _sealed(value: Any) -> Any:
    if _is_sealed(value):
        return Sealed()
    if isinstance(value, Mapping):
        return {key: _sealed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_sealed(item) for item in value]
    return value


def _secret_tree(value: Any) -> Any:
    if _is_sealed(value):
        return Sealed()
    if isinstance(value, Mapping):
        return {key: _secret_tree(item) for key, item in value.items()}
    return seal(value, encrypted=False)


def _top(value: Any) -> Any:
    """A single value directly under ``config:`` reaches the program as text."""
    if value is None or isinstance(value, Mapping | list | Sealed | str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)
