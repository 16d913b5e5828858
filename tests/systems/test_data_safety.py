"""No edit of a stack file replaces, deletes or empties what holds data.

Whatever is written, one of three things happens: the config refuses it, the engine refuses it because of a
protection, or the data stays. Judged by what the recorded cloud has been asked to do, not by the plan. Only
the end of a stack, said twice (docs/config.md), is something else.
"""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from config import stackfile
from config.loader import parse
from config.report import ConfigError
from sandbox.inventory import open_store
from systems import REGISTRY
from tests import stand_ins
from tests.project import ROOT, Project, begun, with_secrets

pytestmark = pytest.mark.sandbox

STACK = "prod"
FILE = f"Pulumi.{STACK}.yaml"
FOREIGN = {
    "instance": "3b6b1f3e-52d0-4f0a-9d0e-6a1f2c7d8e90",
    "cluster": "3b6b1f3e-52d0-4f0a-9d0e-6a1f2c7d8e91",
    "ip": "3b6b1f3e-52d0-4f0a-9d0e-6a1f2c7d8e92",
}
"""Things of somebody else's that exist in the account, by the ids they have in the edits below."""
OTHERS = """
import pulumi
from pulumiverse_scaleway import databases, instance, object as storage, redis

stays = pulumi.ResourceOptions(retain_on_delete=True)
databases.Instance(
    "foreign-instance", engine="PostgreSQL-17", node_type="DB-DEV-S", user_name="root", password="Old-pass-1",
    volume_type="sbs_5k", volume_size_in_gb=10, opts=stays,
)
redis.Cluster(
    "foreign-cluster", version="7.2.11", node_type="RED1-MICRO", user_name="root", password="Old-pass-1",
    tls_enabled=True, opts=stays,
)
storage.Bucket("foreign-bucket", name="scell-other", opts=stays)
instance.Ip("foreign-ip", type="routed_ipv4", opts=stays)
"""
SEED = int(os.environ.get("BERTH_SEED", "20261120"))
AT_ONCE = 6
"""Edits made together at most: each also hides behind others."""

DATA = {
    "scaleway:databases/instance:Instance",
    "scaleway:databases/database:Database",
    "scaleway:databases/user:User",
    "scaleway:object/bucket:Bucket",
    "scaleway:redis/cluster:Cluster",
    "scaleway:tem/domain:Domain",
    "scaleway:instance/ip:Ip",
}
"""What the cloud holds, and whoever uses the system cannot do without."""
SECRETS = {"random:index/randomPassword:RandomPassword", "random:index/randomBytes:RandomBytes"}
"""What the state holds: passwords, and the key the application encrypts with."""

Stackfile = dict[str, Any]
Edit = Callable[[Stackfile], None]


@dataclass(frozen=True)
class Change:
    """One edit, by the name it has in messages."""

    name: str
    edit: Edit


def put(path: str, value: Any) -> Change:
    """A value written somewhere below the system, whatever was there."""

    def edit(whole: Stackfile) -> None:
        *parts, last = path.split(".")
        at = scell(whole)
        for part in parts:
            at = at.setdefault(part, {})
        at[last] = value

    return Change(f"{path}: {value}", edit)


def top(key: str, value: Any) -> Change:
    def edit(whole: Stackfile) -> None:
        whole["config"][f"berth:{key}"] = value

    return Change(f"berth:{key}: {value}", edit)


def without(*blocks: str) -> Change:
    def edit(whole: Stackfile) -> None:
        for block in blocks:
            scell(whole).pop(block, None)

    return Change(f"without {', '.join(blocks)}", edit)


def moved(region: str, zone: str) -> Change:
    def edit(whole: Stackfile) -> None:
        scell(whole).update(region=region, zone=zone)

    return Change(f"moved to {zone}", edit)


def given(secret: str) -> Change:
    """A secret that is there from now on."""

    def edit(whole: Stackfile) -> None:
        secrets = whole["config"].setdefault("berth:secrets", {}).setdefault("scell", {})
        secrets[secret] = {"secure": "v1:AAAAAAAAAAAAAAAA:AAAA"}

    return Change(f"secret {secret}", edit)


def scell(whole: Stackfile) -> Stackfile:
    found: Stackfile = whole["config"]["berth:systems"]["scell"]
    return found


