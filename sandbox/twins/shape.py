"""Values of object types: filling in what a provider adds, and taking it away again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sandbox.twins.tables import Fact, Resource, Table, parse
from sandbox.twins.wire import UNKNOWN, Unknown

ZERO: dict[str, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False}


def zero(type_: str) -> Any:
    """What a provider returns where there is nothing."""
    shape, _ = parse(type_)
    return [] if shape == "array" else {} if shape in ("map", "object") else ZERO.get(shape)


def overlay(table: Table, type_: str, old: Any, new: Any) -> Any:
    """``new`` from the program, with what the provider had added to ``old`` and the defaults of parts."""
    if isinstance(new, Unknown):
        return new
    shape, inner = parse(type_)
    if shape == "array" and isinstance(new, list):
        before = old if isinstance(old, list) else []
        return [
            overlay(table, inner, before[index] if index < len(before) else None, item)
            for index, item in enumerate(new)
        ]
    if shape != "object" or not isinstance(new, Mapping):
        return new
    had = old if isinstance(old, Mapping) else {}
    result = dict(new)
    for name, fact in table.types[inner].items():
        if name in new:
            result[name] = overlay(table, fact["type"], had.get(name), new[name])
        elif name in had and _provided(fact):
            result[name] = had[name]
        elif "default" in fact:
            result[name] = fact["default"]
    return result


def foresee(table: Table, type_: str, value: Any) -> Any:
    """``value`` for a preview: what the provider will add is unknown."""
    shape, inner = parse(type_)
    if shape == "array" and isinstance(value, list):
        return [foresee(table, inner, item) for item in value]
    if shape != "object" or not isinstance(value, Mapping):
        return value
    facts = table.types[inner]
    result = {
        name: foresee(table, facts[name]["type"], item) for name, item in value.items() if name in facts
    }
    for name, fact in facts.items():
        if name not in result and _provided(fact):
            result[name] = UNKNOWN
    return result


def strip(table: Table, type_: str, asked: Any, held: Any) -> Any:
    """``held`` as an input: parts the provider adds only where ``asked`` had them."""
    shape, inner = parse(type_)
    if shape == "array" and isinstance(held, list):
        before = asked if isinstance(asked, list) else []
        return [
            strip(table, inner, before[index] if index < len(before) else None, item)
            for index, item in enumerate(held)
        ]
    if shape != "object" or not isinstance(held, Mapping):
        return held
    had = asked if isinstance(asked, Mapping) else {}
    return {
        name: strip(table, table.types[inner][name]["type"], had.get(name), item)
        for name, item in held.items()
        if name in table.types[inner] and (name in had or not _implied(table.types[inner][name], item))
    }


def _provided(fact: Fact) -> bool:
    return bool(fact.get("computed") or fact.get("removed"))


def _implied(fact: Fact, value: Any) -> bool:
    return _provided(fact) or ("default" in fact and fact["default"] == value)


def preview_outputs(
    resource: Resource, inputs: Mapping[str, Any], old: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Outputs as far as they are known before a create (``old`` None) or an update."""
    outputs: dict[str, Any] = {}
    for name, fact in resource.outputs.items():
        asked = resource.inputs.get(name)
        if asked is not None and asked.get("writeOnly"):
            continue
        if name in inputs:
            value = overlay(resource.table, fact["type"], (old or {}).get(name), inputs[name])
            outputs[name] = foresee(resource.table, fact["type"], value)
        elif asked is not None and "default" in asked:
            outputs[name] = asked["default"]
        elif asked is None or asked.get("computed"):
            if old is not None and name in old:
                outputs[name] = old[name]
            elif fact.get("required") or (asked is not None and asked.get("computed")):
                outputs[name] = UNKNOWN
    return outputs


def base_outputs(
    resource: Resource, inputs: Mapping[str, Any], old: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Outputs before the type's own are worked out: inputs, defaults, and what was there before."""
    outputs: dict[str, Any] = {}
    for name, fact in resource.outputs.items():
        asked = resource.inputs.get(name)
        if asked is not None and asked.get("writeOnly"):
            continue
        if name in inputs:
            outputs[name] = overlay(resource.table, fact["type"], (old or {}).get(name), inputs[name])
        elif old is not None and name in old and (asked is None or asked.get("computed")):
            outputs[name] = old[name]
        elif asked is not None and "default" in asked:
            outputs[name] = asked["default"]
    return outputs
