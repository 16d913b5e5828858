"""Diff: what changed, and whether that is an update or a replacement."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from sandbox.twins.check import DEFAULTS
from sandbox.twins.tables import Fact, Facts, Resource, Table, parse
from sandbox.twins.wire import ASSET, SIGNATURE, Unknown

# (property, old, new) -> whether the provider takes two unequal values for the same.
Same = Callable[[str, Any, Any], bool]
MISSING = None


@dataclass(frozen=True)
class Change:
    """One changed place: ``path`` as the engine writes it (``rules[0].port``); add, delete or update."""

    path: str
    how: str
    replace: bool

    @property
    def top(self) -> str:
        return self.path.partition(".")[0].partition("[")[0]


@dataclass(frozen=True)
class Difference:
    changes: tuple[Change, ...]
    delete_first: bool

    @property
    def replaces(self) -> list[str]:
        return list(dict.fromkeys(change.top for change in self.changes if change.replace))

    @property
    def diffs(self) -> list[str]:
        return list(dict.fromkeys(change.top for change in self.changes))


def diff(
    resource: Resource,
    old_inputs: Mapping[str, Any],
    old_outputs: Mapping[str, Any],
    news: Mapping[str, Any],
    ignore: Collection[str] = (),
    same: Same | None = None,
) -> Difference:
    """Compare checked ``news`` with what the state holds.

    Bridged plugins compare with the state's outputs, native ones with the old inputs. ``same`` knows the
    spellings a provider treats as equal, where the table says there are some.
    """
    olds = old_inputs if resource.kind == "native" and old_inputs else old_outputs
    ignored = {path.partition(".")[0].partition("[")[0] for path in ignore}
    comparer = _Comparer(resource.table, resource.kind, same)
    for name, fact in resource.inputs.items():
        if name in ignored or fact.get("writeOnly"):
            continue
        comparer.property(name, fact, olds.get(name), news.get(name), {**olds, **news})
    changes = tuple(comparer.changes)
    return Difference(changes, _delete_first(resource, news, changes))


def _delete_first(resource: Resource, news: Mapping[str, Any], changes: Collection[Change]) -> bool:
    """A name given by the program cannot be held by two at once, so the old one goes first (bridged only)."""
    if resource.kind != "bridged" or not any(change.replace for change in changes):
        return False
    made_up = news.get(DEFAULTS, ())
    return any(
        fact.get("autoName") and name in news and name not in made_up and name not in (c.top for c in changes)
        for name, fact in resource.inputs.items()
    )


class _Comparer:
    def __init__(self, table: Table, kind: str, same: Same | None) -> None:
        self.table, self.kind, self.same = table, kind, same
        self.changes: list[Change] = []

    def property(
        self, path: str, fact: Fact, old: Any, new: Any, siblings: Mapping[str, Any], up: bool = False
    ) -> None:
        """Compare one property; ``up`` says that a change of any part of it replaces."""
        if new is MISSING:
            if "default" in fact and self.kind != "native":
                new = fact["default"]
            elif fact.get("computed") or fact.get("removed") or fact.get("autoName"):
                return
        if old is MISSING and "default" in fact and self.kind != "native":
            old = fact["default"]
        if self._equal(path, fact, old, new):
            return
        replace = up or (bool(fact.get("replace")) and "replaceIf" not in fact)
        if replace and _spared(fact, old, new):
            replace = False
        if not replace and "replaceIf" in fact:
            replace = _triggered(fact["replaceIf"], old, new, siblings)
        if not self._nested(path, fact, old, new, replace):
            how = "add" if old is MISSING else "delete" if new is MISSING else "update"
            self.changes.append(Change(path, how, replace))

    def _nested(self, path: str, fact: Fact, old: Any, new: Any, replace: bool) -> bool:
        """Descend into lists and objects; False where the whole value is the change."""
        shape, inner = parse(fact["type"])
        if shape == "array" and isinstance(old, list) and isinstance(new, list):
            item = {"type": inner, "diffSuppress": fact.get("diffSuppress")}
            for index in range(max(len(old), len(new))):
                left = old[index] if index < len(old) else MISSING
                right = new[index] if index < len(new) else MISSING
                self.property(f"{path}[{index}]", item, left, right, {}, replace)
            return True
        if shape == "map" and isinstance(old, Mapping) and isinstance(new, Mapping):
            item = {"type": inner, "diffSuppress": fact.get("diffSuppress")}
            for key in sorted({*old, *new}):
                self.property(_join(path, key), item, old.get(key), new.get(key), {}, replace)
            return True
        if shape == "object" and isinstance(old, Mapping) and isinstance(new, Mapping):
            facts: Facts = self.table.types[inner]
            near = {**old, **new}
            for key, part in facts.items():
                self.property(_join(path, key), part, old.get(key), new.get(key), near, replace)
            return True
        return False

    def _equal(self, path: str, fact: Fact, old: Any, new: Any) -> bool:
        if isinstance(new, Unknown):
            return False
        if old == new and type(old) is type(new):
            return True
        if self.kind == "bridged" and not (fact.get("computed") or "default" in fact):
            if old is MISSING and _zero(new):
                return True
            if new is MISSING and _zero(old):
                return True
        if isinstance(old, Mapping) and isinstance(new, Mapping) and old.get(SIGNATURE) == ASSET:
            return bool(old.get("hash")) and old.get("hash") == new.get("hash")
        if fact.get("diffSuppress") or fact.get("normalized"):
            return _same(old, new) or (self.same is not None and self.same(path, old, new))
        return False


def _zero(value: Any) -> bool:
    return value is None or value in ("", 0, False, [], {})


def _same(old: Any, new: Any) -> bool:
    """Spellings every provider here treats as equal: case, a locality before an id, a trailing dot."""
    if isinstance(old, str) and isinstance(new, str):
        left, right = old.casefold().rstrip("."), new.casefold().rstrip(".")
        return left == right or left.rpartition("/")[2] == right.rpartition("/")[2] != ""
    return False


def _spared(fact: Fact, old: Any, new: Any) -> bool:
    rule = fact.get("replaceUnless")
    if rule == "empty->absent":
        return old in ("", None) and new in ("", None)
    if rule == "nullValuesOnly":
        left, right = old or {}, new or {}
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            return {k: v for k, v in left.items() if v is not None} == {
                k: v for k, v in right.items() if v is not None
            }
    return False


def _triggered(rule: str, old: Any, new: Any, siblings: Mapping[str, Any]) -> bool:
    if "&" in rule:
        return all(_triggered(part, old, new, siblings) for part in rule.split("&"))
    if rule == "change":
        return True
    if rule == "was!=empty":
        return not _zero(old)
    if isinstance(new, Unknown):
        return False
    if rule == "notOfferedUpgrade":
        offered = [version.get("name") for version in siblings.get("upgradableVersions", ())]
        return new not in offered
    if rule == "true->false":
        return old is True and new is False
    if rule == "decrease":
        return _number(new) < _number(old)
    if rule == "1->n":
        return _number(old) == 1 and _number(new) > 1
    if rule == "itemRemoved":
        return any(item not in (new or []) for item in old or [])
    if "|" in rule:
        return any(_triggered(part, old, new, siblings) for part in rule.split("|"))
    name, _, wanted = rule.partition("=")
    value = siblings.get(name)
    return fnmatchcase(str(value).lower() if isinstance(value, bool) else str(value), wanted)


def _number(value: Any) -> float:
    return value if isinstance(value, (int, float)) else 0.0


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if key.replace("_", "").isalnum() else f'{path}["{key}"]'
