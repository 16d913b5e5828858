"""The nouns on the real engine, with the sandbox's twins behind it in record-only mode.

Mocks know neither checks nor differences, imports, aliases or protection; these tests are about those.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.project import Project, begun

pytestmark = pytest.mark.sandbox

WHOLE = "from tests.contracts import samples\nsamples.whole('scaleway')()\n"
LOOSE = "from tests.contracts import samples\nsamples.whole('scaleway', keep_data=False)()\n"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with begun(tmp_path) as found:
        yield found


def test_every_noun_comes_up_and_a_second_time_nothing_changes(project: Project) -> None:
    project.up(WHOLE)
    assert len(project.resources()) >= 40
    project.up(WHOLE, "--expect-no-changes")
    project.pulumi("refresh", "--yes", "--skip-preview", "--expect-no-changes")


def test_what_a_host_boots_with_stands_nowhere_in_the_state_in_the_clear(project: Project) -> None:
    project.up(WHOLE)
    server = next(r for r in project.resources().values() if r["type"].endswith(":Server"))
    assert server["outputs"]["userData"]  # the provider gives it all back, under another name
    assert "#cloud-config" not in project.pulumi("stack", "export")


def test_a_kept_system_is_not_destroyed_and_loses_nothing_in_the_attempt(project: Project) -> None:
    project.up(WHOLE)
    before = project.ids()
    for attempt in (("destroy", "--yes", "--skip-preview"), ("destroy", "--yes")):
        said = project.pulumi(*attempt, fails=True)
        assert "scell-seal" in said
        assert project.ids() == before
    said = project.up("", fails=True)  # its block taken out of the stack file
    assert "protected" in said
    assert project.ids() == before
    project.up(LOOSE)  # data: delete
    project.pulumi("destroy", "--yes", "--skip-preview")
    assert project.ids() == {}


RENAMED = """
import pulumi
from components.cloud import NetworkArgs, Scope, VolumeArgs
from components.scaleway.network import Network
from components.scaleway.volume import Volume

scope = Scope(system="s", environment="production", region="fr-par", zone="fr-par-1")
{above}
Network("{name}", NetworkArgs(scope=scope, cidr="10.20.0.0/24"), {opts})
Volume("{name}", VolumeArgs(scope=scope, size_gb=25), {opts})
"""
PARENT = """
class Home(pulumi.ComponentResource):
    def __init__(self) -> None:
        super().__init__("berth:test:Home", "home")
home = Home()
"""


def test_renaming_and_moving_a_component_replaces_nothing(project: Project) -> None:
    project.up(RENAMED.format(name="old", above="", opts="None"))
    before = sorted(r["id"] for r in project.resources().values())
    moved = "pulumi.ResourceOptions(parent=home)"
    project.up(RENAMED.format(name="old", above=PARENT, opts=moved))
    assert sorted(r["id"] for r in project.resources().values()) == before
    renamed = "pulumi.ResourceOptions(parent=home, aliases=[pulumi.Alias(name='old')])"
    project.up(RENAMED.format(name="new", above=PARENT, opts=renamed))
    assert sorted(r["id"] for r in project.resources().values()) == before
    assert {urn.rsplit("::", 1)[1] for urn in project.resources()} == {"new-vpc", "new-private", "new-volume"}


ADOPTING = """
import pulumi
from components.cloud import ReservedIpArgs, Scope
from components.scaleway.reserved_ip import ReservedIp
from pulumiverse_scaleway import instance

scope = Scope(system="s", environment="production", region="fr-par", zone="fr-par-1", keep_data=False)
{body}
"""


def test_an_existing_address_is_taken_over_and_then_kept(project: Project) -> None:
    by_hand = 'instance.Ip("by-hand", type="routed_ipv4", opts=pulumi.ResourceOptions(retain_on_delete=True))'
    project.up(ADOPTING.format(body=by_hand))
    (existing,) = project.ids().values()
    project.up(ADOPTING.format(body=""))  # forgotten by the state, still there
    assert project.ids() == {}
    taken = f'ReservedIp("s", ReservedIpArgs(scope=scope, adopt="{existing.split("/")[1]}"))'
    project.up(ADOPTING.format(body=taken))
    assert list(project.ids().values()) == [existing]
    project.up(ADOPTING.format(body=taken), "--expect-no-changes")
    (ip,) = project.resources().values()
    assert ip["protect"] is True
    assert "berth-system=s" in ip["inputs"]["tags"]
    project.pulumi("destroy", "--yes", "--skip-preview", fails=True)
    project.up(ADOPTING.format(body='ReservedIp("s", ReservedIpArgs(scope=scope))'))
    assert list(project.ids().values()) == [existing]


HOST = """
from dataclasses import replace
from components.cloud import InstanceArgs
from components.clouds import CLOUDS
from tests.contracts import samples

