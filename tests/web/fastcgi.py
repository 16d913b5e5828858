"""Enough of FastCGI to stand in for PHP-FPM: answers by the request's variables, on a unix socket."""

from __future__ import annotations

import contextlib
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

BEGIN, END, PARAMS, STDIN, STDOUT = 1, 3, 4, 5, 6

Answer = Callable[[dict[str, str], bytes], Iterator[bytes]]


class Responder(socketserver.ThreadingUnixStreamServer):
    """``answer`` gets a request's variables and body, and yields what goes out, headers first."""

    daemon_threads = True

    def __init__(self, path: Path, answer: Answer) -> None:
        self.answer = answer
        path.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(str(path), _Handler)
        path.chmod(0o666)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()


class _Handler(socketserver.StreamRequestHandler):
    server: Responder

    def handle(self) -> None:
        params, body = b"", b""
        while True:
            header = self.rfile.read(8)
            if len(header) < 8:
                return
            _, kind, _, length, padding = struct.unpack("!BBHHBx", header)
            content = self.rfile.read(length)
            self.rfile.read(padding)
            if kind == PARAMS:
                params += content
            elif kind == STDIN:
                body += content
                if not length:
                    break
        with contextlib.suppress(BrokenPipeError):  # nginx asks no more
            for part in self.server.answer(dict(_pairs(params)), body):
                self._send(STDOUT, part)
            self._send(STDOUT, b"")
            self._send(END, b"\0" * 8)

    def _send(self, kind: int, content: bytes) -> None:
        self.wfile.write(struct.pack("!BBHHBx", 1, kind, 1, len(content), 0) + content)
        self.wfile.flush()


def _pairs(data: bytes) -> Iterator[tuple[str, str]]:
    at = 0

    def length() -> int:
        nonlocal at
        if data[at] < 128:
            at += 1
            return data[at - 1]
        at += 4
        return int(struct.unpack("!I", data[at - 4 : at])[0]) & 0x7FFFFFFF

    while at < len(data):
        name, value = length(), length()
        yield data[at : at + name].decode(), data[at + name : at + name + value].decode()
        at += name + value
