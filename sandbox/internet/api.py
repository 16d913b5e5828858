"""Scaleway's API as far as it is read from outside the engine: what a look at an account asks.

Not a server that stays: a command that needs it answers from its own process, on a unix socket behind the
gateway. Lists come from the inventory, what is sold from ``schemas/data``; the account itself is fictional,
its key the checkout's (:mod:`sandbox.owner`). Only GET, and only the paths here: everything else is 404 and
listed by `sandbox status`. Shapes are those of scaleway-sdk-go 1.39.0.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import socketserver
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sandbox.effects.protocol import Inventory, Row
from sandbox.internet.layout import Layout
from sandbox.internet.out import accepts
from sandbox.owner import APPLICATION, ORGANIZATION, PROJECT, Owner

NAMES = ("api.scaleway.com",)
DATA = Path(__file__).resolve().parent.parent / "schemas" / "data"
LONG_AGO = "2026-01-01T00:00:00Z"
SERVERS, IPS = "scaleway:instance/server:Server", "scaleway:instance/ip:Ip"
ZONE, RECORD = "scaleway:domain/zone:Zone", "scaleway:domain/record:Record"
SIZES, MANAGED = "scaleway-servers", "scaleway-managed"
IMAGES = ("debian_bookworm", "debian_trixie")
POLICY = "33333333-4444-4555-8666-777777777777"
Query = Mapping[str, str]


def socket_path(layout: Layout) -> Path:
    """Where the gateway finds it."""
    return layout.run / "api.sock"


# ---------------------------------------------------------------- answers


class NotThere(Exception):
    """The API's 404 for a thing, as opposed to a path nobody serves."""


class Api:
    """Answers for one inventory."""

    def __init__(self, inventory: Inventory, owner: Owner) -> None:
        self.inventory = inventory
        self.owner = owner

    def get(self, path: str, query: Query) -> Any:
        """The body for a path and its parameters. Raises LookupError for a path nobody serves, NotThere."""
        for pattern, answer in ROUTES:
            match = re.fullmatch(pattern, path)
            if match:
                return answer(self, query, **match.groupdict())
        raise LookupError(path)

    def rows(self, token: str, **wanted: str) -> Iterator[Row]:
        """Resources by their zone or region."""
        for row in self.inventory.all(token):
            if all(str(row.outputs.get(name)) == value for name, value in wanted.items()):
                yield row


def page(key: str, rows: Iterable[Any], query: Query) -> dict[str, Any]:
    """One page of a list, as the API cuts them."""
    every = list(rows)
    size, number = int(query.get("page_size") or query.get("per_page") or 50), int(query.get("page") or 1)
    return {key: every[size * (number - 1) : size * number], "total_count": len(every)}


def plain(identifier: object) -> str:
    """An identifier without its zone or region."""
    return str(identifier or "").rpartition("/")[2]


@cache
def sold(name: str) -> Mapping[str, Any]:
    """A table of ``schemas/data``."""
    found: Mapping[str, Any] = json.loads((DATA / f"{name}.json").read_text())
    return found


def _key(api: Api, query: Query, key: str) -> Any:
    if key != api.owner.access_key:
        raise NotThere("api_key")
    return {
        "access_key": key, "secret_key": None, "application_id": APPLICATION, "description": "sandbox",
        "created_at": LONG_AGO, "updated_at": LONG_AGO, "expires_at": None, "default_project_id": PROJECT,
        "editable": True, "deletable": True, "managed": False, "creation_ip": "198.18.0.1", "srn": "",
    }  # fmt: skip


def _application(row: Row | None = None) -> dict[str, Any]:
    outputs = row.outputs if row else {}
    return {
        "id": plain(row.id) if row else APPLICATION, "name": outputs.get("name", "owner"),
        "description": outputs.get("description", ""), "created_at": LONG_AGO, "updated_at": LONG_AGO,
        "organization_id": ORGANIZATION, "editable": True, "deletable": True, "managed": False,
        "nb_api_keys": 1, "tags": list(outputs.get("tags") or ()), "srn": "",
    }  # fmt: skip


def _one_application(api: Api, query: Query, id: str) -> Any:
    if id != APPLICATION:
        raise NotThere("application")
    return _application()


def _applications(api: Api, query: Query) -> Any:
    rows = api.rows("scaleway:iam/application:Application")
    return page("applications", [_application(), *map(_application, rows)], query)


