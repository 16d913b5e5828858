"""From what was written to a :class:`config.model.Stack`, or to one error that lists everything wrong.

:func:`parse` is pure: it sees no environment, no network and no secret (:class:`Sealed` stands for each).
:func:`load` is what the program calls.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import PurePath
from types import UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin

import pulumi
from pulumi.runtime.config import CONFIG, is_config_secret
from pydantic import AfterValidator, TypeAdapter, ValidationError, create_model
from pydantic.fields import FieldInfo

from config.checks import is_placeholder, remarks, stack_checks
from config.model import Finding, Registry, Secrets, Section, Stack, System, Systems, World
from config.report import ConfigError, Problem, dotted
from config.types import closest, refuse

NAMESPACE = "berth"
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Sealed:
    """Stands for a secret that was given; ``fault`` says what is wrong with it, never what it is."""

    fault: str | None = None


def document(registry: Registry) -> type[Stack]:
    """The model of a whole stack file, with the registered systems in it."""
    return _document(tuple(registry.systems.items()))


@cache
def _document(models: tuple[tuple[str, type[System]], ...]) -> type[Stack]:
    # A default only says that a system may be absent: an explicit null is refused like any wrong type.
    fields: dict[str, Any] = {name: (model, None) for name, model in models}
    systems = create_model("Systems", __base__=Systems, __doc__=Systems.__doc__, **fields)
    return create_model(
        "StackFile",
        __base__=Stack,
        __doc__=Stack.__doc__,
        systems=(
            Annotated[systems, AfterValidator(_given)],
            FieldInfo(description=Stack.model_fields["systems"].description),
        ),
    )


def _given(systems: Systems) -> Mapping[str, System]:
    if not systems.model_fields_set:
        raise refuse("a stack has at least one system", "add one")
    return {
        name: getattr(systems, name)
        for name in type(systems).model_fields
        if name in systems.model_fields_set
    }


def stack_name(file: str) -> str:
    """``Pulumi.prod.yaml`` → ``prod``."""
    return re.sub(r"^Pulumi\.|\.ya?ml$", "", PurePath(file).name)


def parse(
    raw: Mapping[str, Any], *, file: str, registry: Registry, caller: str | None = None, secrets: bool = True
) -> Stack:
    """The stack written in ``raw`` (keys without ``berth:``, secrets as :class:`Sealed`).

    ``file`` is the stack file's name, for messages and for the stack's name; ``caller`` the address this
    machine connects from, where it is known. ``secrets``: whether those that are missing are problems.
    Raises :class:`ConfigError` with every problem found.
    """
    name = stack_name(file)
    raw = _plain(raw, file)
    written = {key: value for key, value in raw.items() if key != "secrets"}
    model = document(registry)
    found: dict[Path, Finding] = {}
    stack: Stack | None = None

    for path in _sealed_paths(written):
        found[path] = Finding(
            path,
            "an encrypted value is only read from berth:secrets",
            f"write it in clear, or as a secret a system declares: {_set_command('<system>.<name>', name)}",
        )
    for path in _placeholders(written):
        found[path] = Finding(path, "still a placeholder", "write the real value")
    try:
        stack = model.model_validate(written)
    except ValidationError as error:
        for detail in _leaves(error.errors(include_input=False, include_url=False)):
            path = _place(detail)
            if not any(path[: len(known)] == known for known in found):
                found[path] = _explain(path, cast("dict[str, Any]", detail), written, model)

    partial = _salvage(model, written, set(found))
    sound = vars(partial).get("systems")
    systems: dict[str, System] = (
        {name: system for name, system in vars(sound).items() if system} if sound else {}
    )
    world = World(environment=vars(partial).get("environment"), catalogues=registry.catalogues)
    for start, check in stack_checks(
        partial, systems, name=name, caller=caller, world=world, sound=stack is not None
    ):
        try:
            for finding in check:
                path = (*start, *finding.path)
                found.setdefault(path, Finding(path, finding.rule, finding.remedy))
        except AttributeError:
            if stack is not None:  # nothing is missing: this is a defect of the check itself
                raise
    given = raw.get("secrets", {})
    for finding in _check_secrets(given, registry, name):
        found.setdefault(finding.path, finding)
    if secrets:
        for finding in _missing_secrets(given, systems, name, complete=stack is not None):
            found.setdefault(finding.path, finding)

    if found or stack is None:
        order = sorted(found, key=lambda path: _position(path, raw))
        raise ConfigError(Problem(file, dotted(path), found[path].rule, found[path].remedy) for path in order)
    return Stack.model_construct(**{name: getattr(stack, name) for name in Stack.model_fields})


# ---------------------------------------------------------------- finding our way through what was written


DEEPEST = 30


def _plain(value: Any, file: str, depth: int = 0) -> Any:
    """The same with every key a text, as the engine hands it over."""
    if depth > DEEPEST:
        raise ConfigError([Problem(file, NAMESPACE, f"nested deeper than {DEEPEST} levels", "flatten it")])
    if isinstance(value, Mapping):
        return {str(key): _plain(item, file, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, file, depth + 1) for item in value]
    return value


def _walk(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    yield path, value
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(item, (*path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _walk(item, (*path, index))


def _sealed_paths(written: Mapping[str, Any]) -> Iterator[Path]:
    return (path for path, value in _walk(written) if isinstance(value, Sealed))


def _placeholders(written: Mapping[str, Any]) -> Iterator[Path]:
    return (path for path, value in _walk(written) if isinstance(value, str) and is_placeholder(value))


def _at(written: Any, path: Sequence[str | int]) -> Any:
    """What was written at ``path``; None where there is nothing."""
    for part in path:
        try:
            written = written[part]
        except (KeyError, IndexError, TypeError):
            return None
    return written


def _position(path: Path, raw: Any) -> tuple[int, ...]:
    """Where a path stands in the file, so that problems come in its order; what is missing comes last."""
    place = []
    for part in path:
        if isinstance(raw, Mapping):
            keys = list(raw)
            place.append(keys.index(part) if part in keys else len(keys))
        else:
            place.append(part if isinstance(part, int) else 0)
        raw = _at(raw, (part,))
    return tuple(place)


def _model_at(path: Sequence[str | int], model: type[Section]) -> type[Section] | None:
    """The section that holds ``path``'s last part; None where that is not a section."""
    for part in path[:-1]:
        field = _keys(model).get(str(part))
        inner = _section(field) if field else None
        if inner is None:
            return None
        model = inner
    return model


