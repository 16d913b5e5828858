from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from components.cloud import RedisArgs
from components.scaleway.redis import Redis
from tests import mocks
from tests.contracts.samples import network, scope

CLUSTER = "scaleway:redis/cluster:Cluster"


def run(*, keep: bool = True, preview: bool = False, **changes: Any) -> mocks.Run:
    def program() -> Any:
        args = RedisArgs(
            scope=scope("scaleway", keep_data=keep), version="7.2.5", size="RED1-MICRO", network=network()
        )
        made = Redis("scell", replace(args, **changes)).outputs
        return made, made.url(2)

    return mocks.run(program, preview=preview)


def test_tls_and_the_private_network_only() -> None:
    inputs = run().one(CLUSTER).inputs
    assert inputs["tlsEnabled"] is True
    assert inputs["privateNetworks"] == [{"id": "fr-par/aaaaaaaa-0000-4000-8000-000000000001"}]
    assert "publicNetwork" not in inputs
    assert "acls" not in inputs


def test_version_size_nodes_and_settings() -> None:
    inputs = run(nodes=3, settings={"maxmemory-policy": "noeviction"}).one(CLUSTER).inputs
    assert (inputs["version"], inputs["nodeType"], inputs["clusterSize"]) == ("7.2.5", "RED1-MICRO", 3)
    assert inputs["settings"] == {"maxmemory-policy": "noeviction"}
    assert "settings" not in run().one(CLUSTER).inputs


@pytest.mark.parametrize("keep", [True, False])
def test_the_queue_in_it_is_data(keep: bool) -> None:
    made = run(keep=keep)
    assert made.one(CLUSTER).protect is keep
    assert made.one("RandomPassword").protect is keep


def test_the_password_is_secret() -> None:
    assert "password" in run().one(CLUSTER).secrets


def test_outputs() -> None:
    made, url = run().value
    host = f"10.20.0.{mocks.number('scell-cluster')}"
    assert (made.host, made.port, made.user, made.tls) == (host, 6379, "berth", True)
    assert made.ca_certificate.startswith("-----BEGIN CERTIFICATE-----")
    assert url == f"rediss://berth:{made.password.replace('!', '%21')}@{host}:6379/2"


def test_outputs_are_unknown_in_a_preview() -> None:
    made, url = run(preview=True).value
    assert (made.host, made.port, url) == (None, None, None)


def test_an_existing_one_is_taken_over() -> None:
    cluster = run(adopt="some-uuid", keep=False).one(CLUSTER)
    assert cluster.import_id == "fr-par-1/some-uuid"
    assert cluster.protect is True
