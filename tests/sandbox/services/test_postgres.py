"""Managed PostgreSQL, real servers. Tests of this file build on each other in order."""

import concurrent.futures
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from sandbox import process, real, services
from sandbox.effects.protocol import EffectError, Row
from sandbox.errors import SandboxError
from sandbox.hosts import desired as want
from sandbox.hosts import images, net
from sandbox.services import certificate, postgres, roots
from sandbox.services.layout import Layout
from tests.sandbox.services.cloud import ELSEWHERE, NETWORK, knock

WHY_NOT = real.capable()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(WHY_NOT), reason=f"this machine runs no hosts: {'; '.join(WHY_NOT)}"),
    pytest.mark.xdist_group("services"),
]
ID, ADDRESS, PORT = "fr-par/pg", "10.20.0.9", 5432
ADMIN, APP, OTHER = "Adm1n!pass word'", 'App1!"\\quote', "Other1!"
PSQL = f"{postgres.BINARIES}/psql"


@pytest.fixture(scope="module")
def site(cloud):
    """An instance with two databases, each with its user, and hosts in and out of its network."""
    outputs = {
        "privateNetwork": {"pnId": NETWORK, "ip": ADDRESS, "port": PORT, "hostname": "pg.net.internal"}
    }
    inputs = {"engine": "PostgreSQL-17", "userName": "berth", "password": ADMIN, "nodeType": "DB-DEV-S"}
    images.ready(roots.POSTGRES, print)  # built before the clock runs
    began = time.monotonic()
    row = cloud.create(want.POSTGRES, ID, inputs, outputs)
    seconds = time.monotonic() - began
    cloud.create(
        postgres.ACL,
        "fr-par/acl",
        {"instanceId": ID, "aclRules": [{"ip": "10.20.0.0/25", "description": "x"}]},
    )
    for name, user, secret in (("production", "app", APP), ("sandbox", "other", OTHER)):
        cloud.create(postgres.DATABASE, f"{ID}/{name}", {"instanceId": ID, "name": name})
        cloud.create(postgres.USER, f"{ID}/{user}", {"instanceId": ID, "name": user, "password": secret})
        for who in (user, "berth"):
            cloud.create(
                postgres.PRIVILEGE,
                f"{ID}/{name}/{who}",
                {"instanceId": ID, "databaseName": name, "userName": who, "permission": "all"},
            )
    return SimpleNamespace(
        cloud=cloud,
        seconds=seconds,
        ca=cloud.trust("postgres", "pg.pem", row.outputs["certificate"]),
        host=cloud.visitor("host", NETWORK, "10.20.0.50"),
        unlisted=cloud.visitor("unlisted", NETWORK, "10.20.0.200"),
        away=cloud.visitor("away", ELSEWHERE, "10.30.0.50"),
    )


def ask(site, sql, *, user="app", secret=APP, database="production", mode="verify-full", where=None):
    """psql on a host of the network; (exit code, what it printed)."""
    line = f"host={ADDRESS} port={PORT} dbname={database} user={user} sslmode={mode} sslrootcert={site.ca}"
    done = site.cloud.call(
        roots.POSTGRES,
        where or site.host,
        [PSQL, "-XqAt", "-v", "ON_ERROR_STOP=1", f"{line} connect_timeout=3", "-f", "-"],
        sql,
        PGPASSWORD=secret,
    )
    return done.returncode, (done.stdout + done.stderr).strip()


def pid(site):
    found = process.running(f"postgres-{want.key(ID)}", Layout(site.cloud.root).run)
    assert found is not None
    return found.pid


def kill(site):
    os.kill(pid(site), signal.SIGKILL)
    while process.running(f"postgres-{want.key(ID)}", Layout(site.cloud.root).run):
        time.sleep(0.01)


def good(site, sql, **how):
    code, said = ask(site, sql, **how)
    assert code == 0, said
    return said


def bad(site, sql, expected, **how):
    code, said = ask(site, sql, **how)
    assert code != 0, said
    assert expected in said


