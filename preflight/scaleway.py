"""Scaleway: what its API says about the account, before anything is made in it.

Paths and fields are those of scaleway-sdk-go 1.39.0 (``api/<product>/<version>/*_sdk.go``); docs/evidence.md
lists every call, none of them yet seen on a real account. The secret key goes into the header
``X-Auth-Token`` of requests to the API alone; object storage gets a signature made with it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from components.scaleway.catalogue import catalogue
from preflight import s3
from preflight.local import delegation
from preflight.needs import Cache, Database, Files, Needs
from preflight.reader import Absent, Forbidden, Reader, Refused, Unreadable
from preflight.report import Check, Row, missing, note, ok, unknown

API = "https://api.scaleway.com"
CONSOLE = "https://console.scaleway.com"
NAME_SERVERS = ("ns0.dom.scw.cloud", "ns1.dom.scw.cloud")
MAIL_REGION = "fr-par"
ARCHITECTURE = "x86_64"
SOON = timedelta(days=30)
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# ---------------------------------------------------------------- who asks


@dataclass(frozen=True)
class Credentials:
    """What the provider would use, and where each came from. The secret is not in its text."""

    access_key: str | None
    secret_key: str | None
    project: str | None
    organization: str | None
    api: str
    sources: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Credentials({self.access_key}, project {self.project})"


_NAMES = {  # environment (SDK: scw/env.go), key of a profile, key of the stack file's provider settings
    "access_key": (("SCW_ACCESS_KEY",), "access_key", "accessKey"),
    "secret_key": (("SCW_SECRET_KEY",), "secret_key", "secretKey"),
    "project": (("SCW_DEFAULT_PROJECT_ID",), "default_project_id", "projectId"),
    "organization": (("SCW_DEFAULT_ORGANIZATION_ID",), "default_organization_id", "organizationId"),
    "api": (("SCW_API_URL",), "api_url", "apiUrl"),
}


def credentials(environ: Mapping[str, str], settings: Mapping[str, Any]) -> Credentials:
    """As the provider finds them: environment, then stack file, then the profile in the configuration file.

    Raises Unreadable for a configuration file that cannot be read.
    """
    file = config_file(environ)
    profile = _profile(file, environ.get("SCW_PROFILE") or settings.get("profile"))
    values: dict[str, str | None] = {}
    sources: dict[str, str] = {}
    for name, (variables, key, setting) in _NAMES.items():
        found = next(((environ[v], v) for v in variables if environ.get(v)), None)
        if found is None and isinstance(settings.get(setting), str):
            found = settings[setting], f"scaleway:{setting}"
        if found is None and profile.get(key):
            found = str(profile[key]), str(file)
        values[name], sources[name] = found or (None, "")
    return Credentials(
        values["access_key"],
        values["secret_key"],
        values["project"],
        values["organization"],
        (values["api"] or API).rstrip("/"),
        sources,
    )


def config_file(environ: Mapping[str, str]) -> Path:
    """Where `scw init` puts it."""
    given = environ.get("SCW_CONFIG_PATH")
    home = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or "~").expanduser() / ".config")
    return Path(given) if given else home / "scw" / "config.yaml"


def _profile(file: Path, wanted: object) -> Mapping[str, Any]:
    try:
        whole = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        whole = {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        # not the parser's words: they may quote a line with the secret key
        raise Unreadable(
            f"{file} cannot be read ({type(error).__name__})", "write it again: scw init"
        ) from None
    if not isinstance(whole, dict):
        raise Unreadable(f"{file} is not a table", "write it again: scw init")
    name = wanted or whole.get("active_profile")
    if not name or name == "default":
        return whole
    profiles = whole.get("profiles")
    chosen = profiles.get(name) if isinstance(profiles, dict) else None
    if not isinstance(chosen, dict):
        raise Unreadable(f"{file} has no profile {name}", "set SCW_PROFILE to one it has")
    return {**{k: v for k, v in whole.items() if k != "profiles"}, **chosen}


# ---------------------------------------------------------------- permission sets

# By noun: the sets the program uses, as the documentation's list of permission sets names them.
PROJECT_SETS: Mapping[str, Sequence[str]] = {
    "network": ("VPCFullAccess", "PrivateNetworksFullAccess", "IPAMReadOnly"),
    "instance": ("InstancesFullAccess", "BlockStorageFullAccess"),
    "database": ("RelationalDatabasesFullAccess",),
    "cache": ("RedisFullAccess",),
    "files": ("ObjectStorageFullAccess", "ObjectStorageBucketPolicyFullAccess"),
    "dns": ("DomainsDNSFullAccess",),
    "mail": ("TransactionalEmailFullAccess",),
}
IAM_SETS = (
    "IAMApplicationManager",
    "IAMPolicyManager",
)  # the bucket and mail keys: applications, policies, keys
# What each of these holds besides its own name.
EVERYTHING = "AllProductsFullAccess"
STRONGER: Mapping[str, Sequence[str]] = {
    "IAMApplicationManager": ("IAMManager", "OrganizationManager"),
    "IAMPolicyManager": ("IAMManager", "OrganizationManager"),
    "IPAMReadOnly": ("IPAMFullAccess", "AllProductsReadOnly"),
}


class Account:
    """One account as one key sees it."""

    def __init__(self, who: Credentials, reader: Reader) -> None:
        self.who = who
        self.reader = reader

    def _headers(self) -> dict[str, str]:
        return {"X-Auth-Token": self.who.secret_key or ""}

    def one(self, path: str, **params: str) -> Any:
        """A single answer. Raises Unreadable."""
        self.ready()
        return self.reader.json(f"{self.who.api}{path}", params or None, self._headers())

    def all(self, path: str, key: str, *, size: str = "page_size", **params: str) -> Any:
        """All rows of a list. Raises Unreadable."""
        self.ready()
        return self.reader.pages(f"{self.who.api}{path}", key, params, self._headers(), size=size)

    def ready(self) -> None:
        if not (self.who.access_key and self.who.secret_key):
            raise Unreadable(
                "no credentials to ask with", "scw init, or export SCW_ACCESS_KEY and SCW_SECRET_KEY"
            )

    def key(self) -> Mapping[str, Any]:
        """The API key itself: whose it is, when it ends."""
        found: Mapping[str, Any] = self.one(f"/iam/v1alpha1/api-keys/{self.who.access_key}")
        return found

    def identity(self) -> str:
        """``application_id:<uuid>`` or ``user_id:<uuid>``, as a bucket's managers are written."""
        key = self.key()
        for kind in ("application_id", "user_id"):
            if key.get(kind):
                return f"{kind}:{key[kind]}"
        raise Unreadable("the API key names neither user nor application")

    def project_id(self) -> str:
        """The project everything is made in."""
        project = self.who.project or self.key().get("default_project_id")
        if not project:
            raise Unreadable("no project is named", "export SCW_DEFAULT_PROJECT_ID=<the project's id>")
        return str(project)

    def organization(self) -> str:
        """Of the project, or of whose key it is."""
        if self.who.organization:
            return self.who.organization
        try:
            return str(self.one(f"/account/v3/projects/{self.project_id()}")["organization_id"])
        except Unreadable:
            kind, _, id_ = self.identity().partition(":")
            path = "applications" if kind == "application_id" else "users"
            return str(self.one(f"/iam/v1alpha1/{path}/{id_}")["organization_id"])

    def grants(self) -> Mapping[str, str]:
        """Permission sets this key holds in project or organization, each with its condition, if any."""
        kind, _, id_ = self.identity().partition(":")
        organization, project = self.organization(), self.project_id()
        principal = f"{kind}s"
        policies = list(
            self.all("/iam/v1alpha1/policies", "policies", organization_id=organization, **{principal: id_})
        )
        for group in self.all(
            "/iam/v1alpha1/groups", "groups", organization_id=organization, **{principal: id_}
        ):
            policies += self.all(
                "/iam/v1alpha1/policies", "policies", organization_id=organization, group_ids=group["id"]
            )
        held: dict[str, str] = {}
        for policy in policies:
            for rule in self.all("/iam/v1alpha1/rules", "rules", policy_id=policy["id"]):
                projects = rule.get("project_ids")
                if projects and project not in projects:
                    continue
                for name in rule.get("permission_set_names") or ():
                    condition = str(rule.get("condition") or "")
                    held[name] = held.get(name, condition) and condition
        return held

    def owner(self) -> bool:
        """Whether the key is the organization's owner's, who may do everything."""
        kind, _, id_ = self.identity().partition(":")
        return kind == "user_id" and self.one(f"/iam/v1alpha1/users/{id_}").get("type") == "owner"