def _policies(api: Api, query: Query) -> Any:
    policy = {
        "id": POLICY, "name": "owner", "description": "", "organization_id": ORGANIZATION,
        "created_at": LONG_AGO, "updated_at": LONG_AGO, "editable": True, "deletable": True, "managed": False,
        "nb_rules": 2, "nb_scopes": 2, "nb_permission_sets": 2, "tags": [], "application_id": APPLICATION,
        "srn": "",
    }  # fmt: skip
    return page("policies", [policy] if query.get("application_ids") == APPLICATION else [], query)


def _rules(api: Api, query: Query) -> Any:
    if query.get("policy_id") != POLICY:
        raise NotThere("policy")
    common = {"condition": "", "srn": ""}
    rules = [
        {
            **common, "id": POLICY, "permission_set_names": ["AllProductsFullAccess"],
            "permission_sets_scope_type": "projects", "project_ids": [PROJECT],
        },
        {
            **common, "id": POLICY, "permission_set_names": ["OrganizationManager"],
            "permission_sets_scope_type": "organization", "organization_id": ORGANIZATION,
        },
    ]  # fmt: skip
    return page("rules", rules, query)


def _quota(api: Api, query: Query) -> Any:
    # Numbers of a new account, as Scaleway's documentation lists them (organization quotas, 2025-10-31).
    rows: list[dict[str, Any]] = [
        _limit(f"cp_servers_type_{name.replace('-', '_')}", name, "zone", 10) for name in sold(SIZES)
    ]
    rows += [
        _limit("cp_ips", "Instances IPs", "zone", 20),
        _limit("vpcs", "VPCs", "region", 20),
        _limit("vpc_private_networks", "Private Networks", "region", 255),
        _limit("iam_applications", "Applications", "global", 50),
    ]
    return page("quota", rows, query)


def _limit(name: str, pretty: str, kind: str, limit: int) -> dict[str, Any]:
    places: Mapping[str, Any] = {
        "zone": [f"{region}-{n}" for region in ("fr-par", "nl-ams", "pl-waw") for n in (1, 2, 3)]
        + ["it-mil-1"],
        "region": ["fr-par", "nl-ams", "pl-waw", "it-mil"],
        "global": [True],
    }
    return {
        "name": name, "limit": limit, "pretty_name": pretty, "unit": "", "description": "",
        "locality_type": kind, "limits": [{kind: place, "limit": limit} for place in places[kind]], "srn": "",
    }  # fmt: skip


def _project(api: Api, query: Query, id: str) -> Any:
    made = {
        plain(row.id): str(row.outputs.get("name")) for row in api.rows("scaleway:account/project:Project")
    }
    name = {PROJECT: "sandbox", **made}.get(id)
    if name is None:
        raise NotThere("project")
    return {
        "id": id, "name": name, "organization_id": ORGANIZATION,
        "created_at": LONG_AGO, "updated_at": LONG_AGO, "description": "", "qualification": None,
        "status": "active", "srn": "",
    }  # fmt: skip


def _types(api: Api, query: Query, zone: str) -> Any:
    rows = {
        name: {
            "alt_names": [], "arch": kind["arch"], "ncpus": kind["vcpu"],
            "ram": int(kind["memory_gb"] * 2**30), "gpu": 0, "gpu_info": None, "monthly_price": None,
            "hourly_price": kind["price_hour"],
            "volumes_constraint": {"min_size": 0, "max_size": kind["disk_gb"] * 10**9},
            "per_volume_constraint": {"l_ssd": {"min_size": 0, "max_size": kind["disk_gb"] * 10**9}},
            "scratch_storage_max_size": None, "scratch_storage_max_volumes_count": 0,
            "capabilities": {"boot_types": ["local", "rescue"], "block_storage": True, "max_file_systems": 0},
            "network": {
                "ipv6_support": True, "sum_internal_bandwidth": None, "sum_internet_bandwidth": None,
                "interfaces": [],
            },
            "block_bandwidth": None, "end_of_service": False, "sku": "",
        }
        for name, kind in sorted(sold(SIZES).items())
    }  # fmt: skip
    return _mapped("servers", rows, query)


def _availability(api: Api, query: Query, zone: str) -> Any:
    return _mapped("servers", {name: {"availability": "available"} for name in sold(SIZES)}, query)


def _mapped(key: str, rows: Mapping[str, Any], query: Query) -> Any:
    cut = page(key, rows.items(), query)
    return {**cut, key: dict(cut[key])}


def _tags(row: Row, query: Query) -> bool:
    return {tag for tag in query.get("tags", "").split(",") if tag} <= set(row.outputs.get("tags") or ())


