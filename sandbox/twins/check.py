"""Check: what the real plugin refuses before it does anything, and the defaults it fills in.

Messages are worded as the plugin words them: bridged ones name the upstream attribute (``ip_range``) and end
in ``Examine values at 'name.property'``. Values that will only be known after an update pass.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import re
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from urllib.parse import urlsplit

from sandbox.twins.tables import Fact, Facts, Resource, Table, parse, upstream
from sandbox.twins.wire import ARCHIVE, ASSET, SIGNATURE, UNKNOWN, Props, Unknown

DEFAULTS = "__defaults"  # the bridge's own note of which inputs it filled in


class CallError(Exception):
    """An error of the call itself, not a failure in its answer."""


class _WrongType(Exception):
    def __init__(self, wanted: str, value: Any) -> None:
        super().__init__(wanted)
        self.wanted, self.value = wanted, value


@dataclass
class Checked:
    """``failures`` are (property, reason)."""

    inputs: Props
    failures: list[tuple[str, str]] = field(default_factory=list)


class Checker:
    """Checks one set of inputs of one resource (or of a provider, or a function's arguments)."""

    def __init__(
        self, table: Table, facts: Facts, kind: str, name: str, what: str, secrets: Collection[str] = ()
    ) -> None:
        self.table, self.facts, self.kind, self.name, self.what = table, facts, kind, name, what
        self.secrets = secrets
        self.failures: list[tuple[str, str]] = []
        self.top = ""

    # ------------------------------------------------------------ the whole

    def run(self, news: Mapping[str, Any]) -> Props:
        """Converted inputs; what is wrong is in ``failures``."""
        inputs: Props = {}
        for name, value in news.items():
            self.top = name
            if name.startswith("__"):
                continue
            fact = self.facts.get(name)
            if fact is None or fact.get("removed"):
                self._unknown_property(name)
                continue
            inputs[name] = self._value(value, fact, upstream(name, fact))
        for name, fact in self.facts.items():
            if fact.get("required") and name not in inputs and "default" not in fact:
                self.top = name
                self._missing(upstream(name, fact), name)
        self._groups(inputs)
        return inputs

    def _fail(self, reason: str, property: str | None = None) -> None:
        where = self.top if property is None else property
        if self.kind != "native":
            reason = f"{reason}. Examine values at '{self.name}.{where}'."
        entry = (where if self.kind == "native" else "", reason)
        if entry not in self.failures:
            self.failures.append(entry)

    def _unknown_property(self, name: str, owner: str | None = None) -> None:
        if self.kind == "framework":
            return  # dropped without a word
        if self.kind == "native":
            self._fail(f"Unrecognized field '{name}' on '{owner or self.what}'")
        else:
            self._fail("Invalid or unknown key", f"{self.top}.{name}" if owner else name)

    def _missing(self, attribute: str, name: str, owner: str | None = None) -> None:
        if self.kind == "native":
            self._fail(f"Missing required field '{name}' on '{owner or self.what}'")
        elif self.kind == "framework" and owner is None:
            entry = ("", f"Missing required property '{name}'")
            if entry not in self.failures:
                self.failures.append(entry)
        else:
            self._fail(
                f'Missing required argument. The argument "{attribute}" is required, '
                "but no definition was found."
            )

    # ------------------------------------------------------------ one value

    def _value(self, value: Any, fact: Fact, path: str) -> Any:
        try:
            converted = self._convert(value, fact["type"], fact, path)
        except _WrongType as wrong:
            return self._wrong_type(wrong, path)
        if not isinstance(converted, Unknown):
            self._limits(converted, fact, path)
        return converted

    def _wrong_type(self, wrong: _WrongType, path: str) -> Any:
        got = _type_name(wrong.value)
        if self.kind == "native":
            self._fail(f"Field '{self.top}' on '{self.what}' must be a '{wrong.wanted}'; got '{got}' instead")
        elif self.kind == "framework":
            raise CallError(f"expected {wrong.wanted} value for property {self.top}, got {got}")
        elif wrong.wanted in ("integer", "number") and isinstance(wrong.value, str):
            raise CallError(f'{path}: strconv.ParseInt: parsing "{self._shown(wrong.value)}": invalid syntax')
        else:
            self._fail(f"expected type '{wrong.wanted}', got unconvertible type '{got}' for '{path}'")
        return wrong.value

    def _convert(self, value: Any, type_: str, fact: Fact, path: str) -> Any:
        if isinstance(value, Unknown):
            return value
        shape, inner = parse(type_)
        if shape == "any":
            return value
        if shape in ("asset", "archive"):
            marker = value.get(SIGNATURE) if isinstance(value, Mapping) else None
            if marker != {"asset": ASSET, "archive": ARCHIVE}[shape]:
                raise _WrongType(shape, value)
            return value
        if shape == "union":
            for option in inner:
                try:
                    return self._convert(value, option, fact, path)
                except _WrongType:
                    continue
            raise _WrongType(type_, value)
        if shape == "array":
            if not isinstance(value, list):
                if self.kind != "bridged" or isinstance(value, Mapping) is not inner.startswith("#"):
                    raise _WrongType("list", value)
                value = [value]
            return [self._convert(item, inner, fact, f"{path}.{index}") for index, item in enumerate(value)]
        if isinstance(value, list) and len(value) == 1 and self.kind == "bridged":
            value = value[0]
            if isinstance(value, Unknown):
                return value
        if shape == "map":
            if not isinstance(value, Mapping):
                raise _WrongType("map", value)
            return {name: self._convert(item, inner, fact, f"{path}.{name}") for name, item in value.items()}
        if shape == "object":
            return self._object(value, inner, path)
        return self._primitive(value, shape)

    def _object(self, value: Any, token: str, path: str) -> Any:
        if not isinstance(value, Mapping):
            raise _WrongType("object", value)
        facts = self.table.types[token]
        label = token.rpartition(":")[2]
        result: Props = {}
        for name, item in value.items():
            if name.startswith("__"):
                continue
            fact = facts.get(name)
            if fact is None or fact.get("removed"):
                self._unknown_property(name, label)
                continue
            result[name] = self._value(item, fact, f"{path}.{upstream(name, fact)}")
        for name, fact in facts.items():
            if fact.get("required") and name not in result and not (fact.keys() & {"default", "removed"}):
                self._missing(upstream(name, fact), name, label)
        self._conditions(result, facts)
        return result

    def _primitive(self, value: Any, shape: str) -> Any:
        if shape == "string":
            if isinstance(value, bool):
                if self.kind != "bridged":
                    raise _WrongType(shape, value)
                return "true" if value else "false"
            if isinstance(value, (int, float)):
                return str(value)
            if isinstance(value, str):
                return value
        elif shape == "boolean":
            if isinstance(value, bool):
                return value
            if self.kind == "bridged" and value in ("true", "false", "1", "0"):
                return value in ("true", "1")
        elif shape in ("integer", "number"):
            if isinstance(value, str):
                try:
                    value = float(value) if shape == "number" or "." in value else int(value)
                except ValueError:
                    raise _WrongType(shape, value) from None
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            if isinstance(value, int) and not isinstance(value, bool):
                return value
            if isinstance(value, float) and shape == "number":
                return value
        raise _WrongType(shape, value)

    # ------------------------------------------------------------ limits

    def _limits(self, value: Any, fact: Fact, path: str) -> None:
        if isinstance(value, list):
            low, high = fact.get("itemsRange", (None, None))
            if high is not None and len(value) > high:
                self._fail(
                    f"Too many list items. Attribute {path} supports {high} item maximum, "
                    f"but config has {len(value)} declared"
                )
            if low is not None and len(value) < low:
                self._fail(
                    f"Not enough list items. Attribute {path} requires {low} item minimum, "
                    f"but config has only {len(value)} declared"
                )
            for index, item in enumerate(value):
                self._limits(item, {**fact, "itemsRange": (None, None)}, f"{path}.{index}")
            return
        if isinstance(value, Unknown):
            return
        if isinstance(value, Mapping):
            if parse(fact["type"])[0] == "map":
                for name, item in value.items():
                    self._limits(item, fact, f"{path}.{name}")
            return
        for reason in _broken(value, self._shown(value), fact, path, self.kind):
            self._fail(reason)

    def _shown(self, value: Any) -> Any:
        """The value for a message, which must not carry a secret."""
        hidden = self.top in self.secrets or self.facts.get(self.top, {}).get("secret")
        return "[secret]" if hidden else value

    # ------------------------------------------------------------ rules over several properties

    def _groups(self, inputs: Props) -> None:
        """Rules that name properties by their path from the root; inside a list they hold in each element."""
        for name, fact in _walk(self.table, self.facts):
            parent, _, leaf = name.rpartition(".")
            self.top = name.partition(".")[0]
            for near in _each(inputs, parent):
                look = _Look(inputs, near, f"{parent}." if parent else "")
                self._group(name, fact, near.get(leaf), look)
        self._conditions(inputs, self.facts)

    def _group(self, name: str, fact: Fact, here: Any, look: _Look) -> None:
        attribute = _upstream_path(self.table, self.facts, name)
        if here is not None and not _empty(here):
            for other in fact.get("conflictsWith", ()):
                there = look.at(other)
                if there is not None and not _empty(there):
                    against = _upstream_path(self.table, self.facts, other)
                    self._fail(
                        f'Conflicting configuration arguments. "{attribute}": conflicts with {against}'
                    )
            needed = fact.get("requiredWith", ())
            if any(look.at(other) is None for other in needed):
                names = ",".join(sorted({attribute, *self._names(needed)}))
                text = f'"{attribute}": all of `{names}` must be specified'
                self._fail(f"Missing required argument. {text}")
        for key, most in (("exactlyOneOf", 1), ("atLeastOneOf", None)):
            if key in fact:
                self._count(attribute, sorted({name, *fact[key]}), most, look)
        if "atLeastOneTrue" in fact and here is not None:
            group = fact["atLeastOneTrue"]
            values = [
                self.facts[other].get("default", True) if (v := look.at(other)) is None else v
                for other in group
            ]
            if not any(isinstance(value, Unknown) or value for value in values):
                self._fail(
                    "Invalid Attribute Combination. At least one attribute out of "
                    f"[{','.join(self._names(group))}] must be specified as true"
                )

    def exactly_one(self, inputs: Props, groups: Sequence[Sequence[str]]) -> None:
        """The groups a whole resource declares."""
        for group in groups:
            self.top = group[0]
            self._count(self._names(group)[0], list(group), 1, _Look(inputs, inputs, ""))

    def _count(self, attribute: str, group: list[str], most: int | None, look: _Look) -> None:
        values = {other: look.at(other) for other in group}
        given = [other for other, value in values.items() if value is not None and not _empty(value)]
        unknown = any(isinstance(values[other], Unknown) for other in given)
        names = ",".join(self._names(group))
        if not given:
            self._fail(f'Missing required argument. "{attribute}": one of `{names}` must be specified')
        elif most is not None and len(given) > most and not unknown:
            self._fail(
                f'Invalid combination of arguments. "{attribute}": only one of `{names}` can be specified, '
                f"but `{','.join(self._names(given))}` were specified"
            )

    def _names(self, group: Sequence[str]) -> list[str]:
        return [_upstream_path(self.table, self.facts, other) for other in group]

    def _conditions(self, values: Props, facts: Facts) -> None:
        for name, fact in facts.items():
            for key, given in (("forbiddenIf", True), ("requiredIf", False)):
                condition = fact.get(key)
                if condition is None or (name in values) is not given:
                    continue
                if _holds(condition, values, facts):
                    text, attribute = condition.replace("|", " or "), upstream(name, fact)
                    if given:
                        self._fail(f'"{attribute}" cannot be set while {text}')
                    else:
                        self._fail(f'Missing required argument. "{attribute}" must be set while {text}')


def check(
    resource: Resource,
    name: str,
    news: Mapping[str, Any],
    olds: Mapping[str, Any],
    seed: bytes,
    secrets: Collection[str] = (),
) -> Checked:
    """Inputs as the plugin would send them on, or what is wrong with them.

    ``olds`` are the previous checked inputs ({} for a new one): a name made up once is kept. ``secrets``
    names the properties whose value must not show in a message.
    """
    label = _label(resource.token)
    checker = Checker(resource.table, resource.inputs, resource.kind, name, label, secrets)
    inputs = checker.run(news)
    checker.exactly_one(inputs, resource.entry.get("exactlyOneOf", ()))
    filled: list[str] = []
    for key, fact in resource.inputs.items():
        if key in inputs:
            continue
        if fact.get("autoName"):
            inputs[key] = _auto_name(name, key, fact, olds, seed)
            filled.append(key)
        elif resource.kind == "bridged" and "default" in fact and not _excluded(inputs, fact):
            inputs[key] = fact["default"]
            filled.append(key)
    if filled:
        inputs[DEFAULTS] = sorted(filled)
    return Checked(inputs, checker.failures)


def check_provider(table: Table, name: str, news: Mapping[str, Any]) -> Checked:
    """A provider's settings. Anything but text arrives as JSON text."""
    facts = table.provider["inputs"]
    plain: Props = {}
    for key, value in news.items():
        if key in ("version", "pluginDownloadURL") or key.startswith("__"):
            continue
        fact = facts.get(key)
        if fact is not None and fact["type"] != "string" and isinstance(value, str):
            with contextlib.suppress(ValueError):  # the type check says what is wrong
                value = json.loads(value)
        plain[key] = value
    checker = Checker(table, facts, "bridged", name, table.name)
    inputs = checker.run(plain)
    failures = [
        (where, f"could not validate provider configuration: {reason}") for where, reason in checker.failures
    ]
    return Checked(inputs, failures)


# ---------------------------------------------------------------- helpers


def _excluded(inputs: Props, fact: Fact) -> bool:
    """A default is not filled in beside something it conflicts with."""
    others = (*fact.get("conflictsWith", ()), *fact.get("exactlyOneOf", ()))
    return any(_at(inputs, other) is not None for other in others)


def _auto_name(name: str, key: str, fact: Fact, olds: Mapping[str, Any], seed: bytes) -> str:
    if key in olds.get(DEFAULTS, ()) and isinstance(olds.get(key), str):
        return str(olds[key])
    suffix = "-" + hashlib.sha256(seed or uuid.uuid4().bytes).hexdigest()[:7]
    made = name[: fact.get("autoNameMax", 255) - len(suffix)] + suffix
    return made.lower() if fact.get("autoNameLower") else made


def _label(token: str) -> str:
    """How Go names the inputs of a native resource: ``remote.CommandInputs``."""
    _, module, name = token.split(":")
    return f"{module.partition('/')[0]}.{name}Inputs"


def _type_name(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return {str: "string", int: "number", float: "number", list: "list", dict: "map"}.get(type(value), "null")


def _empty(value: Any) -> bool:
    """Upstream does not count an empty string or list as given."""
    return value in ("", [], {}) and not isinstance(value, bool)


def _at(values: Any, path: str) -> Any:
    """The value at a path without indices; in a list, the first element that has it."""
    head, _, rest = path.partition(".")
    if isinstance(values, Unknown):
        return UNKNOWN
    if isinstance(values, list):
        return next((found for item in values if (found := _at(item, path)) is not None), None)
    if not isinstance(values, Mapping) or head not in values:
        return None
    return _at(values[head], rest) if rest else values[head]


@dataclass(frozen=True)
class _Look:
    """Finds a property by its path from the root, starting in the element a rule is judged for."""

    root: Props
    near: Mapping[str, Any]
    prefix: str

    def at(self, path: str) -> Any:
        if self.prefix and path.startswith(self.prefix):
            return _at(self.near, path[len(self.prefix) :])
        return _at(self.root, path)


def _each(values: Any, path: str) -> Iterator[Mapping[str, Any]]:
    """Every object at a path; lists are walked through, what is unknown is left out."""
    if isinstance(values, list):
        for item in values:
            yield from _each(item, path)
    elif isinstance(values, Mapping):
        if not path:
            yield values
            return
        head, _, rest = path.partition(".")
        yield from _each(values.get(head), rest)


GROUP_KEYS = ("conflictsWith", "requiredWith", "exactlyOneOf", "atLeastOneOf", "atLeastOneTrue")


def _walk(table: Table, facts: Facts, prefix: str = "", depth: int = 3) -> Iterator[tuple[str, Fact]]:
    """Every property path with a rule over several properties."""
    for name, fact in facts.items():
        if any(key in fact for key in GROUP_KEYS):
            yield prefix + name, fact
        token = fact["type"].removeprefix("array<").removesuffix(">")
        if depth and token.startswith("#") and token[1:] in table.types:
            yield from _walk(table, table.types[token[1:]], f"{prefix}{name}.", depth - 1)


def _upstream_path(table: Table, facts: Facts, path: str) -> str:
    head, _, rest = path.partition(".")
    fact = facts.get(head, {"type": "any"})
    if not rest:
        return upstream(head, fact)
    token = fact["type"].removeprefix("array<").removesuffix(">")[1:]
    return f"{upstream(head, fact)}.0.{_upstream_path(table, table.types.get(token, {}), rest)}"


def _holds(condition: str, values: Mapping[str, Any], facts: Facts) -> bool:
    """``name=a|b`` or ``name!=a|b`` of a sibling, or of its default."""
    name, negated, wanted = re.split(r"(!?=)", condition, maxsplit=1)
    value = values.get(name, facts.get(name, {}).get("default"))
    if isinstance(value, Unknown) or value is None:
        return False
    return (str(value) in wanted.split("|")) is (negated == "=")


def _broken(value: Any, shown: Any, fact: Fact, path: str, kind: str) -> Iterator[str]:
    """What limits a value breaks, as the upstream validators say it; ``shown`` stands for it in the text."""
    framework = kind == "framework"
    if "const" in fact and value != fact["const"]:
        yield f"expected {path} to be {fact['const']!r}, got {shown}"
    if "enum" in fact and value not in fact["enum"]:
        lower = [str(item).lower() for item in fact["enum"]]
        if not (fact.get("enumAnyCase") and str(value).lower() in lower):
            allowed = "[" + " ".join(json.dumps(item) for item in fact["enum"]) + "]"
            yield (
                f"Invalid Attribute Value Match. Attribute {path} value must be one of: {allowed}, got: "
                f'"{shown}"'
                if framework
                else f"expected {path} to be one of {allowed}, got {shown}"
            )
    if "range" in fact and isinstance(value, (int, float)):
        low, high = fact["range"]
        bad = (low is not None and value < low) or (high is not None and value > high)
        if bad and framework:
            bound = (
                f"between {low} and {high}"
                if low is not None and high is not None
                else f"at least {low}"
                if low is not None
                else f"at most {high}"
            )
            yield f"Invalid Attribute Value. Attribute {path} value must be {bound}, got: {shown}"
        elif bad and low is not None and high is not None:
            yield f"expected {path} to be in the range ({low} - {high}), got {shown}"
        elif bad and low is not None:
            yield f"expected {path} to be at least ({low}), got {shown}"
        elif bad:
            yield f"expected {path} to be at most ({high}), got {shown}"
    if "multipleOf" in fact and isinstance(value, int) and value % fact["multipleOf"]:
        yield f"expected {path} to be divisible by {fact['multipleOf']}, got: {shown}"
    if fact.get("nonZero") and value == 0:
        yield f"{path} must not be zero"
    if not isinstance(value, str):
        return
    if fact.get("nonEmpty") and not value.strip():
        yield f'expected "{path}" to not be an empty string, got {shown}'
    if "lengthRange" in fact:
        low, high = fact["lengthRange"]
        if (low is not None and len(value) < low) or (high is not None and len(value) > high):
            if framework:
                yield (
                    f"Invalid Attribute Value Length. Attribute {path} string length must be "
                    f"at least {low}, got: {len(value)}"
                )
            else:
                yield f"expected length of {path} to be in the range ({low or 0} - {high}), got {shown}"
    if "pattern" in fact and not re.search(fact["pattern"], value):
        yield f"invalid value for {path} (must match {fact['pattern']})"
    if "format" in fact and not (value == "" and fact.get("emptyOk")):
        formats = fact["format"].split("|")
        if not any(FORMATS[item][0](value) for item in formats if item in FORMATS):
            yield FORMATS[formats[-1]][1].format(path=path, value=shown)


def _accepts(parser: Callable[[str], object]) -> Callable[[str], bool]:
    def accepts(value: str) -> bool:
        try:
            parser(value)
        except ValueError:
            return False
        return True

    return accepts


def _matches(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda value: compiled.fullmatch(value) is not None


_UUID = r"[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"


def _cidr(value: str) -> object:
    if "/" not in value:
        raise ValueError(value)
    return ipaddress.ip_network(value, strict=False)


def _cidr4(value: str) -> object:
    if "/" not in value:
        raise ValueError(value)
    return ipaddress.IPv4Network(value, strict=False)


def _url(value: str) -> bool:
    parts = urlsplit(value)
    return parts.scheme in ("http", "https") and bool(parts.netloc)


# How a text must look, and what is said when it does not.
FORMATS: dict[str, tuple[Callable[[str], bool], str]] = {
    "uuid": (_matches(_UUID), "invalid UUID: {value}"),
    "locality/uuid": (_matches(rf"[a-z]{{2}}-[a-z]{{3}}(-\d)?/{_UUID}"), "invalid UUID: {value}"),
    "ip": (_accepts(ipaddress.ip_address), "expected {path} to contain a valid IP, got: {value}"),
    "ipv4": (
        _accepts(ipaddress.IPv4Address),
        "expected {path} to contain a valid IPv4 address, got: {value}",
    ),
    "cidr": (
        _accepts(_cidr),
        'expected "{path}" to be a valid CIDR Value, got {value}: invalid CIDR address: {value}',
    ),
    "cidrv4": (
        _accepts(_cidr4),
        'expected "{path}" to be a valid IPv4 CIDR Value, got {value}: invalid CIDR address: {value}',
    ),
    "duration": (
        _matches(r"[-+]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)((\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))*|0"),
        'invalid value for {path}: time: invalid duration "{value}"',
    ),
    "rfc3339": (
        _accepts(lambda value: datetime.fromisoformat(value) if "T" in value else date.fromisoformat("")),
        'expected "{path}" to be a valid RFC3339 date, got "{value}"',
    ),
    "date": (
        _accepts(date.fromisoformat),
        'expected "{path}" to be a valid date (YYYY-MM-DD), got "{value}"',
    ),
    "json": (_accepts(json.loads), '"{path}" contains an invalid JSON: {value}'),
    "url": (_url, 'expected "{path}" to have a host and the scheme http or https, got {value}'),
    "email": (_matches(r"[^@\s]+@[^@\s]+\.[^@\s]+"), '"{value}" is not a valid email'),
    "mac": (_matches(r"([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}"), 'expected "{path}" to be a valid MAC address'),
    "labels": (_matches(r"[a-zA-Z0-9]?[a-zA-Z0-9._-]{0,62}"), "{path}: invalid label {value}"),
    "tag": (_matches(r"[a-zA-Z0-9:_-]{1,255}"), "tags may only hold letters, numbers, :, - and _: {value}"),
    "path": (_matches(r"/.*"), "{path}: {value} is not an absolute path"),
    "cron": (_matches(r"\S+(\s+\S+){4}"), "{path}: {value} is not a cron expression"),
}