# ---------------------------------------------------------------- checks


def checks(
    needs: Sequence[Needs], environment: str, settings: Mapping[str, Any], reader: Reader
) -> list[Check]:
    """Implements :class:`preflight.needs.Cloud`."""
    failed: Unreadable | None = None
    try:
        who = credentials(os.environ, settings)
    except Unreadable as error:  # everything else will say that there is nothing to ask with
        who, failed = Credentials(None, None, None, None, API, {}), error
    account = Account(who, reader)
    found = [
        Check(title="credentials", ask=partial(_raise, failed) if failed else partial(_credentials, account)),
        Check(title="project", ask=partial(_project, account)),
    ]
    found.append(Check(title="permissions", ask=partial(_permissions, account, needs)))
    found.append(Check(title="quotas", ask=partial(_quotas, account, needs, environment)))
    for need in needs:
        found += [Check(title=f"{need.system}: {title}", ask=ask) for title, ask in _of_system(account, need)]
    return found


def _of_system(account: Account, need: Needs) -> Iterator[tuple[str, Callable[[], Iterable[Row]]]]:
    yield "zone", partial(_place, account, need)
    yield "size", partial(_size, account, need)
    yield "image", partial(_image, account, need)
    if need.address:
        yield "reserved address", partial(_address, account, need)
    if need.database:
        yield "PostgreSQL", partial(_database, account, need, need.database)
    if need.cache:
        yield "Redis", partial(_cache, account, need, need.cache)
    if need.files:
        yield "bucket", partial(_files, account, need, need.files)
    yield "names", partial(_dns, account, need)
    if need.mail:
        yield "mail", partial(_mail, account, need)


