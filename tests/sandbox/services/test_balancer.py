"""A load balancer before two real servers on a private network. Tests of this file build on each other."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sandbox import paths, process
from sandbox.hosts import desired as want
from sandbox.hosts import net, plumbing
from sandbox.internet import certs
from sandbox.internet.layout import STRANGER
from sandbox.internet.layout import Layout as Internet
from sandbox.services import balancer as lb
from sandbox.twins.cloud import CloudError, Made
from tests.sandbox.services.world import Place, checkout

NETWORK = "scaleway:network/privateNetwork:PrivateNetwork"
RECORD = "scaleway:domain/record:Record"
NAME = "lb.scell.io"
ONE, TWO = "10.20.0.201", "10.20.0.202"
# Answers with its own name, what it was told of the caller, and, at /slow, one piece in four seconds.
SERVER = """
import http.server, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        seen = [self.headers.get(name, "") for name in ("X-Forwarded-For", "X-Forwarded-Proto")]
        body = " ".join([sys.argv[1], *seen, self.path]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path == "/slow":
            time.sleep(4)
        self.wfile.write(body)
    def log_message(self, *words): pass
class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *words): pass  # a health check that went away
Server((sys.argv[2], 8080), Handler).serve_forever()
"""


class Servers:
    """Machines on the private network, each in a network namespace of its own."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.spaces: list[str] = []

    def plug(self, name: str, address: str, bridge: str) -> None:
        space = f"trial-{paths.key(self.place.root)}-{name}"
        net.make(space)
        self.spaces.append(space)
        with self.place.entered():
            lines = [f"link add t{name} type veth peer name eth0 netns {space}"]
            net.batch([*lines, f"link set t{name} master {bridge} up"])
        net.batch([f"addr add {address}/24 dev eth0", "link set eth0 up"], namespace=space)

    def start(self, name: str, address: str) -> None:
        command = [sys.executable, "-c", SERVER, name, address]
        space = f"trial-{paths.key(self.place.root)}-{name}"
        self.running[name] = subprocess.Popen(net.nsenter(space, command))

    def stop(self, name: str) -> None:
        server = self.running.pop(name)
        server.kill()
        server.wait()

    def end(self) -> None:
        for name in list(self.running):
            self.stop(name)
        for space in self.spaces:
            net.drop(space)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with checkout(tmp_path_factory.mktemp("balancer").resolve()) as found:
        try:
            yield found
        finally:
            for path in net.NETNS.glob(plumbing.namespace(found.root, "*")):
                net.drop(path.name)


@pytest.fixture(scope="module")
def servers(place: Place, made: dict[str, Made]) -> Iterator[Servers]:
    found = Servers(place)
    bridge = plumbing.bridge(want.key(made["network"].id))
    try:
        for name, address in (("one", ONE), ("two", TWO)):
            found.plug(name, address, bridge)
            found.start(name, address)
        yield found
    finally:
        found.end()


BACKEND: dict[str, Any] = {
    "forwardProtocol": "http",
    "forwardPort": 8080,
    "serverIps": [ONE, TWO],
    "healthCheckHttp": {"uri": "/health"},
    "healthCheckPort": 8080,
    "healthCheckDelay": "0.5s",
    "healthCheckTimeout": "0.3s",
    "healthCheckMaxRetries": 2,
}


@pytest.fixture(scope="module")
def made(place: Place) -> dict[str, Made]:
    """A balancer as the product makes it."""
    found = {"network": place.create(NETWORK, {"ipv4Subnet": {"subnet": "10.20.0.0/24"}})}
    found["ip"] = place.create(lb.IP, {})
    private = [{"privateNetworkId": found["network"].id}]
    found["lb"] = place.create(
        lb.BALANCER, {"type": "LB-S", "ipIds": [found["ip"].id], "privateNetworks": private}
    )
    found["backend"] = place.create(lb.BACKEND, {"lbId": found["lb"].id, **BACKEND})
    return found


def address(made: dict[str, Made]) -> str:
    return str(made["ip"].outputs["ipAddress"])


def server(made: dict[str, Made]) -> str:
    return f"balancer-{want.key(made['lb'].id)}"


def curl(place: Place, *words: str, source: str = STRANGER) -> str:
    trust = ["--cacert", str(certs.ca_certificate(place.root)), "--interface", source, "--max-time", "10"]
    done = place.run("curl", "-sS", *trust, *words)
    return done.stdout.strip() if done.returncode == 0 else f"curl: {done.returncode} {done.stderr}"


