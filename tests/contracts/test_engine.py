"""The nouns on the real engine, with the sandbox's twins behind it in record-only mode.

Mocks know neither checks nor differences, imports, aliases or protection; these tests are about those.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox import engine
from sandbox.errors import SandboxError
from sandbox.inventory import open_store
from sandbox.twins.cloud import Cloud
from sandbox.twins.server import serve

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.sandbox

WHOLE = "from tests.contracts import samples\nsamples.whole('scaleway')()\n"
LOOSE = "from tests.contracts import samples\nsamples.whole('scaleway', keep_data=False)()\n"


class Project:
    """A project of one file in a directory of its own."""

    def __init__(self, home: Path, tools: engine.Toolchain, attached: str) -> None:
        self.home, self.tools = home, tools
        kept = {k: v for k, v in os.environ.items() if not k.startswith(engine.FOREIGN)}
        (home / "state").mkdir()
        self.environment = kept | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), *tools.path, kept["PATH"]]),
            "PYTHONPATH": str(ROOT),
            "PULUMI_HOME": str(home / "home"),
            "PULUMI_BACKEND_URL": f"file://{home / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": "test",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PULUMI_DEBUG_PROVIDERS": attached,
        }
        (home / "Pulumi.yaml").write_text("name: contracts\nruntime: python\n")
        (home / "Pulumi.test.yaml").write_text(
            "config:\n  scaleway:region: fr-par\n  scaleway:zone: fr-par-1\n"
        )
        self.pulumi("stack", "init", "test")

    def pulumi(self, *arguments: str, fails: bool = False) -> str:
        """Run pulumi; both outputs. AssertionError where it fails (or does not, with ``fails``)."""
        done = subprocess.run(
            [str(self.tools.pulumi), *arguments, "--non-interactive"],
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        said = done.stdout + done.stderr
        assert (done.returncode != 0) is fails, said
        return said

    def up(self, program: str, *arguments: str, fails: bool = False) -> str:
        """Write the program and bring it up."""
        (self.home / "__main__.py").write_text(program)
        return self.pulumi("up", "--yes", "--skip-preview", *arguments, fails=fails)

    def resources(self) -> dict[str, dict[str, Any]]:
        """The state's resources of a cloud, by URN."""
        exported = json.loads(self.pulumi("stack", "export"))
        found = exported["deployment"].get("resources", [])
        return {r["urn"]: r for r in found if r.get("custom") and "pulumi:providers" not in r["type"]}

    def ids(self) -> dict[str, str]:
        """Ids by the last part of the URN, types kept apart."""
        return {f"{r['type']} {urn.rsplit('::', 1)[1]}": r["id"] for urn, r in self.resources().items()}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    try:
        tools = engine.toolchain(ROOT)
    except SandboxError as error:
        pytest.skip(str(error))
    store = open_store(tmp_path)
    with serve(Cloud(store)) as attached:
        yield Project(tmp_path, tools, attached)
    store.close()


def test_every_noun_comes_up_and_a_second_time_nothing_changes(project: Project) -> None:
    project.up(WHOLE)
    assert len(project.resources()) >= 40
    project.up(WHOLE, "--expect-no-changes")
    project.pulumi("refresh", "--yes", "--skip-preview", "--expect-no-changes")


def test_a_kept_system_is_not_destroyed_and_loses_nothing_in_the_attempt(project: Project) -> None:
    project.up(WHOLE)
    before = project.ids()
    for attempt in (("destroy", "--yes", "--skip-preview"), ("destroy", "--yes")):
        said = project.pulumi(*attempt, fails=True)
        assert "scell-seal" in said
        assert project.ids() == before
    said = project.up("", fails=True)  # its block taken out of the stack file
    assert "protected" in said
    assert project.ids() == before
    project.up(LOOSE)  # data: delete
    project.pulumi("destroy", "--yes", "--skip-preview")
    assert project.ids() == {}


RENAMED = """
import pulumi
from components.cloud import NetworkArgs, Scope, VolumeArgs
from components.scaleway.network import Network
from components.scaleway.volume import Volume

scope = Scope(system="s", environment="production", region="fr-par", zone="fr-par-1")
{above}
Network("{name}", NetworkArgs(scope=scope, cidr="10.20.0.0/24"), {opts})
Volume("{name}", VolumeArgs(scope=scope, size_gb=25), {opts})
"""
PARENT = """
class Home(pulumi.ComponentResource):
    def __init__(self) -> None:
        super().__init__("berth:test:Home", "home")
home = Home()
"""


