"""The configuration as nginx itself reads it, and the site as a browser gets it."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from pathlib import Path

import pytest

from components.cloud import Scope
from components.web import server

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")

SCOPE = Scope(system="scell", environment="test", region="fr-par", zone="fr-par-1")
NAMES = ("scell.io", "www.scell.io")


def files(http2_listen: bool = True, names: tuple[str, ...] = NAMES) -> dict[str, str]:
    arguments = server.WebServerArgs(
        scope=SCOPE,
        instance=None,  # type: ignore[arg-type]  # only the files are looked at
        host="scell",
        sites=[server.SinglePageSite(names=names, root="/srv/scell/current/dist")],
        email="ops@scell.io",
        directory="https://acme.scell.io/directory",
        http2_listen=http2_listen,
    )
    return {each.path: str(each.content) for each in server.files(arguments)}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Nginx:
    """A real nginx with the real files, in a directory, on ports anybody may open."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.http, self.https = free_port(), free_port()
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        for directory in ("conf/berth", "conf/modules-enabled", "log", "acme/.well-known/acme-challenge"):
            (root / directory).mkdir(parents=True)
        shutil.copy("/etc/nginx/mime.types", root / "conf/mime.types")
        for path, content in files().items():
            if path.startswith("nginx"):
                content = (
                    content.replace("listen 80", f"listen 127.0.0.1:{self.http}")
                    .replace("listen 443", f"listen 127.0.0.1:{self.https}")
                    .replace("/etc/berth/tls", str(root / "tls"))
                    .replace("/var/log/nginx", str(root / "log"))
                    .replace(server.WEBROOT, str(root / "acme"))
                    .replace("/srv/scell", str(root / "srv"))
                    .replace("/run/nginx.pid", str(root / "pid"))
                    .replace("user www-data;", f"user {user};" if os.geteuid() == 0 else "")
                )
                lines = [line for line in content.splitlines() if "listen [::]" not in line]
                target = root / "conf" / path.replace("nginx/", "berth/")
                target.write_text("\n".join(lines) + "\n")
        for name in NAMES:
            tls = root / "tls" / name
            tls.mkdir(parents=True)
            command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
            command += ["-nodes", "-subj", "/CN=x", "-addext", f"subjectAltName=DNS:{name}"]
            command += ["-keyout", f"{tls}/privkey.pem", "-out", f"{tls}/fullchain.pem"]
            subprocess.run(command, check=True, capture_output=True)
        self.command = ["nginx", "-c", str(root / "conf/nginx.conf"), "-e", str(root / "log/error.log")]

    def start(self) -> None:
        subprocess.run([*self.command, "-t", "-q"], check=True)
        subprocess.run(self.command, check=True)

    def stop(self) -> None:
        subprocess.run([*self.command, "-s", "stop"], check=True)
        for _ in range(100):
            if not (self.root / "pid").exists():
                return
            time.sleep(0.05)

    def get(self, path: str, name: str = "scell.io", **headers: str) -> HTTPResponse:
        trusted = ssl.create_default_context(cafile=str(self.root / "tls" / name / "fullchain.pem"))
        connection = HTTPSConnection("127.0.0.1", self.https, context=trusted, timeout=10)
        connection.sock = trusted.wrap_socket(
            socket.create_connection(("127.0.0.1", self.https)), server_hostname=name
        )
        connection.request("GET", path, headers={"Host": name, **headers})
        answer = connection.getresponse()
        answer.body = answer.read()  # type: ignore[attr-defined]
        connection.close()
        return answer

    def plain(self, path: str, name: str) -> HTTPResponse:
        connection = HTTPConnection("127.0.0.1", self.http, timeout=10)
        connection.request("GET", path, headers={"Host": name})
        answer = connection.getresponse()
        answer.body = answer.read()  # type: ignore[attr-defined]
        connection.close()
        return answer


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    root = tmp_path_factory.mktemp("nginx")
    # mktemp closes the directory to all but us; the workers are us too, see `user`
    running = Nginx(root)
    dist = root / "srv/releases/one/dist"
    (dist / "assets").mkdir(parents=True)
    (dist / "index.html").write_text("<title>one</title>" + "x" * 2000)
    (dist / "assets/index-abc123.js").write_text("console.log(1)" * 200)
    (dist / "favicon.svg").write_text("<svg/>")
    (dist / ".env").write_text("SECRET=1")
    (root / "srv/current").symlink_to("releases/one")
    (root / "acme/.well-known/acme-challenge/token").write_text("answer")
    running.start()
    try:
        yield running
    finally:
        running.stop()


def test_every_path_of_the_application_is_its_page_and_never_cached(nginx: Nginx) -> None:
    for path in ("/", "/index.html", "/invoices/42", "/deep/er?q=1"):
        answer = nginx.get(path)
        assert (answer.status, answer.body[:18]) == (200, b"<title>one</title>"), path  # type: ignore[attr-defined]
        assert answer.headers["Cache-Control"] == "no-cache"
        assert answer.headers.get_all("Cache-Control") == ["no-cache"]


