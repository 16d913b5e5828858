"""Make a fact table from a Pulumi package schema (see README.md).

    pulumi package get-schema NAME@VERSION | python trim.py - --version VERSION TOKEN...
    ... --like OLD.json    keeps OLD's tokens, and its facts that no package schema states

A token may hold wildcards: 'scaleway:instance/*'.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

Json = dict[str, Any]
SIDES = ("inputs", "outputs")
# Stated by schemas: the new one counts. Everything else in a fact is known from elsewhere and is kept.
STATED = {"type", "required", "present", "deprecated", "const", "defaultEnv"}


def shape(schema: Json, spec: Json, found: set[str]) -> tuple[str, list[Any]]:
    """A type in short notation and, for a closed enumeration, its values. Object types go into ``found``."""
    if "oneOf" in spec:
        parts = [shape(schema, option, found) for option in spec["oneOf"]]
        closed = all(values for _, values in parts)
        allowed = [value for _, values in parts for value in values] if closed else []
        return "|".join(dict.fromkeys(name for name, _ in parts)), allowed
    if "$ref" in spec:
        where, _, path = unquote(spec["$ref"]).partition("#/")
        if where:  # pulumi.json#/Asset and the like
            return (path.lower(), []) if "/" not in path else ("any", [])
        token = path.removeprefix("types/")
        target = schema.get("types", {}).get(token, {})
        if "enum" in target:
            return target["type"], [item["value"] for item in target["enum"]]
        found.add(token)
        return f"#{token}", []
    if spec.get("type") in ("array", "object"):
        outer, key = ("array", "items") if spec["type"] == "array" else ("map", "additionalProperties")
        inner, values = shape(schema, spec.get(key, {"type": "string"}), found)
        return f"{outer}<{inner}>", values
    return spec.get("type", "any"), []


def fact(schema: Json, spec: Json, required: bool, found: set[str]) -> Json:
    """One property."""
    kind, values = shape(schema, spec, found)
    result: Json = {"type": kind}
    flags = {
        "required": required,
        "secret": spec.get("secret"),
        "deprecated": "deprecationMessage" in spec,
        "replace": spec.get("willReplaceOnChanges") or spec.get("replaceOnChanges"),
    }
    result |= {name: True for name, value in flags.items() if value}
    extra = {
        "enum": values or None,
        "const": spec.get("const"),
        "default": spec.get("default"),
        "defaultEnv": spec.get("defaultInfo", {}).get("environment"),
    }
    return result | {name: value for name, value in extra.items() if value is not None}


def facts(schema: Json, properties: Json, required: list[str], found: set[str]) -> Json:
    """All properties of one place."""
    return {name: fact(schema, spec, name in required, found) for name, spec in properties.items()}


def resource(schema: Json, spec: Json, found: set[str]) -> Json:
    """Both sides of a resource; what replaces is noted on the inputs."""
    inputs = facts(schema, spec.get("inputProperties", {}), spec.get("requiredInputs", []), found)
    outputs = facts(schema, spec.get("properties", {}), spec.get("required", []), found)
    for name, entry in outputs.items():
        if entry.pop("replace", False) and name in inputs:
            inputs[name]["replace"] = True
        for key in ("default", "defaultEnv", "enum", "const"):
            entry.pop(key, None)
    result: Json = {"inputs": inputs, "outputs": outputs}
    if aliases := sorted(alias["type"] for alias in spec.get("aliases", []) if "type" in alias):
        result["aliases"] = aliases
    if "deprecationMessage" in spec:
        result["deprecated"] = True
    return result


def function(schema: Json, spec: Json, found: set[str]) -> Json:
    """Both sides of a function."""
    sides = (spec.get("inputs") or {}, spec.get("outputs") or spec.get("returnType") or {})
    return {
        name: facts(schema, side.get("properties", {}), side.get("required", []), found)
        for name, side in zip(SIDES, sides, strict=True)
    }


def table(schema: Json, tokens: list[str], version: str) -> Json:
    """The facts of all resources and functions that match, and of every type they lead to."""
    found: set[str] = set()

    def wanted(kind: str) -> Json:
        return {
            t: s
            for t, s in schema.get(kind, {}).items()
            if any(fnmatch.fnmatchcase(t, glob) for glob in tokens)
        }

    config = schema.get("config", {})
    result: Json = {
        "name": schema["name"],
        "version": version,
        "config": facts(schema, config.get("variables", {}), config.get("required", []), found),
        "provider": resource(schema, schema.get("provider", {}), found),
        "resources": {token: resource(schema, spec, found) for token, spec in wanted("resources").items()},
        "functions": {token: function(schema, spec, found) for token, spec in wanted("functions").items()},
        "types": {},
    }
    while missing := found - result["types"].keys():
        for token in missing:
            spec = schema.get("types", {}).get(token, {})
            required = spec.get("required", [])
            result["types"][token] = facts(schema, spec.get("properties", {}), required, found)
            for name in required:
                result["types"][token].get(name, {})["present"] = True
    return result


def keep(new: Json, old: Json) -> None:
    """Give properties of ``new`` what only ``old`` knows of them."""
    pairs = [(new["config"], old["config"])]
    pairs += [(new["types"][t], old["types"][t]) for t in new["types"].keys() & old["types"].keys()]
    for kind in ("resources", "functions"):
        for token in new[kind].keys() & old[kind].keys():
            now, then = new[kind][token], old[kind][token]
            pairs += [(now[side], then[side]) for side in SIDES]
            now |= {key: value for key, value in then.items() if key not in now}
    for now, then in pairs:
        for name in now.keys() & then.keys():
            now[name] |= {k: v for k, v in then[name].items() if k not in STATED and k not in now[name]}


def render(found: Json) -> str:
    """JSON with one entry of each section a line, sorted."""

    def short(value: Any) -> str:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    sections = []
    for key, value in sorted(found.items()):
        if isinstance(value, dict):
            lines = ",\n".join(f"  {short(k)}:{short(v)}" for k, v in sorted(value.items()))
            sections.append(f" {short(key)}:{{\n{lines}\n }}" if lines else f" {short(key)}:{{}}")
        else:
            sections.append(f" {short(key)}:{short(value)}")
    return "{\n" + ",\n".join(sections) + "\n}\n"


def main() -> None:
    """Read a schema, print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("schema", help="a package schema, - for standard input")
    parser.add_argument("tokens", nargs="*", help="resources and functions to keep")
    parser.add_argument("--version", required=True, help="of the Python SDK")
    parser.add_argument("--like", type=Path, help="an older table of the same provider")
    given = parser.parse_intermixed_args()
    schema = json.loads(sys.stdin.read() if given.schema == "-" else Path(given.schema).read_text())
    old = json.loads(given.like.read_text()) if given.like else None
    tokens = [*given.tokens, *(old["resources"] if old else ()), *(old["functions"] if old else ())]
    new = table(schema, tokens or ["*"], given.version)
    if old:
        keep(new, old)
    sys.stdout.write(render(new))


if __name__ == "__main__":
    main()