def wait(true: Any, patience: float = 10) -> None:
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_certificate_needs_names_that_point_at_it(place: Place, made: dict[str, Made]) -> None:
    asked = {
        "lbId": made["lb"].id,
        "letsencrypt": {"commonName": NAME, "subjectAlternativeNames": [f"www.{NAME}"]},
    }
    record = {"dnsZone": "scell.io", "type": "A", "ttl": 300}
    place.create(RECORD, {**record, "name": "lb", "data": address(made)}, "lb")
    with pytest.raises(CloudError, match=rf"www.{NAME} not resolve to your Load Balancer IP {address(made)}"):
        place.create(lb.CERTIFICATE, asked)
    place.create(RECORD, {**record, "name": "www.lb", "data": address(made)}, "www")
    made["certificate"] = place.create(lb.CERTIFICATE, asked)
    outputs = made["certificate"].outputs
    assert (outputs["commonName"], outputs["status"]) == (NAME, "ready")
    assert len(outputs["fingerprint"].split(":")) == 20
    (pem,) = (place.layout.state / server(made) / "certificates").iterdir()
    assert pem.stat().st_mode & 0o777 == 0o600
    assert pem.parent.stat().st_mode & 0o077 == 0 or place.layout.state.stat().st_mode & 0o077 == 0


def test_it_serves_https_from_both_and_redirects_http(
    place: Place, made: dict[str, Made], servers: Servers
) -> None:
    common = {"lbId": made["lb"].id, "backendId": made["backend"].id}
    made["https"] = place.create(
        lb.FRONTEND, {**common, "inboundPort": 443, "certificateIds": [made["certificate"].id]}, "https"
    )
    made["http"] = place.create(lb.FRONTEND, {**common, "inboundPort": 80, "externalAcls": True}, "http")
    action = {"type": "redirect", "redirects": [{"type": "scheme", "target": "https", "code": 301}]}
    match = {"httpFilter": "path_begin", "httpFilterValues": ["/"]}
    made["acl"] = place.create(
        lb.ACL, {"frontendId": made["http"].id, "index": 0, "match": match, "action": action}
    )
    wait(lambda: curl(place, f"https://{NAME}/x").endswith("/x"))
    answers = {curl(place, f"https://{NAME}/x") for _ in range(4)}
    assert answers == {f"{name} {STRANGER} https /x" for name in ("one", "two")}
    assert curl(place, f"https://www.{NAME}/").endswith("https /")
    forged = curl(place, "-H", "X-Forwarded-Proto: http", f"https://{NAME}/")
    assert forged.split()[2] == "https"
    seen = curl(place, "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", f"http://{NAME}/a?b=c")
    assert seen == f"301 https://{NAME}/a?b=c"
    assert curl(place, "-o", "/dev/null", "-w", "%{http_version}", f"https://{NAME}/") == "2"
    untrusted = place.run("curl", "-sS", "--cacert", "/dev/null", f"https://{NAME}/")
    assert untrusted.returncode != 0


def knock(place: Place, target: str, port: int) -> str:
    with place.entered(), socket.socket() as caller:
        caller.settimeout(1)
        caller.bind((STRANGER, 0))
        try:
            caller.connect((target, port))
        except OSError as error:
            return type(error).__name__
    return "open"


def test_a_stranger_reaches_two_ports_and_nothing_behind(
    place: Place, made: dict[str, Made], servers: Servers
) -> None:
    assert [knock(place, address(made), port) for port in (80, 443)] == ["open", "open"]
    assert {knock(place, address(made), port) for port in (22, 8080, 8404, 5432)} == {
        "ConnectionRefusedError"
    }
    assert knock(place, ONE, 8080) != "open"
    with place.entered():  # also not by way of the balancer
        net.ip(
            "route",
            "replace",
            f"{ONE}/32",
            "via",
            address(made),
            "dev",
            f"v{want.key(made['lb'].id)}",
            "onlink",
        )
    try:
        assert knock(place, ONE, 8080) != "open"
    finally:
        with place.entered():
            net.ip("route", "del", f"{ONE}/32")


def visits(place: Place, count: int, path: str = "/") -> list[str]:
    """As many requests one after the other, each on a connection of its own."""
    script = (
        f"for i in $(seq {count}); do curl -sS --cacert {shlex.quote(str(certs.ca_certificate(place.root)))}"
    )
    done = place.run("sh", "-c", f"{script} --max-time 10 -w '\\n' https://{NAME}{path} || echo failed; done")
    return [line.split()[0] for line in done.stdout.splitlines()]


