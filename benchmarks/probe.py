"""Watches one host from outside: when SSH answers, when the site is served, and when the API is well.

Runs inside the sandbox's network namespace. Usage: probe.py ADDRESS SITE API SECONDS (API "-": none); prints
one JSON object with the moments in seconds since the epoch (null: not within SECONDS). Standard library only.
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
CONTEXT = ssl.SSLContext(
    ssl.PROTOCOL_TLS_CLIENT
)  # made once: it asks often, and is not to slow down what it times
CONTEXT.check_hostname, CONTEXT.verify_mode = False, ssl.CERT_NONE


def ssh(address: str) -> bool:
    """Whether a banner comes back on port 22."""
    with socket.create_connection((address, 22), timeout=1, source_address=(ADMIN, 0)) as connection:
        connection.settimeout(1)
        return connection.recv(4) == b"SSH-"


def https(address: str, name: str, path: str, timeout: float) -> bytes:
    """What is served there, under whichever certificate; b"" for anything but status 200."""
    plain = socket.create_connection((address, 443), timeout=1, source_address=(STRANGER, 0))
    plain.settimeout(timeout)
    connection = http.client.HTTPSConnection(name, context=CONTEXT, timeout=timeout)
    with CONTEXT.wrap_socket(plain, server_hostname=name) as connection.sock:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.read() if answer.status == 200 else b""


def when(question: Callable[[], bool], deadline: float) -> float | None:
    """The first moment the answer is yes."""
    while time.time() < deadline:
        try:
            if question():
                return time.time()
        except (OSError, http.client.HTTPException, ValueError):
            pass
        time.sleep(INTERVAL)
    return None


def well(answer: bytes) -> bool:
    """Whether the API says so."""
    return bool(json.loads(answer)["status"] == "ok")


if __name__ == "__main__":
    host, site, api, seconds = sys.argv[1:]
    end = time.time() + float(seconds)
    seen = {
        "ssh": when(lambda: ssh(host), end),
        "site": when(lambda: BUILT in https(host, site, "/", 2), end),
    }
    if api != "-":
        seen["api"] = when(lambda: well(https(host, api, "/health", 10)), end)
    print(json.dumps(seen))
