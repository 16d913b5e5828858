"""A visitor who keeps coming: pages with their scripts, until standard input ends. Standard library only.

    visitor.py ORIGIN CA SOURCE

Prints one JSON object: ``visits``, ``failures`` (in words), ``versions`` in the order they were seen, and
``crossed``: visits whose page was replaced by a release before its script was fetched.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
import sys
import threading
import time

PAUSE = 0.05  # seconds between visits
PATIENCE = 5.0  # seconds an answer may take
VISITS_PER_CONNECTION = 5


class Visitor:
    """One browser."""

    def __init__(self, origin: str, authority: str, source: str) -> None:
        self.origin = origin
        self.trust = ssl.create_default_context(cafile=authority)
        self.source = source
        self.connection = self._connect()
        self.visits = 0
        self.crossed = 0
        self.failures: list[str] = []
        self.versions: list[str] = []

    def _connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            self.origin, context=self.trust, source_address=(self.source, 0), timeout=PATIENCE
        )

    def _get(self, path: str) -> tuple[int, str]:
        self.connection.request("GET", path)
        answer = self.connection.getresponse()
        return answer.status, answer.read().decode()

    def _page(self) -> str:
        status, page = self._get("/")
        if status != 200:
            raise OSError(f"the page is answered with {status}")
        return page

    def visit(self) -> None:
        """A page, its version, and the script it loads."""
        if self.visits % VISITS_PER_CONNECTION == 0:
            self.connection.close()
            self.connection = self._connect()
        self.visits += 1
        page = self._page()
        version = re.search(r'name="version" content="([^"]+)"', page)
        script = re.search(r'<script[^>]* src="(/assets/[^"]+)"', page)
        if not version or not script:
            raise OSError("the page is not the built one")
        if version[1] not in self.versions[-1:]:
            self.versions.append(version[1])
        status, _ = self._get(script[1])
        if status == 404 and self._page() != page:
            self.crossed += 1
        elif status != 200:
            raise OSError(f"{script[1]} is answered with {status}")


def main() -> None:
    """Visit until nobody wants more."""
    over = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=listen, daemon=True).start()
    visitor = Visitor(*sys.argv[1:4])
    while not over.is_set():
        try:
            visitor.visit()
        except (OSError, http.client.HTTPException) as error:
            visitor.failures.append(f"{time.strftime('%X')} {type(error).__name__}: {error}")
            visitor.connection.close()
            visitor.connection = visitor._connect()
        time.sleep(PAUSE)
    seen = ("visits", "failures", "versions", "crossed")
    print(json.dumps({name: getattr(visitor, name) for name in seen}))


if __name__ == "__main__":
    main()
