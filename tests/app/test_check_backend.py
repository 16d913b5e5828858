"""check_backend.php against servers that refuse, answer nonsense, or are not there."""

from __future__ import annotations

import shutil
import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from components.app.dotenv import dotenv

PROGRAM = Path("components/app/check_backend.php").resolve()


def modules() -> set[str]:
    if shutil.which("php") is None:
        return set()
    shown = subprocess.run(["php", "-m"], capture_output=True, text=True, check=True)
    return set(shown.stdout.split())


pytestmark = pytest.mark.skipif(
    not {"redis", "pdo_pgsql", "curl", "openssl"} <= modules(),
    reason="PHP is not installed, or not with redis, pdo_pgsql and curl",
)


def check(values: Mapping[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        ["php", "-d", "display_errors=stderr", str(PROGRAM), "0.1"],
        input=dotenv(values),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


def closed_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


@contextmanager
def serving(server: socketserver.TCPServer) -> Iterator[str]:
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield str(server.socket.getsockname()[1])
    finally:
        server.shutdown()
        server.server_close()


def speaking(replies: Mapping[str, str], first: str = "") -> socketserver.TCPServer:
    """A server of lines: a line that begins with a key is answered with its value."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(first.encode())
            for line in self.rfile:
                for begin, reply in replies.items():
                    if line.decode().upper().startswith(begin):
                        self.wfile.write(reply.encode())

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    return server


def bucket_of(status: int, body: str) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=SCWKEY/")
            assert self.path.startswith("/scell-storage?list-type=2")
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None: ...

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def test_nothing_configured_is_nothing_to_ask() -> None:
    assert check({"APP_NAME": "Scell.io", "MAIL_MAILER": "log"}) == (0, "")


def test_all_that_is_down_is_said_in_one_go() -> None:
    port = closed_port()
    status, said = check(
        {
            "DB_CONNECTION": "pgsql",
            "DB_HOST": "127.0.0.1",
            "DB_PORT": port,
            "DB_DATABASE": "scell_production",
            "DB_USERNAME": "scell",
            "DB_PASSWORD": "hidden-1",
            "DB_DATABASE_SANDBOX": "scell_sandbox",
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": port,
            "REDIS_PASSWORD": "hidden-2",
            "AWS_BUCKET": "scell-storage",
            "AWS_ENDPOINT": f"http://127.0.0.1:{port}",
            "AWS_DEFAULT_REGION": "fr-par",
            "AWS_ACCESS_KEY_ID": "SCWKEY",
            "AWS_SECRET_ACCESS_KEY": "hidden-3",
            "MAIL_MAILER": "smtp",
            "MAIL_HOST": "127.0.0.1",
            "MAIL_PORT": port,
        }
    )
    assert status == 1
    assert [line.split(" does not answer:")[0] for line in said.splitlines()] == [
        f"database scell_production at 127.0.0.1:{port}",
        f"database scell_sandbox at 127.0.0.1:{port}",
        f"cache (Redis) at 127.0.0.1:{port}",
        f"bucket scell-storage at http://127.0.0.1:{port}",
        f"mail relay 127.0.0.1:{port}",
    ], said
    assert "hidden" not in said


REDIS = {"REDIS_HOST": "127.0.0.1", "REDIS_USERNAME": "scell", "REDIS_PASSWORD": "hidden"}


def test_a_cache_that_answers_is_well() -> None:
    with serving(speaking({"AUTH": "+OK\r\n", "SET": "+OK\r\n"})) as port:
        assert check({**REDIS, "REDIS_PORT": port}) == (0, "")


@pytest.mark.parametrize(
    ("replies", "words"),
    [
        ({"AUTH": "-WRONGPASS invalid username-password pair or user is disabled.\r\n"}, "WRONGPASS"),
        ({"AUTH": "+OK\r\n", "SET": "-MISCONF Redis is configured to save RDB snapshots\r\n"}, "MISCONF"),
        ({"AUTH": "+OK\r\n", "SET": "-OOM command not allowed when used memory > 'maxmemory'\r\n"}, "OOM"),
    ],
)
def test_a_cache_that_refuses_says_why(replies: dict[str, str], words: str) -> None:
    with serving(speaking(replies)) as port:
        status, said = check({**REDIS, "REDIS_PORT": port})
    assert status == 1
    assert said.startswith(f"cache (Redis) at 127.0.0.1:{port} refuses: {words}"), said
    assert "hidden" not in said


def bucket(port: str) -> dict[str, str]:
    return {
        "AWS_BUCKET": "scell-storage",
        "AWS_ENDPOINT": f"http://127.0.0.1:{port}",
        "AWS_DEFAULT_REGION": "fr-par",
        "AWS_ACCESS_KEY_ID": "SCWKEY",
        "AWS_SECRET_ACCESS_KEY": "hidden",
    }


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "AccessDenied", "refuses: HTTP 403 AccessDenied: the key may not use this bucket (revoked?)"),
        (403, "InvalidAccessKeyId", "refuses: HTTP 403 InvalidAccessKeyId: the key is unknown (revoked?)"),
        (403, "SignatureDoesNotMatch", "refuses: HTTP 403 SignatureDoesNotMatch: the secret key is wrong"),
        (404, "NoSuchBucket", "refuses: HTTP 404 NoSuchBucket: there is no such bucket"),
        (503, "SlowDown", "does not answer: HTTP 503"),
    ],
)
def test_a_bucket_that_refuses_says_why(status: int, code: str, words: str) -> None:
    with serving(bucket_of(status, f"<Error><Code>{code}</Code></Error>")) as port:
        assert check(bucket(port)) == (1, f"bucket scell-storage at http://127.0.0.1:{port} {words}\n")


def test_a_bucket_that_opens_is_well() -> None:
    with serving(bucket_of(200, "<ListBucketResult/>")) as port:
        assert check(bucket(port)) == (0, "")


def mail(port: str, **more: str) -> dict[str, str]:
    return {
        "MAIL_MAILER": "smtp",
        "MAIL_HOST": "127.0.0.1",
        "MAIL_PORT": port,
        "MAIL_USERNAME": "scell",
        "MAIL_PASSWORD": "hidden",
        **more,
    }


GREETING = "220 relay ESMTP\r\n"
OFFER = "250-relay\r\n250 AUTH PLAIN LOGIN\r\n"


@pytest.mark.parametrize(
    ("replies", "more", "words"),
    [
        ({"EHLO": OFFER, "AUTH": "235 welcome\r\n"}, {}, ""),
        (
            {"EHLO": OFFER, "AUTH": "535 5.7.8 authentication failed\r\n"},
            {},
            "refuses: 535 5.7.8 authentication failed",
        ),
        (
            {"EHLO": OFFER, "AUTH": "421 try again later\r\n"},
            {},
            "does not answer: 421 try again later",
        ),
        ({"EHLO": OFFER}, {"MAIL_ENCRYPTION": "tls"}, "refuses: it offers no TLS"),
    ],
)
def test_a_relay_that_refuses_says_why(replies: dict[str, str], more: dict[str, str], words: str) -> None:
    with serving(speaking(replies, GREETING)) as port:
        status, said = check(mail(port, **more))
    assert status == bool(words)
    assert said == (f"mail relay 127.0.0.1:{port} {words}\n" if words else "")
