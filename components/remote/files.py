"""Files a step takes to its host: real ones of this repository, and templates filled in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from pulumi import Input


@dataclass(frozen=True, kw_only=True)
class File:
    """What a script finds at ``path`` (relative to its working directory), readable by root only.

    Where it goes from there, and with which owner and mode, is the script's business: it can test a
    configuration before it puts it in place. ``secret``: every line of it is masked in logs.
    """

    path: str
    content: Input[str]
    secret: bool = False


def render(template: Path, **values: Any) -> str:
    """``template`` (Jinja2) filled in; a name it uses and does not get is an UndefinedError."""
    environment = Environment(  # noqa: S701 - configuration files, not HTML
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(template.read_text(encoding="utf-8")).render(**values)
