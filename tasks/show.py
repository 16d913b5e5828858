"""How answers look: aligned columns, times a tired person can read, bytes in the units they know."""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Sequence
from typing import Any

MINUTE, HOUR, DAY = 60, 3600, 86400


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as they need to be; the last one is left as it is."""
    lines = [list(head), *([("" if cell is None else str(cell)) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def duration(seconds: float) -> str:
    """`3 days`, `2 h`, `5 min`, `12 s`: the largest unit, which is what decides."""
    for size, unit in ((DAY, "day"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= size:
            number = int(seconds // size)
            return f"{number} {unit}{'s' if unit == 'day' and number > 1 else ''}"
    return f"{max(0, int(seconds))} s"


def clock(seconds: float) -> str:
    """Seconds since the epoch as a person reads them."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def size(count: float) -> str:
    """Bytes as `12.3 GB` (10^9) or `45 MB` (10^6)."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def short(text: str, most: int) -> str:
    """One line, cut where it gets long."""
    return textwrap.shorten(text, most, placeholder=" …")


def as_json(value: Any) -> str:
    """For programs."""
    return json.dumps(value, indent=2, default=str)