def _raise(error: Unreadable) -> Iterable[Row]:
    raise error


def _credentials(account: Account) -> Iterator[Row]:
    what, who = "credentials", account.who
    for name, value, variable in (
        ("access key", who.access_key, "SCW_ACCESS_KEY"),
        ("secret key", who.secret_key, "SCW_SECRET_KEY"),
    ):
        if not value:
            yield missing(
                name, "neither in the environment nor in a profile", f"scw init, or export {variable}=…"
            )
    if not (who.access_key and who.secret_key):
        return
    if not UUID.fullmatch(who.secret_key):
        yield missing(
            what, "the secret key is not a UUID", f"look at {who.sources['secret_key']}; make a new key"
        )
        return
    try:
        key = account.key()
        identity = account.identity()
    except Refused as error:
        yield missing(what, "the API does not take this key pair", error.remedy)
        return
    except Absent:
        yield missing(what, "the API does not know this access key", "see that the two keys belong together")
        return
    except Forbidden:
        yield unknown(
            what,
            "taken, but this key may not read whose it is",
            "give its application IAMReadOnly, then permissions and managers can be looked at too",
        )
        return
    yield ok(what, f"{who.access_key} of {identity} (from {who.sources['secret_key']})")
    ends = key.get("expires_at")
    if ends:
        left = datetime.fromisoformat(str(ends).replace("Z", "+00:00")) - datetime.now(UTC)
        if left < timedelta():
            yield missing("end of the API key", f"it ended on {ends}", "make a new one, and set it")
        elif left < SOON:
            yield note("end of the API key", f"it ends on {ends}", "make a new one in time")


