"""The name server: zones of the inventory as they are, every other public name at the gateway.

PowerDNS reads an SQLite file; a change of the zones is one transaction on it, seen by the next query, with
nothing to reload. The zones are derived: rendered as a whole from the inventory, whoever asks.
"""

from __future__ import annotations

import hashlib
import socket
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sandbox import process
from sandbox.effects.protocol import Inventory, Row
from sandbox.internet.layout import GATEWAY, Layout
from sandbox.internet.render import write

ZONE = "scaleway:domain/zone:Zone"
RECORD = "scaleway:domain/record:Record"
IP = "scaleway:instance/ip:Ip"
REVERSE = "scaleway:instance/ipReverseDns:IpReverseDns"

NAME_SERVERS = ("ns0.dom.scw.cloud", "ns1.dom.scw.cloud")  # of zones that name none
REVERSE_ZONES = ("18.198.in-addr.arpa", "19.198.in-addr.arpa")  # of 198.18.0.0/15
SCHEMA = Path("/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql")
# Their content is a name: complete with a final dot, else relative to the zone, as the provider takes it.
TARGETS = {"ALIAS", "CNAME", "DNAME", "MX", "NS", "PTR", "SRV"}


class Entry(NamedTuple):
    """One record as the name server keeps it; ``name`` and zone names are without the final dot."""

    name: str
    type: str
    content: str
    ttl: int
    priority: int | None = None


@dataclass(frozen=True)
class Overlay:
    """The inventory with a row that is being written, or without one that is being deleted."""

    inventory: Inventory
    put: Sequence[Row] = ()
    drop: Sequence[tuple[str, str]] = ()  # (token, id)

    def all(self, token: str) -> Iterator[Row]:
        gone = {*self.drop, *((row.token, row.id) for row in self.put)}
        yield from (row for row in self.inventory.all(token) if (token, row.id) not in gone)
        yield from (row for row in self.put if row.token == token)

    def get(self, token: str, id: str) -> Row | None:
        return next((row for row in self.all(token) if row.id == id), None)


def service(layout: Layout) -> process.Service:
    """PowerDNS on the gateway's address; the zones have been rendered before."""
    settings = {
        "launch": "gsqlite3",
        "gsqlite3-database": str(database(layout)),
        "gsqlite3-pragma-synchronous": "1",
        "local-address": GATEWAY,
        "local-port": "53",
        "socket-dir": str(layout.run),
        "config-dir": str(layout.state / "pdns"),
        "daemon": "no",
        "guardian": "no",
        "disable-syslog": "yes",
        "loglevel": "4",
        "security-poll-suffix": "",  # it would ask the world about its own version
        "receiver-threads": "1",
        "distributor-threads": "1",
        "signing-threads": "1",
        "max-tcp-connections": "64",
        # No cache: a record is true the moment its transaction ends.
        "cache-ttl": "0",
        "query-cache-ttl": "0",
        "negquery-cache-ttl": "0",
        "zone-cache-refresh-interval": "0",
        "zone-metadata-cache-ttl": "0",
        "expand-alias": "yes",
        "resolver": f"{GATEWAY}:53",
    }
    text = "".join(f"{key}={value}\n" for key, value in settings.items())
    directory = layout.state / "pdns"
    directory.mkdir(mode=0o700, exist_ok=True)
    write(directory / "pdns.conf", text)
    return process.Service(
        name="pdns",
        command=["pdns_server", f"--config-dir={directory}"],
        # A database made anew is not the one a running server has open.
        settings=f"{text}{database(layout).stat().st_ino}",
        ready=answers,
        sockets=[layout.run / "pdns.controlsocket"],
    )


def database(layout: Layout) -> Path:
    """Where the zones are kept for the name server; entirely derived."""
    return layout.state / "names.db"


def answers(server: str = GATEWAY) -> bool:
    """Whether a name server answers there within a second."""
    question = b"\x42\x42\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x06\x00\x01"  # "." SOA
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        try:
            client.connect((server, 53))
            client.send(question)
            reply = client.recv(512)
        except OSError:
            return False
    return reply[:2] == question[:2] and reply[3] & 0x0F == 0


def render(layout: Layout, view: Callable[[], Inventory | Overlay]) -> None:
    """Make the name server say what ``view()`` says. Safe from several threads and processes at once."""
    # The lock spans reading and writing: an older view must never overwrite a newer one.
    with process.lock(layout.state / "names.lock"):
        inventory = view()
        wanted = {".": _root(), **reverse_zones(inventory), **zones(inventory)}
        serials = {zone: _serial(entries) for zone, entries in wanted.items()}
        with closing(_open(database(layout))) as connection, connection:
            connection.execute("begin immediate")
            known = {
                name: (int(id), account)
                for id, name, account in connection.execute("select id, name, account from domains")
            }
            for name in known.keys() - wanted.keys():
                _clear(connection, known[name][0])
                connection.execute("delete from domains where id = ?", (known[name][0],))
            for name, entries in wanted.items():
                mark = str(serials[name])
                if name in known and known[name][1] == mark:
                    continue
                if name in known:
                    zone = known[name][0]
                    _clear(connection, zone)
                    connection.execute("update domains set account = ? where id = ?", (mark, zone))
                else:
                    row = connection.execute(
                        "insert into domains (name, type, account) values (?, 'NATIVE', ?)", (name, mark)
                    )
                    zone = int(row.lastrowid or 0)
                connection.executemany(
                    "insert into records (domain_id, name, type, content, ttl, prio)"
                    " values (?, ?, ?, ?, ?, ?)",
                    [(zone, *entry) for entry in [*entries, _soa(name, entries, serials[name])]],
                )


