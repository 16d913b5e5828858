"""The fact tables: what resources, functions and types a provider has (see ``sandbox/schemas/README.md``)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

DIRECTORY: Final = Path(__file__).resolve().parent.parent / "schemas"
Fact = Mapping[str, Any]
Facts = Mapping[str, Fact]


class Table:
    """One provider's facts."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.name: str = data["name"]
        self.version: str = data["version"]
        self.resources: Mapping[str, Any] = data["resources"]
        self.functions: Mapping[str, Any] = data["functions"]
        self.types: Mapping[str, Facts] = data["types"]
        self.provider: Mapping[str, Facts] = data["provider"]
        # Old type names of resources (the program's may be one) lead to the same facts.
        self.aliases: Mapping[str, str] = {
            alias: token for token, entry in self.resources.items() for alias in entry.get("aliases", ())
        }

    def resource(self, token: str) -> Resource | None:
        """The facts of one resource type, or None."""
        name = self.aliases.get(token, token)
        entry = self.resources.get(name)
        return None if entry is None else Resource(self, name, entry)


class Resource:
    """Facts of one resource type. ``kind`` is how the real plugin is built: it decides its manners."""

    __slots__ = ("entry", "inputs", "kind", "outputs", "table", "token")

    def __init__(self, table: Table, token: str, entry: Mapping[str, Any]) -> None:
        self.table = table
        self.token = token
        self.entry = entry
        self.inputs: Facts = entry["inputs"]
        self.outputs: Facts = entry["outputs"]
        self.kind: str = (
            "native" if entry.get("native") else "framework" if entry.get("framework") else "bridged"
        )


@cache
def available() -> tuple[str, ...]:
    """The providers there is a table for."""
    return tuple(sorted(path.stem for path in DIRECTORY.glob("*.json")))


@cache
def load(name: str) -> Table:
    """The table of one provider. Raises KeyError with the ones there are."""
    if name not in available():
        raise KeyError(f"no fact table for provider {name!r}; there are tables for {', '.join(available())}")
    return Table(json.loads((DIRECTORY / f"{name}.json").read_text()))


@cache
def parse(text: str) -> tuple[str, Any]:
    """A type in short notation as (shape, rest).

    ("array", inner) · ("map", inner) · ("object", token) · ("union", [inner...]) · (primitive, None)
    """
    for shape in ("array", "map"):
        if text.startswith(shape + "<") and text.endswith(">"):
            return shape, text[len(shape) + 1 : -1]
    if "|" in text:
        return "union", text.split("|")
    if text.startswith("#"):
        return "object", text[1:]
    return text, None


def snake(name: str) -> str:
    """``ipRange`` as upstream spells it: ``ip_range``."""
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in name)


def upstream(name: str, fact: Fact) -> str:
    """The upstream attribute's name; blocks are singular there (``inbound_rule``) and plural here."""
    text = snake(name)
    if fact.get("type", "").startswith("array<#"):
        return text[:-3] + "y" if text.endswith("ies") else text.removesuffix("s")
    return text
