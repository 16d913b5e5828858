"""JSON Schema of a whole stack file, for completion and checks in editors; from the models, never by hand."""

from __future__ import annotations

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from config.loader import NAMESPACE, document
from config.model import Registry

FILE = "config/stack.schema.json"
SECURE: dict[str, Any] = {
    "type": "object",
    "description": "An encrypted value, written by `pulumi config set --secret`.",
    "properties": {"secure": {"type": "string"}},
    "required": ["secure"],
    "additionalProperties": False,
}


class _OwnTitles(GenerateJsonSchema):
    """Titles only where a type names itself, none made up from the names of fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never."""
        del schema
        return False


def schema(registry: Registry) -> dict[str, Any]:
    """The schema of ``Pulumi.<stack>.yaml``: berth's keys strictly, others freely."""
    model = document(registry).model_json_schema(schema_generator=_OwnTitles)
    definitions = {name: _tidy(each) for name, each in model["$defs"].items()}
    keys = {f"{NAMESPACE}:{name}": _tidy(each) for name, each in model["properties"].items()}
    keys[f"{NAMESPACE}:secrets"] = _secrets(registry)
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A stack of berth",
        "type": "object",
        "properties": {
            "config": {
                "type": "object",
                "description": "Settings of this stack; those of providers carry the provider's name.",
                "properties": keys,
                "required": [f"{NAMESPACE}:{name}" for name in model["required"]],
                "patternProperties": {rf"^(?!{NAMESPACE}:)[A-Za-z][A-Za-z0-9-]*:": {}},
                "additionalProperties": False,
            },
            "encryptionsalt": {"type": "string", "description": "Written by the engine."},
            "encryptedkey": {"type": "string", "description": "Written by the engine."},
            "secretsprovider": {"type": "string", "description": "Written by the engine."},
            "environment": {"description": "Pulumi environments to import."},
        },
        "required": ["config"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def text(registry: Registry) -> str:
    """The schema as it is committed."""
    return json.dumps(schema(registry), indent=2, ensure_ascii=False) + "\n"


def _secrets(registry: Registry) -> dict[str, Any]:
    return {
        "type": "object",
        "description": "Values from outside, encrypted, by system and name.",
        "properties": {
            system: {
                "type": "object",
                "properties": {
                    name: {
                        **SECURE,
                        "description": secret.meaning,
                        "x-berth-kind": secret.kind,
                        "x-berth-usual": secret.usual,
                    }
                    for name, secret in model.SECRETS.items()
                },
                "additionalProperties": False,
            }
            for system, model in registry.systems.items()
        },
        "additionalProperties": False,
    }


def _tidy(node: Any) -> Any:
    """With absent settings absent rather than null, and names refused that fit no pattern."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    tidy = {key: _tidy(item) for key, item in node.items()}
    if "default" in tidy and tidy["default"] is None:
        del tidy["default"]
    if "patternProperties" in tidy:
        tidy.setdefault("additionalProperties", False)
    return tidy