def test_nobody_notices_a_dead_server(place: Place, made: dict[str, Made], servers: Servers) -> None:
    servers.stop("two")
    wait(lambda: set(visits(place, 4)) == {"one"})
    assert set(visits(place, 30)) == {"one"}
    place.update(lb.BACKEND, made["backend"], {"lbId": made["lb"].id, **BACKEND, "timeoutServer": "90s"})
    assert set(visits(place, 10)) == {"one"}  # what was known of its health is known after a reload
    servers.start("two", TWO)
    wait(lambda: set(visits(place, 4)) == {"one", "two"})


def test_no_request_is_lost_over_many_reloads(place: Place, made: dict[str, Made], servers: Servers) -> None:
    pid = process.running(server(made), place.layout.run)
    with ThreadPoolExecutor(1) as pool:
        seen = pool.submit(visits, place, 150)
        number = 0
        while not seen.done():
            number += 1
            values = {"lbId": made["lb"].id, **BACKEND, "timeoutServer": f"{60 + number}s"}
            place.update(lb.BACKEND, made["backend"], values)
            time.sleep(0.3)
    assert number > 3
    assert set(seen.result()) == {"one", "two"}
    assert len(seen.result()) == 150
    now = process.running(server(made), place.layout.run)
    assert pid is not None
    assert now is not None
    assert pid.pid == now.pid


