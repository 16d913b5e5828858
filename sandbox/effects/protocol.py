"""The contract between the twins (which check, diff and record) and what makes a resource real.

Order of one create: the twin validates the inputs against the fact table, computes every output a real
plugin would return, writes the row ``pending`` into the inventory, calls the effect, stores what the effect
returned over the outputs, marks the row ``ready``. A killed sandbox therefore leaves either nothing, or a
``pending`` row whose effect is repeated or undone by :meth:`Effect.delete` at the next start: every method
here must be idempotent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


class EffectError(Exception):
    """A refusal or failure to show the user as the provider would word it; one or more lines."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One resource as "the cloud" holds it. Values are plain JSON (secrets unwrapped, camelCase keys)."""

    id: str
    token: str  # e.g. "scaleway:instance/server:Server"
    name: str  # the resource's Pulumi name, for messages only
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    state: str = "ready"  # "pending" while its effect runs


class Inventory(Protocol):
    """Read access for effects; only the twin writes."""

    def get(self, token: str, id: str) -> Row | None: ...
    def all(self, token: str) -> Iterable[Row]: ...


@dataclass(frozen=True, kw_only=True)
class World:
    """What an effect may touch. ``root`` is the checkout's .sandbox directory."""

    root: Path
    inventory: Inventory
    notes: dict[str, Any] = field(default_factory=dict)


class Effect(Protocol):
    """One per resource token; looked up in ``sandbox.effects.registry.EFFECTS``."""

    def create(self, world: World, row: Row) -> Mapping[str, Any]:
        """Make ``row`` real; returns outputs to lay over the computed ones. Raises EffectError."""
        ...

    def update(self, world: World, old: Row, new: Row) -> Mapping[str, Any]:
        """Bring it from ``old`` to ``new`` in place; returns outputs to lay over the computed ones."""
        ...

    def delete(self, world: World, row: Row) -> None:
        """Remove every trace; removing what is not there is no error."""
        ...

    def read(self, world: World, row: Row) -> Mapping[str, Any] | None:
        """Outputs as they are now to lay over the recorded ones, or None when it is gone (drift)."""
        ...
