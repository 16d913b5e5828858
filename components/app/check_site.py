"""Is DIRECTORY a built site? Exit status 1 and one line per fault if not. Standard library only.

    check_site.py DIRECTORY

A site is an index.html whose own scripts, styles and images are all there; it holds no links, which nginx
would follow out of the site.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FILES = {("script", "src"), ("img", "src"), ("link", "href")}
ICONS_AND_STYLES = {"stylesheet", "modulepreload", "preload", "icon", "manifest", "apple-touch-icon"}


class References(HTMLParser):
    """Collects what a page loads from its own site."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Only what the browser fetches by itself; a link to a page may be a route of the application."""
        values = dict(attrs)
        if tag == "link" and not ICONS_AND_STYLES & set((values.get("rel") or "").lower().split()):
            return
        for name, value in attrs:
            if (tag, name) in FILES and value:
                parts = urlsplit(value)
                if not parts.scheme and not parts.netloc and parts.path:
                    self.found.append(unquote(parts.path))


def faults(directory: Path) -> Iterator[str]:
    """One line for each thing that is wrong."""
    for path in sorted(directory.rglob("*")):
        if path.is_symlink():
            yield f"{path.relative_to(directory)} is a symbolic link"
    index = directory / "index.html"
    if not index.is_file():
        yield "there is no index.html"
        return
    page = References()
    page.feed(index.read_text(encoding="utf-8", errors="replace"))
    for reference in page.found:
        if not (directory / reference.lstrip("/")).is_file():
            yield f"index.html loads {reference}, which is not there"


if __name__ == "__main__":
    found = list(faults(Path(sys.argv[1])))
    print("\n".join(found))
    sys.exit(1 if found else 0)
