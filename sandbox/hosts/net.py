"""The network namespace of a checkout: its own small internet, with no way out.

Everything real of a checkout lives in one namespace named after it, so two checkouts use the same addresses
and never meet, and removing it removes every bridge, route, rule and cable in it. The machine's own namespace
gains nothing. Needs root.
"""

from __future__ import annotations

import ctypes
import ipaddress
import json
import os
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sandbox import paths
from sandbox.errors import SandboxError
from sandbox.internet.layout import GATEWAY, STRANGER

ADMIN = "198.18.1.10"  # where the operator sits: what the namespace itself sends comes from here
METADATA = ("169.254.42.42", "169.254.169.254")
HERE = (GATEWAY, ADMIN, STRANGER, *METADATA)
NETNS = Path("/run/netns")
CLONE_NEWNET = 0x40000000
_born = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC) if Path("/proc/self/ns/net").exists() else -1
# Bridged traffic of a private network must not meet the rules made for public addresses; no IPv6 anywhere, so
# that the namespace has not even a link-local way into a private network.
SETTINGS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/disable_ipv6": "1",
    "net/ipv6/conf/default/disable_ipv6": "1",
    # A booting host is asked for its hardware address ten times a second: nobody waits a second for it.
    "net/ipv4/neigh/default/retrans_time_ms": "100",
    "net/bridge/bridge-nf-call-iptables": "0",
    "net/bridge/bridge-nf-call-ip6tables": "0",
    "net/bridge/bridge-nf-call-arptables": "0",
}


def ip(*words: str, namespace: str | None = None) -> str:
    """Run ``ip``; its output. Raises SandboxError with what it said."""
    where = ["-n", namespace] if namespace else []
    done = subprocess.run(["ip", *where, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SandboxError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def show(*words: str, namespace: str | None = None) -> list[dict[str, Any]]:
    """What ``ip -j`` shows, without the empty objects it prints."""
    text = ip("-j", *words, namespace=namespace)
    return [found for found in json.loads(text or "[]") if found]


def batch(lines: Iterable[str], namespace: str | None = None) -> None:
    """Several ``ip`` commands at once; stops at the first that fails."""
    text = "".join(f"{line}\n" for line in lines)
    if not text:
        return
    where = ["-n", namespace] if namespace else []
    done = subprocess.run(
        ["ip", *where, "-batch", "-"], input=text, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SandboxError(f"network of the sandbox: {done.stderr.strip()} in\n{text}")


def nsenter(namespace: str, command: Sequence[str]) -> list[str]:
    """``command`` run in a named namespace. Not ``ip netns exec``, which hides the control groups."""
    return ["nsenter", f"--net={NETNS / namespace}", "--", *command]


def exists(name: str) -> bool:
    """Whether the namespace stands; a name left without its mount (a killed ``ip``) does not count."""
    path = NETNS / name
    return path.exists() and path.stat().st_dev != NETNS.stat().st_dev


def make(name: str) -> None:
    """A new, empty namespace with its loopback up; nothing to do if it stands."""
    if exists(name):
        return
    (NETNS / name).unlink(missing_ok=True)
    ip("netns", "add", name)
    ip("link", "set", "lo", "up", namespace=name)


def drop(name: str) -> None:
    """Remove a namespace and all in it; no error when it is not there."""
    if exists(name):
        ip("netns", "del", name)
    else:
        (NETNS / name).unlink(missing_ok=True)


def enter(name: str) -> None:
    """Move this thread, and what it starts from now on, into the namespace."""
    _setns(NETNS / name)


def leave() -> None:
    """Back to where this process was born (this thread)."""
    _setns(Path(f"/proc/{os.getpid()}/fd/{_born}"))


def inside(name: str) -> bool:
    """Whether this thread is in the namespace."""
    if not exists(name):
        return False
    here = Path("/proc/thread-self/ns/net").stat()
    return here.st_ino == (NETNS / name).stat().st_ino


def ensure(root: Path) -> None:
    """Have the namespace of the checkout ``root`` with its own addresses, and be in it."""
    name = paths.netns(root)
    make(name)
    if not inside(name):
        enter(name)
    for key, value in SETTINGS.items():
        setting = Path("/proc/sys") / key
        if (
            setting.exists() and setting.read_text().strip() != value
        ):  # no br_netfilter: nothing to switch off
            setting.write_text(value)
    have = {entry["local"] for link in show("-4", "addr", "show", "dev", "lo") for entry in link["addr_info"]}
    batch(f"addr add {address}/32 dev lo" for address in HERE if address not in have)
    ip("route", "replace", "unreachable", "default")


def operator(networks: Iterable[ipaddress.IPv4Network] | None) -> str:
    """Where the operator sits: at :data:`ADMIN`, or, where only others get in, in the first of ``networks``.

    A stack file names the ranges its operators really connect from, so one of them is who the sandbox plays.
    """
    networks = None if networks is None else list(networks)
    if not networks or any(ipaddress.IPv4Address(ADMIN) in network for network in networks):
        return ADMIN
    address = str(next(networks[0].hosts()))
    ip("addr", "replace", f"{address}/32", "dev", "lo")
    return address


def announce(name: str) -> None:
    """Have the interfaces of a namespace tell their neighbours when an address comes up."""
    command = ["sysctl", "-qw", "net.ipv4.conf.all.arp_notify=1", "net.ipv4.conf.default.arp_notify=1"]
    subprocess.run(nsenter(name, command), check=True)


def _setns(path: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(handle, CLONE_NEWNET) != 0:
            error = ctypes.get_errno()
            raise SandboxError(f"cannot enter the network namespace {path}: {os.strerror(error)}")
    finally:
        os.close(handle)
