"""nginx in front of a PHP application: a real nginx with the real files, and a stand-in for PHP-FPM."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from http.client import HTTPResponse, HTTPSConnection
from pathlib import Path

import pytest

from components.cloud import Scope
from components.web import server
from tests.web.fastcgi import Responder

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")

NAME = "api.scell.io"
ORIGIN = "https://scell.io"
METHODS = ("GET", "POST", "PUT", "DELETE", "OPTIONS")
HEADERS = (
    "Authorization",
    "Content-Type",
    "X-API-Key",
    "X-Tenant-Key",
    "X-Scell-API-Key",
    "mcp-session-id",
)
CORS = {
    "Access-Control-Allow-Origin": ORIGIN,
    "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": (
        "Authorization, Content-Type, X-API-Key, X-Tenant-Key, X-Scell-API-Key, mcp-session-id"
    ),
}
TICKS, PAUSE = 4, 0.4


def site(root: str = "/srv/api", **more: object) -> server.PhpSite:
    return server.PhpSite(
        names=(NAME,),
        root=f"{root}/current/public",
        socket=f"{root}/current/.berth/run/api.sock",
        streams={"/mcp/stream": f"{root}/current/.berth/run/stream.sock"},
        cors=server.Cors(origin=ORIGIN, methods=METHODS, headers=HEADERS),
        maintenance=f"{root}/shared/maintenance",
        body_mb=1,
        **more,  # type: ignore[arg-type]
    )


def files(http2_listen: bool = True) -> dict[str, str]:
    arguments = server.WebServerArgs(
        scope=Scope(system="scell", environment="test", region="fr-par", zone="fr-par-1"),
        instance=None,  # type: ignore[arg-type]  # only the files are looked at
        host="scell",
        sites=[site()],
        email="ops@scell.io",
        directory="https://acme.scell.io/directory",
        http2_listen=http2_listen,
    )
    return {each.path: str(each.content) for each in server.files(arguments)}


def application(release: str, variables: dict[str, str], body: bytes) -> Iterator[bytes]:
    """What PHP would do: an answer that tells what it was asked, with headers of its own."""
    path = variables["REQUEST_URI"].partition("?")[0]
    status = path.removeprefix("/status/") if path.startswith("/status/") else "200"
    own = "Access-Control-Allow-Origin: *\r\nX-Frame-Options: DENY\r\nX-App: yes\r\n"
    retry = "Retry-After: 7\r\n" if status == "503" else ""
    told = json.dumps({"release": release, "body": len(body), **variables}).encode()
    yield f"Status: {status}\r\nContent-Type: application/json\r\n{own}{retry}\r\n".encode() + told


def stream(variables: dict[str, str], body: bytes) -> Iterator[bytes]:
    yield b"Content-Type: text/event-stream\r\nCache-Control: no-cache\r\n\r\n"
    for tick in range(TICKS):
        yield f"data: {tick} {variables['SCRIPT_NAME']} {variables['REQUEST_URI']}\n\n".encode()
        time.sleep(PAUSE)


class Site:
    """nginx, and two releases of an application."""

    def __init__(self, root: Path) -> None:
        self.root, self.http, self.https = root, *free_ports()
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        for directory in ("conf/berth", "conf/modules-enabled", "log", "tls", "srv/shared", "acme"):
            (root / directory).mkdir(parents=True)
        shutil.copy("/etc/nginx/mime.types", root / "conf/mime.types")
        shutil.copy("/etc/nginx/fastcgi_params", root / "conf/fastcgi_params")
        for path, content in files().items():
            if path.startswith("nginx"):
                content = (
                    content.replace("listen 80", f"listen 127.0.0.1:{self.http}")
                    .replace("listen 443", f"listen 127.0.0.1:{self.https}")
                    .replace("/etc/berth/tls", str(root / "tls"))
                    .replace("/var/log/nginx", str(root / "log"))
                    .replace(server.WEBROOT, str(root / "acme"))
                    .replace("/srv/api", str(root / "srv"))
                    .replace("/run/nginx.pid", str(root / "pid"))
                    .replace("user www-data;", f"user {user};" if os.geteuid() == 0 else "")
                )
                lines = [line for line in content.splitlines() if "listen [::]" not in line]
                (root / "conf" / path.replace("nginx/", "berth/")).write_text("\n".join(lines) + "\n")
        tls = root / "tls" / NAME
        tls.mkdir()
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        command += ["-nodes", "-subj", "/CN=x", "-addext", f"subjectAltName=DNS:{NAME}"]
        subprocess.run(
            [*command, "-keyout", f"{tls}/privkey.pem", "-out", f"{tls}/fullchain.pem"],
            check=True,
            capture_output=True,
        )
        self.nginx = ["nginx", "-c", str(root / "conf/nginx.conf"), "-e", str(root / "log/error.log")]
        self.responders = [self.release("one"), self.release("two")]
        self.switch("one")
        subprocess.run([*self.nginx, "-t", "-q"], check=True)
        subprocess.run(self.nginx, check=True)

    def release(self, name: str) -> Responder:
        """Files and sockets of a release; socket paths are short, so they are not below pytest's."""
        release = self.root / "srv/releases" / name
        (release / "public/build").mkdir(parents=True)
        for path in ("public/index.php", "public/info.php", ".env", "public/.htaccess", "public/robots.txt"):
            (release / path).write_text(f"{path} of {name}")
        run = release / ".berth/run"
        Responder(run / "stream.sock", stream)
        return Responder(run / "api.sock", lambda v, b: application(name, v, b))

    def switch(self, name: str) -> None:
        new = self.root / "srv/current.new"
        new.symlink_to(f"releases/{name}")
        new.replace(self.root / "srv/current")

    def stop(self) -> None:
        subprocess.run([*self.nginx, "-s", "stop"], check=True)

    def connect(self) -> HTTPSConnection:
        trusted = ssl.create_default_context(cafile=str(self.root / "tls" / NAME / "fullchain.pem"))
        connection = HTTPSConnection("127.0.0.1", self.https, context=trusted, timeout=10)
        connection.sock = trusted.wrap_socket(
            socket.create_connection(("127.0.0.1", self.https)), server_hostname=NAME
        )
        return connection

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[HTTPResponse, bytes]:
        connection = self.connect()
        spelled = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body=body, headers={"Host": NAME, **spelled})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer, content

    def told(self, path: str) -> dict[str, str]:
        answer, content = self.ask(path)
        assert answer.status == 200, content
        told: dict[str, str] = json.loads(content)
        return told


