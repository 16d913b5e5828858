"""What the providers themselves say of their resources, for the contracts to judge by.

The tables and the checker are the sandbox's; a test may use them, the program may not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sandbox.twins import check, tables
from tests.mocks import Recorded, Run


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


def texts(value: Any) -> Iterator[str]:
    """Every text inside a property value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def secret_texts(run: Run) -> set[str]:
    """Every text of some length that reached the engine marked secret, but for addresses and public keys."""
    found = {text for r in run.resources for name in r.secrets for text in texts(r.inputs[name])}
    for urn, names in run.secret_outputs.items():
        found |= {text for name in names for text in texts(run.outputs[urn][name])}
    return {text for text in found if len(text) >= 16 and not text.startswith(("198.18.", "ssh-"))}


def in_the_clear(run: Run) -> list[str]:
    """Where one of those also stands unmarked: URN and property of inputs and of registered outputs."""
    secret = secret_texts(run)
    places = [(r.urn, r.inputs, r.secrets) for r in run.resources]
    places += [(urn, outputs, run.secret_outputs[urn]) for urn, outputs in run.outputs.items()]
    return [
        f"{urn} {name}"
        for urn, properties, marked in places
        for name, value in properties.items()
        if name not in marked and any(s in text for text in texts(value) for s in secret)
    ]
