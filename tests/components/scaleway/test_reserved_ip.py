from __future__ import annotations

import pulumi
import pytest

from components.cloud import ReservedIpArgs, ReverseDnsArgs
from components.scaleway.reserved_ip import ReservedIp, ReverseDns
from tests import mocks
from tests.contracts.samples import scope

UUID = "aaaaaaaa-0000-4000-8000-00000000000a"


@pytest.mark.parametrize("keep", [True, False])
def test_a_routed_ipv4_kept_like_data(keep: bool) -> None:
    args = ReservedIpArgs(scope=scope("scaleway", keep_data=keep))
    run = mocks.run(lambda: ReservedIp("scell", args).outputs)
    ip = run.one("scaleway:instance/ip:Ip")
    assert (ip.inputs["type"], ip.inputs["zone"], ip.protect) == ("routed_ipv4", "fr-par-1", keep)
    assert run.value.address.startswith("198.18.16.")
    assert run.value.id == mocks.identifier("scell-ip", "fr-par-1")


@pytest.mark.parametrize("given", [UUID, f"fr-par-1/{UUID}"])
def test_an_existing_address_is_taken_over_with_or_without_its_zone(given: str) -> None:
    args = ReservedIpArgs(scope=scope("scaleway", keep_data=False), adopt=given)
    ip = mocks.run(lambda: ReservedIp("scell", args)).one("scaleway:instance/ip:Ip")
    assert ip.import_id == f"fr-par-1/{UUID}"
    assert ip.protect is True


def test_reverse_dns_waits_for_the_record_it_is_given() -> None:
    def program() -> None:
        address = ReservedIp("scell", ReservedIpArgs(scope=scope("scaleway"))).outputs
        record = pulumi.CustomResource("test:index:Record", "record", {})
        ReverseDns(
            "scell",
            ReverseDnsArgs(scope=scope("scaleway"), ip=address, hostname="scell.io"),
            pulumi.ResourceOptions(depends_on=[record]),
        )

    run = mocks.run(program)
    reverse = run.one("IpReverseDns")
    assert reverse.inputs["reverse"] == "scell.io"
    assert reverse.inputs["ipId"] == mocks.identifier("scell-ip", "fr-par-1")
    assert run.one("test:index:Record").urn in reverse.dependencies
    assert run.one("scaleway:instance/ip:Ip").urn in reverse.dependencies