def _standing(inventory: Inventory | Overlay, token: str) -> Iterator[Row]:
    """Resources of one type; stacks that were only recorded share the inventory, but nothing else."""
    yield from (row for row in inventory.all(token) if getattr(row, "real", True))


def zones(inventory: Inventory | Overlay) -> dict[str, list[Entry]]:
    """Zone name -> its records, for every zone the inventory holds or has records of."""
    found: dict[str, list[Entry]] = {}
    for row in _standing(inventory, ZONE):
        name = ".".join(filter(None, (row.inputs.get("subdomain"), row.inputs["domain"]))).rstrip(".").lower()
        servers = row.outputs.get("ns") or row.outputs.get("nsDefaults") or NAME_SERVERS
        found[name] = [Entry(name, "NS", str(server).rstrip("."), 1800) for server in servers]
    for row in _standing(inventory, RECORD):
        zone = str(row.inputs["dnsZone"]).rstrip(".").lower()
        if zone not in found:  # a zone that this stack only looked up
            found[zone] = [Entry(zone, "NS", server, 1800) for server in NAME_SERVERS]
        entry = record(zone, {**row.outputs, **row.inputs})
        if entry not in found[zone]:
            found[zone].append(entry)
    return found


def record(zone: str, values: Mapping[str, object]) -> Entry:
    """One provider record as the name server writes it. ``values`` are camelCase inputs."""
    kind = str(values["type"]).upper()
    data = str(values["data"]).strip()
    priority = int(str(values.get("priority") or 0))
    if kind == "MX" and len(data.split()) == 2:
        first, data = data.split()
        priority = int(first)
    if kind == "SRV":
        fields = data.split()
        if len(fields) == 4:
            priority = int(fields.pop(0))
        data = " ".join([*fields[:2], _target(fields[2], zone)])
    elif kind in TARGETS:
        data = _target(data, zone)
    elif kind == "TXT":
        data = _text(data)
    ttl = int(str(values.get("ttl") or 3600))
    name = within(zone, str(values.get("name") or ""))
    return Entry(name, kind, data, ttl, priority if kind in ("MX", "SRV") else None)


def within(zone: str, name: str) -> str:
    """The full name of ``name`` in ``zone``: "" and "@" are the zone itself."""
    name = name.rstrip(".").lower()
    if name in ("", "@") or name == zone or name.endswith(f".{zone}"):
        return zone if name in ("", "@") else name
    return f"{name}.{zone}"


def reverse_zones(inventory: Inventory | Overlay) -> dict[str, list[Entry]]:
    """The zones of the sandbox's public addresses with a PTR for every address that was given a name."""
    found = {zone: [Entry(zone, "NS", server, 1800) for server in NAME_SERVERS] for zone in REVERSE_ZONES}
    addresses = {row.id: str(row.outputs.get("address", "")) for row in _standing(inventory, IP)}
    for row in _standing(inventory, REVERSE):
        octets = addresses.get(str(row.inputs["ipId"]), "").split(".")
        zone = ".".join([*reversed(octets[:2]), "in-addr.arpa"])
        if len(octets) == 4 and zone in found:
            name = ".".join([*reversed(octets), "in-addr.arpa"])
            found[zone].append(Entry(name, "PTR", str(row.inputs["reverse"]).rstrip("."), 3600))
    return found


def _root() -> list[Entry]:
    # No delegation of the zones from here: it would make their parents exist, and names beside them would
    # no longer be covered by the wildcard. The server picks the longest zone by itself.
    return [Entry(".", "NS", "ns.berth.invalid", 3600), Entry("*", "A", GATEWAY, 60)]


def _soa(zone: str, entries: Iterable[Entry], serial: int) -> Entry:
    primary = next(entry.content for entry in entries if entry.type == "NS")
    # The last field is how long a resolver may remember that a name does not exist.
    return Entry(zone, "SOA", f"{primary} hostmaster.{primary} {serial} 10800 3600 604800 60", 3600)


def _serial(entries: Iterable[Entry]) -> int:
    return int.from_bytes(hashlib.sha256(repr(sorted(map(repr, entries))).encode()).digest()[:4])


def _target(name: str, zone: str) -> str:
    if name == "@":
        return zone
    return name[:-1] or "." if name.endswith(".") else f"{name}.{zone}"


def _text(data: str) -> str:
    """Quoted, in pieces of at most 255 bytes; what is quoted already stays."""
    if data.startswith('"') and data.endswith('"') and len(data) > 1:
        return data
    data = data.replace("\\", "\\\\").replace('"', '\\"')
    return " ".join(f'"{data[at : at + 250]}"' for at in range(0, max(len(data), 1), 250))


def _open(path: Path) -> sqlite3.Connection:
    fresh = not path.exists()
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    if fresh:
        connection.executescript(f"pragma journal_mode = wal; begin; {SCHEMA.read_text()} commit;")
    connection.execute("pragma synchronous = normal")
    return connection


def _clear(connection: sqlite3.Connection, zone: int) -> None:
    connection.execute("delete from records where domain_id = ?", (zone,))