def test_a_server_that_leaves_finishes_what_it_has(
    place: Place, made: dict[str, Made], servers: Servers
) -> None:
    slow = [f"https://{NAME}/slow" for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        going = [pool.submit(curl, place, url) for url in slow]
        time.sleep(1)
        values = {"lbId": made["lb"].id, **BACKEND, "serverIps": [ONE]}
        place.update(lb.BACKEND, made["backend"], values)
        assert set(visits(place, 6)) == {"one"}
        assert not any(one.done() for one in going)
        assert {one.result().split()[0] for one in going} == {"one", "two"}
    place.update(lb.BACKEND, made["backend"], {"lbId": made["lb"].id, **BACKEND})


def test_a_session_sticks_and_rules_and_routes_decide(
    place: Place, made: dict[str, Made], servers: Servers, tmp_path: Path
) -> None:
    sticky = {"stickySessions": "cookie", "stickySessionsCookieName": "s"}
    place.update(lb.BACKEND, made["backend"], {"lbId": made["lb"].id, **BACKEND, **sticky})
    jar = ["-b", str(tmp_path / "jar"), "-c", str(tmp_path / "jar")]
    assert len({curl(place, *jar, f"https://{NAME}/") for _ in range(4)}) == 1
    only = place.create(lb.BACKEND, {"lbId": made["lb"].id, **BACKEND, "serverIps": [TWO]}, "only")
    route = {"frontendId": made["https"].id, "backendId": only.id, "matchPathBegin": "/two"}
    routed = place.create(lb.ROUTE, route)
    assert set(visits(place, 4, "/two/x")) == {"two"}
    deny = {"type": "deny"}
    match = {"httpFilter": "regex", "httpFilterValues": ["^/it's (a )?secret$"], "ipSubnets": [STRANGER]}
    rule = {"frontendId": made["https"].id, "index": 1, "action": deny, "match": match}
    denied = place.create(lb.ACL, rule, "deny")
    status = ["-o", "/dev/null", "-w", "%{http_code}"]
    assert curl(place, *status, f"https://{NAME}/it's%20secret") == "200"  # as HAProxy sees it, not decoded
    place.update(lb.ACL, denied, {**rule, "match": {**match, "httpFilterValues": ["^/it's-secret$"]}})
    assert curl(place, *status, f"https://{NAME}/it's-secret") == "403"
    assert curl(place, *status, f"https://{NAME}/other") == "200"
    for token, one in ((lb.ACL, denied), (lb.ROUTE, routed), (lb.BACKEND, only)):
        place.delete(token, one)
    place.update(lb.BACKEND, made["backend"], {"lbId": made["lb"].id, **BACKEND})
    assert set(visits(place, 4, "/two/x")) == {"one", "two"}


def refused(text: str) -> Any:
    return pytest.raises(CloudError, match=text)


def test_what_it_cannot_do_is_an_error_that_names_it(
    place: Place, made: dict[str, Made], servers: Servers
) -> None:
    base = {"lbId": made["lb"].id, "backendId": made["backend"].id}
    with refused(r"no enableHttp3 \(Frontend"):
        place.create(lb.FRONTEND, {**base, "inboundPort": 8443, "enableHttp3": True}, "odd")
    with refused("no failoverHost"):
        place.create(lb.BACKEND, {"lbId": made["lb"].id, **BACKEND, "failoverHost": "x.example"}, "odd")
    with refused("no reverse"):
        place.create(lb.IP, {"reverse": "lb.scell.io"}, "odd")
    with refused("a frontend on port 443"):
        place.create(lb.FRONTEND, {**base, "inboundPort": 443}, "odd")
    tcp = {**BACKEND, "forwardProtocol": "tcp", "stickySessions": "cookie"}
    with refused("need forward_protocol http"):
        place.create(lb.BACKEND, {"lbId": made["lb"].id, **tcp}, "odd")
    bad = {"httpFilter": "regex", "httpFilterValues": ["(("]}
    with refused(r"does not take this:\n.*ALERT"):
        rule = {"frontendId": made["https"].id, "index": 0, "action": {"type": "deny"}, "match": bad}
        place.create(lb.ACL, rule, "odd")
    with refused("certificate_chain"):
        chain = {"certificateChain": "no certificate"}
        place.create(lb.CERTIFICATE, {"lbId": made["lb"].id, "customCertificate": chain}, "odd")
    first, second = (certs.leaf(place.root, name, ["a.example"]) for name in ("a", "b"))
    with refused("KEY_VALUES_MISMATCH"):
        chain = {"certificateChain": first[0].read_text() + second[1].read_text()}
        place.create(lb.CERTIFICATE, {"lbId": made["lb"].id, "customCertificate": chain}, "odd")
    assert set(visits(place, 4)) == {"one", "two"}  # none of it has touched what serves
    assert len(list((place.layout.state / server(made) / "certificates").iterdir())) == 1


def test_a_certificate_of_one_s_own(place: Place, made: dict[str, Made], servers: Servers) -> None:
    certificate, key = certs.leaf(place.root, "own", ["own.example"])
    chain = {"certificateChain": certificate.read_text() + key.read_text()}
    own = place.create(lb.CERTIFICATE, {"lbId": made["lb"].id, "customCertificate": chain}, "own")
    assert own.outputs["commonName"] == "own.example"
    inputs = {"lbId": made["lb"].id, "backendId": made["backend"].id, "inboundPort": 443}
    both = {**inputs, "certificateIds": [made["certificate"].id, own.id]}
    place.update(lb.FRONTEND, made["https"], both)
    resolve = ["--resolve", f"own.example:443:{address(made)}"]
    assert curl(place, *resolve, "https://own.example/").endswith("https /")
    assert set(visits(place, 4)) == {"one", "two"}
    place.update(lb.FRONTEND, made["https"], {**inputs, "certificateIds": [made["certificate"].id]})
    place.delete(lb.CERTIFICATE, own)
    assert curl(place, *resolve, "https://own.example/").startswith("curl: 60")


def test_what_was_killed_is_back_at_the_next_command(
    place: Place, made: dict[str, Made], servers: Servers
) -> None:
    place.kill(server(made))
    place.ensure()
    assert set(visits(place, 4)) == {"one", "two"}
    for path in Path("/proc").glob("[0-9]*/cmdline"):  # a worker alone
        text = path.read_bytes().decode(errors="replace") if path.exists() else ""
        if "haproxy" in text and str(place.layout.state) in text:
            os.kill(int(path.parent.name), signal.SIGKILL)
    place.ensure()
    assert set(visits(place, 4)) == {"one", "two"}
    assert place.memory(server(made)) < 40 * 2**20


def test_a_deleted_balancer_leaves_nothing(place: Place, made: dict[str, Made]) -> None:
    space = plumbing.namespace(place.root, want.key(made["lb"].id))
    assert net.exists(space)
    for name, token in (
        ("acl", lb.ACL),
        ("http", lb.FRONTEND),
        ("https", lb.FRONTEND),
        ("backend", lb.BACKEND),
        ("certificate", lb.CERTIFICATE),
        ("lb", lb.BALANCER),
        ("ip", lb.IP),
    ):
        place.delete(token, made[name])
    assert not net.exists(space)
    assert process.running(server(made), place.layout.run) is None
    left = [*place.layout.state.glob("balancer-*/"), *place.layout.run.glob("balancer-*")]
    left += (Internet(place.root).state / "tls").glob("balancer-*")
    assert left == []
