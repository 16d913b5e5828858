"""The way out and the wall: registries and Debian mirrors are reached, all else is refused and listed."""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox import process
from sandbox.errors import SandboxError
from sandbox.internet import certs
from sandbox.internet.layout import GATEWAY, INTERNET, Layout
from sandbox.internet.registries import Registries
from sandbox.internet.render import render, write

TABLE = "berth_out"
ACME_LINK = "acme0"
REFUSALS_LIMIT = 4_000_000  # bytes of the list of refusals


def service(layout: Layout, found: Registries, resolvers: Sequence[str] | None = None) -> process.Service:
    """nginx in the machine's own network. ``resolvers``: name servers to use, else the machine's."""
    run = layout.run
    (layout.cache / ".part").mkdir(mode=0o700, exist_ok=True)
    text = render(
        "out.conf",
        run=run,
        temporary=_temporary(layout),
        cache=layout.cache,
        bundle=certs.machine_bundle(),
        resolvers=resolvers or _resolvers(),
        known=_hosts_file({*found.passed, *found.mirrors}),
        passed=found.passed,
        mirrors=found.mirrors,
    )
    return nginx(layout, "out", text, [run / "out-tls.sock", run / "out-http.sock"], outside=True)


def nginx(
    layout: Layout, name: str, text: str, sockets: Sequence[Path], *, outside: bool = False
) -> process.Service:
    """An nginx with the configuration ``text``; ready when every socket accepts."""
    path = layout.state / f"{name}.conf"
    write(path, text)
    return process.Service(
        name=name,
        command=["nginx", "-p", str(layout.state), "-e", "stderr", "-c", str(path)],
        settings=text,
        reload=signal.SIGHUP,
        sockets=sockets,
        outside=outside,
        ready=lambda: all(accepts(path) for path in sockets),
    )


def accepts(where: Path | tuple[str, int]) -> bool:
    """Whether something listens on a unix socket or at an address and TCP port."""
    family = socket.AF_UNIX if isinstance(where, Path) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(1)
        try:
            client.connect(str(where) if isinstance(where, Path) else where)
        except OSError:
            return False
    return True


def wall() -> None:
    """Load the packet filter of this network namespace when it is not there as it should be."""
    values = {"internet": INTERNET, "gateway": GATEWAY, "acme_link": ACME_LINK}
    text = render("wall.nft", mark="unmarked", **values)
    # An empty chain named after the content: counters and the list survive as long as the rules are the same.
    mark = f"rules-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    found = subprocess.run(
        ["nft", "list", "chain", "inet", TABLE, mark], capture_output=True, check=False, text=True
    )
    if found.returncode == 0:
        return
    done = subprocess.run(
        ["nft", "-f", "-"],
        input=render("wall.nft", mark=mark, **values),
        text=True,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        raise SandboxError(f"nft refuses the rules of the sandbox's wall: {done.stderr.strip()}")


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Asked for and not there. ``kind``: tls and http (no such host), https (no such path), tcp, udp."""

    kind: str
    name: str
    client: str
    count: int


def refused(layout: Layout) -> list[Refusal]:
    """What was refused, most often first: names at the gateway, and other addresses and ports."""
    counts: Counter[tuple[str, str, str]] = Counter()
    if layout.refusals.exists():
        for line in layout.refusals.read_text(errors="replace").splitlines():
            try:
                entry = json.loads(line)
                counts[entry["kind"], entry["name"] or "(no name)", entry["client"]] += 1
            except (json.JSONDecodeError, KeyError):
                continue
    for kind, name, client, count in _packets(layout):
        counts[kind, name, client] += count
    return [
        Refusal(kind=kind, name=name, client=client, count=count)
        for (kind, name, client), count in counts.most_common()
    ]


def trim(layout: Layout) -> bool:
    """Begin the list of refusals anew when it is too long; True when nginx must open it again."""
    path = layout.refusals
    if not path.exists() or path.stat().st_size < REFUSALS_LIMIT:
        return False
    path.rename(path.with_suffix(".old.jsonl"))
    return True


def _packets(layout: Layout) -> list[tuple[str, str, str, int]]:
    if not layout.namespace.exists():
        return []
    done = subprocess.run(
        ["nsenter", f"--net={layout.namespace}", "--", "nft", "-j", "list", "set", "inet", TABLE, "refused"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return []
    found = []
    for item in json.loads(done.stdout)["nftables"]:
        for element in item.get("set", {}).get("elem", []):
            client, address, kind, port = element["elem"]["val"]["concat"]
            found.append(
                (str(kind), f"{address}:{port}", str(client), int(element["elem"]["counter"]["packets"]))
            )
    return found


def _temporary(layout: Layout) -> Path:
    path = layout.state / "tmp"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def _resolvers() -> list[str]:
    try:
        lines = Path("/etc/resolv.conf").read_text().splitlines()
    except FileNotFoundError:
        lines = []
    found = [line.split()[1] for line in lines if line.startswith("nameserver") and len(line.split()) > 1]
    return [f"[{address}]" if ":" in address else address for address in found] or ["127.0.0.1"]


def _hosts_file(names: set[str]) -> dict[str, str]:
    """What /etc/hosts says about ``names``: nginx asks name servers only."""
    found: dict[str, str] = {}
    for line in Path("/etc/hosts").read_text().splitlines():
        address, *aliases = line.partition("#")[0].split() or [""]
        if "." in address:
            found.update({alias: address for alias in aliases if alias in names})
    return found
