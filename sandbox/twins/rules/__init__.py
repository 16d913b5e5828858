"""What a cloud's API refuses and no fact table says; one module a provider.

A module has ``REFERENCES``, the properties that name another resource: (token, path) -> (token, strict).
What is named must exist; what is named ``strict`` cannot be deleted while it is. And ``CREATE``, ``UPDATE``
and ``DELETE``: by token, a check that raises :class:`Refusal`.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.inventory import Record, Store
from sandbox.twins.outputs import Refusal
from sandbox.twins.wire import Unknown


@dataclass(frozen=True)
class Reference:
    """``kind`` is how the provider's messages call what is named; ``strict``: it cannot go while named."""

    token: str
    kind: str
    strict: bool = False


Rule = Callable[[Store, Record], None]


class Rules:
    """The rules of one provider."""

    def __init__(self, provider: str) -> None:
        name = f"sandbox.twins.rules.{provider.replace('-', '_')}"
        found: Any = importlib.import_module(name) if importlib.util.find_spec(name) else None
        self.references: Mapping[tuple[str, str], Reference] = getattr(found, "REFERENCES", {})
        self._create: Mapping[str, Rule] = getattr(found, "CREATE", {})
        self._update: Mapping[str, Rule] = getattr(found, "UPDATE", {})
        self._delete: Mapping[str, Rule] = getattr(found, "DELETE", {})

    def create(self, store: Store, row: Record) -> None:
        """Raises Refusal where the API would refuse to make ``row``."""
        self._exists(store, row)
        if row.token in self._create:
            self._create[row.token](store, row)

    def update(self, store: Store, row: Record) -> None:
        """Raises Refusal where the API would refuse to bring the resource to ``row``."""
        self._exists(store, row)
        if row.token in self._update:
            self._update[row.token](store, row)

    def delete(self, store: Store, row: Record) -> None:
        """Raises Refusal where the API would refuse to delete ``row``."""
        for (token, path), reference in self.references.items():
            if not reference.strict or reference.token != row.token:
                continue
            for other in store.all(token):
                if other.state != "deleting" and any(
                    same(value, row.id) for value in values(other.inputs, path)
                ):
                    raise Refusal(
                        f"scaleway-sdk-go: precondition failed: resource is still in use, {reference.kind} "
                        f"{row.id} is used by {other.id}"
                    )
        if row.token in self._delete:
            self._delete[row.token](store, row)

    def _exists(self, store: Store, row: Record) -> None:
        for (token, path), reference in self.references.items():
            if token != row.token:
                continue
            for value in values(row.inputs, path):
                if value and find(store, reference.token, value) is None:
                    raise Refusal(
                        f"scaleway-sdk-go: resource {reference.kind} with ID {plain(value)} is not found"
                    )


def plain(id: str) -> str:
    """An identifier without its locality."""
    return id.rpartition("/")[2]


def same(left: str, right: str) -> bool:
    """Whether two ids name one thing, with or without locality."""
    return left == right or plain(left) == plain(right)


def find(store: Store, token: str, id: str) -> Record | None:
    """A resource by its id, with or without locality."""
    found = store.get(token, id)
    return found or next((row for row in store.all(token) if same(row.id, id)), None)


def values(inputs: Any, path: str) -> Iterator[str]:
    """Every text at a path; lists are walked through."""
    if isinstance(inputs, list):
        for item in inputs:
            yield from values(item, path)
        return
    if not path:
        if isinstance(inputs, str):
            yield inputs
        return
    head, _, rest = path.partition(".")
    if isinstance(inputs, Mapping) and head in inputs and not isinstance(inputs[head], Unknown):
        yield from values(inputs[head], rest)