def _project(account: Account) -> Iterator[Row]:
    project = account.project_id()
    source = account.who.sources.get("project") or "the key's default"
    what = "project"
    try:
        found = account.one(f"/account/v3/projects/{project}")
    except Absent:
        yield missing(
            what,
            f"there is no project {project} ({source})",
            "export SCW_DEFAULT_PROJECT_ID=<the project's id>",
        )
        return
    if found.get("status", "active") != "active":
        yield missing(what, f"{found['name']} is {found['status']}", "name another project")
    else:
        yield ok(what, f"{found['name']} ({project}, from {source})")
    if not account.who.project:
        yield note(
            what, "no project is set: the key's default is used", "export SCW_DEFAULT_PROJECT_ID to be sure"
        )


def needed_sets(needs: Sequence[Needs]) -> Mapping[str, str]:
    """Permission set -> where it has to hold: ``project`` or ``organization``."""
    nouns = {"network", "instance", "dns"}
    nouns |= {
        noun for each in needs for noun in ("database", "cache", "files", "mail") if getattr(each, noun)
    }
    wanted = dict.fromkeys(
        (name for noun in PROJECT_SETS if noun in nouns for name in PROJECT_SETS[noun]), "project"
    )
    if nouns & {"files", "mail"}:
        wanted |= dict.fromkeys(IAM_SETS, "organization")
    return wanted


def _permissions(account: Account, needs: Sequence[Needs]) -> Iterator[Row]:
    wanted = needed_sets(needs)
    if account.owner():
        yield ok("permissions", f"the key is the owner's: all {len(wanted)} sets that are needed")
        return
    held = account.grants()
    for name, place in wanted.items():
        others = STRONGER.get(name, ()) if place == "organization" else (EVERYTHING, *STRONGER.get(name, ()))
        by = next((each for each in (name, *others) if each in held), None)
        what = f"permission {name}"
        if by is None:
            where = f"project {account.project_id()}" if place == "project" else "the organization"
            yield missing(
                what,
                "no policy of this key holds it",
                f"add a rule with {name} on {where}: {CONSOLE}/iam/policies",
            )
        elif held[by]:
            yield unknown(what, f"held under a condition: {held[by]}", "see that it is met where `up` runs")
        else:
            yield ok(what, "held" if by == name else f"held by {by}")


@dataclass(frozen=True)
class Quota:
    """One limit: ``name`` is looked for in the quota's name and in its printed one. ``own`` is what this very
    stack holds of it already, ``more`` what it takes in all.
    """

    what: str
    name: re.Pattern[str]
    place: str
    more: int
    used: Callable[[], int]
    own: Callable[[], int]


def _quotas(account: Account, needs: Sequence[Needs], environment: str) -> Iterator[Row]:
    organization = account.organization()
    quotas = account.all("/iam/v1alpha1/quota", "quota", organization_id=organization)
    for each in needs:
        for wanted in _wanted_quotas(account, each, organization, environment):
            yield _quota(wanted, quotas)


def _quota(wanted: Quota, quotas: Sequence[Mapping[str, Any]]) -> Row:
    what = f"quota of {wanted.what}"
    names = ("name", "pretty_name")
    quota = next((q for q in quotas if any(wanted.name.search(str(q.get(n, ""))) for n in names)), None)
    if quota is None:
        return unknown(what, "the API lists none of that name", f"look it up: {CONSOLE}/organization/quotas")
    limit = _limit(quota, wanted.place)
    if limit is None:
        return ok(what, "unlimited")
    try:
        used, more = wanted.used(), wanted.more - wanted.own()
    except Unreadable as error:
        return unknown(what, f"{limit}, and what is used cannot be told: {error.why}", error.remedy)
    found = f"{used} of {limit} used, {max(more, 0)} more needed"
    if used + more <= limit or more <= 0:
        return ok(what, found)
    return missing(what, found, f"ask for more: {CONSOLE}/support")


def _limit(quota: Mapping[str, Any], place: str) -> int | None:
    """The limit in ``place`` (a zone), its region or everywhere; None for no limit."""
    here = [
        entry
        for entry in quota.get("limits") or ()
        if entry.get("global")
        or entry.get("zone") == place
        or (entry.get("region") and place.startswith(f"{entry['region']}-"))
    ]
    best = here[0] if here else quota
    return None if best.get("unlimited") else int(best.get("limit") or 0)


