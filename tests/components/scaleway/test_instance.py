from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from components.cloud import InstanceArgs
from components.scaleway.instance import Instance
from tests import mocks
from tests.contracts.samples import access, firewall, network, reserved_ip, scope, volume

SERVER = "scaleway:instance/server:Server"


def run(*, preview: bool = False, fakes: Any = None, keep: bool = True, **changes: Any) -> mocks.Run:
    def program() -> Any:
        args = InstanceArgs(
            scope=scope("scaleway", keep_data=keep),
            size="DEV1-M",
            image="debian-12",
            access=access(),
            network=network(),
            firewall=firewall(),
        )
        made = {name: value() if callable(value) else value for name, value in changes.items()}
        return Instance("web", replace(args, **made)).outputs

    return mocks.run(program, preview=preview, fakes=fakes)


def with_address(**more: Any) -> mocks.Run:
    return run(reserved_ip=reserved_ip, **more)


def test_the_provider_names_it_so_that_a_new_one_can_stand_beside_the_old() -> None:
    assert "name" not in run().one(SERVER).inputs


@pytest.mark.parametrize(
    ("image", "label"), [("debian-12", "debian_bookworm"), ("debian-13", "debian_trixie")]
)
def test_images_by_scaleways_label(image: str, label: str) -> None:
    assert run(image=image).one(SERVER).inputs["image"] == label


@pytest.mark.parametrize(("asked", "size"), [(None, 40), (80, 80)])
def test_the_root_disk_is_block_storage_which_grows_in_place(asked: int | None, size: int) -> None:
    root = run(disk_gb=asked).one(SERVER).inputs["rootVolume"]
    assert root == {"volumeType": "sbs_volume", "sizeInGb": size}


def test_it_stands_behind_the_firewall() -> None:
    assert run().one(SERVER).inputs["securityGroupId"] == "fr-par-1/aaaaaaaa-0000-4000-8000-000000000002"


def test_with_a_reserved_address_it_holds_that_and_no_other() -> None:
    inputs = with_address().one(SERVER).inputs
    assert inputs["ipIds"] == ["fr-par-1/aaaaaaaa-0000-4000-8000-000000000003"]
    assert inputs["enableDynamicIp"] is False


def test_without_one_it_gets_a_public_address_to_be_reached_at() -> None:
    inputs = run().one(SERVER).inputs
    assert "ipIds" not in inputs
    assert inputs["enableDynamicIp"] is True


def test_the_old_host_goes_first_only_where_both_would_hold_the_same_thing() -> None:
    assert run().one(SERVER).delete_before_replace is None
    assert with_address().one(SERVER).delete_before_replace is True
    assert run(volumes=lambda: (volume(),)).one(SERVER).delete_before_replace is True


def test_volumes_are_attached() -> None:
    attached = run(volumes=lambda: (volume(),)).one(SERVER).inputs["additionalVolumeIds"]
    assert attached == ["fr-par-1/aaaaaaaa-0000-4000-8000-000000000004"]


def test_cloud_init_is_secret_and_ignored_once_the_host_stands() -> None:
    server = run().one(SERVER)
    assert server.inputs["cloudInit"].startswith("#cloud-config")
    assert "cloudInit" in server.secrets
    assert server.secret_outputs == ("cloudInit", "userData")
    assert server.ignore_changes == ("cloudInit",)


@pytest.mark.parametrize("keep", [True, False])
def test_a_host_with_data_is_protected_and_keeps_its_image(keep: bool) -> None:
    server = run(stateful=True, keep=keep).one(SERVER)
    assert server.ignore_changes == ("cloudInit", "image")
    assert server.protect is keep
    assert server.inputs["protected"] is keep


def test_a_host_without_data_is_not_protected() -> None:
    server = run().one(SERVER)
    assert not server.protect
    assert server.inputs["protected"] is False


def test_the_private_interface_is_a_resource_of_its_own() -> None:
    made = run()
    nic = made.one("PrivateNic")
    assert nic.inputs["serverId"] == mocks.identifier("web-server", "fr-par-1")
    assert nic.inputs["privateNetworkId"] == "fr-par/aaaaaaaa-0000-4000-8000-000000000001"
    assert "privateNetworks" not in made.one(SERVER).inputs


def test_addresses_are_ipv4_out_of_mixed_lists() -> None:
    value = with_address().value
    assert value.public_ip == f"198.18.16.{mocks.number('web-server')}"
    assert value.private_ip == f"10.20.0.{mocks.number('web-private-nic')}"


def test_it_is_reached_at_its_own_address_as_the_access_says() -> None:
    value = with_address().value
    assert value.connection.host == value.public_ip
    assert (value.connection.user, value.connection.port) == ("ops", 22)
    assert value.connection.private_key.startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert value.connection.host_key == "ssh-ed25519 AAAAC3Nza"


def test_the_private_key_is_secret_in_the_state() -> None:
    made = run()
    assert "connection" in made.secret_outputs[made.components[0].urn]


def test_what_commands_are_tied_to_is_the_server() -> None:
    made = run()
    assert made.value.resource._type == SERVER


def test_addresses_are_unknown_in_a_preview() -> None:
    value = run(preview=True).value
    assert value.public_ip is None
    assert value.private_ip is None


def test_a_server_without_a_public_address_is_an_error_that_names_it() -> None:
    without = {SERVER: lambda *_: {"publicIps": [{"address": "2001:db8::1", "family": "inet6"}]}}
    with pytest.raises(RuntimeError, match="the provider gave no public IPv4 of web"):
        run(fakes=without)