def _keys(model: type[Section]) -> dict[str, FieldInfo]:
    """The fields of a section by the key they have in a file (`from` cannot be a field's name)."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _section(field: FieldInfo) -> type[Section] | None:
    """The section a field holds, whether it may be absent or not; None where it holds something else."""
    inner = field.annotation
    for each in (inner, *get_args(inner)) if get_origin(inner) in (None, Union, UnionType) else ():
        if isinstance(each, type) and issubclass(each, Section):
            return each
    return None


def _salvage(model: type[Stack], written: Mapping[str, Any], faulty: set[Path]) -> Stack:
    """The stack as far as it is sound: what is faulty is an attribute that is not there."""
    return cast(Stack, _sound(model, written, faulty, ()))


def _sound(model: type[Section], written: Mapping[str, Any], faulty: set[Path], at: Path) -> Section:
    values: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        key = field.alias or name
        path = (*at, key)
        section = _section(field)
        below = any(bad[: len(path)] == path for bad in faulty)
        if section and isinstance(written.get(key), Mapping):
            values[name] = _sound(section, written[key], faulty, path)
        elif not below and key in written:
            adapter: TypeAdapter[Any] = TypeAdapter(field.annotation)  # type: ignore[arg-type]  # each has a type
            values[name] = adapter.validate_python(written[key])
        elif not below and not field.is_required():
            values[name] = field.get_default(call_default_factory=True, validated_data={})
    sound = model.model_construct(**values)
    for name in model.model_fields.keys() - values.keys():
        vars(sound).pop(name, None)  # model_construct has put its default there
    return sound


# ---------------------------------------------------------------- what pydantic says, in our words

_DATE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


def _place(detail: Mapping[str, Any]) -> Path:
    return tuple(part for part in detail["loc"] if part != "[key]")


def _leaves(details: Sequence[Any]) -> list[Any]:
    """Without what only follows from an error further in: a list "too short" by its bad entries."""
    places = [_place(detail) for detail in details]
    return [
        detail
        for detail, place in zip(details, places, strict=True)
        if not any(other != place and other[: len(place)] == place for other in places)
    ]


def _explain(path: Path, detail: Mapping[str, Any], written: Any, model: type[Section]) -> Finding:
    rule, remedy = _words(path, detail, written, model)
    return Finding(path, rule, remedy)


def _words(path: Path, detail: Mapping[str, Any], written: Any, model: type[Section]) -> tuple[str, str]:
    kind, context = str(detail["type"]), detail.get("ctx", {})
    value, holder = _at(written, path), _model_at(path, model)
    field = _keys(holder).get(str(path[-1])) if holder and path else None
    example = _example(path, field)
    if kind == "berth":
        if isinstance(value, str) and _DATE.match(value):
            return "YAML read this as a date", f"put it in quotes{example and ', such as ' + example}"
        return str(context["rule"]), str(context["remedy"])
    if kind == "missing":
        return "required, and missing", f"add {example or path[-1]}"
    if kind == "extra_forbidden":
        known = sorted(_keys(holder)) if holder else []
        near = closest(str(path[-1]), known)
        return "not a key berth knows here", (
            f"did you mean {near}?" if near else f"remove it; known here: {', '.join(known)}"
        )
    if value is None:
        return "empty", f"write a value{example and ', such as ' + example}, or delete the line"
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        if isinstance(value, str):
            near = closest(value, choices)
            return (
                f"must be one of {', '.join(choices)}",
                f"did you mean {near}?" if near else f"write {choices[0]}",
            )
        quoted = ", ".join(f'"{choice}"' for choice in choices)
        return f"must be one of {quoted}; YAML read {_read_as(value)}", "put it in quotes"
    if kind == "string_type":
        if isinstance(value, Mapping | list | tuple):
            return f"expected a text, found {_read_as(value)}", f"write {example or 'one value'}"
        return f"expected a text, but YAML read {_read_as(value)}", (
            f"put it in quotes, exactly as it should be{example and ', such as ' + example}"
        )
    if kind in ("model_type", "model_attributes_type", "dict_type", "mapping_type"):
        return f"expected a table, found {_read_as(value)}", "write its keys below it, indented"
    if kind in ("tuple_type", "list_type"):
        return f"expected a list, found {_read_as(value)}", f"write {example or '[…]'}"
    if kind == "too_short":
        return "needs at least one entry", f"write {example or 'one'}"
    if kind == "bool_type":
        return f"expected true or false, found {_read_as(value)}", "write true or false, without quotes"
    if kind in ("int_type", "int_from_float"):
        return f"expected a whole number, found {_read_as(value)}", "write it in digits, without quotes"
    if kind in ("greater_than_equal", "less_than_equal"):
        low, high = _bounds(field)
        return f"must be between {low} and {high}", "write a number in that range"
    return str(detail["msg"]), f"write {example}" if example else "see docs/config.md"


def _example(path: Path, field: FieldInfo | None) -> str:
    """``key: value`` as it could be written there; empty where we know no example."""
    value = _sample(field) if field and path else None
    return "" if value is None else f"{path[-1]}: {flow(value)}"


def _sample(field: FieldInfo) -> Any:
    if field.examples:
        return field.examples[0]
    inner = _section(field)
    if inner is not None:
        required = {key: _sample(each) for key, each in _keys(inner).items() if each.is_required()}
        return required or None
    return field.default if isinstance(field.default, str | bool | int) else None


def flow(value: Any) -> str:
    """A value in YAML's one-line form."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str) and re.fullmatch(r"[a-z][\w.@/+-]*(://[\w.@/+-]+)?", value, re.IGNORECASE):
        return value
    return json.dumps(value, ensure_ascii=False)