def _wanted_quotas(account: Account, need: Needs, organization: str, environment: str) -> Iterator[Quota]:
    mine = {f"berth-environment={environment}", f"berth-system={need.system}"}
    tag = f"berth-system={need.system}"
    zone = f"/instance/v1/zones/{need.zone}"

    def counted(rows: Iterable[Mapping[str, Any]]) -> int:
        return sum(1 for row in rows if mine <= set(row.get("tags") or ()))

    def board() -> Mapping[str, Any]:
        found: Mapping[str, Any] = account.one(f"{zone}/dashboard", organization=organization)["dashboard"]
        return found

    def listed(path: str, key: str, **more: str) -> Callable[[], Any]:
        return lambda: account.all(path, key, organization_id=organization, **more)

    sku = need.size.replace("-", "_")
    yield Quota(
        what=f"{need.size} in {need.zone}",
        name=re.compile(rf"^cp_servers_type_{re.escape(sku)}$", re.IGNORECASE),
        place=need.zone,
        more=1,
        used=lambda: int(board().get("servers_by_types", {}).get(need.size, 0)),
        own=lambda: counted(account.all(f"{zone}/servers", "servers", size="per_page", tags=tag)),
    )
    yield Quota(
        what=f"public addresses in {need.zone}",
        name=re.compile(r"^(flexible|instances?)[ _]ips?$", re.IGNORECASE),
        place=need.zone,
        more=0 if need.address else 1,
        used=lambda: int(board().get("ips_count", 0)),
        own=lambda: counted(account.all(f"{zone}/ips", "ips", size="per_page", tags=tag)),
    )
    regional = f"/vpc/v2/regions/{need.region}"
    for what, name, path, key in (
        ("VPCs", r"^vpcs?$", f"{regional}/vpcs", "vpcs"),
        (
            "private networks",
            r"^(vpc[ _])?private[ _]networks?$",
            f"{regional}/private-networks",
            "private_networks",
        ),
    ):
        every = listed(path, key)
        yield Quota(
            what=f"{what} in {need.region}",
            name=re.compile(name, re.IGNORECASE),
            place=need.zone,
            more=1,
            used=lambda every=every: len(every()),  # type: ignore[misc]
            own=lambda every=every: counted(every()),  # type: ignore[misc]
        )
    keys = sum(1 for each in (need.files, need.mail) if each)
    if keys:
        every = listed("/iam/v1alpha1/applications", "applications")
        yield Quota(
            what="IAM applications",
            name=re.compile(r"^(iam[ _])?applications?$", re.IGNORECASE),
            place=need.zone,
            more=keys,
            used=lambda: len(every()),
            own=lambda: counted(every()),
        )


# ---------------------------------------------------------------- what is sold


def _place(account: Account, need: Needs) -> Iterator[Row]:
    what = f"{need.system}: {need.zone}"
    try:
        types = account.all(f"/instance/v1/zones/{need.zone}/products/servers", "servers", size="per_page")
    except Absent:
        yield missing(what, "Scaleway does not know this zone", "write another `zone:`")
        return
    yield ok(what, f"the zone sells {len(types)} sizes")


def _size(account: Account, need: Needs) -> Iterator[Row]:
    what, zone = (
        f"{need.system}: {need.size} in {need.zone}",
        f"/instance/v1/zones/{need.zone}/products/servers",
    )
    types = account.all(zone, "servers", size="per_page")
    if need.size not in types:
        yield missing(
            what, "not sold there", f"write another `size:`; there are {', '.join(sorted(types)[:8])} …"
        )
        return
    if types[need.size].get("end_of_service"):
        yield missing(what, "no longer sold to new hosts", "write another `size:`")
        return
    stock = (
        account.all(f"{zone}/availability", "servers", size="per_page").get(need.size, {}).get("availability")
    )
    if stock == "shortage":
        yield missing(what, "out of stock", "try another zone or size, or wait")
    elif stock in ("available", "scarce"):
        yield ok(what, "in stock" if stock == "available" else "few are left")
    else:
        yield unknown(what, f"sold; its stock is told as {stock!r}", "try it")