def test_it_serves_soon_after_it_is_asked_for(site):
    assert site.seconds < 4  # 0.6 s on two idle cores
    assert good(site, "show server_version").startswith("17.")


def test_tls_is_verified_and_nothing_goes_without(site):
    assert good(site, "select ssl, version from pg_stat_ssl where pid = pg_backend_pid()") == "t|TLSv1.3"
    bad(site, "select 1", "no pg_hba.conf entry", mode="disable")
    foreign = certificate.make("other", [ADDRESS])[0]
    site.cloud.trust("postgres", "other.pem", foreign)
    other = SimpleNamespace(**{**vars(site), "ca": "/srv/other.pem"})
    bad(other, "select 1", "certificate verify failed", mode="verify-ca")


def test_a_password_decides(site):
    bad(site, "select 1", "password authentication failed", secret="wrong")
    bad(site, "select 1", "pg_hba.conf rejects", user=postgres.SUPERUSER, secret="")


def test_only_hosts_of_the_network_that_the_access_list_names_get_an_answer(site):
    assert knock(site.host, ADDRESS, PORT) == "open"
    assert knock(site.host, ADDRESS, 22) == "silent"
    assert knock(site.unlisted, ADDRESS, PORT) == "silent"
    assert knock(site.away, ADDRESS, PORT) == "silent"
    assert knock(None, ADDRESS, PORT) == "silent"  # the sandbox's internet, strangers
    site.cloud.update(postgres.ACL, "fr-par/acl", aclRules=[{"ip": "10.20.0.200/32"}])
    assert (knock(site.host, ADDRESS, PORT), knock(site.unlisted, ADDRESS, PORT)) == ("silent", "open")
    site.cloud.update(postgres.ACL, "fr-par/acl", aclRules=[{"ip": "10.20.0.0/24"}])
    assert knock(site.host, ADDRESS, PORT) == "open"


def test_a_user_has_the_one_database_and_no_more(site):
    good(site, "create table kept (value int); insert into kept values (42); create schema own")
    for statement in ("create role x", "create database x", "alter role other password 'x'"):
        bad(site, statement, "permission denied")
    bad(site, "select 1", "permission denied for database", database="sandbox")
    bad(site, "select 1", "permission denied for database", database="postgres")
    bad(site, "copy kept to program 'id'", "permission denied")
    bad(site, "select pg_read_file('/etc/passwd')", "permission denied")
    assert good(site, "select usesuper or usecreatedb or userepl from pg_user where usename = 'app'") == "f"


def test_the_administrator_makes_roles_databases_and_extensions_and_is_no_superuser(site):
    admin = {"user": "berth", "secret": ADMIN}
    good(site, "create extension pg_stat_statements", **admin)
    good(site, "create role made; create database made", **admin)
    good(site, "drop role made; drop database made", **admin)
    bad(site, "alter role app password 'x'", "permission denied", **admin)
    bad(site, "alter system set work_mem = '1MB'", "permission denied", **admin)
    # The databases are the provider's.
    bad(site, "drop database production", "must be owner", database="sandbox", **admin)
    good(site, "select 4711")
    seen = good(site, "select count(*) from pg_stat_statements where query like 'select $1%'")
    assert int(seen) >= 1
    good(site, "create extension pgcrypto")  # one that PostgreSQL trusts, by whoever may create objects


def test_a_permission_covers_what_there_is_when_it_is_set(site):
    def permission(of):
        site.cloud.update(postgres.PRIVILEGE, f"{ID}/sandbox/other", permission=of)

    other = {"user": "other", "secret": OTHER, "database": "sandbox"}
    admin = {"user": "berth", "secret": ADMIN, "database": "sandbox"}
    good(site, "create table shared (value int)", **admin)
    permission("readonly")
    good(site, "select * from shared", **other)
    bad(site, "insert into shared values (1)", "permission denied for table", **other)
    bad(site, "create table mine ()", "permission denied for schema", **other)
    permission("readwrite")
    good(site, "insert into shared values (1)", **other)
    bad(site, "create table mine ()", "permission denied for schema", **other)
    good(site, "create table later ()", **admin)
    bad(site, "select * from later", "permission denied for table", **other)
    permission("none")
    bad(site, "select 1", "permission denied for database", **other)
    with pytest.raises(EffectError, match="'custom' cannot be set"):
        permission("custom")
    permission("all")
    good(site, "create table mine ()", **other)