def _bounds(field: FieldInfo | None) -> tuple[Any, Any]:
    low = high = None
    for limit in field.metadata if field else ():
        low = getattr(limit, "ge", low)
        high = getattr(limit, "le", high)
    return low, high


def _read_as(value: Any) -> str:
    """What YAML made of it, without saying what it is."""
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, int | float):
        return "a number (leading zeros, 1.10 and long digits do not survive)"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    return "something else"


# ---------------------------------------------------------------- secrets


def _set_command(name: str, stack: str) -> str:
    return f"pulumi config set --secret --path 'berth:secrets.{name}' --stack {stack}"


def missing_secrets(raw: Mapping[str, Any], stack: Stack, file: str) -> Sequence[Problem]:
    """The secrets ``stack``, read from ``raw``, still lacks, each with the command that sets it."""
    lacking = _missing_secrets(raw.get("secrets", {}), stack.systems, stack_name(file), complete=True)
    return [Problem(file, dotted(each.path), each.rule, each.remedy) for each in lacking]


def _check_secrets(given: Any, registry: Registry, stack: str) -> Iterator[Finding]:
    if not isinstance(given, Mapping):
        yield Finding(
            ("secrets",), "expected a table of systems", "delete this key and set each secret by its path"
        )
        return
    for system, named in given.items():
        path: Path = ("secrets", system)
        if system not in registry.systems:
            near = closest(str(system), sorted(registry.systems))
            yield Finding(path, "not a system berth knows", f"did you mean {near}?" if near else "remove it")
            continue
        declared = registry.systems[system].SECRETS
        if not isinstance(named, Mapping):
            yield Finding(path, "expected a table of secrets", "delete it and set each secret by its path")
            continue
        for name, sealed in named.items():
            if name not in declared:
                near = closest(str(name), sorted(declared))
                remedy = (
                    f"did you mean {near}?" if near else f"remove it; known: {', '.join(declared) or 'none'}"
                )
                yield Finding((*path, name), "not a secret this system takes", remedy)
            elif not isinstance(sealed, Sealed) or sealed.fault:
                fault = sealed.fault if isinstance(sealed, Sealed) else "not a secret value"
                yield Finding(
                    (*path, name), str(fault), f"set it again: {_set_command(f'{system}.{name}', stack)}"
                )