def _image(account: Account, need: Needs) -> Iterator[Row]:
    label = catalogue().image(need.image)
    what = f"{need.system}: image {label}"
    images = account.all("/marketplace/v2/local-images", "local_images", image_label=label, zone=need.zone)
    fitting = [i for i in images if i.get("arch") == ARCHITECTURE and i.get("type") == "instance_sbs"]
    if not images:
        yield missing(what, f"not in the marketplace of {need.zone}", "write another `image:`")
    elif not fitting:
        yield missing(what, f"none for {ARCHITECTURE} on block storage", "write another `image:`")
    elif not any(need.size in (i.get("compatible_commercial_types") or ()) for i in fitting):
        yield missing(what, f"not for {need.size}", "write another `size:` or `image:`")
    else:
        yield ok(what, f"offered for {need.size} in {need.zone}")


def _address(account: Account, need: Needs) -> Iterator[Row]:
    what = f"{need.system}: reserved address {need.address}"
    id_ = str(need.address).rpartition("/")[2]
    try:
        ip = account.one(f"/instance/v1/zones/{need.zone}/ips/{id_}")["ip"]
    except Absent:
        yield missing(what, f"there is none in {need.zone}", "correct `reserved_ip.adopt`")
        return
    if ip.get("project") != account.project_id():
        yield missing(what, f"of another project, {ip.get('project')}", "move it, or use that project")
    else:
        yield ok(what, f"{ip['address']}, {'in use' if ip.get('server') else 'free'}")


def _named(rows: Iterable[Mapping[str, Any]], name: str) -> Mapping[str, Any] | None:
    """The database products print node types in another case than the provider takes them."""
    return next((row for row in rows if str(row.get("name", "")).lower() == name.lower()), None)


def _node(what: str, node: Mapping[str, Any] | None, names: Iterable[str]) -> Row:
    if node is None:
        return missing(
            what, "not sold there", f"write another `size:`; there are {', '.join(sorted(names)[:8])} …"
        )
    if node.get("disabled"):
        return missing(what, "no longer sold to new ones", "write another `size:`")
    stock = node.get("stock_status")
    if stock == "out_of_stock":
        return missing(what, "out of stock", "write another `size:`, or wait")
    if stock in ("available", "low_stock"):
        return ok(
            what,
            ("in stock" if stock == "available" else "few are left") + (", beta" if node.get("beta") else ""),
        )
    return unknown(what, f"sold; its stock is told as {stock!r}", "try it")


def _database(account: Account, need: Needs, database: Database) -> Iterator[Row]:
    region = f"/rdb/v1/regions/{need.region}"
    what = f"{need.system}: PostgreSQL {database.version}"
    engines = account.all(f"{region}/database-engines", "engines")
    versions = [v for e in engines if e.get("name") == "PostgreSQL" for v in e.get("versions") or ()]
    version = next((v for v in versions if str(v.get("version")).split(".")[0] == database.version), None)
    if version is None or version.get("disabled"):
        offered = sorted(str(v.get("version")) for v in versions if not v.get("disabled"))
        yield missing(
            what, f"not offered in {need.region}", f"write `version:` as one of {', '.join(offered)}"
        )
    else:
        yield ok(
            what,
            f"offered in {need.region}"
            + (f", until {version['end_of_life']}" if version.get("end_of_life") else ""),
        )
        known = {str(s.get("name")): s for s in version.get("available_settings") or ()}
        for name in database.settings:
            if name not in known:
                yield missing(
                    f"{what}, setting {name}", "not one Scaleway lets you set", "delete it from `settings:`"
                )
    nodes = account.all(f"{region}/node-types", "node_types")
    node = _named(nodes, database.size)
    what = f"{need.system}: {database.size} in {need.region}"
    yield _node(what, node, [str(n.get("name")).upper() for n in nodes])
    if node is not None and node.get("is_ha_required") and not database.high_availability:
        yield missing(
            f"{what}, nodes", "sold in pairs only", "write `high_availability: true`, or another `size:`"
        )
    volume = next(
        (v for v in (node or {}).get("available_volume_types") or () if v.get("type") == "sbs_5k"), None
    )
    if node is not None and volume is None:
        yield missing(f"{what}, volume", "not sold with block storage (sbs_5k)", "write another `size:`")
    elif volume is not None and not volume["min_size"] <= database.volume_gb * 10**9 <= volume["max_size"]:
        low, high = volume["min_size"] // 10**9, volume["max_size"] // 10**9
        yield missing(
            f"{what}, volume", f"{database.volume_gb} GB are refused", f"`volume_gb:` of {low} to {high}"
        )
    if database.adopt:
        yield _existing_database(account, need, database, database.adopt)


