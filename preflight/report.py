"""What was looked at and what was found: rows, a table for people, JSON for programs, an exit code."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Status = Literal["ok", "missing", "unknown", "note"]
ORDER: tuple[Status, ...] = ("missing", "unknown", "note", "ok")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One answer. ``missing``: `up` would fail or not serve; ``unknown``: this could not be read; ``note``:
    nothing any API tells, for a person to know. ``what`` was looked at, ``found`` is what was seen,
    ``remedy`` what to do about it (empty for ok). Never holds a secret.
    """

    status: Status
    what: str
    found: str
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One question, answered by rows; ``ask`` raises ``Unreadable`` where it cannot be read."""

    title: str
    ask: Callable[[], Iterable[Row]]


def ok(what: str, found: str) -> Row:
    """As it should be."""
    return Row(status="ok", what=what, found=found)


def missing(what: str, found: str, remedy: str) -> Row:
    """Not as it has to be."""
    return Row(status="missing", what=what, found=found, remedy=remedy)


def unknown(what: str, found: str, remedy: str) -> Row:
    """Could not be found out."""
    return Row(status="unknown", what=what, found=found, remedy=remedy)


def note(what: str, found: str, remedy: str = "") -> Row:
    """For a person to know; decides nothing."""
    return Row(status="note", what=what, found=found, remedy=remedy)


def counts(rows: Iterable[Row]) -> dict[Status, int]:
    """How many rows there are of each status."""
    found = Counter(row.status for row in rows)
    return {status: found[status] for status in ORDER}


def exit_code(rows: Iterable[Row]) -> int:
    """0: nothing is missing; 1: something is; 2: nothing is known to be missing, but something is unknown."""
    found = counts(rows)
    if found["missing"]:
        return 1
    return 2 if found["unknown"] else 0


def table(stack: str, rows: Sequence[Row]) -> str:
    """For a terminal: what needs somebody first, each with its remedy, then what is well."""
    return "\n".join(_lines(stack, rows))


def _lines(stack: str, rows: Sequence[Row]) -> Iterator[str]:
    width = max((len(row.what) for row in rows), default=0)
    for status in ORDER:
        for row in rows:
            if row.status == status:
                yield f"{status:8} {row.what:{width}}  {row.found}".rstrip()
                if row.remedy:
                    yield f"{'':8} → {row.remedy}"
    words = ", ".join(f"{count} {status}" for status, count in counts(rows).items() if count)
    yield f"\n{stack}: {words or 'nothing to check'}"


def as_json(stack: str, rows: Sequence[Row]) -> str:
    """``{"stack", "exit", "counts", "checks": [{"status", "what", "found", "remedy"}]}``."""
    whole = {
        "stack": stack,
        "exit": exit_code(rows),
        "counts": counts(rows),
        "checks": [asdict(row) for row in rows],
    }
    return json.dumps(whole, indent=1, ensure_ascii=False)
