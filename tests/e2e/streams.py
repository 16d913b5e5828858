"""Listens to server-sent events, several streams at once. Standard library only.

    streams.py ORIGIN CA SOURCE COUNT SECONDS

Prints one JSON list with an object for each stream: ``status``, ``ticks`` (seconds each event was late, in
order), ``ended`` (whether the last one said it was the last) and ``error``.
"""

from __future__ import annotations

import http.client
import json
import ssl
import sys
import threading
import time
from typing import Any

PATIENCE = 10.0  # seconds without a word


def listen(origin: str, trust: ssl.SSLContext, source: str, seconds: int, seen: dict[str, Any]) -> None:
    """One stream, to its end."""
    connection = http.client.HTTPSConnection(
        origin, context=trust, source_address=(source, 0), timeout=PATIENCE
    )
    try:
        connection.request("GET", f"/mcp/stream?seconds={seconds}", headers={"Accept": "text/event-stream"})
        answer = connection.getresponse()
        seen["status"] = answer.status
        while line := answer.readline().decode():
            if line.startswith("event:"):
                seen["ended"] = line.split()[1] == "end"
            elif line.startswith("data:"):
                sent = json.loads(line.partition(":")[2])["at"]
                seen["ticks"].append(round(time.time() - sent, 3))
    except (OSError, http.client.HTTPException, ValueError) as error:
        seen["error"] = f"{type(error).__name__}: {error}"
    finally:
        connection.close()


def main() -> None:
    """All of them side by side."""
    origin, authority, source, count, seconds = sys.argv[1:6]
    trust = ssl.create_default_context(cafile=authority)
    found: list[dict[str, Any]] = [
        {"status": None, "ticks": [], "ended": False, "error": ""} for _ in range(int(count))
    ]
    threads = [
        threading.Thread(target=listen, args=(origin, trust, source, int(seconds), seen)) for seen in found
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
