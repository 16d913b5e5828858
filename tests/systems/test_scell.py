"""Scell.io, composed from its stack file: what there is, what hangs together, what is protected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pulumi
import pytest

from config import stackfile
from config.model import Secrets
from systems import REGISTRY, build
from tests import mocks

SANDBOX = Path("Pulumi.sandbox.yaml").read_text()


def run(tmp_path: Path, *changes: tuple[str, str], secrets: dict[str, str] | None = None) -> mocks.Run:
    text = SANDBOX
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    if secrets:
        sealed = ", ".join(f"{name}: {{secure: AAABAAAA}}" for name in secrets)
        text += f"  berth:secrets: {{scell: {{{sealed}}}}}\n"
    file = tmp_path / "Pulumi.sandbox.yaml"
    file.write_text(text)

    def program() -> Any:
        stack = stackfile.check(file, REGISTRY, None)
        given = {name: pulumi.Output.secret(value) for name, value in (secrets or {}).items()}
        return build(stack.with_secrets(Secrets({"scell": given})))

    return mocks.run(program)


def document(recorded: mocks.Run, step: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        recorded.one("command:remote:Command", f"scell-{step}-command").inputs["stdin"]
    )
    return found


def test_these_resources_and_no_others(tmp_path: Path) -> None:
    made = sorted((r.type, r.name) for r in run(tmp_path).resources if r.custom)
    assert made == [
        ("command:remote:Command", "scell-bootstrap-command"),
        ("command:remote:Command", "scell-release-command"),
        ("command:remote:Command", "scell-web-command"),
        ("random:index/randomId:RandomId", "scell-seal"),
        ("scaleway:domain/record:Record", "scell-apex-a"),
        ("scaleway:domain/record:Record", "scell-api-a"),
        ("scaleway:domain/record:Record", "scell-www-a"),
        ("scaleway:domain/zone:Zone", "scell-zone"),
        ("scaleway:instance/ip:Ip", "scell-ip"),
        ("scaleway:instance/ipReverseDns:IpReverseDns", "scell-reverse"),
        ("scaleway:instance/privateNic:PrivateNic", "scell-private-nic"),
        ("scaleway:instance/securityGroup:SecurityGroup", "scell-group"),
        ("scaleway:instance/server:Server", "scell-server"),
        ("scaleway:network/privateNetwork:PrivateNetwork", "scell-private"),
        ("scaleway:network/vpc:Vpc", "scell-vpc"),
        ("tls:index/privateKey:PrivateKey", "scell-deploy-key"),
        ("tls:index/privateKey:PrivateKey", "scell-host-key"),
    ]


def test_outside_only_http_and_ssh_of_the_admins(tmp_path: Path) -> None:
    group = run(tmp_path).one("SecurityGroup")
    assert group.inputs["inboundDefaultPolicy"] == "drop"
    rules = {
        (rule["protocol"], rule.get("port"), rule.get("portRange"), rule.get("ipRange"))
        for rule in group.inputs["inboundRules"]
    }
    assert {rule[3] for rule in rules if rule[1] == 22} == {"198.18.1.0/24"}
    assert {rule[1] for rule in rules if rule[3] == "0.0.0.0/0"} == {80, 443, None}
    assert {rule[0] for rule in rules if rule[1] is None} == {"ICMP"}


def test_names_point_at_the_reserved_address(tmp_path: Path) -> None:
    recorded = run(tmp_path)
    address = recorded.value["scell"]["address"]
    records = {r.inputs["name"]: r.inputs["data"] for r in recorded.of("Record")}
    assert records == {"": address, "www": address, "api": address}
    reverse = recorded.one("IpReverseDns")
    assert reverse.inputs["reverse"] == "scell.io"
    # Scaleway refuses a reverse name that does not resolve to the address yet.
    assert recorded.one("Record", "scell-apex-a").urn in reverse.dependencies


def test_a_zone_is_looked_up_unless_managed(tmp_path: Path) -> None:
    recorded = run(tmp_path, ("manage: true", "manage: false"))
    assert recorded.of("Zone") == []
    assert {r.inputs["dnsZone"] for r in recorded.of("Record")} == {"scell.io"}


def test_the_release_builds_beside_the_web_server_after_the_baseline(tmp_path: Path) -> None:
    recorded = run(tmp_path)
    first = recorded.one("Command", "scell-bootstrap-command").urn
    web, release = (recorded.one("Command", f"scell-{step}-command") for step in ("web", "release"))
    assert first in web.dependencies
    assert first in release.dependencies
    assert web.urn not in release.dependencies
    locks = {step: document(recorded, step)["lock"] for step in ("bootstrap", "web", "release")}
    assert locks == {"bootstrap": "host", "web": "host", "release": "app-scell"}


def test_every_command_goes_and_comes_with_the_server(tmp_path: Path) -> None:
    recorded = run(tmp_path)
    server = recorded.one("Server").urn
    for command in recorded.of("Command"):
        assert command.deleted_with == server
        assert command.replace_with == (server,)
        assert {"stdin", "connection"} <= command.secrets


def test_the_stack_file_reaches_the_host(tmp_path: Path) -> None:
    host = "      host: {timezone: Europe/Paris, swap_gb: 0, logs: {keep_days: 3}}\n      frontend:"
    recorded = run(tmp_path, ("      frontend:", host), ('node: "20"', 'node: "22"'))
    baseline, web, release = (document(recorded, step) for step in ("bootstrap", "web", "release"))
    assert baseline["environment"]["TIMEZONE"] == "Europe/Paris"
    assert baseline["environment"]["SWAP_GB"] == "0"
    assert "rotate 3" in baseline["files"]["logrotate.conf"]
    assert "rotate 3" in web["files"]["logrotate.conf"]
    assert json.loads(web["files"]["certificates.json"])["names"] == ["scell.io", "www.scell.io"]
    assert "==22." in release["files"]["node.txt"]
    assert release["environment"]["VITE_API_URL"] == "https://api.scell.io/api/v1"
    assert release["environment"]["RELEASE"] == "v1.0.0"


def test_the_root_of_the_site_is_where_releases_go(tmp_path: Path) -> None:
    recorded = run(tmp_path)
    app = document(recorded, "release")["environment"]["APP"]
    assert f"root /srv/{app}/current/dist;" in document(recorded, "web")["files"]["nginx/scell.io.conf"]


def test_debian_13_gets_its_image_and_its_http2(tmp_path: Path) -> None:
    recorded = run(tmp_path, ("image: debian-12", "image: debian-13"))
    assert "http2 on;" in document(recorded, "web")["files"]["nginx/scell.io.conf"]


def test_a_deploy_key_is_a_secret_file_of_the_release_only(tmp_path: Path) -> None:
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\nline-of-the-key\n-----END OPENSSH PRIVATE KEY-----"
    ssh = ("https://github.com/scell-io/frontend.git", "git@github.com:scell-io/frontend.git")
    recorded = run(tmp_path, ssh, secrets={"deploy_key": key})
    release = document(recorded, "release")
    assert release["files"]["deploy_key"] == key + "\n"
    assert "line-of-the-key" in release["mask"]
    for step in ("bootstrap", "web"):
        assert "line-of-the-key" not in json.dumps(document(recorded, step))
    assert "line-of-the-key" not in json.dumps(recorded.value)


def test_kept_data_is_protected_and_sealed(tmp_path: Path) -> None:
    recorded = run(tmp_path, ("berth:data: delete", "berth:data: keep"))
    protected = {r.name for r in recorded.resources if r.protect}
    assert protected == {"scell-ip", "scell-zone", "scell-host-key", "scell-deploy-key", "scell-seal"}
    seal = recorded.one("random:index/randomId:RandomId")
    assert {r.urn for r in recorded.resources if r.protect and r is not seal} <= set(seal.dependencies)


def test_nothing_is_protected_where_data_may_go(tmp_path: Path) -> None:
    assert not [r.name for r in run(tmp_path).resources if r.protect]


def test_exports_are_complete_and_plain(tmp_path: Path) -> None:
    outputs = run(tmp_path).value["scell"]
    assert outputs["urls"] == ["https://scell.io/", "https://www.scell.io/"]
    assert outputs.keys() == {"urls", "address", "host", "name_servers", "release", "operator"}


def test_two_runs_send_the_same_to_the_byte(tmp_path: Path) -> None:
    first, second = run(tmp_path), run(tmp_path)
    for step in ("bootstrap", "web", "release"):
        assert document(first, step) == document(second, step)


def test_a_change_reaches_only_the_step_it_concerns(tmp_path: Path) -> None:
    def changed(old: str, new: str) -> set[str]:
        before, after = run(tmp_path), run(tmp_path, (old, new))
        return {
            step
            for step in ("bootstrap", "web", "release")
            if document(before, step) != document(after, step)
        }

    assert changed("release: v1.0.0", "release: v1.1.0") == {"release"}
    assert changed(
        "keys: []",
        "keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEcyvj6gxRMyEGAE8QnAz5+zHre1iGgMk/+GNkQ5E+TK a]",
    ) == {"bootstrap"}
    assert changed("ops@scell.io", "admin@scell.io") == {"web"}
    assert changed("user: ops", "user: root2") == {"bootstrap"}


@pytest.mark.parametrize("stack", ["prod", "staging"])
def test_the_committed_stacks_build(stack: str) -> None:
    def program() -> Any:
        parsed = stackfile.check(Path(f"Pulumi.{stack}.yaml"), REGISTRY, None)
        return build(parsed.with_secrets(Secrets()))

    recorded = mocks.run(program)
    assert len(recorded.of("Command")) == 3
