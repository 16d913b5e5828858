"""Property values between the engine's protobuf form and plain Python.

Decoded values are JSON-like; whole numbers are ``int``. Two things have no JSON form: :data:`UNKNOWN` (a
value the engine will only know after an update) and secrets. A secret anywhere in a property makes the whole
top-level property secret, as the bridged plugins do it: values are then plain and the names are kept beside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from google.protobuf import struct_pb2

SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
SECRET: Final = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105  (the engine's marker, not a secret)
RESOURCE: Final = "5cf8f73096256a8f31e491e813e4eb8e"
OUTPUT: Final = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
ASSET: Final = "c44067f5952c0a294b673a41bacd8c17"
ARCHIVE: Final = "0def7320c3a5731c473e5ecbe6d01bc7"
UNKNOWN_TEXT: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
# The engine has one text for "unknown", and other ones that say which type it will be.
UNKNOWN_TEXTS: Final = {
    UNKNOWN_TEXT,
    "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
    "3eeb2bf0-c639-47a8-9e75-3b44932eb421",
    "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
    "030794c1-ac77-496b-92df-f27374a8bd58",
    "e48ece36-62e2-4504-bad9-02848725956a",
    "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
}


class Unknown:
    """The type of :data:`UNKNOWN`."""

    def __repr__(self) -> str:
        return "UNKNOWN"

    def __deepcopy__(self, memo: object) -> Unknown:
        return self


UNKNOWN: Final = Unknown()
Props = dict[str, Any]


def decode(struct: struct_pb2.Struct) -> tuple[Props, set[str]]:
    """Plain properties (nulls dropped) and the names of those that hold a secret."""
    secrets: set[str] = set()
    plain: Props = {}
    for name, value in struct.fields.items():
        found: list[bool] = []
        decoded = _decode(value, found)
        if decoded is not None:
            plain[name] = decoded
        if found:
            secrets.add(name)
    return plain, secrets


def _decode(value: struct_pb2.Value, secret: list[bool]) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return UNKNOWN if value.string_value in UNKNOWN_TEXTS else value.string_value
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    if kind == "bool_value":
        return value.bool_value
    if kind == "list_value":
        return [_decode(item, secret) for item in value.list_value.values]
    if kind != "struct_value":
        return None
    fields = value.struct_value.fields
    marker = fields[SIGNATURE].string_value if SIGNATURE in fields else ""
    if marker == SECRET:
        secret.append(True)
        return _decode(fields["value"], secret)
    if marker == OUTPUT:
        if "secret" in fields and fields["secret"].bool_value:
            secret.append(True)
        return _decode(fields["value"], secret) if "value" in fields else UNKNOWN
    if marker == RESOURCE:
        return _decode(fields["id"], secret) if "id" in fields else fields["urn"].string_value
    decoded = {name: _decode(item, secret) for name, item in fields.items()}
    return {name: item for name, item in decoded.items() if item is not None}


def encode(props: Mapping[str, Any], secrets: Iterable[str] = ()) -> struct_pb2.Struct:
    """The engine's form; properties named in ``secrets`` are wrapped."""
    struct = struct_pb2.Struct()
    hidden = set(secrets)
    for name, value in props.items():
        target = struct.fields[name]
        if name in hidden:
            fields = target.struct_value.fields
            fields[SIGNATURE].string_value = SECRET
            target = fields["value"]
        _encode(value, target)
    return struct


def _encode(value: Any, target: struct_pb2.Value) -> None:
    if value is None:
        target.null_value = struct_pb2.NULL_VALUE
    elif isinstance(value, Unknown):
        target.string_value = UNKNOWN_TEXT
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, str):
        target.string_value = value
    elif isinstance(value, (int, float)):
        target.number_value = value
    elif isinstance(value, Mapping):
        fields = target.struct_value
        fields.SetInParent()
        for name, item in value.items():
            _encode(item, fields.fields[name])
    else:
        items = target.list_value
        items.SetInParent()
        for item in value:
            _encode(item, items.values.add())


def has_unknown(value: Any) -> bool:
    """Whether anything in it will only be known after an update."""
    if isinstance(value, Unknown):
        return True
    if isinstance(value, Mapping):
        return any(has_unknown(item) for item in value.values())
    if isinstance(value, list):
        return any(has_unknown(item) for item in value)
    return False