def _servers(api: Api, query: Query, zone: str) -> Any:
    rows = [
        {
            "id": plain(row.id), "name": row.outputs.get("name"), "tags": list(row.outputs.get("tags") or ()),
            "commercial_type": row.outputs.get("type"), "project": row.outputs.get("projectId"),
            "organization": ORGANIZATION, "state": row.outputs.get("state"), "zone": zone,
        }
        for row in api.rows(SERVERS, zone=zone)
        if _tags(row, query)
    ]  # fmt: skip
    return page("servers", rows, query)


def _ip(api: Api, row: Row) -> dict[str, Any]:
    return {
        "id": plain(row.id), "address": row.outputs.get("address"), "reverse": row.outputs.get("reverse"),
        "server": {"id": plain(row.outputs["serverId"]), "name": ""} if row.outputs.get("serverId") else None,
        "organization": ORGANIZATION, "tags": list(row.outputs.get("tags") or ()),
        "project": row.outputs.get("projectId"), "type": row.outputs.get("type"), "state": "attached",
        "prefix": f"{row.outputs.get('address')}/32", "ipam_id": "", "zone": row.outputs.get("zone"),
    }  # fmt: skip


def _ips(api: Api, query: Query, zone: str) -> Any:
    return page("ips", [_ip(api, row) for row in api.rows(IPS, zone=zone) if _tags(row, query)], query)


def _one_ip(api: Api, query: Query, zone: str, id: str) -> Any:
    for row in api.rows(IPS, zone=zone):
        if plain(row.id) == id:
            return {"ip": _ip(api, row)}
    raise NotThere("ip")


def _dashboard(api: Api, query: Query, zone: str) -> Any:
    types = [str(row.outputs.get("type")) for row in api.rows(SERVERS, zone=zone)]
    ips = list(api.rows(IPS, zone=zone))
    return {
        "dashboard": {
            "servers_count": len(types), "running_servers_count": len(types),
            "servers_by_types": {name: types.count(name) for name in sorted(set(types))},
            "ips_count": len(ips), "ips_unused": sum(1 for row in ips if not row.outputs.get("serverId")),
            "volumes_count": 0, "images_count": 0, "snapshots_count": 0, "security_groups_count": 0,
            "volumes_l_ssd_count": 0, "volumes_l_ssd_total_size": 0, "private_nics_count": 0,
            "placement_groups_count": 0, "volumes_scratch_count": 0, "volumes_b_ssd_count": 0,
            "volumes_b_ssd_total_size": 0,
        }
    }  # fmt: skip


def _networked(token: str, key: str) -> Callable[..., Any]:
    def answer(api: Api, query: Query, region: str) -> Any:
        rows = [
            {
                "id": plain(row.id), "name": row.outputs.get("name"), "organization_id": ORGANIZATION,
                "project_id": row.outputs.get("projectId"), "region": region,
                "tags": list(row.outputs.get("tags") or ()), "created_at": LONG_AGO, "updated_at": LONG_AGO,
            }
            for row in api.rows(token, region=region)
        ]  # fmt: skip
        return page(key, rows, query)

    return answer


def _images(api: Api, query: Query) -> Any:
    label = query.get("image_label", "")
    rows = [
        {
            "id": POLICY, "arch": arch, "zone": query.get("zone"), "label": label, "type": kind,
            "compatible_commercial_types": [n for n, s in sold(SIZES).items() if s["arch"] == arch],
        }
        for arch in ("x86_64", "arm64")
        for kind in ("instance_local", "instance_sbs")
        if label in IMAGES
    ]  # fmt: skip
    return page("local_images", rows, query)


def _engines(api: Api, query: Query, region: str) -> Any:
    versions = [
        {
            "version": version, "name": f"PostgreSQL-{version}", "end_of_life": None,
            "available_settings": [], "disabled": False, "beta": False, "available_init_settings": [],
            "release_date": None,
        }
        for version in sold(MANAGED)["postgresql"]
    ]  # fmt: skip
    engine = {"name": "PostgreSQL", "logo_url": "", "versions": versions, "region": region}
    return page("engines", [engine], query)


def _volumes(least_gb: int) -> list[dict[str, Any]]:
    return [
        {
            "type": kind, "description": "", "class": storage, "min_size": least_gb * 10**9,
            "max_size": 10_000 * 10**9, "chunk_size": 5 * 10**9,
        }
        for kind, storage in (("bssd", "bssd"), ("sbs_5k", "sbs"), ("sbs_15k", "sbs"))
    ]  # fmt: skip


