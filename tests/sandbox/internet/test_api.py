"""The cloud's API as the sandbox answers it: names of the SDK, and answers recorded of the real one."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from sandbox import owner as accounts
from sandbox.internet import api
from sandbox.internet.layout import Layout
from sandbox.inventory import Record, Store, open_store
from sandbox.owner import APPLICATION, ORGANIZATION, PROJECT, Owner

OWNER = Owner(access_key="SCWAAAAAAAAAAAAAAAAA", secret_key="5a4db0c5-aaaa-4aaa-8aaa-aaaaaaaaaaaa")
SHAPES: dict[str, Any] = json.loads(Path(__file__).with_name("api_shapes.json").read_text())
ID = "99999999-1111-4222-8333-444444444444"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(tmp_path)
    for token, outputs in (
        (api.SERVERS, {"zone": "fr-par-1", "type": "DEV1-M", "name": "a", "tags": ["berth-system=scell"]}),
        (
            api.IPS,
            {"zone": "fr-par-1", "address": "198.18.16.2", "projectId": PROJECT, "type": "routed_ipv4"},
        ),
        ("scaleway:network/vpc:Vpc", {"region": "fr-par", "name": "v", "tags": []}),
        ("scaleway:network/privateNetwork:PrivateNetwork", {"region": "fr-par", "name": "p", "tags": []}),
        ("scaleway:iam/application:Application", {"name": "files", "tags": []}),
        ("scaleway:tem/domain:Domain", {"region": "fr-par", "name": "scell.io", "status": "checked"}),
        (
            "scaleway:databases/instance:Instance",
            {"region": "fr-par", "name": "db", "engine": "PostgreSQL-17"},
        ),
        (api.ZONE, {"domain": "scell.io", "ns": ["ns0.dom.scw.cloud"], "projectId": PROJECT}),
        (api.RECORD, {"dnsZone": "scell.io", "name": "www", "type": "A", "data": "198.18.16.2"}),
    ):
        row = Record(
            id=f"fr-par/{ID}", token=token, name="x", inputs={}, outputs=outputs, urn=token, stack="s"
        )
        store.put(row)
    yield store
    store.close()


PATHS = {
    f"/iam/v1alpha1/api-keys/{OWNER.access_key}": ({}, "", "APIKey"),
    f"/iam/v1alpha1/applications/{APPLICATION}": ({}, "", "Application"),
    "/iam/v1alpha1/applications": ({}, "applications", "Application"),
    "/iam/v1alpha1/policies": ({"application_ids": APPLICATION}, "policies", "Policy"),
    "/iam/v1alpha1/rules": ({"policy_id": api.POLICY}, "rules", "Rule"),
    "/iam/v1alpha1/groups": ({}, "groups", "Group"),
    "/iam/v1alpha1/quota": ({}, "quota", "Quotum"),
    f"/account/v3/projects/{PROJECT}": ({}, "", "Project"),
    "/instance/v1/zones/fr-par-1/products/servers": ({}, "servers", "ServerType"),
    "/instance/v1/zones/fr-par-1/products/servers/availability": ({}, "servers", "Availability"),
    "/instance/v1/zones/fr-par-1/servers": ({}, "servers", "Server"),
    "/instance/v1/zones/fr-par-1/ips": ({}, "ips", "IP"),
    f"/instance/v1/zones/fr-par-1/ips/{ID}": ({}, "ip", "IP"),
    "/instance/v1/zones/fr-par-1/dashboard": ({}, "dashboard", "Dashboard"),
    "/vpc/v2/regions/fr-par/vpcs": ({}, "vpcs", "VPC"),
    "/vpc/v2/regions/fr-par/private-networks": ({}, "private_networks", "PrivateNetwork"),
    "/marketplace/v2/local-images": (
        {"image_label": "debian_bookworm", "zone": "fr-par-1"},
        "local_images",
        "LocalImage",
    ),
    "/rdb/v1/regions/fr-par/database-engines": ({}, "engines", "DatabaseEngine"),
    "/rdb/v1/regions/fr-par/node-types": ({}, "node_types", "RdbNodeType"),
    f"/rdb/v1/regions/fr-par/instances/{ID}": ({}, "", "RdbInstance"),
    "/redis/v1/zones/fr-par-1/cluster-versions": ({}, "versions", "ClusterVersion"),
    "/redis/v1/zones/fr-par-1/node-types": ({}, "node_types", "RedisNodeType"),
    "/domain/v2beta1/dns-zones": ({"domain": "scell.io"}, "dns_zones", "DNSZone"),
    "/domain/v2beta1/dns-zones/scell.io/records": ({}, "records", "DNSRecord"),
    "/transactional-email/v1alpha1/regions/fr-par/domains": ({"name": "scell.io"}, "domains", "MailDomain"),
}


def one(body: Any, key: str) -> Any:
    """The first row of a list or map, or the thing itself."""
    rows = body[key] if key else body
    if isinstance(rows, list):
        return rows[0] if rows else {}
    return next(iter(rows.values())) if key == "servers" else rows


@pytest.mark.parametrize("path", PATHS)
def test_names_are_the_sdks(store: Store, path: str) -> None:
    query, key, shape = PATHS[path]
    body = api.Api(store, OWNER).get(path, query)
    row = one(body, key)
    assert set(row) <= set(SHAPES["fields"][shape]), "a field the SDK does not know"
    if shape != "Group":
        assert row


def test_every_route_is_among_them() -> None:
    import re

    for pattern, _ in api.ROUTES:
        assert any(re.fullmatch(pattern, path) for path in PATHS), pattern


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/marketplace/v2/local-images", "local_images"),
        ("/instance/v1/zones/fr-par-1/products/servers", "servers"),
        ("/rdb/v1/regions/fr-par/node-types", "node_types"),
        ("/redis/v1/zones/fr-par-1/cluster-versions", "versions"),
    ],
)
def test_answers_look_like_recorded_ones(store: Store, path: str, name: str) -> None:
    """Every field that somebody reads is in the recorded answer too, with a value of the same kind."""
    recorded = SHAPES["recorded"][path]
    query = PATHS[path][0]
    ours = one(api.Api(store, OWNER).get(path, query), name)
    both = set(ours) & set(recorded)
    assert both >= set(SHAPES["read"][path])
    for field in SHAPES["read"][path]:
        assert type(ours[field]) is type(recorded[field]), field


def test_what_is_there_is_listed(store: Store) -> None:
    ask = api.Api(store, OWNER).get
    zone = "/instance/v1/zones/fr-par-1"
    assert ask(f"{zone}/dashboard", {})["dashboard"]["servers_by_types"] == {"DEV1-M": 1}
    assert ask("/instance/v1/zones/nl-ams-1/dashboard", {})["dashboard"]["servers_by_types"] == {}
    assert ask(f"{zone}/servers", {"tags": "berth-system=scell"})["total_count"] == 1
    assert ask(f"{zone}/servers", {"tags": "berth-system=other"})["total_count"] == 0
    assert ask("/domain/v2beta1/dns-zones", {"domain": "other.io"})["dns_zones"] == []
    records = ask("/domain/v2beta1/dns-zones/scell.io/records", {})["records"]
    assert [(r["name"], r["type"], r["data"]) for r in records] == [("www", "A", "198.18.16.2")]


def test_lists_come_in_pages(store: Store) -> None:
    ask = api.Api(store, OWNER).get
    first = ask("/iam/v1alpha1/quota", {"page_size": "10", "page": "1"})
    second = ask("/iam/v1alpha1/quota", {"page_size": "10", "page": "2"})
    assert len(first["quota"]) == len(second["quota"]) == 10
    assert first["total_count"] > 20
    assert first["quota"][0] != second["quota"][0]


def test_the_key_is_of_the_checkout_and_closed(tmp_path: Path) -> None:
    made = accounts.owner(tmp_path)
    assert accounts.owner(tmp_path) == made
    assert (tmp_path / "owner.json").stat().st_mode & 0o777 == 0o600
    assert made.secret_key not in repr(made)
    other = tmp_path / "other"
    other.mkdir()
    assert accounts.owner(other).secret_key != made.secret_key
    assert made.environment["SCW_DEFAULT_ORGANIZATION_ID"] == ORGANIZATION


# ---------------------------------------------------------------- over its socket


class Local(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("api.scaleway.com")
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


def call(path: Path, method: str, target: str, token: str | None = OWNER.secret_key) -> tuple[int, Any]:
    connection = Local(path)
    connection.request(method, target, headers={"X-Auth-Token": token} if token else {})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, json.loads(body) if body else None


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    from sandbox import paths

    monkeypatch.setattr(paths, "RUNTIME", tmp_path / "run")
    root = tmp_path / "root"
    root.mkdir()
    return Layout(root)


def test_only_the_owner_is_answered_only_get_and_the_rest_is_listed(store: Store, layout: Layout) -> None:
    with api.serve(layout, store, OWNER):
        path = api.socket_path(layout)
        assert call(path, "GET", "/iam/v1alpha1/groups?page=1")[0] == 200
        assert call(path, "GET", "/iam/v1alpha1/groups", None)[0] == 401
        assert call(path, "GET", "/iam/v1alpha1/groups", PROJECT)[0] == 401
        assert call(path, "GET", f"/account/v3/projects/{ID}")[0] == 404
        assert not layout.refusals.exists(), "what is not there is no refusal"
        for method in ("POST", "DELETE", "PATCH", "PUT"):
            assert call(path, method, "/iam/v1alpha1/groups")[0] == 404
        assert call(path, "GET", "/k8s/v1/regions/fr-par/clusters?page=1")[0] == 404
    entries = [json.loads(line) for line in layout.refusals.read_text().splitlines()]
    assert [entry["name"] for entry in entries] == [
        "POST api.scaleway.com/iam/v1alpha1/groups",
        "DELETE api.scaleway.com/iam/v1alpha1/groups",
        "PATCH api.scaleway.com/iam/v1alpha1/groups",
        "PUT api.scaleway.com/iam/v1alpha1/groups",
        "api.scaleway.com/k8s/v1/regions/fr-par/clusters",
    ]
    assert OWNER.secret_key not in layout.refusals.read_text()


def test_nothing_stays_when_the_command_ends(store: Store, layout: Layout) -> None:
    with api.serve(layout, store, OWNER):
        assert api.socket_path(layout).exists()
    assert list(layout.run.glob("api*")) == []


def test_of_two_commands_the_other_answers_when_one_ends(
    store: Store, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    with api.serve(layout, store, OWNER):
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 1)
            with api.serve(layout, store, OWNER):
                assert call(api.socket_path(layout), "GET", "/iam/v1alpha1/groups")[0] == 200
        assert call(api.socket_path(layout), "GET", "/iam/v1alpha1/groups")[0] == 200