def _existing_database(account: Account, need: Needs, database: Database, adopt: str) -> Row:
    what = f"{need.system}: database {adopt}"
    try:
        row = account.one(f"/rdb/v1/regions/{need.region}/instances/{adopt.rpartition('/')[2]}")
    except Absent:
        return missing(what, f"there is none in {need.region}", "correct `postgres.adopt`")
    if row.get("engine") != f"PostgreSQL-{database.version}":
        return missing(
            what, f"it runs {row.get('engine')}", "write its version: another one would replace it"
        )
    if str(row.get("node_type")).lower() != database.size.lower():
        return note(what, f"it is a {row.get('node_type')}", "`up` changes its size in place")
    return ok(what, f"{row.get('name')}, {row.get('status')}")


def _cache(account: Account, need: Needs, cache: Cache) -> Iterator[Row]:
    zone = f"/redis/v1/zones/{need.zone}"
    what = f"{need.system}: Redis {cache.version}"
    versions = [str(v.get("version")) for v in account.all(f"{zone}/cluster-versions", "versions")]
    if cache.version in versions:
        yield ok(what, f"offered in {need.zone}")
    else:
        yield missing(
            what, f"not offered in {need.zone}", f"write `version:` as one of {', '.join(versions)}"
        )
    nodes = account.all(f"{zone}/node-types", "node_types")
    what = f"{need.system}: {cache.size} in {need.zone}"
    yield _node(what, _named(nodes, cache.size), [str(n.get("name")).upper() for n in nodes])


# ---------------------------------------------------------------- files, names, mail


def _bucket(account: Account, files: Files, endpoint: str, signer: s3.Signer, what: str) -> Row:
    if files.name in s3.buckets(account.reader, endpoint, signer):
        return ok(what, "there, and of this project" + ("" if files.adopt else ": ours, if an `up` made it"))
    if files.adopt:
        return missing(
            what, "`adopt:` names one that is not in this project", "correct it, or delete the line"
        )
    if s3.taken(account.reader, endpoint, files.name):
        return missing(what, "the name is somebody else's: names are unique in a region", "write another")
    return ok(what, "the name is free")


def _files(account: Account, need: Needs, files: Files) -> Iterator[Row]:
    what = f"{need.system}: bucket {files.name}"
    account.ready()
    signer = s3.Signer(
        access_key=f"{account.who.access_key}@{account.project_id()}",
        secret_key=str(account.who.secret_key),
        region=need.region,
    )
    endpoint = f"https://s3.{need.region}.scw.cloud"
    try:
        yield _bucket(account, files, endpoint, signer, what)
    except Forbidden as error:
        yield unknown(what, error.why, "give the key ObjectStorageBucketsRead in the project")
    except Unreadable as error:
        yield unknown(what, error.why, error.remedy)
    try:
        identity = account.identity()
    except Unreadable as error:
        yield unknown(
            f"{what}, managers", error.why, "see yourself that whoever runs `up` is among `managers:`"
        )
        return
    if identity in files.managers:
        yield ok(f"{what}, managers", f"{identity}, who asks here, is among them")
    else:
        yield missing(
            f"{what}, managers",
            f"{identity}, who asks here, is not among them: its policy would shut `up` out",
            f'add "{identity}" to `managers:`',
        )


