"""Scaleway's load balancers: one HAProxy each, with its public address and cables into private networks.

Its configuration is rendered from the whole inventory by whoever changes a part, and read again without a
connection lost: the old process keeps those it has, the new one takes over its sockets and what it knew of
the servers' health. Certificates "of Let's Encrypt" are of the sandbox's authority, and issued as there: once
every name points at the balancer.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from sandbox import internet, process
from sandbox.effects.protocol import Effect, EffectError, Row, World
from sandbox.errors import SandboxError
from sandbox.hosts import desired as want
from sandbox.hosts import effects as hosts
from sandbox.internet import certs
from sandbox.internet.layout import Layout as Internet
from sandbox.internet.render import write
from sandbox.services import balancer_config as config
from sandbox.services.layout import Layout

KIND = "balancer"
BALANCER = want.BALANCER
IP = "scaleway:loadbalancers/ip:Ip"
BACKEND = "scaleway:loadbalancers/backend:Backend"
FRONTEND = "scaleway:loadbalancers/frontend:Frontend"
CERTIFICATE = "scaleway:loadbalancers/certificate:Certificate"
ACL = "scaleway:loadbalancers/acl:Acl"
ROUTE = "scaleway:loadbalancers/route:Route"
PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----\n?", re.DOTALL)


@dataclass(frozen=True)
class Place:
    """Where one balancer lives. ``key`` as :func:`sandbox.hosts.desired.key`."""

    layout: Layout
    key: str

    @property
    def name(self) -> str:
        return f"{KIND}-{self.key}"

    @property
    def state(self) -> Path:
        return self.layout.state / self.name

    @property
    def run(self) -> Path:
        return self.layout.run / self.name

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        with process.lock(self.layout.state / f"{self.name}.lock"):
            yield

    def destroy(self) -> None:
        """Every trace but the cables; no error when there is none."""
        process.stop(self.name, self.layout.run)
        for directory in (self.state, self.run):
            if directory.exists():
                shutil.rmtree(directory)
        for left in (Internet(self.layout.root).state / "tls").glob(f"{self.name}-*"):
            left.unlink()


def ensure(root: Path, world: World) -> None:
    """Have the servers of all balancers that are made up, and no other."""
    layout = Layout(root)
    found = [Place(layout, path.name.removeprefix(f"{KIND}-")) for path in layout.state.glob(f"{KIND}-*/")]
    rows = {want.key(row.id): row for row in want.rows(world.inventory, BALANCER)}
    for place in found:
        if place.key not in rows:
            with place.locked():
                place.destroy()
    for row in rows.values():
        # One that is not made is being made or removed by another command, or lost: its twin's business.
        if row.state == "ready":
            try:
                settle(world, row.id)
            except EffectError as error:
                raise SandboxError(str(error)) from error


def settle(world: World, id: str, part: Row | None = None, gone: Row | None = None) -> None:
    """Bring one balancer's server to what the inventory says, ``part`` of it as given, without ``gone``.

    Raises EffectError where ``part`` cannot be, or what HAProxy says of the whole.
    """
    place = Place(Layout(hosts.checkout(world)), want.key(id))
    with hosts.worded(), place.locked():
        row = next((row for row in want.rows(world.inventory, BALANCER, part) if _same(row.id, id)), None)
        if row is None:
            return
        for directory in (place.state, place.run):
            directory.mkdir(mode=0o700, exist_ok=True)
        parts = _parts(world, place, row, part, gone)
        authority = certs.bundle(place.layout.root)
        blank = config.render(parts, run=place.run, authority=authority, mark="", part=part)
        contents = "".join(path.read_text() for path in parts.certificates.values())
        mark = hashlib.sha256(f"{blank}{contents}".encode()).hexdigest()[:16]
        text = config.render(parts, run=place.run, authority=authority, mark=mark, part=part)
        if config.listens(text):
            _serve(place, text, mark)
        else:
            process.stop(place.name, place.layout.run)
        for path in (place.state / "certificates").iterdir():
            if path not in parts.certificates.values():
                path.unlink()


def _parts(world: World, place: Place, row: Row, part: Row | None, gone: Row | None) -> config.Parts:
    def on(token: str, rows: list[Row] | None = None) -> list[Row]:
        found = want.rows(world.inventory, token, part, gone)
        if rows is None:
            return [one for one in found if _same(one.inputs["lbId"], row.id)]
        return [one for one in found if any(_same(one.inputs["frontendId"], other.id) for other in rows)]

    frontends = on(FRONTEND)
    directory = place.state / "certificates"
    directory.mkdir(mode=0o700, exist_ok=True)
    certificates = {}
    for one in on(CERTIFICATE):
        path = directory / f"{want.key(one.id)}.pem"
        # One that is just being made is checked by its own effect first.
        if path.exists() or one.state == "ready" or one is part:
            _keep(path, _chain(place, one))
            certificates[want.bare(one.id)] = path
    return config.Parts(row, on(BACKEND), frontends, on(ACL, frontends), on(ROUTE, frontends), certificates)


def _serve(place: Place, text: str, mark: str) -> None:
    path, new = place.state / "haproxy.cfg", place.state / "haproxy.new"
    write(new, text)
    checked = subprocess.run(["haproxy", "-c", "-f", str(new)], capture_output=True, text=True, check=False)
    if checked.returncode:
        said = [line for line in checked.stderr.splitlines() if "[ALERT]" in line]
        raise EffectError("the load balancer does not take this:\n" + "\n".join(said))
    new.replace(path)
    # What is known of the servers' health goes over to the process that takes over.
    _keep(place.run / "servers", _asked(place, "show servers state") or "1\n")
    service = process.Service(
        name=place.name,
        command=["haproxy", "-W", "-q", "-f", str(path)],
        ready=lambda: mark in _asked(place, "show info"),
        settings=mark,
        reload=signal.SIGUSR2,
        sockets=[place.run / "admin.sock"],
        namespace=place.layout.namespace(place.key),
    )
    place.layout.serve(service)


def _asked(place: Place, question: str) -> str:
    """What the running server answers, "" when there is none."""
    answer = b""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(2)
        caller.connect(str(place.run / "admin.sock"))
        caller.sendall(f"{question}\n".encode())
        while chunk := caller.recv(65536):
            answer += chunk
    return answer.decode(errors="replace")


# ---------------------------------------------------------------- certificates


def _names(row: Row) -> list[str]:
    asked = row.inputs.get("letsencrypt") or {}
    return [str(asked["commonName"]), *map(str, asked.get("subjectAlternativeNames") or ())]


def _chain(place: Place, row: Row) -> str:
    """Certificate, what it was issued by, and key: one PEM as HAProxy takes it."""
    custom = row.inputs.get("customCertificate")
    if custom:
        return str(custom["certificateChain"])
    if not row.inputs.get("letsencrypt"):
        raise EffectError(f"certificate {row.name}: letsencrypt or custom_certificate is needed")
    name = f"{place.name}-{want.key(row.id)}"
    certificate, key = certs.leaf(place.layout.root, name, _names(row))
    return certificate.read_text() + key.read_text()


def _points(world: World, row: Row) -> None:
    """Raise EffectError, as the provider words it, unless every name resolves to the balancer alone."""
    balancer = next(
        (one for one in want.rows(world.inventory, BALANCER) if _same(one.id, row.inputs["lbId"])), None
    )
    address = str(balancer.outputs.get("ipAddress") or "") if balancer else ""
    for name in _names(row):
        asked = internet.run(
            hosts.checkout(world), ["getent", "ahostsv4", name], capture_output=True, text=True, check=False
        )
        if {line.split()[0] for line in asked.stdout.splitlines()} != {address}:
            raise EffectError(
                "scaleway-sdk-go: invalid argument(s): dns_name does not respect constraint, "
                f"{name} not resolve to your Load Balancer IP {address}"
            )


def _described(chain: str) -> dict[str, Any]:
    """Outputs of a certificate. EffectError for a chain without certificate or key, or with another's key."""
    blocks: dict[str, list[str]] = {}
    for found in PEM.finditer(chain):
        blocks.setdefault(found[1].rpartition(" ")[2], []).append(found[0])
    if not blocks.get("CERTIFICATE") or len(blocks.get("KEY", ())) != 1:
        raise EffectError(
            "scaleway-sdk-go: invalid argument(s): certificate_chain does not respect constraint, "
            "a PEM chain of certificates with one private key is needed"
        )
    certificate = x509.load_pem_x509_certificate(blocks["CERTIFICATE"][0].encode())
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    common = str(names[0].value) if names else ""
    try:
        others = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        alternatives = [name for name in others.get_values_for_type(x509.DNSName) if name != common]
    except x509.ExtensionNotFound:
        alternatives = []
    return {
        "commonName": common,
        "subjectAlternativeNames": alternatives,
        "fingerprint": certificate.fingerprint(hashes.SHA1()).hex(":").upper(),  # noqa: S303 - as the API
        "notValidBefore": certificate.not_valid_before_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "notValidAfter": certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "status": "ready",
    }