def test_settings_and_size_change_in_place_and_keep_the_data(site):
    assert good(site, "show max_connections") == "100"
    site.cloud.update(
        want.POSTGRES,
        ID,
        nodeType="DB-DEV-M",
        settings={"work_mem": "5", "max_connections": "50", "statement_timeout": "60000"},
    )
    shown = good(site, "show work_mem; show max_connections; show statement_timeout")
    assert shown.split() == ["5MB", "50", "1min"]
    assert good(site, "select value from kept") == "42"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"max_connections": "many"}, "invalid value for parameter"),
        ({"no_such_thing": "1"}, "unrecognized configuration parameter"),
        ({"ssl": "off"}, "not a setting of PostgreSQL one may set"),
        ({"x = 1\nssl": "off"}, "not a setting of PostgreSQL one may set"),
    ],
)
def test_a_setting_the_server_refuses_leaves_it_running_as_it_was(site, settings, expected):
    before = pid(site)
    with pytest.raises(EffectError, match=expected):
        site.cloud.update(want.POSTGRES, ID, settings=settings)
    assert pid(site) == before
    assert good(site, "show work_mem") == "5MB"


def test_a_killed_server_is_back_at_the_next_command_with_its_data(site):
    before = pid(site)
    kill(site)
    real.prepare(site.cloud.root)
    assert pid(site) != before
    assert good(site, "select value from kept") == "42"
    # And one that was killed while a client keeps it busy; an effect brings it back, too.
    with concurrent.futures.ThreadPoolExecutor() as pool:
        busy = pool.submit(ask, site, "select count(*) from generate_series(1, 1e12)")
        while "generate_series" not in good(site, "select string_agg(query, '') from pg_stat_activity"):
            time.sleep(0.1)
        kill(site)
        assert site.cloud.read(postgres.DATABASE, f"{ID}/production") == {}
        assert busy.result()[0] != 0
    kill(site)
    assert site.cloud.read(postgres.DATABASE, f"{ID}/production") == {}
    assert good(site, "select value from kept") == "42"


def test_after_a_reboot_of_the_machine_it_is_back(site):
    services.stop(site.cloud.root)
    for directory in Layout(site.cloud.root).run.iterdir():
        if directory.is_file():
            directory.unlink()
    net.drop(Layout(site.cloud.root).namespace(want.key(ID)).name)
    real.prepare(site.cloud.root)
    assert good(site, "select value from kept") == "42"


def test_down_refuses_everybody_until_it_is_up(site):
    services.take_down(site.cloud.root, frozenset({"postgres"}))
    real.prepare(site.cloud.root)
    assert knock(site.host, ADDRESS, PORT) == "refused"
    (one,) = [one for one in services.status(site.cloud.root) if one["kind"] == "postgres"]
    assert (one["down"], one["database"], one["memory"] > 10**6) == (True, True, True)
    # The cloud's API goes on.
    site.cloud.create(postgres.DATABASE, f"{ID}/while-down", {"instanceId": ID, "name": "while-down"})
    services.take_down(site.cloud.root, frozenset())
    real.prepare(site.cloud.root)
    assert good(site, "select value from kept") == "42"
    with pytest.raises(SandboxError, match=r"no managed service is called mysql; there is .*postgres"):
        services.take_down(site.cloud.root, frozenset({"mysql"}))


def test_a_new_password_replaces_the_old(site):
    site.cloud.update(postgres.USER, f"{ID}/app", password="Second1!")
    bad(site, "select 1", "password authentication failed")
    assert good(site, "select value from kept", secret="Second1!") == "42"
    site.cloud.update(want.POSTGRES, ID, password="Third1!")
    good(site, "select 1", user="berth", secret="Third1!")