def test_renaming_and_moving_a_component_replaces_nothing(project: Project) -> None:
    project.up(RENAMED.format(name="old", above="", opts="None"))
    before = sorted(r["id"] for r in project.resources().values())
    moved = "pulumi.ResourceOptions(parent=home)"
    project.up(RENAMED.format(name="old", above=PARENT, opts=moved))
    assert sorted(r["id"] for r in project.resources().values()) == before
    renamed = "pulumi.ResourceOptions(parent=home, aliases=[pulumi.Alias(name='old')])"
    project.up(RENAMED.format(name="new", above=PARENT, opts=renamed))
    assert sorted(r["id"] for r in project.resources().values()) == before
    assert {urn.rsplit("::", 1)[1] for urn in project.resources()} == {"new-vpc", "new-private", "new-volume"}


ADOPTING = """
import pulumi
from components.cloud import ReservedIpArgs, Scope
from components.scaleway.reserved_ip import ReservedIp
from pulumiverse_scaleway import instance

scope = Scope(system="s", environment="production", region="fr-par", zone="fr-par-1", keep_data=False)
{body}
"""


def test_an_existing_address_is_taken_over_and_then_kept(project: Project) -> None:
    by_hand = 'instance.Ip("by-hand", type="routed_ipv4", opts=pulumi.ResourceOptions(retain_on_delete=True))'
    project.up(ADOPTING.format(body=by_hand))
    (existing,) = project.ids().values()
    project.up(ADOPTING.format(body=""))  # forgotten by the state, still there
    assert project.ids() == {}
    taken = f'ReservedIp("s", ReservedIpArgs(scope=scope, adopt="{existing.split("/")[1]}"))'
    project.up(ADOPTING.format(body=taken))
    assert list(project.ids().values()) == [existing]
    project.up(ADOPTING.format(body=taken), "--expect-no-changes")
    (ip,) = project.resources().values()
    assert ip["protect"] is True
    assert "berth-system=s" in ip["inputs"]["tags"]
    project.pulumi("destroy", "--yes", "--skip-preview", fails=True)
    project.up(ADOPTING.format(body='ReservedIp("s", ReservedIpArgs(scope=scope))'))
    assert list(project.ids().values()) == [existing]


HOST = """
from dataclasses import replace
from components.cloud import InstanceArgs
from components.clouds import CLOUDS
from tests.contracts import samples

where = samples.scope("scaleway")
cloud = CLOUDS["scaleway"]
inside = cloud.network("s", samples.arguments("network", where, "scaleway"))
wall = cloud.firewall("s", samples.arguments("firewall", where, "scaleway"))
address = cloud.reserved_ip("s", samples.arguments("reserved_ip", where, "scaleway"))
cloud.instance("s", InstanceArgs(
    scope=where, size="{size}", image="{image}", access=samples.access("{init}"),
    network=inside, firewall=wall, reserved_ip=address, stateful={stateful},
))
"""
SERVER = "scaleway:instance/server:Server s-server"


def test_what_replaces_a_host_and_what_does_not(project: Project) -> None:
    first = {"size": "DEV1-M", "image": "debian-12", "init": "one", "stateful": False}
    project.up(HOST.format(**first))
    before = project.ids()
    project.up(HOST.format(**{**first, "init": "two"}), "--expect-no-changes")
    project.up(HOST.format(**{**first, "size": "PRO2-XXS"}))
    assert project.ids() == before
    project.up(HOST.format(**{**first, "size": "PRO2-XXS", "image": "debian-13"}))
    after = project.ids()
    assert after[SERVER] != before[SERVER]
    assert after["scaleway:instance/ip:Ip s-ip"] == before["scaleway:instance/ip:Ip s-ip"]


def test_a_host_with_data_is_not_replaced_by_a_new_image(project: Project) -> None:
    first = {"size": "DEV1-M", "image": "debian-12", "init": "one", "stateful": True}
    project.up(HOST.format(**first))
    project.up(HOST.format(**{**first, "image": "debian-13"}), "--expect-no-changes")
