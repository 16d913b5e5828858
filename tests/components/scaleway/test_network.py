from __future__ import annotations

from components.cloud import NetworkArgs
from components.scaleway.network import Network
from tests import mocks
from tests.contracts.samples import PROJECT, scope


def test_a_vpc_of_its_own_with_one_private_network_of_the_asked_range() -> None:
    args = NetworkArgs(scope=scope("scaleway"), cidr="10.20.0.0/24")
    run = mocks.run(lambda: Network("scell", args).outputs)
    vpc, private = run.one("Vpc"), run.one("PrivateNetwork")
    assert vpc.inputs["region"] == private.inputs["region"] == "fr-par"
    assert private.inputs["vpcId"] == mocks.identifier("scell-vpc", "fr-par")
    assert private.inputs["ipv4Subnet"] == {"subnet": "10.20.0.0/24"}
    assert private.inputs["projectId"] == PROJECT
    assert run.value.id == mocks.identifier("scell-private", "fr-par")
    assert run.value.cidr == "10.20.0.0/24"
