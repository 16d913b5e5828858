"""A cloud without an engine: the twins' own calls on an empty inventory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sandbox.inventory import Store
from sandbox.twins import tables
from sandbox.twins.check import Checked, check
from sandbox.twins.cloud import Cloud, Made
from sandbox.twins.diff import Difference, diff
from sandbox.twins.tables import Resource

SETTINGS = {"region": "fr-par", "zone": "fr-par-1", "projectId": "11111111-2222-4333-8444-555555555555"}


@dataclass
class Twin:
    """Calls in the order the engine makes them."""

    cloud: Cloud
    settings: Mapping[str, Any] = field(default_factory=lambda: dict(SETTINGS))
    seed: int = 0

    @property
    def store(self) -> Store:
        return self.cloud.store

    def resource(self, token: str) -> Resource:
        found = tables.load(token.partition(":")[0]).resource(token)
        assert found is not None
        return found

    def urn(self, token: str, name: str, stack: str = "dev") -> str:
        return f"urn:pulumi:{stack}::p::{token}::{name}"

    def check(
        self,
        token: str,
        news: Mapping[str, Any],
        olds: Mapping[str, Any] | None = None,
        name: str = "it",
        secrets: tuple[str, ...] = (),
    ) -> Checked:
        self.seed += 1
        return check(self.resource(token), name, news, olds or {}, self.seed.to_bytes(4, "big"), secrets)

    def reasons(self, token: str, news: Mapping[str, Any]) -> list[str]:
        return [reason for _, reason in self.check(token, news).failures]

    def inputs(self, token: str, news: Mapping[str, Any], name: str = "it") -> dict[str, Any]:
        found = self.check(token, news, name=name)
        assert found.failures == []
        return found.inputs

    def create(
        self,
        token: str,
        news: Mapping[str, Any],
        name: str = "it",
        *,
        preview: bool = False,
        stack: str = "dev",
        secrets: tuple[str, ...] = (),
    ) -> Made:
        inputs = self.inputs(token, news, name)
        resource, urn = self.resource(token), self.urn(token, name, stack)
        return self.cloud.create(resource, urn, inputs, secrets, self.settings, preview)

    def update(
        self, token: str, made: Made, news: Mapping[str, Any], name: str = "it", *, preview: bool = False
    ) -> Made:
        inputs = self.inputs(token, news, name)
        return self.cloud.update(
            self.resource(token),
            self.urn(token, name),
            made.id,
            {},
            made.outputs,
            inputs,
            (),
            self.settings,
            preview,
        )

    def delete(self, token: str, made: Made, name: str = "it", stack: str = "dev") -> None:
        self.cloud.delete(self.resource(token), self.urn(token, name, stack), made.id, {}, made.outputs)

    def diff(self, token: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Difference:
        """Between the state after a create with ``old`` and ``new``, both as a program writes them."""
        resource, inputs = self.resource(token), self.inputs(token, old)
        made = self.cloud.create(resource, self.urn(token, "it"), inputs, (), self.settings, False)
        return diff(resource, inputs, made.outputs, self.check(token, new, inputs).inputs)


@pytest.fixture
def twin(tmp_path: Path) -> Iterator[Twin]:
    store = Store(tmp_path / "inventory.db")
    yield Twin(Cloud(store))
    store.close()
