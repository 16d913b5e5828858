"""The pure parts of managed services; no network, no root."""

import hashlib
import hmac
import ssl
import subprocess
from base64 import b64decode

import pytest

from sandbox import services
from sandbox.effects.protocol import EffectError, Row
from sandbox.hosts import desired as want
from sandbox.services import certificate, guard, postgres, private, redis
from sandbox.services.layout import Layout, kind
from tests.sandbox.hosts.test_desired import NETWORK, Rows


def test_every_kind_has_what_the_frame_asks_for():
    kinds = [module.KIND for module in services.modules()]
    assert len(set(kinds)) == len(kinds)
    assert services.DATABASES <= set(kinds)
    for module in services.modules():
        assert callable(module.ensure)
        assert module.EFFECTS


def test_a_database_has_a_cable_into_its_network_and_no_public_address():
    row = Row(
        id="fr-par/pg",
        token=want.POSTGRES,
        name="pg",
        inputs={},
        outputs={"privateNetwork": {"pnId": "fr-par/n1", "ip": "10.20.0.9"}},
    )
    found = want.desired(Rows(row, NETWORK)).service("pg")
    assert found is not None
    assert found.addresses == ()
    (nic,) = found.nics
    assert (nic.network, nic.addresses) == (want.key("n1"), ("10.20.0.9/24",))
    assert nic == want.desired(Rows(row, NETWORK)).services[0].nics[0]  # the same hardware address each time
    assert want.desired(Rows(row, NETWORK), drop=row).services == ()


def test_a_cluster_has_all_its_addresses_and_a_balancer_a_public_one():
    cluster = Row(
        id="fr-par-1/rd",
        token=want.REDIS,
        name="rd",
        inputs={},
        outputs={"privateNetworks": [{"id": "n1", "ips": ["10.20.0.4", "10.20.0.5"]}]},
    )
    balancer = Row(
        id="fr-par-1/lb",
        token=want.BALANCER,
        name="lb",
        inputs={},
        outputs={
            "ipAddress": "198.18.16.7",
            "privateNetworks": [{"privateNetworkId": "n1"}],
            "privateIps": [{"address": "10.20.0.6"}, {"address": "10.99.0.6"}],
        },
    )
    by_id = {one.id: one for one in want.desired(Rows(cluster, balancer, NETWORK)).services}
    assert by_id["fr-par-1/rd"].nics[0].addresses == ("10.20.0.4/24", "10.20.0.5/24")
    assert by_id["fr-par-1/lb"].addresses == ("198.18.16.7",)
    assert by_id["fr-par-1/lb"].nics[0].addresses == ("10.20.0.6/24",)


def test_the_guard_lets_in_what_the_list_names():
    text = guard.render(5432, ["10.20.0.7/25", "0.0.0.0/0", "fd00::/8"])
    assert "policy drop" in text
    assert "ip saddr 10.20.0.0/25 tcp dport 5432 accept" in text
    assert "fd00" not in text
    assert "dport" not in guard.render(5432, [])
    assert "reject with tcp reset" in guard.render(5432, None, down=True)
    assert "dport" not in guard.render(5432, None, down=True)


def test_a_certificate_is_for_its_addresses_and_its_own_anchor(tmp_path):
    pem, key = certificate.make("pg", ["10.20.0.9"], ["pg.internal"])
    assert certificate.holds(pem, ["10.20.0.9"])
    assert not certificate.holds(pem, ["10.20.0.8"])
    assert "PRIVATE KEY" in key
    path = tmp_path / "pem"
    path.write_text(pem)
    ssl.create_default_context(cafile=str(path))
    done = subprocess.run(
        ["openssl", "verify", "-CAfile", path, "-verify_ip", "10.20.0.9", path],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_verifier_is_what_scram_asks_for():
    text = postgres.verifier("pencil", b"W22ZaJ0SNY7soEsUEjb6gQ")
    method, rounds, salt, keys = text.replace("$", ":", 2).replace("$", ":").split(":", 3)
    assert (method, rounds) == ("SCRAM-SHA-256", "4096")
    salted = hashlib.pbkdf2_hmac("sha256", b"pencil", b64decode(salt), 4096)
    client = hmac.digest(salted, b"Client Key", "sha256")
    stored, server = keys.split(":")
    assert b64decode(stored) == hashlib.sha256(client).digest()
    assert b64decode(server) == hmac.digest(salted, b"Server Key", "sha256")
    assert postgres.verifier("pencil") != postgres.verifier("pencil")


def test_names_and_values_cannot_leave_their_quotes():
    assert postgres.identifier('a"; drop') == '"a""; drop"'
    assert postgres.literal("it's") == "'it''s'"
    assert redis.quote('a" b\\') == '"a\\" b\\\\"'


@pytest.mark.parametrize(
    ("permission", "expected", "absent"),
    [
        ("readonly", "grant select on all tables", "insert"),
        ("readwrite", "grant select, insert, update, delete on all tables", "grant all"),
        ("all", 'grant all on database "d" to "u"', "grant connect"),
        ("none", 'revoke all on database "d" from "u"', "grant"),
    ],
)
def test_a_permission_is_these_rights(permission, expected, absent):
    text = "\n".join(postgres.privileges("d", "u", permission, ["public"]))
    assert expected in text
    assert absent not in text
    assert "schema" not in "\n".join(postgres.privileges("d", "u", permission, []))


def test_settings_of_the_provider_are_not_for_the_program():
    assert private.settings({"work_mem": "4", "pg_stat_statements.max": "100"}, postgres.OURS, "x") == {
        "work_mem": "4",
        "pg_stat_statements.max": "100",
    }
    for name in (
        "port",
        "ssl_cert_file",
        "hba_file",
        "shared_preload_libraries",
        "Work Mem",
        "archive_command",
    ):
        with pytest.raises(EffectError, match="is not a setting of x one may set"):
            private.settings({name: "1"}, postgres.OURS, "x")


def test_down_is_remembered_by_kind(tmp_path):
    (tmp_path / "Pulumi.yaml").touch()
    services.take_down(tmp_path, frozenset({"redis"}))
    assert Layout(tmp_path).down() == {"redis"}
    assert kind("redis-0011aabb") == "redis"
    services.take_down(tmp_path, frozenset())
    assert Layout(tmp_path).down() == frozenset()
