"""How a host is entered, and what its baseline says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi import Output

from components.cloud import Connection, Instance, Scope
from components.host import baseline as base
from components.host.access import HostAccessArgs, HostKeys, user_data
from tests import mocks

ADA = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA ada"


def scope(keep_data: bool = True) -> Scope:
    return Scope(system="scell", environment="test", region="fr-par", zone="fr-par-1", keep_data=keep_data)


def access(keep_data: bool = True) -> mocks.Run:
    return mocks.run(
        lambda: HostKeys("scell", HostAccessArgs(scope=scope(keep_data), user="ops", keys=[ADA])).outputs
    )


def test_cloud_init_brings_users_keys_and_host_key_and_no_more() -> None:
    run = access()
    text = run.value.access.cloud_init
    assert text.startswith("#cloud-config\n")
    written = json.loads(text.removeprefix("#cloud-config\n"))
    assert {user["name"]: user["ssh_authorized_keys"] for user in written["users"]} == {
        "berth": ["ssh-ed25519 AAAAC3Nzascelldeploykey berth"],
        "ops": [ADA],
    }
    assert {user["sudo"] for user in written["users"]} == {"ALL=(ALL) NOPASSWD:ALL"}
    assert written["disable_root"] is True
    assert written["ssh_pwauth"] is False
    assert written["ssh_keys"]["ed25519_private"].startswith(
        "-----BEGIN OPENSSH PRIVATE KEY-----\nscell-host-key"
    )
    assert "packages" not in written


def test_the_pinned_key_is_the_one_cloud_init_brings() -> None:
    run = access()
    written = json.loads(run.value.access.cloud_init.removeprefix("#cloud-config\n"))
    assert run.value.access.host_key == written["ssh_keys"]["ed25519_public"]
    assert run.value.access.private_key.startswith("-----BEGIN OPENSSH PRIVATE KEY-----\nscell-deploy-key")


def test_another_name_for_the_admins_changes_nothing_in_how_the_program_gets_in() -> None:
    def entered(user: str) -> Any:
        def program() -> Any:
            made = HostKeys("scell", HostAccessArgs(scope=scope(), user=user, keys=[ADA])).outputs
            return made.access.user, made.access.private_key, made.access.host_key

        return mocks.run(program).value

    assert entered("ops") == entered("sre")


def test_private_halves_are_secret() -> None:
    run = access()
    assert "access" in run.secret_outputs[run.one("berth:host:HostKeys").urn]


@pytest.mark.parametrize("keep", [True, False])
def test_keys_are_protected_where_data_is_kept(keep: bool) -> None:
    keys = access(keep).of("tls:index/privateKey:PrivateKey")
    assert [key.name for key in keys] == ["scell-deploy-key", "scell-host-key"]
    assert all(key.inputs["algorithm"] == "ED25519" for key in keys)
    assert [bool(key.protect) for key in keys] == [keep, keep]


def test_user_data_survives_what_yaml_would_trip_over() -> None:
    text = user_data({"ops": ['ssh-ed25519 AAAA "a: b" #c']}, "k\ney\n", "pub")
    assert json.loads(text.partition("\n")[2])["users"][0]["ssh_authorized_keys"] == [
        'ssh-ed25519 AAAA "a: b" #c'
    ]


# ---------------------------------------------------------------- baseline


def arguments(**changes: Any) -> base.BaselineArgs:
    here: dict[str, Any] = {
        "scope": scope(),
        "instance": server(),
        "host": "scell",
        "user": "ops",
        "keys": [ADA],
        "deploy_key": Output.from_input("ssh-ed25519 CCCC berth"),
        "admin_cidrs": ["203.0.113.0/29", "203.0.113.0/30", "198.51.100.7/32"],
        "packages": ["nginx", "git"],
        "public_ports": (80, 443),
        "private_ranges": ("10.20.0.0/24",),
    }
    return base.BaselineArgs(**(here | changes))


def file(path: str, **changes: Any) -> str:
    run = mocks.run(lambda: {each.path: each.content for each in base.files(arguments(**changes))})
    return str(run.value[path])


def test_a_leavers_key_is_gone_from_the_file() -> None:
    assert file("admin_keys", keys=[ADA, "ssh-ed25519 BBBB bob"]).splitlines() == [
        ADA,
        "ssh-ed25519 BBBB bob",
    ]
    assert file("admin_keys") == ADA + "\n"
    assert file("login_keys") == "ssh-ed25519 CCCC berth\n"


def test_sshd_lets_in_the_people_and_the_program_by_key() -> None:
    lines = file("sshd.conf").splitlines()
    for line in ("PermitRootLogin no", "PasswordAuthentication no", "AllowUsers ops berth"):
        assert line in lines


def test_both_may_use_sudo() -> None:
    assert file("sudoers").splitlines()[1:] == [
        f"{user} ALL=(ALL:ALL) NOPASSWD: ALL" for user in ("ops", "berth")
    ]


def test_a_ban_cannot_shut_out_an_office_but_a_stranger_in_a_providers_range() -> None:
    text = file("fail2ban.conf", admin_cidrs=["203.0.113.0/29", "198.51.100.7/32", "100.64.0.0/16"])
    assert "ignoreip = 127.0.0.1/8 ::1 203.0.113.0/29 198.51.100.7/32\n" in text
    assert "ignoreip = 127.0.0.1/8 ::1 \n" in file("fail2ban.conf", admin_cidrs=["198.18.1.0/24"])


def test_firewall_order_private_network_before_public_ports() -> None:
    text = file(
        "firewall.nft", private=[base.PrivateRule(source="10.20.0.8/32", protocol="tcp", port="9100")]
    )
    allowed, dropped, public = (
        text.index(part)
        for part in (
            "ip saddr 10.20.0.8/32 tcp dport 9100 accept",
            "ip saddr 10.20.0.0/24 drop",
            "tcp dport { 80, 443 } accept",
        )
    )
    assert allowed < dropped < public
    assert "ip saddr { 198.51.100.7/32, 203.0.113.0/29 } tcp dport 22 accept" in text
    assert "policy drop" in text
    assert "flush ruleset" not in text  # the bans of fail2ban and Docker's rules are not ours


@pytest.mark.parametrize("ports", [(80, 443), ()])
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="nft -c needs root and nftables")
def test_nft_accepts_the_ruleset(tmp_path: Path, ports: tuple[int, ...]) -> None:
    path = tmp_path / "firewall.nft"
    path.write_text(file("firewall.nft", public_ports=ports).replace(base.BUILDER, "nobody"))
    done = subprocess.run(["nft", "-c", "-f", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_upgrades_follow_the_stack_file() -> None:
    on = file("unattended-upgrades.conf", reboot_time="03:15")
    assert 'APT::Periodic::Unattended-Upgrade "1";' in on
    assert 'Automatic-Reboot "true";' in on
    assert 'Automatic-Reboot-Time "03:15";' in on
    off = file("unattended-upgrades.conf", upgrades=False, reboot=False)
    assert 'APT::Periodic::Unattended-Upgrade "0";' in off
    assert 'Automatic-Reboot "false";' in off


def test_one_step_with_the_packages_of_all_roles_sorted_and_once() -> None:
    def program() -> None:
        base.baseline("scell-bootstrap", arguments(packages=["nginx", "git", "nftables"]))

    run = mocks.run(program)
    document = json.loads(run.one("command:remote:Command").inputs["stdin"])
    packages = document["environment"]["PACKAGES"].split()
    assert packages == sorted(set(packages))
    assert {"nginx", "git", "fail2ban", "unattended-upgrades", "nftables"} <= set(packages)
    assert document["environment"]["ADMIN_USER"] == "ops"
    assert document["environment"]["LOGIN"] == "berth"


def server() -> Instance:
    return Instance(
        id=Output.from_input("1"),
        public_ip=Output.from_input("198.18.16.5"),
        private_ip=Output.from_input("10.20.0.5"),
        connection=Connection(
            host=Output.from_input("198.18.16.5"),
            user="berth",
            private_key=Output.secret("PRIVATE"),
            host_key=Output.from_input("ssh-ed25519 AAAA"),
        ),
        resource=pulumi.CustomResource("test:index:Server", "host"),
    )


def test_every_file_of_the_baseline_is_used_by_its_script() -> None:
    script = Path("components/host/bootstrap.sh").read_text()
    names = mocks.run(lambda: [each.path for each in base.files(arguments())]).value
    assert [name for name in names if name not in script] == []
