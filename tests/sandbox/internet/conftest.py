"""A small internet of its own for these tests: temporary root, own namespace, own cache."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sandbox import internet, paths
from sandbox.effects.protocol import Row, World
from sandbox.internet import acme, certs, names, out, registries
from sandbox.internet.layout import Layout

NEEDED = "nginx fcgiwrap pebble pdns_server nft ip nsenter unshare git curl dig certbot openssl".split()
HOST = "198.18.16.5"


@dataclass
class Fake:
    """An inventory of rows in memory."""

    rows: dict[tuple[str, str], Row] = field(default_factory=dict)

    def put(self, token: str, id: str, inputs: dict[str, Any], outputs: dict[str, Any] | None = None) -> Row:
        row = Row(id=id, token=token, name=id, inputs=inputs, outputs=outputs or {})
        self.rows[token, id] = row
        return row

    def record(self, name: str, type: str, data: str, **more: Any) -> Row:
        inputs = {"dnsZone": "scell.io", "name": name, "type": type, "data": data, "ttl": 300, **more}
        return self.put(names.RECORD, f"{name}-{type}-{data}", inputs)

    def get(self, token: str, id: str) -> Row | None:
        return self.rows.get((token, id))

    def all(self, token: str) -> Iterable[Row]:
        return [row for row in self.rows.values() if row.token == token]


def scell() -> Fake:
    """The zone of scell.io with its records, and an address with a reverse name."""
    fake = Fake()
    outputs = {"ns": ["ns0.dom.scw.cloud", "ns1.dom.scw.cloud"]}
    fake.put(names.ZONE, "zone", {"domain": "scell.io", "subdomain": ""}, outputs)
    fake.record("", "A", HOST)
    fake.record("www", "CNAME", "scell.io.")
    fake.record("docs", "CNAME", "pages.elsewhere.example.")
    fake.record("", "MX", "blackhole.tem.example.", priority=10)
    fake.record("", "TXT", "v=spf1 include:_spf.tem.example -all")
    fake.record("", "CAA", '0 issue "letsencrypt.org"')
    fake.record("_sip._tcp", "SRV", "5 5060 www", priority=3)
    fake.put(names.IP, "ip", {}, {"address": HOST})
    fake.put(names.REVERSE, "reverse", {"ipId": "ip", "reverse": "scell.io"})
    return fake


@dataclass
class Internet:
    """The internet under test; ``host`` is the pid of a process in the network of one host."""

    root: Path
    inventory: Fake
    host: int = 0

    @property
    def layout(self) -> Layout:
        return Layout(self.root)

    @property
    def world(self) -> World:
        return World(root=self.root / ".sandbox", inventory=self.inventory)

    @property
    def found(self) -> registries.Registries:
        return registries.known(self.layout)

    def ensure(self) -> None:
        with self.entered():
            internet.ensure(self.root, self.world)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread inside the namespace for a while."""
        libc = ctypes.CDLL(None, use_errno=True)
        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(self.layout.namespace, os.O_RDONLY)
        try:
            assert libc.setns(there, 0x40000000) == 0
            yield
        finally:
            assert libc.setns(back, 0x40000000) == 0
            os.close(back)
            os.close(there)

    def run(self, *command: str, at_host: bool = False, **more: Any) -> subprocess.CompletedProcess[str]:
        """A command on the sandbox's internet: on the gateway's machine, or on the host."""
        prefix = internet.inside(self.root)
        if at_host:
            prefix[1] = f"--net=/proc/{self.host}/ns/net"
        return subprocess.run(
            [*prefix, *command], capture_output=True, text=True, check=False, timeout=120, **more
        )

    def curl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`sandbox curl`, as a person calls it."""
        return subprocess.run(
            [sys.executable, "-m", "sandbox", "curl", *arguments],
            env={**os.environ, "BERTH_ROOT": str(self.root)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def ask(self, name: str, type: str = "A") -> tuple[str, list[str]]:
        """Status and answers (type and data) of the name server."""
        query = ["dig", "+time=2", "+tries=1", "+noall", "+comments", "+answer", "@198.18.0.1", name, type]
        lines = self.run(*query).stdout.splitlines()
        status = next(line.partition("status: ")[2].partition(",")[0] for line in lines if "status: " in line)
        answers = [line.split(None, 4)[3:] for line in lines if line and not line.startswith(";")]
        return status, sorted(" ".join(answer) for answer in answers)

    @property
    def authority(self) -> str:
        return str(certs.ca_certificate(self.root))

    def certbot(self, place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """certbot on the host, answering on port 80 itself; it trusts the sandbox's authority alone."""
        directories = [f"--{kind}-dir={place / kind}" for kind in ("config", "work", "logs")]
        return self.run(
            *("certbot", "certonly", "--standalone", "--non-interactive", "--agree-tos"),
            *("--email", "ops@scell.io", "--server", f"https://{acme.NAMES[0]}/directory"),
            *directories,
            *arguments,
            at_host=True,
            env={"PATH": os.environ["PATH"], "REQUESTS_CA_BUNDLE": self.authority},
        )

    def refused(self) -> list[tuple[str, str, str]]:
        found = out.refused(self.layout)
        assert all(refusal.count > 0 for refusal in found)
        return [(refusal.kind, refusal.name, refusal.client) for refusal in found]


def _missing() -> str:
    """Why this machine cannot run it, or ""."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "the small internet needs root on Linux"
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    lost = [name for name in NEEDED if not shutil.which(name, path=path)]
    if lost:
        return f"the small internet needs {', '.join(lost)}"
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode:
        return "the small internet needs network namespaces"
    return ""


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Internet]:
    reason = _missing()
    if reason:
        pytest.skip(reason)
    from sandbox.hosts import net as place

    root = tmp_path_factory.mktemp("internet").resolve()
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
    it = Internet(root, scell())
    name = paths.netns(root)
    place.make(name)
    host: subprocess.Popen[bytes] | None = None
    try:
        with it.entered():
            place.ensure(root)
            internet.ensure(root, it.world)
            host = subprocess.Popen(["unshare", "--net", "sleep", "600"])
            acme.plumb(host.pid, "host0", HOST)
        it.host = host.pid
        yield it
    finally:
        internet.stop(root)
        if host is not None:
            host.kill()
            host.wait()
        place.drop(name)
        shutil.rmtree(paths.runtime(root), ignore_errors=True)
        patch.undo()


@pytest.fixture(scope="session")
def online() -> None:
    """Skips where this machine itself reaches no registry."""
    found = registries.ask()
    url = next((f"{scheme}://{host}/" for host, scheme in found.mirrors.items()), "")
    command: Sequence[str] = ["curl", "-sS", "-o", "/dev/null", "--max-time", "20", url]
    if not url or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this machine reaches no package registry")