def _dns(account: Account, need: Needs) -> Iterator[Row]:
    zone, what = need.dns_zone, f"{need.system}: zone {need.dns_zone}"
    listed = account.all("/domain/v2beta1/dns-zones", "dns_zones", domain=zone)
    found = next((z for z in listed if not z.get("subdomain")), None)
    if found is None and need.dns_managed and not need.dns_adopt:
        yield ok(what, "not there yet: this stack makes it")
        told = f"at the registrar set the name servers {' and '.join(NAME_SERVERS)}"
        yield note(f"delegation of {zone}", "can follow once `up` has made the zone", told)
        return
    if found is None:
        remedy = f"add the domain: {CONSOLE}/domains/external"
        yield missing(what, "not at Scaleway, or of another project", remedy)
        return
    if found.get("project_id") != account.project_id():
        owner = found.get("project_id")
        yield missing(what, f"of another project, {owner}", "move it, or use that project")
    elif found.get("status") not in ("active", "pending"):
        why = found.get("message") or "no reason given"
        yield missing(what, f"{found.get('status')}: {why}", "ask the support")
    else:
        yield ok(what, str(found.get("status")))
        yield from _records(account, need)
    yield from delegation(zone, found.get("ns") or NAME_SERVERS)


def _records(account: Account, need: Needs) -> Iterator[Row]:
    """Where the names point now: a record is added beside what is there."""
    ours = {
        ip.get("address") for ip in account.all(f"/instance/v1/zones/{need.zone}/ips", "ips", size="per_page")
    }
    records = account.all(f"/domain/v2beta1/dns-zones/{need.dns_zone}/records", "records")
    for name in need.names:
        within = name.removesuffix(need.dns_zone).removesuffix(".")
        there = [r for r in records if r.get("name") == within and r.get("type") in ("A", "AAAA", "CNAME")]
        others = sorted(f"{r['type']} {r['data']}" for r in there if r.get("data") not in ours)
        if others:
            yield missing(
                f"{need.system}: name {name}",
                f"points elsewhere: {', '.join(others)}",
                "this stack's record would stand beside it; delete that one, or move as docs/cutover.md says",
            )
        else:
            yield ok(f"{need.system}: name {name}", "points at this account" if there else "free")


MAIL_DOMAINS = f"{CONSOLE}/transactional-email/domains"
MAIL_REMEDY = f"look at the domain: {MAIL_DOMAINS}"


def _mail(account: Account, need: Needs) -> Iterator[Row]:
    what = f"{need.system}: mail from {need.mail}"
    domains = account.all(
        f"/transactional-email/v1alpha1/regions/{MAIL_REGION}/domains", "domains", name=str(need.mail)
    )
    live = [d for d in domains if d.get("status") != "revoked"]
    if need.mail_adopt and need.mail_adopt.rpartition("/")[2] not in [d.get("id") for d in live]:
        yield missing(what, "`mail.adopt` names a domain that is not there", f"correct it: {MAIL_DOMAINS}")
    elif not live:
        yield ok(what, "not there yet: this stack makes it")
    else:
        domain = live[0]
        status = str(domain.get("status"))
        if domain.get("project_id") != account.project_id():
            yield missing(
                what,
                f"the domain is of another project, {domain.get('project_id')}",
                "move it, or use that one",
            )
        elif status == "checked":
            yield ok(what, "the domain is checked")
        elif status in ("unchecked", "pending", "autoconfiguring", "unknown"):
            yield note(
                what, f"the domain is {status}", "after `up` its records stand; it is checked within hours"
            )
        else:
            yield missing(
                what, f"the domain is {status}: {domain.get('last_error') or 'no reason given'}", MAIL_REMEDY
            )
    yield note(
        f"{need.system}: ports of mail",
        "Scaleway closes 25, 465 and 587 out of instances until an account may use them; no API tells",
        f"if mail stays in the queue, ask the support to open them: {CONSOLE}/support",
    )
