"""Configuration files of the servers, from the templates beside this file."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    undefined=StrictUndefined,
    keep_trailing_newline=True,
    autoescape=False,  # noqa: S701 - nginx and nft syntax, not HTML
)


def render(template: str, **values: object) -> str:
    """The text of ``template``; a value it needs and does not get is an error."""
    return _templates.get_template(f"{template}.j2").render(values)


def write(path: Path, text: str) -> None:
    """Replace ``path`` as a whole, and only when it differs."""
    if path.exists() and path.read_text() == text:
        return
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
    temporary.write_text(text)
    temporary.replace(path)
