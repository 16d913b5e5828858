"""Let's Encrypt: pebble, which validates for real, from an address of its own out on the sandbox's internet.

Pebble makes a new root at each start and keeps nothing. So that a certificate outlives it, the sandbox's own
authority certifies pebble's intermediate (cross-signing, as Let's Encrypt's own intermediates once were by
another's root), and the gateway hands out that certificate in its place: the chain a host gets ends in the
sandbox's authority, whatever happens to pebble. Its accounts do end with it.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from sandbox import process
from sandbox.errors import SandboxError
from sandbox.internet import certs
from sandbox.internet.layout import GATEWAY, LETS_ENCRYPT, Layout
from sandbox.internet.out import ACME_LINK, accepts
from sandbox.internet.render import write

NAMES = ("acme-v02.api.letsencrypt.org",)
STAGING = ("acme-staging-v02.api.letsencrypt.org",)  # the same pebble; its chain ends in nothing trusted
PORT, MANAGEMENT = 14000, 15000
VALIDITY = 90 * 24 * 3600  # seconds, as Let's Encrypt's


@dataclass(frozen=True, kw_only=True)
class Authority:
    """Texts for nginx: pebble's own intermediate as it sends it, and the one that replaces it."""

    intermediate: str
    cross_signed: str


@dataclass(frozen=True, kw_only=True)
class Issued:
    """A certificate handed out; ``expires`` is ISO 8601."""

    names: list[str]
    serial: str
    expires: str


def service(layout: Layout) -> process.Service:
    """pebble in a network namespace of its own, behind one link."""
    certificate, key = certs.leaf(layout.root, "acme", [*NAMES, *STAGING])
    text = json.dumps(
        {
            "pebble": {
                "listenAddress": f"0.0.0.0:{PORT}",
                "managementListenAddress": f"0.0.0.0:{MANAGEMENT}",
                "certificate": str(certificate),
                "privateKey": str(key),
                "httpPort": 80,
                "tlsPort": 443,
                "ocspResponderURL": "",
                "externalAccountBindingRequired": False,
                "certificateValidityPeriod": VALIDITY,
            }
        },
        indent=1,
    )
    path = layout.state / "pebble.json"
    write(path, text)
    return process.Service(
        name="pebble",
        command=["pebble", "-config", str(path), "-dnsserver", f"{GATEWAY}:53"],
        # Not its settings: a certificate renewed on disk must not end it and its accounts.
        ready=lambda: accepts((LETS_ENCRYPT, PORT)) and accepts((LETS_ENCRYPT, MANAGEMENT)),
        # None of the dice pebble throws to harden clients; and every order is really validated, renewals too.
        environment={"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"},
        own_network=True,
        plumb=plumb,
    )


def plumb(pid: int, link: str = ACME_LINK, address: str = LETS_ENCRYPT) -> None:
    """Give the process a place of its own on the internet, by a routed pair as instances have.

    ``link`` is our end of it. It goes with the network namespace of the process.
    """
    there = f"/proc/{pid}/ns/net"
    deadline = time.monotonic() + 5
    while Path(there).stat().st_ino == Path("/proc/thread-self/ns/net").stat().st_ino:
        if time.monotonic() > deadline:
            raise SandboxError(f"process {pid} did not get a network of its own")
        time.sleep(0.01)
    # The kernel takes its time to clear the namespace of one that was killed.
    subprocess.run(["ip", "link", "delete", link], capture_output=True, check=False)
    inside = ["nsenter", f"--net={there}", "--"]
    for command in (
        ["ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(pid)],
        ["ip", "link", "set", link, "up"],
        ["ip", "route", "replace", f"{address}/32", "dev", link],
        [*inside, "ip", "link", "set", "lo", "up"],
        [*inside, "ip", "address", "add", f"{address}/32", "dev", "eth0"],
        [*inside, "ip", "link", "set", "eth0", "up"],
        [*inside, "ip", "route", "add", GATEWAY, "dev", "eth0"],
        [*inside, "ip", "route", "add", "default", "via", GATEWAY, "dev", "eth0"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SandboxError(f"{' '.join(command)}: {done.stderr.strip()}")


def authority(layout: Layout, running: process.Running) -> Authority:
    """The certificates of the pebble that is ``running``, cross-signed once."""
    kept = layout.state / f"pebble-{running.pid}-{running.start}.json"
    if not kept.exists():
        for old in layout.state.glob("pebble-*-*.json"):
            old.unlink()
        intermediate = _management(layout, "/intermediates/0").strip()
        write(
            kept,
            json.dumps(
                {
                    "intermediate": intermediate,
                    "cross_signed": certs.cross_sign(layout.root, intermediate).strip(),
                }
            ),
        )
    return Authority(**json.loads(kept.read_text()))


def issued(layout: Layout) -> list[Issued]:
    """Certificates the running pebble has handed out, oldest first; [] when it does not run."""
    if not process.running("pebble", layout.run):
        return []
    log = layout.logs / "pebble.log"
    found = []
    for serial in re.findall(r"Issued certificate serial (\w+)", log.read_text(errors="replace")):
        try:
            answer = json.loads(_management(layout, f"/cert-status-by-serial/{serial}"))
        except SandboxError:
            continue  # of a pebble before this one
        certificate = x509.load_pem_x509_certificate(answer["Certificate"].encode())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found.append(
            Issued(
                names=names.get_values_for_type(x509.DNSName),
                serial=serial,
                expires=certificate.not_valid_after_utc.isoformat(),
            )
        )
    return found


def _management(layout: Layout, path: str) -> str:
    """What pebble's other port says, asked from the checkout's namespace wherever we are."""
    url = f"https://{NAMES[0]}:{MANAGEMENT}"
    command = ["curl", "--disable", "--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "5"]
    command += ["--cacert", str(certs.ca_certificate(layout.root))]
    command += ["--connect-to", f"::{LETS_ENCRYPT}:{MANAGEMENT}", f"{url}{path}"]
    done = subprocess.run(
        ["nsenter", f"--net={layout.namespace}", "--", *command], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SandboxError(f"pebble does not answer to {path}: {done.stderr.strip()}")
    return done.stdout