where = samples.scope("scaleway")
cloud = CLOUDS["scaleway"]
inside = cloud.network("s", samples.arguments("network", where, "scaleway"))
wall = cloud.firewall("s", samples.arguments("firewall", where, "scaleway"))
address = cloud.reserved_ip("s", samples.arguments("reserved_ip", where, "scaleway"))
cloud.instance("s", InstanceArgs(
    scope=where, size="{size}", image="{image}", access=samples.access("{init}"),
    network=inside, firewall=wall, reserved_ip=address, stateful={stateful},
))
"""
SERVER = "scaleway:instance/server:Server s-server"


def test_what_replaces_a_host_and_what_does_not(project: Project) -> None:
    first = {"size": "DEV1-M", "image": "debian-12", "init": "one", "stateful": False}
    project.up(HOST.format(**first))
    before = project.ids()
    project.up(HOST.format(**{**first, "init": "two"}), "--expect-no-changes")
    project.up(HOST.format(**{**first, "size": "PRO2-XXS"}))
    assert project.ids() == before
    project.up(HOST.format(**{**first, "size": "PRO2-XXS", "image": "debian-13"}))
    after = project.ids()
    assert after[SERVER] != before[SERVER]
    assert after["scaleway:instance/ip:Ip s-ip"] == before["scaleway:instance/ip:Ip s-ip"]


def test_a_host_with_data_is_not_replaced_by_a_new_image(project: Project) -> None:
    first = {"size": "DEV1-M", "image": "debian-12", "init": "one", "stateful": True}
    project.up(HOST.format(**first))
    project.up(HOST.format(**{**first, "image": "debian-13"}), "--expect-no-changes")


FOREIGN = """
import pulumi
from components.cloud import NetworkArgs, PostgresArgs, Scope
from components.scaleway.network import Network
from components.scaleway.postgres import Postgres
from pulumiverse_scaleway import databases

scope = Scope(system="s", environment="production", region="fr-par", zone="fr-par-1", keep_data=False)
stays = pulumi.ResourceOptions(retain_on_delete=True)
"""
BY_HAND = """
instance = databases.Instance(
    "old", engine="PostgreSQL-16", node_type="DB-DEV-S", user_name="root", password="Old-pass-1",
    volume_type="sbs_5k", volume_size_in_gb=10, opts=stays,
)
databases.Database("one", instance_id=instance.id, name="one", opts=stays)
databases.User(
    "one", instance_id=instance.id, name="one_user", password="Old-pass-1", is_admin=True, opts=stays
)
"""
TAKEN = """
network = Network("s", NetworkArgs(scope=scope, cidr="10.20.0.0/24")).outputs
Postgres("s", PostgresArgs(
    scope=scope, version=17, size="DB-DEV-S", network=network,
    databases={{"one": "one_user", "two": "two_user"}}, {adopt}
))
"""
INSTANCE = "scaleway:databases/instance:Instance s-instance"
DATABASE = "scaleway:databases/database:Database s-database"
USER = "scaleway:databases/user:User s-user"


def test_an_existing_database_server_is_taken_over_with_what_is_in_it(project: Project) -> None:
    project.up(FOREIGN + BY_HAND)
    old = next(id for name, id in project.ids().items() if name.endswith(" old"))
    project.up(FOREIGN)  # forgotten by the state, still there
    assert project.ids() == {}
    adopt = f'adopt="{old.split("/")[1]}", existing_databases=["one"], existing_users=["one_user"]'
    taken = FOREIGN + TAKEN.format(adopt=adopt)

    project.up(taken)

    ids = project.ids()
    assert ids[INSTANCE] == old
    assert (ids[f"{DATABASE}-one"], ids[f"{DATABASE}-two"]) == (f"{old}/one", f"{old}/two")
    assert (ids[f"{USER}-one_user"], ids[f"{USER}-two_user"]) == (f"{old}/one_user", f"{old}/two_user")
    protected = {urn.rsplit("::", 1)[1] for urn, r in project.resources().items() if r.get("protect")}
    assert protected == {"s-instance", "s-database-one", "s-user-one_user"}  # whatever `data` says
    held = {r["urn"].rsplit("::", 1)[1]: r["outputs"] for r in project.resources().values()}
    assert held["s-instance"]["engine"] == "PostgreSQL-16"  # what was written does not upgrade by the way
    assert held["s-user-one_user"]["isAdmin"] is False
    project.up(taken, "--expect-no-changes")
    said = project.pulumi("destroy", "--yes", "--skip-preview", fails=True)
    assert "protected" in said
    assert old == project.ids()[INSTANCE]
    project.up(FOREIGN + TAKEN.format(adopt=""), fails=False)  # the line may go when it is done
    assert project.ids()[INSTANCE] == old


def test_what_exists_but_was_not_named_is_refused_by_the_cloud_not_emptied(project: Project) -> None:
    project.up(FOREIGN + BY_HAND)
    old = next(id for name, id in project.ids().items() if name.endswith(" old"))
    project.up(FOREIGN)
    said = project.up(FOREIGN + TAKEN.format(adopt=f'adopt="{old}"'), fails=True)
    assert "database already exists" in said
    assert "user already exists" in said


VERSION = """
import pulumi
from components.cloud import NetworkArgs, PostgresArgs, Scope
from components.scaleway.network import Network
from components.scaleway.postgres import Postgres