def test_no_password_is_on_disk_or_in_a_log(site):
    for secret in (ADMIN, APP, OTHER, "Second1!", "Third1!"):
        for directory in (Layout(site.cloud.root).state, Layout(site.cloud.root).logs):
            for path in directory.rglob("*"):
                if path.is_file():
                    assert secret.encode() not in path.read_bytes(), path


def test_what_is_lost_is_told(site):
    good(site, "drop table kept; drop schema own", secret="Second1!")
    for token, id in ((postgres.DATABASE, "sandbox"), (postgres.USER, "other")):
        assert site.cloud.read(token, f"{ID}/{id}") == {}
    site.cloud.delete(postgres.DATABASE, f"{ID}/while-down")
    site.cloud.create(postgres.DATABASE, f"{ID}/lost", {"instanceId": ID, "name": "lost"})
    server = postgres.Server(postgres._place(site.cloud.world, ID), site.cloud.row(want.POSTGRES, ID), print)
    server.sql("drop database lost")
    assert site.cloud.read(postgres.DATABASE, f"{ID}/lost") is None
    site.cloud.delete(postgres.DATABASE, f"{ID}/lost")


def test_a_user_goes_and_what_they_made_stays(site):
    other = {"user": "other", "secret": OTHER, "database": "sandbox"}
    good(site, "create table left_behind as select 7 as value", **other)
    site.cloud.delete(postgres.PRIVILEGE, f"{ID}/sandbox/other")
    site.cloud.delete(postgres.USER, f"{ID}/other")
    bad(site, "select 1", "password authentication failed", **other)
    site.cloud.update(postgres.PRIVILEGE, f"{ID}/sandbox/berth", permission="all")
    admin = {"user": "berth", "secret": "Third1!", "database": "sandbox"}
    assert good(site, "select value from left_behind", **admin) == "7"


def test_what_the_sandbox_cannot_run_is_refused_in_words(site):
    network = {"privateNetwork": {"pnId": NETWORK, "ip": "10.20.0.11", "port": PORT}}
    with pytest.raises(EffectError, match="cannot run PostgreSQL-15; it runs PostgreSQL-17"):
        site.cloud.create(want.POSTGRES, "fr-par/old", {"engine": "PostgreSQL-15"}, network)
    site.cloud.delete(want.POSTGRES, "fr-par/old")
    with pytest.raises(EffectError, match="on a private network only"):
        site.cloud.create(want.POSTGRES, "fr-par/public", {"engine": "PostgreSQL-17"})
    site.cloud.delete(want.POSTGRES, "fr-par/public")
    with pytest.raises(EffectError, match="leave out load_balancer"):
        site.cloud.create(
            want.POSTGRES,
            "fr-par/both",
            {"engine": "PostgreSQL-17"},
            {**network, "loadBalancer": {"ip": "x"}},
        )
    site.cloud.delete(want.POSTGRES, "fr-par/both")
    with pytest.raises(EffectError, match="does not upgrade"):
        postgres.Instance().update(
            site.cloud.world,
            site.cloud.row(want.POSTGRES, ID),
            Row(id=ID, token=want.POSTGRES, name="pg", inputs={}, outputs={"engine": "PostgreSQL-18"}),
        )


def test_a_deleted_instance_leaves_nothing(site):
    layout, key = Layout(site.cloud.root), want.key(ID)
    before = pid(site)
    site.cloud.delete(want.POSTGRES, ID)
    site.cloud.delete(postgres.DATABASE, f"{ID}/production")  # in whatever order the engine asks
    with pytest.raises(OSError, match=r"No such|denied"):
        Path(f"/proc/{before}/exe").readlink()
    assert not list(layout.state.glob("postgres-*/"))
    assert not layout.namespace(key).exists()
    assert knock(site.host, ADDRESS, PORT) == "silent"
    assert site.cloud.inventory.get(want.POSTGRES, ID) is None
