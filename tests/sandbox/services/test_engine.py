"""Managed databases with the engine: what a program says, a refresh and a destroy see. Ordered."""

import json
import subprocess

import pytest

from sandbox import paths, real
from sandbox.hosts import instance, net
from tests.sandbox.conftest import Lab, checkout

WHY_NOT = real.capable()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(WHY_NOT), reason=f"this machine runs no hosts: {'; '.join(WHY_NOT)}"),
    pytest.mark.xdist_group("services"),
]
PROGRAM = """
from pulumiverse_scaleway import redis
secret = random.RandomPassword("secret", length=20, min_special=1, min_numeric=1, override_special="!").result
net = network.PrivateNetwork("net", ipv4_subnet={{"subnet": "10.20.0.0/24"}}, region="fr-par")
pg = databases.Instance("pg", engine="PostgreSQL-17", node_type="{size}", user_name="berth", password=secret,
    volume_type="sbs_5k", volume_size_in_gb={volume}, settings={settings}, region="fr-par",
    private_network={{"pn_id": net.id, "enable_ipam": True}}, disable_backup=False)
databases.Acl("acl", instance_id=pg.id, acl_rules=[{{"ip": "10.20.0.0/24"}}], region="fr-par")
user = databases.User("app", instance_id=pg.id, name="app", password=secret, region="fr-par")
for name in ("one", "two"):
    database = databases.Database(name, instance_id=pg.id, name=name, region="fr-par")
    databases.Privilege(name, instance_id=pg.id, database_name=database.name, user_name=user.name,
        permission="all", region="fr-par")
cache = redis.Cluster("cache", version="7.2.11", node_type="RED1-MICRO", user_name="berth", password=secret,
    tls_enabled=True, private_networks=[{{"id": net.id}}], zone="fr-par-1")
for name in {hosts}:
    ip = instance.Ip(name, zone="fr-par-1")
    host = instance.Server(name, name=name, type="DEV1-S", image="debian_bookworm", ip_id=ip.id,
        zone="fr-par-1")
    if name == "inside":
        instance.PrivateNic(name, server_id=host.id, private_network_id=net.id, zone="fr-par-1")
pulumi.export("addresses", [pg.private_network.ip, cache.private_networks[0].ips[0]])
pulumi.export("certificates", [pg.certificate, cache.certificate])
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    lab = checkout(tmp_path_factory.mktemp("lab"))
    try:
        yield lab
    finally:
        lab.sandbox("reset").good()
        assert not paths.runtime(lab.root).exists()
        assert not list(net.NETNS.glob(f"{paths.netns(lab.root)}*"))


def program(lab: Lab, size="DB-DEV-S", volume=10, settings=None, hosts=()):
    lab.program(PROGRAM.format(size=size, volume=volume, settings=settings, hosts=hosts))


def engine(lab: Lab, *words: str):
    return lab.sandbox("exec", "--", "pulumi", *words, "--stack", "dev", "--non-interactive")


def test_the_certificate_the_program_gets_is_the_servers(lab):
    program(lab)
    lab.sandbox("up", "--stack", "dev").good()
    given = json.loads(engine(lab, "stack", "output", "--json").good().text)["certificates"]
    served = sorted((lab.state_directory / "services").glob("*/conf/server.crt"))
    assert {path.read_text() for path in served} == set(given)
    status = json.loads(lab.sandbox("status", "--json").good().text)["machine"]["services"]
    assert {one["kind"] for one in status if one["database"] and one["memory"]} == {"postgres", "redis"}


def test_nothing_changed_is_no_change(lab):
    engine(lab, "preview", "--expect-no-changes").good()
    engine(lab, "refresh", "--yes", "--expect-no-changes").good()


def test_a_larger_node_and_volume_keep_what_there_is(lab):
    made = sorted((lab.state_directory / "services").glob("postgres-*/data/PG_VERSION"))
    before = [path.stat().st_ino for path in made]
    program(lab, size="DB-DEV-M", volume=20, settings={"work_mem": "5"})
    shown = lab.sandbox("up", "--stack", "dev").good().text
    assert "replace" not in shown
    assert [path.stat().st_ino for path in made] == before
    assert "work_mem = '5MB'" in (made[0].parents[1] / "conf/postgresql.conf").read_text()


def test_a_setting_it_refuses_is_the_resources_error(lab):
    program(lab, size="DB-DEV-M", volume=20, settings={"work_mem": "a lot"})
    lab.sandbox("up", "--stack", "dev").bad('invalid value for parameter "work_mem"')
    program(lab, size="DB-DEV-M", volume=20, settings={"work_mem": "5"})
    lab.sandbox("up", "--stack", "dev").good()


def test_a_fault_takes_a_service_down_and_clearing_brings_it_back(lab):
    lab.sandbox("fault", "down", "postgres").good()
    assert "down until" in lab.sandbox("status").good().text
    lab.sandbox("fault", "clear").good()
    assert "down" not in lab.sandbox("status").good().text


def test_a_host_of_the_network_reaches_them_and_another_does_not(lab):
    program(lab, size="DB-DEV-M", volume=20, settings={"work_mem": "5"}, hosts=("inside", "outside"))
    lab.sandbox("up", "--stack", "dev").good()
    addresses = json.loads(engine(lab, "stack", "output", "--json").good().text)["addresses"]
    places = {json.loads(place.made.read_text())["id"]: place for place in instance.places(lab.root)}
    by_name = {row.name: places[row.id] for row in lab.rows("Server")}
    doors = " ".join(f"{ip}/{port}" for ip, port in zip(addresses, (5432, 6379), strict=True))
    script = "systemctl is-system-running --wait >/dev/null\n"
    script += f'for door in {doors}; do timeout 2 bash -c "</dev/tcp/$door"; echo $?; done'

    def answers(name):
        line = [
            "lxc-attach",
            "-P",
            by_name[name].parent,
            "-n",
            by_name[name].name,
            "--",
            "bash",
            "-c",
            script,
        ]
        where = net.nsenter(paths.netns(lab.root), [str(word) for word in line])
        return subprocess.run(where, capture_output=True, text=True, check=True).stdout.split()

    assert answers("inside") == ["0", "0"]
    assert "0" not in answers("outside")


def test_a_destroy_leaves_nothing(lab):
    lab.sandbox("destroy", "--stack", "dev").good()
    assert not list((lab.state_directory / "services").glob("[pr]*-*/"))
