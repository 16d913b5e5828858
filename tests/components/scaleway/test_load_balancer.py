from __future__ import annotations

from dataclasses import replace
from typing import Any

import pulumi
import pytest

from components.cloud import Health, LoadBalancerArgs
from components.scaleway.load_balancer import LoadBalancer
from tests import mocks
from tests.contracts.samples import network, scope


def run(*, keep: bool = True, preview: bool = False, **changes: Any) -> mocks.Run:
    def program() -> Any:
        args = LoadBalancerArgs(
            scope=scope("scaleway", keep_data=keep),
            size="LB-S",
            network=network(),
            targets=[pulumi.Output.from_input("10.20.0.11"), pulumi.Output.from_input("10.20.0.12")],
            names=("scell.io", "www.scell.io"),
            zone="scell.io",
        )
        return LoadBalancer("edge", replace(args, **changes)).outputs

    return mocks.run(program, preview=preview)


def test_it_has_an_address_that_outlives_it_and_stands_in_the_network() -> None:
    made = run()
    balancer = made.one("scaleway:loadbalancers/loadBalancer:LoadBalancer")
    assert balancer.inputs["type"] == "LB-S"
    assert balancer.inputs["ipIds"] == [mocks.identifier("edge-ip", "fr-par-1")]
    assert balancer.inputs["privateNetworks"] == [
        {"privateNetworkId": "fr-par/aaaaaaaa-0000-4000-8000-000000000001"}
    ]
    assert "name" not in balancer.inputs
    assert made.value.address == f"198.18.17.{mocks.number('edge-ip')}"


@pytest.mark.parametrize("keep", [True, False])
def test_the_address_is_kept_like_data(keep: bool) -> None:
    assert run(keep=keep).one("scaleway:loadbalancers/ip:Ip").protect is keep


def test_the_certificate_waits_until_the_names_point_at_the_address() -> None:
    made = run()
    records = made.of("scaleway:domain/record:Record")
    assert [(r.inputs["name"], r.inputs["type"]) for r in records] == [("", "A"), ("www", "A")]
    assert {r.inputs["data"] for r in records} == {made.value.address}
    certificate = made.one("Certificate")
    assert certificate.inputs["letsencrypt"] == {
        "commonName": "scell.io",
        "subjectAlternativeNames": ["www.scell.io"],
    }
    assert {r.urn for r in records} <= set(certificate.dependencies)


def test_one_name_alone_has_no_alternatives() -> None:
    assert run(names=("scell.io",)).one("Certificate").inputs["letsencrypt"] == {"commonName": "scell.io"}


def test_plain_http_goes_to_private_addresses() -> None:
    inputs = run(target_port=8080).one("Backend").inputs
    assert (inputs["forwardProtocol"], inputs["forwardPort"]) == ("http", 8080)
    assert inputs["serverIps"] == ["10.20.0.11", "10.20.0.12"]


def test_health_is_asked_as_said() -> None:
    health = Health(path="/up", port=8081, interval_seconds=11, timeout_seconds=6, retries=4)
    inputs = run(health=health).one("Backend").inputs
    assert inputs["healthCheckHttp"] == {"uri": "/up"}
    assert inputs["healthCheckPort"] == 8081
    assert inputs["healthCheckDelay"] == "11s"
    assert inputs["healthCheckTimeout"] == "6s"
    assert inputs["healthCheckMaxRetries"] == 4


def test_https_serves_and_http_only_redirects() -> None:
    made = run()
    https, http = made.one("Frontend", "edge-https"), made.one("Frontend", "edge-http")
    assert https.inputs["inboundPort"] == 443
    assert https.inputs["certificateIds"] == [mocks.identifier("edge-certificate", "fr-par-1")]
    assert (http.inputs["inboundPort"], http.inputs["externalAcls"]) == (80, True)
    acl = made.one("scaleway:loadbalancers/acl:Acl")
    assert acl.inputs["frontendId"] == mocks.identifier("edge-http", "fr-par-1")
    assert acl.inputs["action"] == {
        "type": "redirect",
        "redirects": [{"type": "scheme", "target": "https", "code": 301}],
    }
    assert acl.inputs["match"] == {"httpFilter": "path_begin", "httpFilterValues": ["/"]}


def test_a_name_outside_the_zone_is_refused() -> None:
    with pytest.raises(ValueError, match=r"example\.org is not in the zone scell\.io"):
        run(names=("example.org",))
