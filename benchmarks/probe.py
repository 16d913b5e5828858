"""Watches one host from outside: when SSH answers, and when HTTPS serves the built page.

Runs inside the sandbox's network namespace. Usage: probe.py ADDRESS NAME SECONDS; prints one JSON object with
the two moments in seconds since the epoch (null: not within SECONDS). Standard library only.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import sys
import time
from collections.abc import Callable

ADMIN, STRANGER = "198.18.1.10", "198.18.2.10"
INTERVAL = 0.05
BUILT = b"/assets/"  # only a built page loads hashed assets


def ssh(address: str) -> bool:
    """Whether a banner comes back on port 22."""
    with socket.create_connection((address, 22), timeout=1, source_address=(ADMIN, 0)) as connection:
        connection.settimeout(1)
        return connection.recv(4) == b"SSH-"


def https(address: str, name: str) -> bool:
    """Whether the site is served, under whichever certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection((address, 443), timeout=1, source_address=(STRANGER, 0))
    connection = http.client.HTTPSConnection(name, context=context, timeout=2)
    with context.wrap_socket(plain, server_hostname=name) as connection.sock:
        connection.request("GET", "/")
        answer = connection.getresponse()
        return answer.status == 200 and BUILT in answer.read()


def when(question: Callable[[], bool], deadline: float) -> float | None:
    """The first moment the answer is yes."""
    while time.time() < deadline:
        try:
            if question():
                return time.time()
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(INTERVAL)
    return None


if __name__ == "__main__":
    host, site, seconds = sys.argv[1:]
    end = time.time() + float(seconds)
    seen = {"ssh": when(lambda: ssh(host), end), "https": when(lambda: https(host, site), end)}
    print(json.dumps(seen))
