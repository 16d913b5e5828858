"""The whole command against an account played by a transport: all well, then one thing wrong at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dns.name
import dns.resolver
import httpx
import pytest

import preflight.__main__ as command
from config.model import Stack
from preflight import local, s3, scaleway
from preflight.needs import Cache, Database, Files, Needs, Source, needs
from preflight.reader import Reader
from preflight.report import Row, as_json, exit_code, missing, note, ok, table, unknown
from tests.preflight.account import (
    ACCESS,
    APPLICATION,
    BUCKETS,
    POLICY,
    PROJECT,
    REGION,
    SECRET,
    TYPES,
    ZONE,
    Account,
)

ROOT = Path(__file__).resolve().parents[2]
NEED = Needs(
    system="scell",
    cloud="scaleway",
    region=REGION,
    zone=ZONE,
    size="DEV1-M",
    image="debian-12",
    dns_zone="scell.io",
    dns_managed=False,
    dns_adopt=None,
    names=("scell.io", "www.scell.io"),
    database=Database(version="17", size="DB-DEV-S", volume_gb=10),
    cache=Cache(version="7.2.11", size="RED1-MICRO"),
    files=Files(name="scell-storage", managers=(f"application_id:{APPLICATION}",)),
    mail="scell.io",
)
SERVERS = ["ns0.dom.scw.cloud.", "ns1.dom.scw.cloud."]


class Name:
    def __init__(self, target: str) -> None:
        self.target = dns.name.from_text(target)


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "SCW_PROFILE",
        "SCW_DEFAULT_ORGANIZATION_ID",
        "SCW_API_URL",
        "SCW_CONFIG_PATH",
        "XDG_CONFIG_HOME",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCW_ACCESS_KEY", ACCESS)
    monkeypatch.setenv("SCW_SECRET_KEY", SECRET)
    monkeypatch.setenv("SCW_DEFAULT_PROJECT_ID", PROJECT)
    monkeypatch.setattr(dns.resolver, "resolve", lambda *_, **__: [Name(name) for name in SERVERS])


@pytest.fixture
def account() -> Account:
    account = Account()
    # Whether a bucket exists is asked without credentials at its own path: not there.
    return account


def rows(account: Account, need: Needs = NEED, settings: Mapping[str, Any] | None = None) -> list[Row]:
    reader = Reader(account.transport, timeout=1, sleep=lambda _: None)
    return command.run(scaleway.checks([need], "production", settings or {}, reader))


def of(found: list[Row], what: str) -> Row:
    """The row about ``what``; there is exactly one."""
    (row,) = [row for row in found if row.what == what]
    return row


def test_an_account_with_everything_misses_nothing(account: Account) -> None:
    found = rows(account)
    assert [row for row in found if row.status not in ("ok", "note")] == []
    assert exit_code(found) == 0
    assert of(found, "credentials").found == f"{ACCESS} of application_id:{APPLICATION} (from SCW_SECRET_KEY)"
    assert of(found, "quota of DEV1-M in fr-par-1").found == "2 of 10 used, 1 more needed"
    assert of(found, "quota of IAM applications").found == "1 of 50 used, 2 more needed"
    assert of(found, "quota of private networks in fr-par").found == "unlimited"
    assert of(found, "permission IAMPolicyManager").found == "held by IAMManager"
    assert of(found, "scell: RED1-MICRO in fr-par-1").found == "few are left"
    assert of(found, "scell: ports of mail").status == "note"
    assert len([row for row in found if row.what.startswith("permission ")]) == 13


def test_only_get_is_sent_and_the_secret_only_to_the_api_in_its_header(account: Account) -> None:
    rows(account)
    assert {request.method for request in account.requests} == {"GET"}
    hosts = {request.url.host for request in account.requests}
    assert hosts == {"api.scaleway.com", "s3.fr-par.scw.cloud"}
    for request in account.requests:
        assert SECRET not in str(request.url)
        assert request.read() == b""
        carried = [name for name, value in request.headers.items() if SECRET in value]
        assert carried == (["x-auth-token"] if request.url.host == "api.scaleway.com" else [])


def test_no_row_and_no_output_holds_the_secret(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    account.answers["/iam/v1alpha1/quota"] = httpx.Response(500)
    found = rows(account)
    assert SECRET not in repr(found) + table("prod", found) + as_json("prod", found)
    assert SECRET not in repr(scaleway.credentials({"SCW_SECRET_KEY": SECRET}, {}))
    captured = capsys.readouterr()
    assert SECRET not in captured.out + captured.err


def patch(path: str, **changes: Any) -> Callable[[Account], None]:
    """Changes of the first row of a list, or of the answer itself where it is none."""

    def apply(account: Account) -> None:
        target = account.answers[path]
        for value in target.values():
            if isinstance(value, list) and value:
                target = value[0]
                break
        target.update(changes)

    return apply


def put(path: str, answer: Any) -> Callable[[Account], None]:
    return lambda account: account.answers.update({path: answer})


ZONES = "/domain/v2beta1/dns-zones"
RECORDS = f"{ZONES}/scell.io/records"
DOMAINS = f"/transactional-email/v1alpha1/regions/{REGION}/domains"
ENGINES, NODES = f"/rdb/v1/regions/{REGION}/database-engines", f"/rdb/v1/regions/{REGION}/node-types"
CACHES, CACHE_NODES = f"/redis/v1/zones/{ZONE}/cluster-versions", f"/redis/v1/zones/{ZONE}/node-types"
IMAGES = "/marketplace/v2/local-images"
KEY = f"/iam/v1alpha1/api-keys/{ACCESS}"
SBS = {"type": "sbs_5k", "min_size": 20_000_000_000, "max_size": 30_000_000_000}
MISSING = {
    "credentials refused": (put(KEY, httpx.Response(401)), "credentials", "does not take"),
    "key unknown": (put(KEY, None), "credentials", "does not know"),
    "key ended": (patch(KEY, expires_at="2020-01-01T00:00:00Z"), "end of the API key", "it ended"),
    "no project": (put(f"/account/v3/projects/{PROJECT}", None), "project", "there is no project"),
    "project going": (
        patch(f"/account/v3/projects/{PROJECT}", status="deleting"),
        "project",
        "scell is deleting",
    ),
    "no permission": (
        patch("/iam/v1alpha1/rules", permission_set_names=["VPCFullAccess"]),
        "permission RedisFullAccess",
        "no policy",
    ),
    "permission elsewhere": (
        patch("/iam/v1alpha1/rules", project_ids=[POLICY]),
        "permission InstancesFullAccess",
        "no policy",
    ),
    "quota reached": (
        put(f"/instance/v1/zones/{ZONE}/dashboard", {"dashboard": {"servers_by_types": {"DEV1-M": 10}}}),
        "quota of DEV1-M in fr-par-1",
        "10 of 10 used, 1 more needed",
    ),
    "addresses used up": (
        put(f"/instance/v1/zones/{ZONE}/dashboard", {"dashboard": {"ips_count": 20}}),
        "quota of public addresses in fr-par-1",
        "20 of 20 used",
    ),
    "no zone": (put(TYPES, None), "scell: fr-par-1", "does not know this zone"),
    "size not sold": (put(TYPES, {"servers": {"DEV1-S": {}}}), "scell: DEV1-M in fr-par-1", "not sold there"),
    "size ended": (
        put(TYPES, {"servers": {"DEV1-M": {"end_of_service": True}}}),
        "scell: DEV1-M in fr-par-1",
        "no longer sold",
    ),
    "out of stock": (
        put(f"{TYPES}/availability", {"servers": {"DEV1-M": {"availability": "shortage"}}}),
        "scell: DEV1-M in fr-par-1",
        "out of stock",
    ),
    "no image": (put(IMAGES, {"local_images": []}), "scell: image debian_bookworm", "not in the marketplace"),
    "image of another kind": (
        put(IMAGES, {"local_images": [{"arch": "arm64", "type": "instance_sbs"}]}),
        "scell: image debian_bookworm",
        "none for x86_64",
    ),
    "image not for the size": (
        put(
            IMAGES,
            {"local_images": [{"arch": "x86_64", "type": "instance_sbs", "compatible_commercial_types": []}]},
        ),
        "scell: image debian_bookworm",
        "not for DEV1-M",
    ),
    "no such PostgreSQL": (put(ENGINES, {"engines": []}), "scell: PostgreSQL 17", "not offered"),
    "no such node": (put(NODES, {"node_types": []}), "scell: DB-DEV-S in fr-par", "not sold there"),
    "node sold out": (
        patch(NODES, stock_status="out_of_stock"),
        "scell: DB-DEV-S in fr-par",
        "out of stock",
    ),
    "node ended": (patch(NODES, disabled=True), "scell: DB-DEV-S in fr-par", "no longer sold"),
    "no block storage": (
        patch(NODES, available_volume_types=[{"type": "lssd"}]),
        "scell: DB-DEV-S in fr-par, volume",
        "not sold with block storage",
    ),
    "volume too small": (
        patch(NODES, available_volume_types=[SBS]),
        "scell: DB-DEV-S in fr-par, volume",
        "10 GB are refused",
    ),
    "no such Redis": (patch(CACHES, version="7.0.5"), "scell: Redis 7.2.11", "not offered in fr-par-1"),
    "no such Redis node": (patch(CACHE_NODES, name="RED1-S"), "scell: RED1-MICRO in fr-par-1", "not sold"),
    "bucket taken": (
        put("/scell-storage", httpx.Response(403)),
        "scell: bucket scell-storage",
        "somebody else's",
    ),
    "not a manager": (
        patch(KEY, application_id=None, user_id=POLICY),
        "scell: bucket scell-storage, managers",
        f"user_id:{POLICY}, who asks here, is not among them",
    ),
    "no zone of names": (put(ZONES, {"dns_zones": []}), "scell: zone scell.io", "not at Scaleway"),
    "zone elsewhere": (patch(ZONES, project_id=POLICY), "scell: zone scell.io", "of another project"),
    "zone broken": (patch(ZONES, status="error", message="bad"), "scell: zone scell.io", "error: bad"),
    "name live elsewhere": (
        put(RECORDS, {"records": [{"name": "www", "type": "A", "data": "203.0.113.7"}]}),
        "scell: name www.scell.io",
        "points elsewhere: A 203.0.113.7",
    ),
    "mail of another project": (
        put(DOMAINS, {"domains": [{"status": "checked", "project_id": POLICY}]}),
        "scell: mail from scell.io",
        "of another project",
    ),
    "mail invalid": (
        put(DOMAINS, {"domains": [{"status": "invalid", "project_id": PROJECT, "last_error": "no SPF"}]}),
        "scell: mail from scell.io",
        "invalid: no SPF",
    ),
}


@pytest.mark.parametrize("name", MISSING)
def test_what_is_missing_is_named_with_a_remedy(account: Account, name: str) -> None:
    change, what, words = MISSING[name]
    change(account)
    found = rows(account)
    row = of(found, what)
    assert (row.status, words in row.found) == ("missing", True), row
    assert row.remedy
    assert exit_code(found) == 1


ROWS_OF = {  # where an answer is wanted, and a row that comes of it
    KEY: "credentials",
    f"/account/v3/projects/{PROJECT}": "project",
    "/iam/v1alpha1/policies": "permissions",
    "/iam/v1alpha1/groups": "permissions",
    "/iam/v1alpha1/rules": "permissions",
    "/iam/v1alpha1/quota": "quotas",
    "/iam/v1alpha1/applications": "quota of IAM applications",
    f"/instance/v1/zones/{ZONE}/dashboard": "quota of DEV1-M in fr-par-1",
    f"/instance/v1/zones/{ZONE}/servers": "quota of DEV1-M in fr-par-1",
    f"/instance/v1/zones/{ZONE}/ips": "scell: names",
    f"/vpc/v2/regions/{REGION}/vpcs": "quota of VPCs in fr-par",
    TYPES: "scell: size",
    f"{TYPES}/availability": "scell: size",
    IMAGES: "scell: image",
    ENGINES: "scell: PostgreSQL",
    NODES: "scell: PostgreSQL",
    CACHES: "scell: Redis",
    CACHE_NODES: "scell: Redis",
    ZONES: "scell: names",
    RECORDS: "scell: names",
    DOMAINS: "scell: mail",
    "/": "scell: bucket scell-storage",
}
# A private network's use is not asked where it is unlimited; the bucket's own path is the only other one.
UNASKED = {f"/vpc/v2/regions/{REGION}/private-networks"}


def test_every_call_has_its_row(account: Account) -> None:
    rows(account)
    asked = {request.url.path for request in account.requests} - {"/scell-storage"}
    assert asked == set(ROWS_OF)
    assert set(account.answers) - asked == UNASKED


FAILURES: Mapping[str, Callable[[], Any]] = {
    "403": lambda: httpx.Response(403, json={"type": "permissions_denied"}),
    "429": lambda: httpx.Response(429, headers={"Retry-After": "600"}),
    "503": lambda: httpx.Response(503),
    "timeout": lambda: httpx.ReadTimeout("slow"),
    "no connection": lambda: httpx.ConnectError("refused"),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("path", ROWS_OF)
def test_what_cannot_be_read_is_unknown_and_the_rest_is_told(
    account: Account, path: str, failure: str
) -> None:
    account.answers[path] = FAILURES[failure]()
    found = rows(account)
    assert any(row.status == "unknown" and row.what == ROWS_OF[path] for row in found), found
    assert all(row.remedy for row in found if row.status in ("unknown", "missing"))
    assert not any(row.status == "missing" for row in found), "not being able to look is no proof of absence"
    assert exit_code(found) == 2
    assert any(row.status == "ok" for row in found)
    if failure == "403" and path != KEY:
        assert "this key may not read" in " ".join(row.found for row in found)


@pytest.mark.parametrize("path", ROWS_OF)
def test_an_answer_of_another_shape_is_unknown(account: Account, path: str) -> None:
    account.answers[path] = {"surprise": [1]}
    found = rows(account)
    assert any(row.status in ("unknown", "missing") for row in found)


def test_an_owner_may_do_everything(account: Account) -> None:
    patch(KEY, application_id=None, user_id=POLICY)(account)
    account.answers[f"/iam/v1alpha1/users/{POLICY}"] = {"type": "owner", "organization_id": POLICY}
    account.answers["/iam/v1alpha1/rules"] = {"rules": []}
    assert of(rows(account), "permissions").found.startswith("the key is the owner's")


def test_permissions_come_by_groups_too(account: Account) -> None:
    group = "55555555-5555-4555-8555-555555555555"
    account.answers["/iam/v1alpha1/groups"] = {"groups": [{"id": group}]}

    def policies(request: httpx.Request) -> httpx.Response:
        by_group = request.url.params.get("group_ids") == group
        return httpx.Response(200, json={"policies": [{"id": POLICY}] if by_group else []})

    account.answers["/iam/v1alpha1/policies"] = policies
    assert exit_code(rows(account)) == 0


def test_a_condition_is_told(account: Account) -> None:
    patch("/iam/v1alpha1/rules", condition="request.ip == '1.2.3.4'")(account)
    row = of(rows(account), "permission RedisFullAccess")
    assert (row.status, "1.2.3.4" in row.found) == ("unknown", True)


def test_a_rule_without_condition_outweighs_one_with(account: Account) -> None:
    account.answers["/iam/v1alpha1/rules"]["rules"].append(
        {"permission_set_names": ["RedisFullAccess"], "project_ids": [PROJECT], "condition": "x"}
    )
    assert of(rows(account), "permission RedisFullAccess").status == "ok"


def test_a_stack_that_stands_takes_no_more(account: Account) -> None:
    own = ["berth-environment=production", "berth-system=scell", "managed-by=berth"]
    account.answers[f"/instance/v1/zones/{ZONE}/dashboard"] = {
        "dashboard": {"servers_by_types": {"DEV1-M": 10}}
    }
    account.answers[f"/instance/v1/zones/{ZONE}/servers"] = {"servers": [{"tags": own}]}
    assert of(rows(account), "quota of DEV1-M in fr-par-1").found == "10 of 10 used, 0 more needed"
    account.answers[f"/instance/v1/zones/{ZONE}/servers"] = {"servers": [{"tags": own[1:]}]}
    assert of(rows(account), "quota of DEV1-M in fr-par-1").status == "missing", "another environment's"


def test_tags_are_those_the_program_gives() -> None:
    from components.cloud import Scope

    tags = Scope(system="scell", environment="production", region=REGION, zone=ZONE).tags
    assert tags["berth-environment"] == "production"
    assert tags["berth-system"] == "scell"


def test_a_node_sold_in_pairs_needs_high_availability(account: Account) -> None:
    patch(NODES, is_ha_required=True)(account)
    (row,) = [row for row in rows(account) if "sold in pairs" in row.found]
    assert row.status == "missing"
    pair = Database(version="17", size="DB-DEV-S", volume_gb=10, high_availability=True)
    assert exit_code(rows(account, Needs(**{**vars(NEED), "database": pair}))) == 0


def test_a_mail_domain_is_taken_over_by_its_id(account: Account) -> None:
    need = Needs(**{**vars(NEED), "mail_adopt": f"fr-par/{POLICY}"})
    assert of(rows(account, need), "scell: mail from scell.io").status == "missing"
    account.answers[DOMAINS] = {"domains": [{"id": POLICY, "status": "checked", "project_id": PROJECT}]}
    assert of(rows(account, need), "scell: mail from scell.io").status == "ok"


def test_a_bucket_of_ours_is_fine(account: Account) -> None:
    account.answers["/"] = BUCKETS.replace("other", "scell-storage")
    assert of(rows(account), "scell: bucket scell-storage").status == "ok"


def test_things_to_take_over_are_looked_at(account: Account) -> None:
    database = Database(version="17", size="DB-DEV-S", volume_gb=10, adopt=f"{REGION}/{POLICY}")
    files = Files(name="scell-storage", managers=(), adopt="scell-storage")
    need = Needs(**{**vars(NEED), "database": database, "files": files, "address": f"{ZONE}/{POLICY}"})
    found = rows(account, need)
    assert of(found, f"scell: database {REGION}/{POLICY}").status == "missing"
    assert of(found, f"scell: reserved address {ZONE}/{POLICY}").status == "missing"
    assert of(found, "scell: bucket scell-storage").status == "missing"
    instance = {"engine": "PostgreSQL-15", "node_type": "db-dev-s", "name": "old", "status": "ready"}
    account.answers[f"/rdb/v1/regions/{REGION}/instances/{POLICY}"] = instance
    account.answers[f"/instance/v1/zones/{ZONE}/ips/{POLICY}"] = {
        "ip": {"address": "51.15.0.1", "project": PROJECT}
    }
    account.answers["/"] = BUCKETS.replace("other", "scell-storage")
    found = rows(account, need)
    assert of(found, f"scell: database {REGION}/{POLICY}").found == "it runs PostgreSQL-15"
    assert of(found, f"scell: reserved address {ZONE}/{POLICY}").found == "51.15.0.1, free"
    assert of(found, "scell: bucket scell-storage").status == "ok"
    instance["engine"] = "PostgreSQL-17"
    assert of(rows(account, need), f"scell: database {REGION}/{POLICY}").found == "old, ready"


def test_a_zone_this_stack_makes_is_delegated_later(account: Account) -> None:
    account.answers[ZONES] = {"dns_zones": []}
    found = rows(account, Needs(**{**vars(NEED), "dns_managed": True}))
    assert of(found, "scell: zone scell.io").status == "ok"
    assert of(found, "delegation of scell.io").status == "note"
    assert exit_code(found) == 0


def test_a_system_without_data_needs_fewer_permissions(account: Account) -> None:
    bare = {**vars(NEED), "database": None, "cache": None, "files": None, "mail": None}
    found = rows(account, Needs(**bare))
    held = {row.what for row in found if row.what.startswith("permission ")}
    assert "permission RedisFullAccess" not in held
    assert "permission IAMPolicyManager" not in held
    assert "permission DomainsDNSFullAccess" in held
    assert not any("bucket" in row.what or "Redis" in row.what for row in found)


# ---------------------------------------------------------------- credentials


def test_the_environment_wins_over_the_stack_file_and_that_over_a_profile(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "access_key: SCWPROFILE\nsecret_key: from-profile\ndefault_project_id: from-default\n"
        "active_profile: work\nprofiles: {work: {default_project_id: from-work}}\n"
    )
    base = {"SCW_CONFIG_PATH": str(file)}
    who = scaleway.credentials(base, {})
    assert (who.access_key, who.secret_key, who.project) == ("SCWPROFILE", "from-profile", "from-work")
    assert who.sources["project"] == str(file)
    assert scaleway.credentials({**base, "SCW_PROFILE": "default"}, {}).project == "from-default"
    assert scaleway.credentials(base, {"projectId": "from-stack"}).project == "from-stack"
    mixed = {**base, "SCW_DEFAULT_PROJECT_ID": "from-env"}
    assert scaleway.credentials(mixed, {"projectId": "from-stack"}).project == "from-env"


def test_the_configuration_file_is_where_scw_puts_it() -> None:
    assert scaleway.config_file({"HOME": "/h"}) == Path("/h/.config/scw/config.yaml")
    assert scaleway.config_file({"HOME": "/h", "XDG_CONFIG_HOME": "/x"}) == Path("/x/scw/config.yaml")
    assert scaleway.config_file({"HOME": "/h", "SCW_CONFIG_PATH": "/c.yaml"}) == Path("/c.yaml")


@pytest.mark.parametrize(
    "text", ["secret_key: [hush-hush", "- hush-hush", "active_profile: gone\nsecret_key: hush-hush"]
)
def test_a_broken_configuration_file_is_told_without_its_text(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    monkeypatch.setenv("SCW_CONFIG_PATH", str(file))
    found = rows(account)
    row = of(found, "credentials")
    assert (row.status, str(file) in row.found) == ("unknown", True)
    assert "hush" not in repr(found)
    assert account.requests == []


def test_without_credentials_nothing_is_sent(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCW_ACCESS_KEY")
    monkeypatch.delenv("SCW_SECRET_KEY")
    found = rows(account)
    assert {of(found, "access key").status, of(found, "secret key").status} == {"missing"}
    assert account.requests == []
    assert exit_code(found) == 1


def test_a_secret_that_is_none_is_not_sent(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCW_SECRET_KEY", "my-password")
    row = of(rows(account), "credentials")
    assert row.found == "the secret key is not a UUID"
    assert "my-password" not in repr(row)


def test_the_organization_comes_from_the_application_where_the_project_cannot_be_read(
    account: Account,
) -> None:
    account.answers[f"/account/v3/projects/{PROJECT}"] = httpx.Response(403)
    account.answers[f"/iam/v1alpha1/applications/{APPLICATION}"] = {"organization_id": POLICY}
    found = rows(account)
    assert of(found, "permission RedisFullAccess").status == "ok"
    assert of(found, "project").status == "unknown"


# ---------------------------------------------------------------- signatures


def test_the_signature_is_amazons() -> None:
    """Against botocore, which is only there for tests."""
    from datetime import UTC, datetime

    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    url = "https://s3.fr-par.scw.cloud/scell-storage?location"
    access = f"{ACCESS}@{PROJECT}"
    signed = s3.Signer(access_key=access, secret_key=SECRET, region=REGION).headers(
        url, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    )

    class At(S3SigV4Auth):  # type: ignore[misc]
        def add_auth(self, request: Any) -> None:
            request.context["timestamp"] = "20260102T030405Z"
            self._modify_request_before_signing(request)
            text = self.string_to_sign(request, self.canonical_request(request))
            self._inject_signature_to_request(request, self.signature(text, request))

    request = AWSRequest(method="GET", url=url)
    request.headers["X-Amz-Date"] = "20260102T030405Z"
    request.context["payload_signing_enabled"] = True
    At(Credentials(access, SECRET), "s3", REGION).add_auth(request)
    assert signed["Authorization"] == request.headers["Authorization"]
    assert SECRET not in repr(s3.Signer(access_key=access, secret_key=SECRET, region=REGION))


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (SERVERS, "ok", "ns0.dom.scw.cloud"),
        ([*SERVERS, "ns.elsewhere.test."], "missing", "the world asks"),
        (dns.resolver.NXDOMAIN(), "missing", "does not exist"),
        (dns.resolver.NoAnswer, "missing", "not a zone of its own"),
        (dns.resolver.LifetimeTimeout, "unknown", "does not tell"),
        (OSError(), "unknown", "does not tell"),
    ],
)
def test_delegation(monkeypatch: pytest.MonkeyPatch, answer: Any, status: str, words: str) -> None:
    def resolve(*_: Any, **__: Any) -> list[Name]:
        if isinstance(answer, list):
            return [Name(name) for name in answer]
        if answer is dns.resolver.NoAnswer or answer is dns.resolver.LifetimeTimeout:
            raise answer.__new__(answer)
        raise answer

    monkeypatch.setattr(dns.resolver, "resolve", resolve)
    (row,) = local.delegation("scell.io", ["ns0.dom.scw.cloud.", "NS1.dom.scw.cloud"])
    assert (row.status, words in row.found) == (status, True), row
    assert status == "ok" or row.remedy


# ---------------------------------------------------------------- this machine


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """A git that answers as told."""

    def answer(text: str, code: int = 0) -> None:
        fake = tmp_path / "bin" / "git"
        fake.parent.mkdir(exist_ok=True)
        stream = 2 if code else 1
        fake.write_text(
            f"#!/bin/sh\nenv | grep -q SCW_ && echo leaked\nprintf '{text}' >&{stream}\nexit {code}\n"
        )
        fake.chmod(0o755)
        monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")

    return answer


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("url", "release", "text", "code", "status", "words"),
    [
        ("https://h/r.git", "v1.0.0", f"{COMMIT}\\trefs/tags/v1.0.0\\n", 0, "ok", "the tag is there"),
        ("https://h/r.git", "v2.0.0", f"{COMMIT}\\trefs/tags/v1.0.0\\n", 0, "missing", "no such tag"),
        ("https://h/r.git", COMMIT, f"{COMMIT}\\trefs/heads/main\\n", 0, "ok", "the commit is there"),
        ("https://h/r.git", COMMIT[::-1], f"{COMMIT}\\trefs/heads/main\\n", 0, "unknown", "no branch or tag"),
        ("https://h/r.git", "v1.0.0", "fatal: repository not found", 128, "missing", "not found"),
        ("https://h/r.git", "v1.0.0", "fatal: Could not resolve host: h", 128, "unknown", "resolve"),
        ("git@h:r.git", "v1.0.0", "Permission denied (publickey).", 128, "unknown", "denied"),
        ("git@h:r.git", "v1.0.0", f"{COMMIT}\\trefs/tags/v1.0.0\\n", 0, "ok", "not the deploy key"),
    ],
)
def test_sources(
    git: Callable[[str, int], None], url: str, release: str, text: str, code: int, status: str, words: str
) -> None:
    git(text, code)
    (row,) = local._source(Source(repository=url, release=release))
    assert (row.status, words in row.found) == (status, True), row
    assert "leaked" not in row.found
    assert status == "ok" or row.remedy


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (httpx.Response(200, json={"newOrder": "https://…"}), "ok"),
        (httpx.Response(200, json={}), "missing"),
        (httpx.Response(404), "missing"),
        (httpx.Response(503), "unknown"),
        (httpx.ConnectError("no"), "unknown"),
    ],
)
def test_the_certificate_authority(answer: Any, status: str) -> None:
    account = Account()
    account.answers["/directory"] = answer
    reader = Reader(account.transport, timeout=1, sleep=lambda _: None)
    (row,) = local._directory("https://acme-v02.api.letsencrypt.org/directory", reader)
    assert row.status == status
    assert "X-Auth-Token" not in account.requests[0].headers


def test_pulumi_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [row.status for row in local._pulumi()] == ["missing"]
    fake = tmp_path / "pulumi"
    fake.write_text("#!/bin/sh\necho v3.250.0\n")
    fake.chmod(0o755)
    assert [(row.status, row.found) for row in local._pulumi()] == [("ok", "v3.250.0")]
    fake.write_text("#!/bin/sh\nexit 3\n")
    assert [row.status for row in local._pulumi()] == ["missing"]


# ---------------------------------------------------------------- the command


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Production's file in a place of its own, with ranges somebody can log in from."""
    text = (ROOT / "Pulumi.prod.yaml").read_text(encoding="utf-8")
    file = tmp_path / "Pulumi.prod.yaml"
    file.write_text(text.replace("203.0.113.0/29", "51.15.0.0/29"))
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    monkeypatch.setattr(local, "_pulumi", lambda: [ok("pulumi", "v3")])
    monkeypatch.setattr(local, "_source", lambda source: [ok(source.repository, "there")])
    return file