scope = Scope(system="s", environment="production", region="fr-par", zone="fr-par-1")
network = Network("s", NetworkArgs(scope=scope, cidr="10.20.0.0/24")).outputs
Postgres("s", PostgresArgs(
    scope=scope, version={version}, size="DB-DEV-S", network=network, databases={{"one": "one"}}
))
"""


def test_another_version_of_postgres_is_refused_before_the_provider_hears_of_it(project: Project) -> None:
    project.up(VERSION.format(version=16))
    before = project.ids()
    said = project.up(VERSION.format(version=17), fails=True)
    assert "s-postgres-version" in said
    assert "unable to replace" in said
    assert project.ids() == before
    (instance,) = (r for r in project.resources().values() if r["type"].endswith(":Instance"))
    assert instance["inputs"]["engine"] == "PostgreSQL-16"


MOVED = """
import pulumi
from components.cloud import NetworkArgs, PostgresArgs, Scope
from components.scaleway.network import Network
from components.scaleway.postgres import Postgres
from pulumiverse_scaleway import databases

scope = Scope(system="s", environment="production", region="fr-par", zone="fr-par-1")
network = Network("s", NetworkArgs(scope=scope, cidr="10.20.0.0/24")).outputs
{elsewhere}
Postgres("s", PostgresArgs(
    scope=scope, version={version}, size="DB-DEV-S", network=network, databases={{"one": "one_user"}}, {adopt}
))
"""
ELSEWHERE = """
stays = pulumi.ResourceOptions(retain_on_delete=True)
other = databases.Instance(
    "other", engine="PostgreSQL-17", node_type="DB-DEV-S", user_name="root", password="Old-pass-1",
    volume_type="sbs_5k", volume_size_in_gb=10, opts=stays,
)
databases.Database("other", instance_id=other.id, name="one", opts=stays)
"""


def test_a_major_version_is_a_move_as_operations_says(project: Project) -> None:
    first = {"version": 16, "adopt": ""}
    project.up(MOVED.format(elsewhere=ELSEWHERE, **first))  # somebody makes the new instance elsewhere
    new = next(id for name, id in project.ids().items() if name.endswith("Instance other"))
    project.up(MOVED.format(elsewhere="", **first))
    old = project.ids()[INSTANCE]
    (version,) = (urn for urn in project.resources() if urn.endswith("::s-postgres-version"))
    project.pulumi("state", "delete", "--force", "--target-dependents", "--yes", version)
    adopt = f'adopt="{new}", existing_databases=["one"]'
    project.up(MOVED.format(elsewhere="", version=17, adopt=adopt))
    ids = project.ids()
    assert (ids[INSTANCE], ids[f"{DATABASE}-one"]) == (new, f"{new}/one")
    assert project.cloud(old)
    assert project.cloud(f"{old}/one")