def _missing_secrets(
    given: Any, systems: Mapping[str, System], stack: str, *, complete: bool
) -> Iterator[Finding]:
    for system, config in systems.items():
        try:
            needed = list(config.needed_secrets())
        except AttributeError:
            if complete:
                raise
            continue
        named = given.get(system) if isinstance(given, Mapping) else None
        for name in needed:
            if not isinstance(named, Mapping) or name not in named:
                yield Finding(
                    ("secrets", system, name),
                    f"required, and missing: {config.SECRETS[name].meaning}",
                    _set_command(f"{system}.{name}", stack),
                )


def seal(value: Any, *, encrypted: bool) -> Any:
    """The tree under ``berth:secrets`` with every value replaced by what may be said about it."""
    if isinstance(value, Mapping):
        return {key: seal(item, encrypted=encrypted) for key, item in value.items()}
    if not encrypted:
        return Sealed("a secret written in clear: consider it known to everyone who can read this file")
    if not isinstance(value, str):
        return Sealed("not a text")
    if not value.strip():
        return Sealed("empty")
    return Sealed("still a placeholder") if is_placeholder(value) else Sealed()


# ---------------------------------------------------------------- inside the program


def load(registry: Registry) -> Stack:
    """The stack this Pulumi program runs for. Raises pulumi.RunError (printed without a traceback)."""
    file = f"Pulumi.{pulumi.get_stack()}.yaml"
    settings = pulumi.Config(NAMESPACE)
    raw: dict[str, Any] = {}
    for full in CONFIG.get():
        space, _, key = full.partition(":")
        if space != NAMESPACE:
            continue
        encrypted = is_config_secret(full)
        value = _decoded(settings.get(key))
        if key == "secrets":
            raw[key] = seal(value, encrypted=encrypted)
        else:
            raw[key] = Sealed() if encrypted else value
    try:
        stack = parse(raw, file=file, registry=registry, caller=caller_address(os.environ, raw))
    except ConfigError as error:
        raise pulumi.RunError(str(error)) from None
    for path, advice in remarks(stack):
        pulumi.log.warn(f"{file}: {dotted(path)}: {advice}")
    return stack.with_secrets(_outputs(settings, raw.get("secrets", {})))


def _decoded(text: str | None) -> Any:
    """Tables arrive as JSON, single values as they are (``"8"`` and ``"true"`` stay text)."""
    if text is not None and text[:1] in "{[":
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _outputs(settings: pulumi.Config, given: Mapping[str, Mapping[str, Any]]) -> Secrets:
    if not given:
        return Secrets()
    tree = settings.require_secret_object("secrets")

    def one(system: str, name: str) -> pulumi.Output[str]:
        return tree.apply(lambda values: str(values[system][name]))

    return Secrets({system: {name: one(system, name) for name in named} for system, named in given.items()})


def caller_address(environ: Mapping[str, str], raw: Mapping[str, Any]) -> str | None:
    """The public address this machine connects from, where that can be told without asking the network.

    ``BERTH_CALLER_IP`` says it. Otherwise a machine that is itself used over SSH under a public address most
    likely goes out under it too (third word of ``SSH_CONNECTION``; ``SSH_CLIENT`` would name the person's
    machine, which is not the one that connects). That guess counts only against real ranges: ranges for
    documentation, benchmarks or private networks are not what the internet sees.
    """
    said = environ.get("BERTH_CALLER_IP", "").strip()
    if said:
        return said
    words = environ.get("SSH_CONNECTION", "").split()
    cidrs = _at(raw, ("admin", "cidrs"))
    try:
        here = ipaddress.IPv4Address(words[2])
        public = any(ipaddress.IPv4Network(cidr).is_global for cidr in cidrs)
    except (ValueError, IndexError, TypeError):
        return None
    return str(here) if here.is_global and public else None