def _database_nodes(api: Api, query: Query, region: str) -> Any:
    rows = [
        {
            "name": name, "stock_status": "available", "description": "", "vcpus": node["vcpu"],
            "memory": node["memory_gb"] * 10**9, "volume_constraint": None, "is_bssd_compatible": True,
            "disabled": False, "beta": False, "available_volume_types": _volumes(node["volume_min_gb"]),
            "is_ha_required": node["ha_required"], "generation": "generation_v1", "instance_range": "",
            "region": region,
        }
        for name, node in sold(MANAGED)["database_nodes"].items()
    ]  # fmt: skip
    return page("node_types", rows, query)


def _database(api: Api, query: Query, region: str, id: str) -> Any:
    for row in api.rows("scaleway:databases/instance:Instance", region=region):
        if plain(row.id) == id:
            out = row.outputs
            return {
                "id": id, "name": out.get("name"), "engine": out.get("engine"), "status": "ready",
                "node_type": str(out.get("nodeType")).lower(), "project_id": out.get("projectId"),
                "organization_id": ORGANIZATION, "region": region, "is_ha_cluster": out.get("isHaCluster"),
                "tags": list(out.get("tags") or ()),
            }  # fmt: skip
    raise NotThere("instance")


def _cache_versions(api: Api, query: Query, zone: str) -> Any:
    rows = [
        {
            "version": version, "end_of_life_at": None, "available_settings": [], "logo_url": "",
            "released_at": None, "zone": zone,
        }
        for version in sold(MANAGED)["redis"]
    ]  # fmt: skip
    return page("versions", rows, query)


def _cache_nodes(api: Api, query: Query, zone: str) -> Any:
    rows = [
        {
            "name": name, "stock_status": "available", "description": "", "vcpus": node["vcpu"],
            "memory": node["memory_gb"] * 10**9, "disabled": False, "beta": False, "zone": zone,
        }
        for name, node in sold(MANAGED)["cache_nodes"].items()
    ]  # fmt: skip
    return page("node_types", rows, query)


def _zones(api: Api, query: Query) -> Any:
    wanted = query.get("domain")
    rows = [
        {
            "domain": row.outputs["domain"], "subdomain": row.outputs.get("subdomain") or "",
            "ns": list(row.outputs.get("ns") or ()), "ns_default": list(row.outputs.get("nsDefaults") or ()),
            "ns_master": [], "status": "active", "message": None, "updated_at": LONG_AGO,
            "project_id": row.outputs.get("projectId"), "linked_products": [],
        }
        for row in api.rows(ZONE)
        if wanted in (None, row.outputs["domain"])
    ]  # fmt: skip
    return page("dns_zones", rows, query)


def _records(api: Api, query: Query, zone: str) -> Any:
    rows = [
        {
            "id": plain(row.id), "name": str(row.outputs.get("name") or ""), "type": row.outputs.get("type"),
            "data": row.outputs.get("data"), "ttl": row.outputs.get("ttl") or 3600,
            "priority": row.outputs.get("priority") or 0, "comment": None, "updated_at": LONG_AGO,
        }
        for row in api.rows(RECORD, dnsZone=zone)
    ]  # fmt: skip
    return page("records", rows, query)


def _mail(api: Api, query: Query, region: str) -> Any:
    rows = [
        {
            "id": plain(row.id), "organization_id": ORGANIZATION, "project_id": row.outputs.get("projectId"),
            "name": row.outputs.get("name"), "status": row.outputs.get("status"), "created_at": LONG_AGO,
            "next_check_at": None, "last_valid_at": None, "revoked_at": None, "last_error": None,
            "spf_config": row.outputs.get("spfConfig"), "dkim_config": row.outputs.get("dkimConfig"),
            "statistics": None, "reputation": None, "records": None, "autoconfig": False, "region": region,
        }
        for row in api.rows("scaleway:tem/domain:Domain", region=region)
        if query.get("name") in (None, row.outputs.get("name"))
    ]  # fmt: skip
    return page("domains", rows, query)


def _groups(api: Api, query: Query) -> Any:
    return page("groups", [], query)