def free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1]), int(two.getsockname()[1])


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    running = Site(tmp_path_factory.mktemp("php"))
    try:
        yield running
    finally:
        running.stop()


def cors_of(answer: HTTPResponse) -> dict[str, list[str] | None]:
    return {name: answer.headers.get_all(name) for name in CORS}


EXPECTED = {name: [value] for name, value in CORS.items()}


def test_every_path_is_the_front_controllers(api: Site) -> None:
    for path in ("/", "/api/v1/invoices?x=1", "/horizon", "/horizon/api/stats"):
        told = api.told(path)
        assert told["SCRIPT_FILENAME"] == str(api.root / "srv/releases/one/public/index.php")
        assert told["SCRIPT_NAME"] == "/index.php"
        assert told["REQUEST_URI"] == path
        assert told["QUERY_STRING"] == path.partition("?")[2]
        assert told["HTTPS"] == "on"
    _, content = api.ask("/", Proxy="http://evil.example")  # httpoxy: PHP would take it for its own setting
    assert json.loads(content).get("HTTP_PROXY", "") == ""


def test_a_file_of_public_is_a_file_and_nothing_else_is_executed_or_shown(api: Site) -> None:
    answer, content = api.ask("/robots.txt")
    assert (answer.status, content) == (200, b"public/robots.txt of one")
    for path in ("/info.php", "/info.php/x", "/.env", "/.htaccess", "/../.env", "/.berth/commit"):
        answer, content = api.ask(path)
        assert answer.status in (400, 404), path
        assert b" of one" not in content


