"""What a provider returns beyond what it was given: one module a provider.

A module has ``identify(context)``, the new id, and ``COMPUTE``: by resource token, a function that completes
``context.outputs``. It is called after a create and after every update; what must not change over updates is
only set when absent. Nothing here touches anything but the inventory.
"""

from __future__ import annotations

import importlib
import importlib.util
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sandbox.inventory import Record, Store
from sandbox.twins.tables import Resource

# Public addresses; record-only mode takes them from here too, without any network.
PUBLIC = "198.18.16.0/20"
GATEWAY = "198.18.0.1"


class Refusal(Exception):
    """The provider's API says no; worded as it would."""


@dataclass
class Context:
    """One create or update. ``settings`` are the provider's own, ``urn`` and ``name`` the program's."""

    store: Store
    resource: Resource
    settings: Mapping[str, Any]
    urn: str
    name: str
    inputs: Mapping[str, Any]
    outputs: dict[str, Any]
    old: Mapping[str, Any] | None = None
    id: str = ""
    now: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))

    @property
    def token(self) -> str:
        return self.resource.token

    @property
    def uuid(self) -> str:
        """The identifier without its locality."""
        return self.id.rpartition("/")[2]

    def give(self, **outputs: Any) -> None:
        """Set outputs of this type that are absent; None counts as absent."""
        for name, value in outputs.items():
            if self.outputs.get(name) is None and name in self.resource.outputs:
                self.outputs[name] = value

    def public_address(self, use: str = "", wanted: str | None = None) -> str:
        """A public address, unique in this checkout; held until the resource is deleted."""
        found = self.store.address("public", PUBLIC, self.token, self.id, use, wanted)
        if found is None:
            raise Refusal("no public address is left")
        return found

    def find(self, token: str, id: str) -> Record | None:
        """Another resource, by its id with or without locality."""
        found = self.store.get(token, id)
        if found is None and id:
            plain = id.rpartition("/")[2]
            found = next((row for row in self.store.all(token) if row.id.rpartition("/")[2] == plain), None)
        return found


Compute = Callable[[Context], None]
Function = Callable[["Call"], Mapping[str, Any]]


@dataclass
class Call:
    """One function call of the program."""

    store: Store
    settings: Mapping[str, Any]
    args: Mapping[str, Any]
    preview: bool = False


def module(provider: str) -> Any:
    """The provider's module here, or None: then outputs are the inputs and zero values."""
    name = f"sandbox.twins.outputs.{provider.replace('-', '_')}"
    if importlib.util.find_spec(name) is None:
        return None
    return importlib.import_module(name)


def new_uuid() -> str:
    """A random identifier, as most clouds give them."""
    return str(uuid.uuid4())