def _matches(path: Path) -> None:
    """Raise EffectError unless the key in a PEM file is that of its certificate."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)
    except ssl.SSLError as error:
        raise EffectError(
            "scaleway-sdk-go: invalid argument(s): certificate_chain does not respect constraint, "
            f"{error.reason or error}"
        ) from error


def _keep(path: Path, text: str) -> None:
    """A file with secrets or state, closed to others, replaced as a whole and only when it differs."""
    if path.exists() and path.read_text() == text:
        return
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_text(text)
    new.replace(path)


# ---------------------------------------------------------------- effects


def _same(left: Any, right: Any) -> bool:
    return want.bare(str(left or "")) == want.bare(str(right or ""))


class Address:
    """A public address: a balancer that has it makes it real."""

    def create(self, world: World, row: Row) -> Mapping[str, Any]:
        config.check(row)
        return {}

    def update(self, world: World, old: Row, new: Row) -> Mapping[str, Any]:
        return self.create(world, new)

    def delete(self, world: World, row: Row) -> None:
        pass

    def read(self, world: World, row: Row) -> Mapping[str, Any] | None:
        return {}


class Balancer:
    """The machine of a balancer: addresses and cables."""

    def create(self, world: World, row: Row) -> Mapping[str, Any]:
        config.check(row)
        with hosts.worded():
            hosts.connect(world, put=row)
        settle(world, row.id, row)
        return {}

    def update(self, world: World, old: Row, new: Row) -> Mapping[str, Any]:
        return self.create(world, new)

    def delete(self, world: World, row: Row) -> None:
        place = Place(Layout(hosts.checkout(world)), want.key(row.id))
        with place.locked():
            place.destroy()
        with hosts.worded():
            hosts.connect(world, drop=row)

    def read(self, world: World, row: Row) -> Mapping[str, Any] | None:
        return {}


class Part:
    """Backend or frontend: a block of the configuration."""

    def create(self, world: World, row: Row) -> Mapping[str, Any]:
        settle(world, self.balancer(world, row), row)
        return {}

    def update(self, world: World, old: Row, new: Row) -> Mapping[str, Any]:
        return self.create(world, new)

    def delete(self, world: World, row: Row) -> None:
        settle(world, self.balancer(world, row), gone=row)

    def read(self, world: World, row: Row) -> Mapping[str, Any] | None:
        return {}

    def balancer(self, world: World, row: Row) -> str:
        """Id of the balancer it is on."""
        return str(row.inputs["lbId"])


class Rule(Part):
    """Access rule or route: on a frontend."""

    def balancer(self, world: World, row: Row) -> str:
        rows = want.rows(world.inventory, FRONTEND)
        found = next((one for one in rows if _same(one.id, row.inputs["frontendId"])), None)
        return str(found.inputs["lbId"]) if found else ""  # gone with its frontend


class Certificate(Part):
    """Issued or taken, checked, and then there for frontends."""

    def create(self, world: World, row: Row) -> Mapping[str, Any]:
        if row.inputs.get("letsencrypt"):
            with hosts.worded():
                _points(world, row)
        place = Place(Layout(hosts.checkout(world)), want.key(self.balancer(world, row)))
        outputs = _described(_chain(place, row))
        settle(world, self.balancer(world, row), row)
        path = place.state / "certificates" / f"{want.key(row.id)}.pem"
        try:
            _matches(path)
        except EffectError:
            path.unlink()
            raise
        return outputs


EFFECTS: dict[str, Effect] = {
    IP: Address(),
    BALANCER: Balancer(),
    BACKEND: Part(),
    FRONTEND: Part(),
    CERTIFICATE: Certificate(),
    ACL: Rule(),
    ROUTE: Rule(),
}
