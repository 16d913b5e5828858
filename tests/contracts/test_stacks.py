"""What holds for everything a committed stack file makes: components of every room, put together."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.loader import parse
from config.model import Stack
from systems import REGISTRY, build
from tests import mocks, stand_ins
from tests.contracts import facts

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path.name for path in ROOT.glob("Pulumi.*.yaml"))
COMMAND = "command:remote:Command"
SERVER = "scaleway:instance/server:Server"
GROUP = "scaleway:instance/securityGroup:SecurityGroup"

stacks = pytest.mark.parametrize("file", FILES)


def stack(file: str) -> Stack:
    written: dict[str, Any] = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))["config"]
    raw = {k.removeprefix("berth:"): v for k, v in written.items() if k.startswith("berth:")}
    return parse(raw, file=file, registry=REGISTRY, secrets=False)


def run(file: str, *, preview: bool = False) -> mocks.Run:
    read = stack(file)
    return mocks.run(lambda: build(read.with_secrets(stand_ins.secrets())), preview=preview)


def custom(found: mocks.Run) -> Iterator[mocks.Recorded]:
    return (r for r in found.resources if r.custom)


def test_there_are_stack_files() -> None:
    assert {"Pulumi.prod.yaml", "Pulumi.sandbox.yaml", "Pulumi.staging.yaml"} <= set(FILES)


@stacks
def test_nothing_of_a_cloud_stands_outside_a_component(file: str) -> None:
    found = run(file)
    components = {c.urn for c in found.components}
    assert all(c.type.startswith("berth:") for c in found.components)
    assert {r.parent for r in custom(found)} <= components
    assert components <= set(found.outputs)


@stacks
def test_the_providers_take_it(file: str) -> None:
    for recorded in custom(run(file)):
        assert facts.failures(recorded) == [], recorded.urn
        assert facts.outdated(recorded) == [], recorded.urn


@stacks
def test_no_secret_stands_in_the_clear(file: str) -> None:
    found = run(file)
    for recorded in custom(found):
        assert facts.secret_inputs(recorded.type) & set(recorded.inputs) <= recorded.secrets, recorded.urn
    assert any("PRIVATE KEY" in text for text in facts.secret_texts(found))
    assert facts.in_the_clear(found) == []


@stacks
def test_ssh_is_open_to_the_administrators_alone(file: str) -> None:
    found, admins = run(file), {str(ip_network(c)) for c in stack(file).admin.cidrs}
    groups = found.of(GROUP)
    assert groups
    for group in groups:
        opened = [r["ipRange"] for r in group.inputs["inboundRules"] if r.get("port") == 22]
        assert set(opened) == admins
        world = [r for r in group.inputs["inboundRules"] if ip_network(r["ipRange"]).prefixlen == 0]
        assert {r.get("port") for r in world if r["protocol"] != "ICMP"} <= {80, 443}
    for server in found.of(SERVER):
        assert server.inputs["securityGroupId"] in {mocks.identifier(g.name, "fr-par-1") for g in groups}


@stacks
def test_commands_live_and_die_with_their_host_and_know_it_by_its_key(file: str) -> None:
    found = run(file)
    servers = {s.urn for s in found.of(SERVER)}
    commands = found.of(COMMAND)
    assert commands
    for command in commands:
        assert command.deleted_with in servers
        assert set(command.replace_with) == {command.deleted_with}
        assert command.inputs["connection"]["hostKey"].startswith("ssh-ed25519 ")
        assert command.inputs["create"] == command.inputs["update"]
        assert len(command.inputs["create"]) < 1000  # values go over standard input
        assert command.inputs["addPreviousOutputInEnv"] is False
        assert not {"triggers", "environment"} & set(command.inputs)
        assert {"create", "update"} <= set(command.timeouts)


@stacks
def test_where_data_is_kept_a_seal_holds_everything(file: str) -> None:
    found, keep = run(file), stack(file).keep_data
    seals = [r for r in custom(found) if found.urn(r.parent).type == "berth:base:Seal"]
    assert len(seals) == len(stack(file).systems)
    assert {s.protect for s in seals} == {keep}
    held = {urn for seal in seals for urn in seal.dependencies}
    assert {r.urn for r in custom(found)} - {s.urn for s in seals} <= held


@stacks
def test_a_preview_plans_the_same_resources(file: str) -> None:
    planned, done = run(file, preview=True), run(file)
    assert sorted(r.urn for r in planned.resources) == sorted(r.urn for r in done.resources)