@pytest.mark.parametrize(
    ("path", "status"),
    [("/", 200), ("/status/404", 404), ("/status/500", 500), ("/status/503", 503), ("/info.php", 404)],
)
def test_cors_is_on_every_answer_once(api: Site, path: str, status: int) -> None:
    answer, _ = api.ask(path)
    assert answer.status == status
    assert cors_of(answer) == EXPECTED
    assert answer.headers.get_all("X-Frame-Options") == ["SAMEORIGIN"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert answer.headers["Server"] == "nginx"


def test_cors_is_on_files_and_on_what_is_too_large(api: Site) -> None:
    answer, _ = api.ask("/robots.txt")
    assert cors_of(answer) == EXPECTED
    answer, _ = api.ask("/", "POST", b"x" * 2_000_000)
    assert answer.status == 413
    assert cors_of(answer) == EXPECTED
    _, content = api.ask("/", "POST", b"x" * 900_000)
    assert json.loads(content)["body"] == 900_000


def test_without_php_the_answer_is_502_and_a_browser_may_read_it(api: Site) -> None:
    current = api.root / "srv/releases/one/.berth/run"
    current.rename(current.with_name("aside"))
    try:
        answer, _ = api.ask("/")
        assert answer.status == 502
        assert cors_of(answer) == EXPECTED
        assert answer.headers["Retry-After"] is None
        answer, _ = api.ask("/mcp/stream")
        assert (answer.status, cors_of(answer)) == (502, EXPECTED)
    finally:
        current.with_name("aside").rename(current)


def test_a_browsers_question_is_answered_here_and_other_options_by_the_application(api: Site) -> None:
    answer, content = api.ask("/api/v1/x", "OPTIONS", Access_Control_Request_Method="PUT", Origin=ORIGIN)
    assert (answer.status, content, cors_of(answer)) == (204, b"", EXPECTED)
    answer, content = api.ask("/api/v1/x", "OPTIONS")
    assert json.loads(content)["REQUEST_METHOD"] == "OPTIONS"


def test_the_applications_own_503_keeps_its_own_retry_after(api: Site) -> None:
    answer, _ = api.ask("/status/503")
    assert answer.headers.get_all("Retry-After") == ["7"]


def test_maintenance_is_503_with_retry_after_and_ends_at_once(api: Site) -> None:
    flag = api.root / "srv/shared/maintenance"
    flag.touch()
    try:
        for path in ("/", "/robots.txt", "/mcp/stream"):
            answer, _ = api.ask(path)
            assert answer.status == 503
            assert answer.headers.get_all("Retry-After") == ["60"]
            assert cors_of(answer) == EXPECTED
    finally:
        flag.unlink()
    assert api.ask("/")[0].status == 200


def test_a_stream_arrives_as_it_is_sent(api: Site) -> None:
    connection = api.connect()
    headers = {"Host": NAME, "Accept-Encoding": "gzip"}
    began = time.monotonic()
    connection.request("GET", "/mcp/stream?since=3", headers=headers)
    answer = connection.getresponse()
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.headers["Content-Encoding"] is None
    arrived = []
    for _ in range(TICKS):
        line = answer.readline().decode().strip()
        answer.readline()
        arrived.append((time.monotonic() - began, line))
    connection.close()
    assert [line for _, line in arrived] == [
        f"data: {tick} /index.php /mcp/stream?since=3" for tick in range(TICKS)
    ]
    # Not kept back until the end: the first was here long before the last was sent.
    assert arrived[0][0] < arrived[-1][0] - (TICKS - 2) * PAUSE, arrived


def test_a_release_is_one_rename_for_documents_and_sockets(api: Site) -> None:
    assert api.told("/")["release"] == "one"
    api.switch("two")
    try:
        told = api.told("/")
        assert (told["release"], told["DOCUMENT_ROOT"]) == ("two", str(api.root / "srv/releases/two/public"))
        assert api.ask("/robots.txt")[1] == b"public/robots.txt of two"
    finally:
        api.switch("one")


def test_http2_and_the_streams_hour_are_as_asked() -> None:
    conf = files()[f"nginx/{NAME}.conf"]
    assert "listen 443 ssl http2;" in conf
    assert "fastcgi_read_timeout 3600s;" in conf
    newer = files(http2_listen=False)[f"nginx/{NAME}.conf"]
    assert "http2 on;" in newer
    assert "listen 443 ssl;" in newer
