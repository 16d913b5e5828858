"""Which hosts the package registries of this machine are: asked from the clients' own configuration.

They are named nowhere in the project. pip, npm and apt are asked what they are set to and what they would use
by themselves (a host has no settings), and the indexes where their files lie. Runs in the machine's own
network namespace, seldom: the answer is kept until a client's configuration changes.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sandbox import process
from sandbox.internet.layout import Layout
from sandbox.internet.render import write

CHECKOUT = Path(__file__).resolve().parent.parent.parent
CONFIGURATION = (
    "/etc/pip.conf /etc/xdg/pip/pip.conf ~/.pip/pip.conf ~/.config/pip/pip.conf /etc/npmrc ~/.npmrc"
    " /etc/apt/sources.list /etc/apt/sources.list.d/* /etc/apt/mirrors/* /etc/resolv.conf /etc/hosts"
).split()
RETRY = 600  # seconds, when something could not be asked
WAIT = 20  # seconds for one answer of a registry


@dataclass
class Registries:
    """``passed``: hosts whose TLS goes through untouched. ``mirrors``: Debian mirror -> http or https.

    ``notes``: what could not be found out or passed, in words for the user.
    """

    passed: list[str] = field(default_factory=list)
    mirrors: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def known(layout: Layout) -> Registries:
    """What :func:`ask` found, asked anew when a client's configuration changed or something was missing."""
    kept = layout.state / "registries.json"
    mark = _fingerprint()
    try:
        record = json.loads(kept.read_text())
        found = Registries(**record["found"])
        fresh = not found.notes or time.time() - kept.stat().st_mtime < RETRY
        if record["mark"] == mark and fresh:
            return found
    except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
        pass
    print("==> asking pip, npm and apt of this machine for their registries", file=sys.stderr, flush=True)
    done = subprocess.run(
        [*process.outside(), sys.executable, "-c", f"import {__name__} as it; it.main()"],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = Registries(**json.loads(done.stdout))
    write(kept, json.dumps({"mark": mark, "found": asdict(found)}))
    for note in found.notes:
        print(f"    {note}", file=sys.stderr, flush=True)
    return found


def ask() -> Registries:
    """Ask every client; what fails becomes a note."""
    found = Registries()
    passed: set[str] = set()
    for client in (_pip, _npm):
        for url in client(found.notes):
            parts = urlsplit(url)
            if parts.scheme != "https" or parts.port not in (None, 443):
                plain = _login(url)[1]
                found.notes.append(f"hosts cannot use {plain}: only https on port 443 is passed through")
            elif parts.hostname:
                passed.add(parts.hostname)
    for url in _apt():
        parts = urlsplit(url)
        port = {"http": 80, "https": 443}.get(parts.scheme)
        if port is None or not parts.hostname or parts.port not in (None, port):
            plain = _login(url)[1]
            found.notes.append(f"hosts cannot use the package source {plain}: only http and https are passed")
        elif parts.hostname not in passed:
            found.mirrors[parts.hostname] = parts.scheme
    if not found.mirrors:
        found.notes.append("no Debian package source is configured on this machine")
    if any(os.environ.get(name) for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY")):
        found.notes.append("this machine reaches out through a proxy: the sandbox's way out cannot use it")
    found.passed = sorted(passed)
    return found


def _pip(notes: list[str]) -> Iterator[str]:
    """Index URLs that pip is set to and its own default, and where the files of each lie."""
    default = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
    indexes = _words(_output([sys.executable, "-c", default], notes))
    for line in _output([sys.executable, "-m", "pip", "config", "list"], notes).splitlines():
        key, _, value = line.partition("=")
        if key.rpartition(".")[2] in ("index-url", "extra-index-url", "index"):
            indexes += _words(value)
    for index in dict.fromkeys(indexes):
        yield index
        # Any project will do: pip itself is in every index.
        page = _get(
            f"{index.rstrip('/')}/pip/", "application/vnd.pypi.simple.v1+json, text/html;q=0.5", notes
        )
        yield from _origins(page)


def _npm(notes: list[str]) -> Iterator[str]:
    """Registry URLs that npm is set to and its own default, and where the files of each lie."""
    npm = shutil.which("npm") or shutil.which("npm", path=str(Path(sys.executable).parent))
    if npm is None:
        notes.append(
            "npm is not installed here, so its registry is not known and hosts cannot reach it:"
            " apt-get install npm, then `up` again"
        )
        return
    plain = ["--userconfig=/nonexistent/user", "--globalconfig=/nonexistent/global"]
    settings = json.loads(_output([npm, "config", "list", "--json"], notes) or "{}")
    registries = [str(value) for key, value in settings.items() if key.rpartition(":")[2] == "registry"]
    environment = {
        key: value for key, value in os.environ.items() if not key.lower().startswith("npm_config_")
    }
    registries += _words(_output([npm, "config", "get", "registry", *plain], notes, environment))
    for registry in dict.fromkeys(registries):
        yield registry
        # One small, old package tells where tarballs lie.
        page = _get(f"{registry.rstrip('/')}/isarray", "application/vnd.npm.install-v1+json", notes)
        yield from _origins(page, r'"tarball"\s*:\s*"')


def _apt() -> Iterator[str]:
    """Every URI of apt's sources, one-line and deb822, mirror lists followed."""
    text = ""
    for path in _files(["/etc/apt/sources.list", "/etc/apt/sources.list.d/*"]):
        if path.suffix in (".list", ".sources"):
            text += "\n" + "\n".join(
                line for line in path.read_text(errors="replace").splitlines() if not line.startswith("#")
            )
    for list_ in re.findall(r"mirror\+file:(/\S+)", text):
        if Path(list_).is_file():
            text += "\n" + Path(list_).read_text(errors="replace")
    return iter(dict.fromkeys(re.findall(r"(?<![\w+])https?://[^\s\]]+", text)))


def _get(url: str, accept: str, notes: list[str]) -> str:
    login, plain = _login(url)
    request = urllib.request.Request(plain, headers={"Accept": accept, **login})  # noqa: S310 - as the client is set
    try:
        with urllib.request.urlopen(request, timeout=WAIT) as reply:  # noqa: S310
            return str(reply.read().decode(errors="replace"))
    except (OSError, ValueError, http.client.HTTPException) as error:
        notes.append(f"{plain} does not answer: {error}")
        return ""


def _login(url: str) -> tuple[dict[str, str], str]:
    """The header for a name and password in ``url``, and the rest, which may be shown."""
    parts = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    if not at:
        return {}, url
    token = base64.b64encode(unquote(login).encode()).decode()
    return {"Authorization": f"Basic {token}"}, parts._replace(netloc=host).geturl()


def _origins(page: str, before: str = r"""["']""") -> Iterable[str]:
    return dict.fromkeys(re.findall(before + r"(https?://[^/\"']+)", page))


def _output(command: list[str], notes: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", env=environment, check=False)
    if done.returncode:
        notes.append(f"{' '.join(command[:4])} failed: {done.stderr.strip()[-200:]}")
        return ""
    return done.stdout


def _words(text: str) -> list[str]:
    return re.findall(r"https?://[^\s'\",\]]+", text)


def _files(patterns: Iterable[str]) -> Iterator[Path]:
    for pattern in patterns:
        path = Path(pattern).expanduser()
        yield from (p for p in sorted(path.parent.glob(path.name)) if p.is_file())


def _fingerprint() -> str:
    """Changes with anything that decides the answer."""
    facts = [f"{path} {path.stat().st_mtime_ns}" for path in _files(CONFIGURATION)]
    facts += sorted(
        f"{k}={v}" for k, v in os.environ.items() if re.match(r"(?i)pip_|npm_config_|https?_proxy", k)
    )
    facts.append(str(shutil.which("npm")))
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def main() -> None:
    """Print what :func:`ask` finds."""
    print(json.dumps(asdict(ask())))