BUCKET = yaml.safe_load((ROOT / FILE).read_text())["config"]["berth:systems"]["scell"]["bucket"]
CHANGES = [
    # the database server
    put("postgres.version", 16),
    put("postgres.version", 15),
    put("postgres.version", 18),
    put("postgres.size", "DB-DEV-L"),
    put("postgres.size", "DB-DEV-S"),
    put("postgres.size", "DB-GP-S"),
    put("postgres.volume_gb", 50),
    put("postgres.volume_gb", 10),
    put("postgres.volume_gb", 0),
    put("postgres.high_availability", True),
    put("postgres.databases.production", "scell_prod"),
    put("postgres.databases.sandbox", "scell_trial"),
    put("postgres.databases", {"production": "scell_sandbox", "sandbox": "scell_production"}),
    put("postgres.users.production", "app"),
    put("postgres.users", {"production": "scell_sandbox", "sandbox": "scell"}),
    put("postgres.settings", {"work_mem": "8"}),
    put("postgres.backup", {"every_hours": 6, "keep_days": 7}),
    put("postgres.adopt", FOREIGN["instance"]),
    without("postgres"),
    # the cache, which holds queue and sessions
    put("redis.version", "8.6.6"),
    put("redis.size", "RED1-XS"),
    put("redis.high_availability", True),
    put("redis.settings", {"maxclients": "500"}),
    put("redis.adopt", FOREIGN["cluster"]),
    without("redis"),
    # the bucket
    put("bucket.name", "scell-files"),
    put("bucket.versioning", False),
    put("bucket.managers", ["user_id:3b6b1f3e-52d0-4f0a-9d0e-6a1f2c7d8e99"]),
    put("bucket.expire", [{"prefix": "tmp/", "days": 1}]),
    put("bucket.expire", [{"prefix": "", "days": 1}]),
    put("bucket.adopt", "scell-storage"),
    put("bucket.adopt", "scell-other"),
    put("bucket", {**BUCKET, "name": "scell-other", "adopt": "scell-other"}),
    without("bucket"),
    # mail, names, address
    put("mail.domain", "mail.scell.io"),
    put("mail", {"domain": "mail.scell.io", "from": "noreply@mail.scell.io"}),
    put("reserved_ip.adopt", FOREIGN["ip"]),
    put("site", {"name": "www.scell.io", "aliases": ["scell.io"]}),
    put("dns.manage", True),
    without("mail"),
    # whole halves, places, the stack
    without("backend"),
    without("backend", "postgres"),
    without("backend", "redis", "bucket"),
    without("backend", "postgres", "redis", "bucket", "mail"),
    moved("nl-ams", "nl-ams-2"),
    moved("pl-waw", "pl-waw-1"),
    moved("fr-par", "fr-par-2"),
    put("network.cidr", "10.30.0.0/24"),
    put("instance.size", "DEV1-L"),
    put("instance.image", "debian-13"),
    top("environment", "staging"),
    top("data", "delete"),
    top("systems", {}),
    # the application
    put("backend.release", "v1.1.0"),
    put("backend.name", "backend.scell.io"),
    put("backend.app.name", "Other"),
    put("backend.cache.prefix", "other_"),
    put("backend.extra", {"APP_FEATURE_X": "beta"}),
    put("backend.insee.enabled", False),
    given("app_key"),
]


def base() -> Stackfile:
    whole: Stackfile = yaml.safe_load((ROOT / FILE).read_text(encoding="utf-8"))
    return whole


def edited(*changes: Change) -> str:
    whole = copy.deepcopy(base())
    for change in changes:
        change.edit(whole)
    return yaml.safe_dump(whole, sort_keys=False)


def refused(text: str) -> bool:
    """Whether the config does not take it."""
    try:
        raw = stackfile.read(text, FILE)
        raw["secrets"] = {"scell": {**raw.get("secrets", {}).get("scell", {}), **stand_ins.sealed()["scell"]}}
        parse(raw, file=FILE, registry=REGISTRY)
    except ConfigError:
        return True
    return False


