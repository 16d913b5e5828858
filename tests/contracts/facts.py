"""What the providers themselves say of their resources, for the contracts to judge by.

The tables and the checker are the sandbox's; a test may use them, the program may not.
"""

from __future__ import annotations

from typing import Any

from sandbox.twins import check, tables
from tests.mocks import Recorded


def resource(token: str) -> tables.Resource:
    """The facts of one type; LookupError for a type no table knows."""
    found = tables.load(token.split(":", 1)[0]).resource(token)
    if found is None:
        raise LookupError(f"no provider table knows {token}")
    return found


def failures(recorded: Recorded) -> list[str]:
    """What the provider would refuse of these inputs, in its own words."""
    checked = check.check(
        resource(recorded.type), recorded.name, recorded.inputs, {}, seed=b"contract", secrets=()
    )
    return [reason for _, reason in checked.failures]


def outdated(recorded: Recorded) -> list[str]:
    """Inputs the provider calls deprecated or no longer takes."""
    facts = resource(recorded.type).inputs
    return [name for name in recorded.inputs if facts[name].get("deprecated") or facts[name].get("removed")]


def secret_inputs(token: str) -> set[str]:
    """Inputs that must arrive marked secret: what the provider marks, and what carries keys to a host."""
    facts: dict[str, Any] = dict(resource(token).inputs)
    return {name for name, fact in facts.items() if fact.get("secret")} | (
        {"cloudInit", "userData"} & set(facts)
    )
