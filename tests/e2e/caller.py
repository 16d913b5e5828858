"""Somebody who keeps calling the API until standard input ends, at a bounded pace. Standard library only.

    caller.py ORIGIN CA SOURCE

Asks for the health and the session, and makes an invoice now and then, which is a job for the workers. Prints
one JSON object: ``calls``, ``failures`` (in words), ``versions`` in the order they were seen, ``slowest``
(seconds), ``invoices`` (numbers).
"""

from __future__ import annotations

import http.client
import json
import ssl
import sys
import threading
import time
from typing import Any

PAUSE = 0.1  # seconds between calls
PATIENCE = 15.0  # seconds an answer may take
CALLS_PER_CONNECTION = 8
ROUNDS_PER_INVOICE = 10
INVOICE = {"customer": "Load SARL", "amount": "1.00"}


class Caller:
    """One client."""

    def __init__(self, origin: str, authority: str, source: str) -> None:
        self.origin = origin
        self.trust = ssl.create_default_context(cafile=authority)
        self.source = source
        self.rounds = 0
        self.connection = self._connect()
        self.seen: dict[str, Any] = {
            "calls": 0,
            "failures": [],
            "versions": [],
            "slowest": 0.0,
            "invoices": [],
        }

    def _connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            self.origin, context=self.trust, source_address=(self.source, 0), timeout=PATIENCE
        )

    def _call(self, method: str, path: str, given: dict[str, str] | None = None) -> dict[str, Any]:
        if self.seen["calls"] % CALLS_PER_CONNECTION == 0:
            self.connection.close()
            self.connection = self._connect()
        self.seen["calls"] += 1
        began = time.monotonic()
        self.connection.request(method, path, json.dumps(given) if given else None)
        answer = self.connection.getresponse()
        text = answer.read().decode(errors="replace")
        self.seen["slowest"] = max(self.seen["slowest"], round(time.monotonic() - began, 2))
        if answer.status >= 400:
            raise OSError(f"{method} {path} is answered with {answer.status}: {text[:200]}")
        found: dict[str, Any] = json.loads(text)
        return found

    def round(self) -> None:
        """One of each."""
        health = self._call("GET", "/health")
        if health["status"] != "ok":
            raise OSError(f"the health is {health}")
        if health["version"] not in self.seen["versions"][-1:]:
            self.seen["versions"].append(health["version"])
        time.sleep(PAUSE)
        self._call("GET", "/api/v1/session")
        self.rounds += 1
        if self.rounds % ROUNDS_PER_INVOICE == 0:
            number = self._call("POST", "/api/v1/invoices", INVOICE)["number"]
            self.seen["invoices"].append(number)
            self._call("GET", f"/api/v1/invoices/{number}")


def main() -> None:
    """Call until nobody wants more."""
    over = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=listen, daemon=True).start()
    caller = Caller(*sys.argv[1:4])
    while not over.is_set():
        try:
            caller.round()
        except (OSError, http.client.HTTPException, ValueError) as error:
            caller.seen["failures"].append(f"{time.strftime('%X')} {type(error).__name__}: {error}")
            caller.connection.close()
            caller.connection = caller._connect()
        time.sleep(PAUSE)
    print(json.dumps(caller.seen))


if __name__ == "__main__":
    main()