class Stack:
    """Production, up and recorded; every edit starts from its own file."""

    def __init__(self, home: Path, project: Project) -> None:
        self.home, self.project = home, project
        store = open_store(home)
        self.foreign = {
            written: row.id.rpartition("/")[2]
            for part, written in FOREIGN.items()
            for row in store.every(STACK)
            if row.name == f"foreign-{part}"
        }
        store.close()
        self.cloud = self._cloud()
        self.secrets = self._secrets()

    def up(self, text: str) -> str:
        """What the engine said; it may refuse."""
        for written, id in self.foreign.items():
            text = text.replace(written, id)
        (self.home / FILE).write_text(with_secrets(self.home, text, STACK))
        for _ in range(2):
            done = self.project._run("up", "--yes", "--skip-preview", "--continue-on-error")
            said = done.stdout + done.stderr
            if "snapshot integrity" not in said:
                break
            # A removal beside a failure: docs/operations.md says what to do.
            self.project.pulumi("state", "repair", "--yes")
        assert "Resources:" in said, said  # the engine has looked at all of it
        return said

    def harm(self) -> list[str]:
        """What of the data that was there at the beginning the cloud holds no more, whosever it was."""
        there = {(token, id) for token, id, _ in self._cloud()}
        return sorted(f"gone: {name}" for token, id, name in self.cloud if (token, id) not in there)

    def changed(self) -> list[str]:
        """Passwords and keys that are not what they were at the beginning."""
        now = self._secrets()
        return [name for name, value in self.secrets.items() if now.get(name) != value]

    def _cloud(self) -> set[tuple[str, str, str]]:
        store = open_store(self.home)
        try:
            return {(row.token, row.id, row.name) for row in store.every(STACK) if row.token in DATA}
        finally:
            store.close()

    def _secrets(self) -> dict[str, Any]:
        return {
            urn: {key: r["outputs"].get(key) for key in ("result", "base64", "keepers")}
            for urn, r in self.project.resources("--show-secrets").items()
            if r["type"] in SECRETS
        }


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("safety")
    text = with_secrets(home, edited(), STACK)
    with begun(home, text, name="berth", stack=STACK) as project:
        project.up(OTHERS)  # forgotten by the state with the next line, and still there
        project.up((ROOT / "__main__.py").read_text(encoding="utf-8"))
        yield Stack(home, project)


def test_there_is_data_to_lose(stack: Stack) -> None:
    assert {token for token, _, _ in stack.cloud} == DATA
    assert len(stack.secrets) == 5  # of the administrator, two users, the cache, and the application's key


@cache
def accepted() -> list[Change]:
    """What the config takes. The rest needs no engine: see tests/negative for what is said of each."""
    return [change for change in CHANGES if not refused(edited(change))]


def together(group: list[Change], change: Change) -> bool:
    """Whether ``change`` joins the others: the config takes them all, and none undoes another."""
    whole = edited(*group, change)
    rest = [edited(*(one for one in (*group, change) if one is not left)) for left in (*group, change)]
    return whole not in rest and not refused(whole)


def groups() -> list[list[Change]]:
    """Every edit the config takes, shuffled and put together by chance."""
    order = random.Random(SEED)
    made: list[list[Change]] = []
    for change in order.sample(accepted(), len(accepted())):
        room = [group for group in made if len(group) < AT_ONCE and together(group, change)]
        if room:
            order.choice(room).append(change)
        else:
            made.append([change])
    return made


def test_the_config_refuses_what_it_can_know() -> None:
    names = {change.name for change in CHANGES} - {change.name for change in accepted()}
    assert {
        "postgres.version: 18",
        "postgres.volume_gb: 0",
        "without postgres",
        "berth:data: delete",
        "berth:systems: {}",
        "instance.image: debian-13",
        "mail.domain: mail.scell.io",
    } <= names
    assert len(accepted()) >= 35


REFUSED_BY_THE_ENGINE = {
    "postgres.version: 16": "scell-postgres-version",
    "bucket.name: scell-files": "scell-bucket",
    "redis.high_availability: True": "scell-cluster",
    "without backend, postgres": "scell-database-scell_production",
}


@pytest.mark.parametrize("name", REFUSED_BY_THE_ENGINE)
def test_the_engine_says_what_it_will_not_do(stack: Stack, name: str) -> None:
    (change,) = [change for change in CHANGES if change.name == name]
    said = stack.up(edited(change))
    assert REFUSED_BY_THE_ENGINE[name] in said, said
    assert "protect" in said, said
    assert stack.harm() == []


def test_the_judge_of_that_can_say_no(stack: Stack) -> None:
    store = open_store(stack.home)
    try:
        (row,) = (row for row in store.every(STACK) if row.name == "scell-bucket")
        store.remove(row.token, row.id)
        assert stack.harm() == ["gone: scell-bucket"]
        store.put(row)
    finally:
        store.close()
    kept, stack.secrets = stack.secrets, {**stack.secrets, "a key": {"base64": "another"}}
    assert stack.changed() == ["a key"]
    stack.secrets = kept


def test_one_thing_is_not_left_for_another_without_a_trace(stack: Stack) -> None:
    """Adopted in place of what is there, the engine would delete the old one, protected as it is."""
    said = stack.up(edited(put("reserved_ip.adopt", FOREIGN["ip"])))
    assert "scell-ip imported replacement" in said
    assert stack.harm() == []


def test_whatever_is_edited_the_data_stays(stack: Stack) -> None:
    for group in groups():
        said = stack.up(edited(*group))
        assert stack.harm() == [], f"seed {SEED}: {[change.name for change in group]}\n{said}"
    said = stack.up(edited())
    assert (stack.harm(), stack.changed()) == ([], []), said