def test_assets_are_kept_for_a_year_and_a_missing_one_is_missing(nginx: Nginx) -> None:
    answer = nginx.get("/assets/index-abc123.js")
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    missing = nginx.get("/assets/index-old.js")
    assert missing.status == 404
    assert missing.headers["Cache-Control"] == "no-cache"


def test_a_file_with_a_fixed_name_is_kept_for_an_hour(nginx: Nginx) -> None:
    assert nginx.get("/favicon.svg").headers["Cache-Control"] == "public, max-age=3600"


def test_hidden_files_are_not_there(nginx: Nginx) -> None:
    for path in ("/.env", "/assets/../.env", "/.git/config"):
        assert nginx.get(path).status == 404, path


def test_security_headers_are_on_every_answer(nginx: Nginx) -> None:
    for path in ("/", "/assets/index-abc123.js", "/assets/none.js"):
        headers = nginx.get(path).headers
        assert headers["Strict-Transport-Security"] == "max-age=31536000"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "SAMEORIGIN"
        assert headers["Referrer-Policy"] == "strict-origin-when-cross-origin"
        assert headers["Server"] == "nginx"  # no version


def test_text_is_compressed(nginx: Nginx) -> None:
    answer = nginx.get("/assets/index-abc123.js", **{"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert len(answer.body) < 1000  # type: ignore[attr-defined]


def test_each_name_has_its_own_certificate(nginx: Nginx) -> None:
    for name in NAMES:
        assert nginx.get("/", name=name).status == 200  # verified against that name's certificate alone


def test_http_redirects_but_for_the_certificate_authority(nginx: Nginx) -> None:
    for name in NAMES:
        answer = nginx.plain("/a?b=c", name)
        assert (answer.status, answer.headers["Location"]) == (301, f"https://{name}/a?b=c")
        challenge = nginx.plain("/.well-known/acme-challenge/token", name)
        assert (challenge.status, challenge.body) == (200, b"answer")  # type: ignore[attr-defined]
        assert nginx.plain("/.well-known/acme-challenge/none", name).status == 404


def test_a_foreign_name_gets_no_answer_and_no_certificate(nginx: Nginx) -> None:
    with pytest.raises(OSError, match=r"(?i)closed|reset|without response"):
        nginx.plain("/", "other.io")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", nginx.https)) as connection,
        pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"),
    ):
        context.wrap_socket(connection, server_hostname="other.io")


@pytest.mark.parametrize(
    ("version", "protocol"), [(ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")]
)
def test_modern_tls_and_http2(nginx: Nginx, version: ssl.TLSVersion, protocol: str) -> None:
    context = ssl.create_default_context(cafile=str(nginx.root / "tls/scell.io/fullchain.pem"))
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", nginx.https)) as connection,
        context.wrap_socket(connection, server_hostname="scell.io") as secure,
    ):
        assert secure.version() == protocol
        assert secure.selected_alpn_protocol() == "h2"


def test_old_tls_is_refused(nginx: Nginx) -> None:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{nginx.https}", "-servername", "scell.io"]
    command += ["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"]
    done = subprocess.run(command, input="", capture_output=True, text=True, check=False)
    assert "alert protocol version" in done.stderr


def test_the_log_has_name_and_duration(nginx: Nginx) -> None:
    nginx.get("/logged")
    lines = (nginx.root / "log/scell.io.access.log").read_text().splitlines()
    [line] = [line for line in lines if "/logged" in line]
    assert " scell.io [" in line
    assert float(line.split()[-2]) >= 0


def test_before_the_first_release_the_site_says_so_and_a_release_is_one_rename(nginx: Nginx) -> None:
    current = nginx.root / "srv/current"
    current.rename(nginx.root / "srv/aside")
    try:
        answer = nginx.get("/anything")
        assert (answer.status, answer.headers["Cache-Control"]) == (503, "no-cache")
    finally:
        (nginx.root / "srv/aside").rename(current)
    assert nginx.get("/anything").status == 200


def test_http2_is_spelled_as_the_version_of_nginx_wants_it() -> None:
    old, new = files(http2_listen=True), files(http2_listen=False)
    assert "listen 443 ssl http2;" in old["nginx/scell.io.conf"]
    assert "http2 on;" not in old["nginx/scell.io.conf"]
    assert "listen 443 ssl;" in new["nginx/scell.io.conf"]
    assert new["nginx/scell.io.conf"].count("http2 on;") == 2


def test_every_file_is_used_by_the_script() -> None:
    script = Path("components/web/web.sh").read_text()
    assert [path for path in files() if path.split("/")[0] not in script] == []


def test_what_is_no_longer_named_goes_only_once_nginx_does_without_it() -> None:
    script = Path("components/web/web.sh").read_text()
    prepared, reloaded, forgotten = (
        script.index(part) for part in ("certificates prepare", "reload nginx.service", "certificates forget")
    )
    assert prepared < reloaded < forgotten