_ZONAL, _REGIONAL = r"(?P<zone>[a-z]{2}-[a-z]{3}-[1-3])", r"(?P<region>[a-z]{2}-[a-z]{3})"
_ID = r"(?P<id>[0-9a-f-]{36})"
ROUTES: tuple[tuple[str, Callable[..., Any]], ...] = (
    (r"/iam/v1alpha1/api-keys/(?P<key>\w+)", _key),
    (rf"/iam/v1alpha1/applications/{_ID}", _one_application),
    (r"/iam/v1alpha1/applications", _applications),
    (r"/iam/v1alpha1/policies", _policies),
    (r"/iam/v1alpha1/groups", _groups),
    (r"/iam/v1alpha1/rules", _rules),
    (r"/iam/v1alpha1/quota", _quota),
    (rf"/account/v3/projects/{_ID}", _project),
    (rf"/instance/v1/zones/{_ZONAL}/products/servers", _types),
    (rf"/instance/v1/zones/{_ZONAL}/products/servers/availability", _availability),
    (rf"/instance/v1/zones/{_ZONAL}/servers", _servers),
    (rf"/instance/v1/zones/{_ZONAL}/ips", _ips),
    (rf"/instance/v1/zones/{_ZONAL}/ips/{_ID}", _one_ip),
    (rf"/instance/v1/zones/{_ZONAL}/dashboard", _dashboard),
    (rf"/vpc/v2/regions/{_REGIONAL}/vpcs", _networked("scaleway:network/vpc:Vpc", "vpcs")),
    (
        rf"/vpc/v2/regions/{_REGIONAL}/private-networks",
        _networked("scaleway:network/privateNetwork:PrivateNetwork", "private_networks"),
    ),
    (r"/marketplace/v2/local-images", _images),
    (rf"/rdb/v1/regions/{_REGIONAL}/database-engines", _engines),
    (rf"/rdb/v1/regions/{_REGIONAL}/node-types", _database_nodes),
    (rf"/rdb/v1/regions/{_REGIONAL}/instances/{_ID}", _database),
    (rf"/redis/v1/zones/{_ZONAL}/cluster-versions", _cache_versions),
    (rf"/redis/v1/zones/{_ZONAL}/node-types", _cache_nodes),
    (r"/domain/v2beta1/dns-zones", _zones),
    (r"/domain/v2beta1/dns-zones/(?P<zone>[a-z0-9.-]+)/records", _records),
    (rf"/transactional-email/v1alpha1/regions/{_REGIONAL}/domains", _mail),
)


# ---------------------------------------------------------------- the server


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    api: Api
    refusals: Path


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        target = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(target.query).items()}
        given = self.headers.get("X-Auth-Token") or ""
        if not hmac.compare_digest(given.encode(), self.server.api.owner.secret_key.encode()):
            self._answer(HTTPStatus.UNAUTHORIZED, {"type": "denied_authentication", "method": "api_key"})
            return
        try:
            self._answer(HTTPStatus.OK, self.server.api.get(target.path, query))
        except NotThere as error:
            self._answer(HTTPStatus.NOT_FOUND, {"type": "not_found", "resource": str(error)})
        except LookupError:
            self._refuse()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):  # any other method
            return self._refuse
        raise AttributeError(name)

    def _refuse(self) -> None:
        target = f"{self.headers.get('Host', NAMES[0])}{urlsplit(self.path).path}"
        name = target if self.command == "GET" else f"{self.command} {target}"
        entry = {
            "at": time.time(),
            "kind": "https",
            "name": name,
            "client": self.headers.get("X-Real-IP", ""),
        }
        with self.server.refusals.open("a") as log:
            log.write(json.dumps(entry) + "\n")
        self.close_connection = True
        self._answer(HTTPStatus.NOT_FOUND, {"message": f"The sandbox's API does not have {name}."})

    def _answer(self, status: HTTPStatus, body: Any) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def address_string(self) -> str:
        return "gateway"  # a unix socket has no address

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: nginx keeps what is worth keeping."""


@contextmanager
def serve(layout: Layout, inventory: Inventory, owner: Owner) -> Iterator[None]:
    """Answer the gateway while a command runs. Of several at once the last is asked, then one
    that is left: all say the same.
    """
    mine = layout.run / f"api-{os.getpid()}.sock"
    mine.unlink(missing_ok=True)
    with _Server(str(mine), _Handler) as server:
        server.api, server.refusals = Api(inventory, owner), layout.refusals
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        _point(layout, mine)
        try:
            yield
        finally:
            mine.unlink(missing_ok=True)
            others = [path for path in layout.run.glob("api-*.sock") if accepts(path)]
            _point(layout, *others[:1])
            server.shutdown()
            thread.join()


def _point(layout: Layout, target: Path | None = None) -> None:
    """Have the gateway ask this one from now on."""
    path = socket_path(layout)
    if target is None:
        path.unlink(missing_ok=True)
        return
    link = path.with_name(f"{target.name}.link")
    link.unlink(missing_ok=True)
    link.symlink_to(target.name)
    link.replace(path)
