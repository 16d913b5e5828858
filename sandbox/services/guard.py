"""Who reaches a managed service: enforced in its station's network namespace, outside the server."""

from __future__ import annotations

import ipaddress
import subprocess
from collections.abc import Iterable
from pathlib import Path

from sandbox.errors import SandboxError

TABLE = "berth_service"


def render(port: int, sources: Iterable[str] | None, *, down: bool = False) -> str:
    """The ruleset: only TCP ``port``, only from ``sources`` (CIDR text; None is everywhere).

    Others are left without an answer, as at a provider. ``down``: everybody is refused, at once, and whoever
    is connected loses the connection.
    """
    rules = ["type filter hook input priority filter; policy drop;", 'iifname "lo" accept']
    if down:
        rules.append("meta l4proto tcp reject with tcp reset")
    else:
        rules += ["ct state established,related accept", "icmp type echo-request accept"]
        rules += [f"ip saddr {network} tcp dport {port} accept" for network in networks(sources)]
    lines = [f"table inet {TABLE}", f"delete table inet {TABLE}", f"table inet {TABLE} {{"]
    return "\n".join([*lines, "  chain input {", *(f"    {rule}" for rule in rules), "  }", "}", ""])


def networks(sources: Iterable[str] | None) -> list[str]:
    """The ranges, as nft takes them."""
    if sources is None:
        return ["0.0.0.0/0"]
    return sorted(
        {str(ipaddress.ip_network(source, strict=False)) for source in sources if ":" not in source}
    )


def apply(namespace: Path, rules: str) -> None:
    """Enforce exactly these rules in the namespace."""
    command = ["nsenter", f"--net={namespace}", "--", "nft", "-f", "-"]
    done = subprocess.run(command, input=rules, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SandboxError(f"access rules of a managed service: {done.stderr.strip()}")
