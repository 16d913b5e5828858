from __future__ import annotations

from dataclasses import replace
from typing import Any

import pulumi
import pytest

from components.cloud import Postgres as Database
from components.cloud import PostgresArgs
from components.scaleway.postgres import Postgres
from tests import mocks
from tests.contracts.samples import network, scope

INSTANCE = "scaleway:databases/instance:Instance"
DATABASES = {"scell_production": "scell", "scell_sandbox": "sandbox"}


def run(*, keep: bool = True, preview: bool = False, **changes: Any) -> mocks.Run:
    def program() -> Any:
        args = PostgresArgs(
            scope=scope("scaleway", keep_data=keep),
            version=17,
            size="DB-DEV-S",
            network=network(),
            databases=DATABASES,
        )
        made: Database = Postgres("scell", replace(args, **changes)).outputs
        return made, {name: made.url(name) for name in made.databases}

    return mocks.run(program, preview=preview)


def test_engine_and_size() -> None:
    inputs = run().one(INSTANCE).inputs
    assert (inputs["engine"], inputs["nodeType"]) == ("PostgreSQL-17", "DB-DEV-S")
    assert (inputs["volumeType"], inputs["volumeSizeInGb"]) == ("sbs_5k", 10)
    assert run(volume_gb=25).one(INSTANCE).inputs["volumeSizeInGb"] == 25


def test_private_network_only() -> None:
    inputs = run().one(INSTANCE).inputs
    assert inputs["privateNetwork"] == {
        "pnId": "fr-par/aaaaaaaa-0000-4000-8000-000000000001",
        "enableIpam": True,
    }
    assert "loadBalancer" not in inputs


def test_reachable_from_the_network_alone() -> None:
    acl = run().one("scaleway:databases/acl:Acl")
    assert [rule["ip"] for rule in acl.inputs["aclRules"]] == ["10.20.0.0/24"]


@pytest.mark.parametrize("ha", [True, False])
def test_high_availability_as_asked(ha: bool) -> None:
    assert run(high_availability=ha).one(INSTANCE).inputs["isHaCluster"] is ha


def test_backups_are_on_at_the_asked_pace() -> None:
    inputs = run(backup_every_hours=6, backup_keep_days=14).one(INSTANCE).inputs
    assert inputs["disableBackup"] is False
    assert (inputs["backupScheduleFrequency"], inputs["backupScheduleRetention"]) == (6, 14)


def test_scaleways_own_settings_stand_unless_some_are_given() -> None:
    assert "settings" not in run().one(INSTANCE).inputs
    assert run(settings={"work_mem": "8"}).one(INSTANCE).inputs["settings"] == {"work_mem": "8"}


def test_one_user_for_each_owner_none_of_them_an_administrator() -> None:
    users = run(databases={**DATABASES, "third": "scell"}).of("scaleway:databases/user:User")
    assert [u.inputs["name"] for u in users] == ["sandbox", "scell"]
    assert all(u.inputs["isAdmin"] is False for u in users)


def test_all_rights_on_ones_own_database_and_no_other() -> None:
    made = run()
    rights = {
        (p.inputs["databaseName"], p.inputs["userName"], p.inputs["permission"])
        for p in made.of("scaleway:databases/privilege:Privilege")
    }
    admin = made.one(INSTANCE).inputs["userName"]
    assert rights == {
        ("scell_production", "scell", "all"),
        ("scell_sandbox", "sandbox", "all"),
        ("scell_production", admin, "all"),
        ("scell_sandbox", admin, "all"),
    }
    named = [d.inputs["name"] for d in made.of("scaleway:databases/database:Database")]
    assert named == ["scell_production", "scell_sandbox"]


def test_rights_are_given_when_user_and_database_are_there() -> None:
    made = run()
    privilege = made.one("Privilege", "scell-privilege-scell_production")
    user = made.one("scaleway:databases/user:User", "scell-user-scell")
    database = made.one("scaleway:databases/database:Database", "scell-database-scell_production")
    assert {user.urn, database.urn} <= set(privilege.dependencies)


def test_passwords_are_what_scaleway_takes_secret_and_kept() -> None:
    made = run()
    passwords = made.of("RandomPassword")
    assert len(passwords) == 3
    for password in passwords:
        assert 8 <= password.inputs["length"] <= 128
        assert all(password.inputs[f"min{kind}"] >= 1 for kind in ("Lower", "Upper", "Numeric", "Special"))
        assert not set(password.inputs["overrideSpecial"]) & set("\"'\\$`# &/")
        assert password.protect is True
    for holder in (*made.of(INSTANCE), *made.of("scaleway:databases/user:User")):
        assert "password" in holder.secrets


def test_the_administrator_is_nobodys_login() -> None:
    made = run()
    admin = made.one(INSTANCE)
    logins = {user.inputs["password"] for user in made.of("scaleway:databases/user:User")}
    assert admin.inputs["password"] not in logins
    assert admin.inputs["userName"] not in DATABASES.values()


@pytest.mark.parametrize("keep", [True, False])
def test_instance_and_databases_are_protected_as_the_scope_says(keep: bool) -> None:
    made = run(keep=keep)
    assert made.one(INSTANCE).protect is keep
    assert [d.protect for d in made.of("scaleway:databases/database:Database")] == [keep, keep]


def test_an_adopted_instance_keeps_its_administrator() -> None:
    instance = run(adopt="some-uuid", keep=False).one(INSTANCE)
    assert instance.import_id == "fr-par/some-uuid"
    assert instance.protect is True
    assert instance.ignore_changes == ("engine", "userName")


def test_outputs() -> None:
    made, urls = run().value
    assert (made.host, made.port) == (f"10.20.0.{mocks.number('scell-instance')}", 5432)
    assert made.ca_certificate.startswith("-----BEGIN CERTIFICATE-----")
    assert made.databases["scell_sandbox"].user == "sandbox"
    assert urls["scell_sandbox"].startswith("postgresql://sandbox:Aa1%21")
    assert urls["scell_sandbox"].endswith(f"@{made.host}:5432/scell_sandbox?sslmode=verify-full")


def test_outputs_are_unknown_in_a_preview() -> None:
    made, urls = run(preview=True).value
    assert (made.host, made.port, urls["scell_sandbox"]) == (None, None, None)


def test_urls_are_secret() -> None:
    secrecy: list[bool] = []

    def program() -> Any:
        args = PostgresArgs(
            scope=scope("scaleway"), version=17, size="DB-DEV-S", network=network(), databases=DATABASES
        )
        url = Postgres("scell", args).outputs.url("scell_production")

        async def look() -> None:
            secrecy.append(await url.is_secret())

        return pulumi.Output.from_input(look())

    mocks.run(program)
    assert secrecy == [True]


def test_an_unknown_database_has_no_url() -> None:
    def program() -> Any:
        args = PostgresArgs(
            scope=scope("scaleway"), version=17, size="DB-DEV-S", network=network(), databases=DATABASES
        )
        return Postgres("scell", args).outputs.url("other")

    with pytest.raises(KeyError, match="other"):
        mocks.run(program)