def test_the_command_prints_a_table_and_ends_with_its_code(
    stack: Path, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    account.answers["/directory"] = {"newOrder": "…"}
    account.answers["/iam/v1alpha1/quota"] = httpx.Response(403)
    code = command.main(["--stack", "prod", "--timeout", "1"], account.transport)
    out = capsys.readouterr().out
    assert "unknown  quotas" in out
    assert "this key may not read" in out
    assert "prod: " in out.splitlines()[-1]
    assert code in (1, 2)


def test_json_says_the_same(stack: Path, account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    account.answers["/directory"] = {"newOrder": "…"}
    code = command.main(["--stack", "prod", "--json"], account.transport)
    whole = json.loads(capsys.readouterr().out)
    assert whole["stack"] == "prod"
    assert whole["exit"] == code
    assert {"status", "what", "found", "remedy"} == set(whole["checks"][0])
    assert sum(whole["counts"].values()) == len(whole["checks"])


def test_a_wrong_stack_file_ends_it(
    stack: Path, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    stack.write_text(stack.read_text().replace("DEV1-M", "DEV9-M"))
    assert command.main(["--stack", "prod"], account.transport) == 1
    assert "instance.size" in capsys.readouterr().err
    assert account.requests == []


def test_a_stack_that_is_not_there(stack: Path, account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--stack", "nowhere"], account.transport) == 2
    assert "Pulumi.nowhere.yaml" in capsys.readouterr().err


def test_missing_secrets_are_rows_beside_the_rest(stack: Path, account: Account) -> None:
    text = stack.read_text().replace(
        "https://github.com/scell-io/frontend.git", "git@github.com:scell-io/frontend.git"
    )
    head, _, tail = text.partition("  berth:secrets:")
    if tail:  # what follows the secrets, if the file has them
        head += "".join(line for line in tail.splitlines(True)[1:] if not line.startswith("    "))
    stack.write_text(head)
    found, absent = command.read(stack)
    assert isinstance(found, Stack)
    assert "berth:secrets.scell.deploy_key" in [problem.path for problem in absent]
    assert all("pulumi config set --secret" in problem.remedy for problem in absent)


def test_needs_come_from_the_stack_file(stack: Path) -> None:
    found, _ = command.read(stack)
    (need,) = needs(found)
    assert (need.size, need.zone, need.dns_zone) == ("DEV1-M", "fr-par-1", "scell.io")
    assert {"scell.io", "www.scell.io", "api.scell.io"} <= set(need.names)
    assert need.sources[0].repository == "https://github.com/scell-io/frontend.git"
    assert need.directory == "https://acme-v02.api.letsencrypt.org/directory"


def test_names_that_are_not_pointed_may_lead_elsewhere(stack: Path) -> None:
    text = stack.read_text()
    assert "manage: false" in text
    stack.write_text(text.replace("manage: false", "manage: false, point: false"))
    (need,) = needs(command.read(stack)[0])
    assert need.names == ()


def test_another_file_may_be_read(
    stack: Path, account: Account, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "elsewhere" / "Pulumi.prod.yaml"
    other.parent.mkdir()
    other.write_text(stack.read_text())
    stack.unlink()
    assert command.main(["--stack", "prod", "--json"], account.transport) == 2
    assert command.main(["--stack", "prod", "--config-file", str(other)], account.transport) in (0, 1)
    assert "credentials" in capsys.readouterr().out


def test_provider_settings_leave_out_what_is_encrypted(stack: Path) -> None:
    stack.write_text(
        "config:\n  scaleway:projectId: p\n  scaleway:secretKey: {secure: v1:x}\n  berth:data: keep\n"
    )
    assert command.provider_settings(stack, "scaleway") == {"projectId": "p"}


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ([ok("a", "")], 0),
        ([note("a", "")], 0),
        ([unknown("a", "", ""), ok("b", "")], 2),
        ([unknown("a", "", ""), missing("b", "", "")], 1),
    ],
)
def test_exit_codes(found: list[Row], code: int) -> None:
    assert exit_code(found) == code


def test_a_table_begins_with_what_needs_somebody() -> None:
    text = table("prod", [ok("a", "fine"), missing("b", "gone", "make it")])
    assert text.splitlines()[:2] == ["missing  b  gone", "         → make it"]
    assert text.splitlines()[-1] == "prod: 1 missing, 1 ok"


def test_progress_counts_to_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    show = command._progress(2)
    show("one")
    show("two")
    assert capsys.readouterr().err == "\r\033[K1/2 one\r\033[K"
