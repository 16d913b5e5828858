"""The text of an `.env` file, as vlucas/phpdotenv (Laravel) reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,-]*")
"""What needs no quotes; everything else, be it a space, `#` or `$`, is quoted."""

ESCAPES = {"\\": "\\\\", '"': '\\"', "$": "\\$", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def dotenv(values: Mapping[str, str]) -> str:
    """One `NAME=value` a line, sorted; ValueError for a name or a character the format does not have."""
    return "".join(f"{_name(name)}={_value(name, values[name])}\n" for name in sorted(values))


def _name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a name of an environment variable: letters, digits and _ only")
    return name


def _value(name: str, value: str) -> str:
    if PLAIN.fullmatch(value):
        return value
    if any(ord(character) < 32 and character not in ESCAPES for character in value):
        raise ValueError(f"the value of {name} has a control character; an .env file cannot hold it")
    return '"' + "".join(ESCAPES.get(character, character) for character in value) + '"'
