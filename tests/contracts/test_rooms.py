"""One direction through the house: who may know whom, read from the imports of every file.

The rules are checked on small wrong files first, so that a rule that finds nothing is known to look.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.clouds import CLOUDS

ROOT = Path(__file__).resolve().parents[2]
CLOUD_ROOMS = tuple(sorted({"scaleway", "digitalocean", "hetzner"} | set(CLOUDS)))
HOST_ROOMS = ("app", "data", "host", "remote", "watch", "web")
SDKS = {"scaleway": "pulumiverse_scaleway", "digitalocean": "pulumi_digitalocean", "hetzner": "pulumi_hcloud"}
PRODUCT = ("automation", "components", "config", "cutover", "policies", "preflight", "systems", "tasks")


def imports(source: str) -> Iterator[str]:
    """Full names of what a file imports, wherever in it: ``from a import b`` is both ``a`` and ``a.b``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they lead"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def under(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def forbidden(path: str) -> tuple[str, ...]:
    """The packages a file may not import, by where it lies."""
    room, *rest = path.removesuffix(".py").split("/")
    if room == "sandbox":
        return PRODUCT
    if room == "tasks":  # knows a running stack by its outputs alone, so it works on one of any version
        return ("components", "config", "pulumi", "pulumi_command", "sandbox", "systems", *SDKS.values())
    if room == "systems":
        return (
            "tasks",
            "sandbox",
            "pulumi_command",
            *SDKS.values(),
            *(f"components.{c}" for c in CLOUD_ROOMS),
        )
    if room == "config":
        return (
            "components",
            "systems",
            "sandbox",
            "tasks",
            "pulumi_command",
            "pulumi_random",
            "pulumi_tls",
            *SDKS.values(),
        )
    if room == "cutover":  # runs on a host with nothing but what the tasks bring there
        return ("components", "config", "preflight", "pulumi", "sandbox", "systems", "httpx", *SDKS.values())
    if room == "preflight":  # looks at accounts and makes nothing; of the components only what a cloud sells
        makers = tuple(f"components.{name}" for name in ("base", "clouds", *HOST_ROOMS))
        named = () if rest and rest[0] in CLOUDS else tuple(f"components.{c}" for c in CLOUD_ROOMS)
        systems = () if rest == ["__main__"] else ("systems",)
        return ("sandbox", "tasks", "pulumi", "pulumi_command", *SDKS.values(), *makers, *named, *systems)
    if room != "components":
        return ()
    above = ("systems", "config", "cutover", "sandbox", "automation", "policies", "preflight", "tasks")
    part = rest[0] if len(rest) > 1 else ""
    clouds = tuple(f"components.{c}" for c in CLOUD_ROOMS)
    if part in CLOUD_ROOMS:
        others = tuple(c for c in clouds if c != f"components.{part}")
        sdks = tuple(sdk for name, sdk in SDKS.items() if name != part)
        hosts = tuple(f"components.{h}" for h in HOST_ROOMS)
        return (*above, *others, *sdks, *hosts, "components.clouds", "pulumi_command")
    if part in HOST_ROOMS:
        command = () if part == "remote" else ("pulumi_command",)
        return (*above, *clouds, *SDKS.values(), "components.clouds", *command)
    if rest == ["clouds"]:  # the register of clouds is the one file that names them
        return (*above, "pulumi_command", *SDKS.values())
    return (*above, *clouds, *SDKS.values(), *(f"components.{h}" for h in HOST_ROOMS), "pulumi_command")


ALLOWED = {
    # The command that writes schema and settings page has to know every system.
    "config/__main__.py": ("systems",),
    # The registry hands the catalogues to the config: plain data, no SDK.
    "systems/__init__.py": tuple(f"components.{c}.catalogue" for c in CLOUD_ROOMS),
}


def violations(path: str, source: str) -> list[str]:
    banned, allowed = forbidden(path), ALLOWED.get(path, ())
    names = {name for name in imports(source) if not any(under(name, a) for a in allowed)}
    return sorted({name for name in names for b in banned if under(name, b)})


def choosing_by_cloud(source: str) -> list[int]:
    """Lines that compare something with the name of a cloud, or match on it."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            parts = [node.value]
        else:
            continue
        constants = {c.value for part in parts for c in ast.walk(part) if isinstance(c, ast.Constant)}
        if constants & set(CLOUD_ROOMS):
            lines.append(node.lineno)
    return lines


def files(*rooms: str) -> list[str]:
    found = [p.relative_to(ROOT).as_posix() for room in rooms for p in (ROOT / room).rglob("*.py")]
    return sorted(p for p in found if "/fixtures/" not in p)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("components/scaleway/instance.py", "from components.host.access import HostAccess"),
        ("components/scaleway/instance.py", "from components import web"),
        ("components/scaleway/instance.py", "import pulumi_command.remote"),
        ("components/scaleway/instance.py", "import pulumi_hcloud"),
        ("components/hetzner/instance.py", "from components.scaleway import base"),
        ("components/web/server.py", "from components.scaleway.cloud import Scaleway"),
        ("components/web/server.py", "from components.clouds import CLOUDS"),
        ("components/web/server.py", "from pulumi_command import remote"),
        ("components/base.py", "from components.scaleway import cloud"),
        ("components/base.py", "import config.model"),
        ("components/base.py", "from systems import scell"),
        ("components/app/release.py", "def f():\n    import sandbox.twins"),
        ("systems/scell/composition.py", "from components.scaleway.instance import Instance"),
        ("systems/scell/composition.py", "from components.scaleway.catalogue import catalogue"),
        ("systems/__init__.py", "from components.scaleway.cloud import Scaleway"),
        ("systems/scell/composition.py", "from pulumi_command import remote"),
        ("config/model.py", "from components.cloud import Scope"),
        ("sandbox/twins/check.py", "from config.model import Stack"),
        ("cutover/bucket.py", "from components.app.dotenv import dotenv"),
        ("preflight/local.py", "from components.scaleway.catalogue import catalogue"),
        ("preflight/scaleway.py", "from components.base import Component"),
        ("preflight/reader.py", "import systems"),
        ("preflight/needs.py", "import pulumi"),
        ("components/base.py", "import preflight.reader"),
        ("sandbox/commands/up.py", "from tasks import stack"),
        ("components/web/server.py", "import tasks.errors"),
        ("tasks/stack.py", "from systems import scell"),
        ("tasks/ssh.py", "from components.host.access import LOGIN"),
        ("tasks/ssh.py", "import sandbox"),
    ],
)
def test_wrong_ways_are_seen(path: str, line: str) -> None:
    assert violations(path, line)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("components/remote/runner.py", "from pulumi_command import remote"),
        ("components/clouds.py", "from components.scaleway.cloud import Scaleway"),
        ("components/scaleway/instance.py", "from components import cloud"),
        ("components/web/server.py", "from components.remote.runner import Step"),
        ("systems/scell/composition.py", "from components.cloud import Cloud"),
    ],
)
def test_right_ways_are_not(path: str, line: str) -> None:
    assert violations(path, line) == []


@pytest.mark.parametrize("path", files(*PRODUCT, "sandbox"))
def test_every_file_keeps_the_direction(path: str) -> None:
    assert violations(path, (ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("if cloud == 'scaleway': pass", True),
        ("x = 1 if self.cloud.name != 'hetzner' else 2", True),
        ("if cloud in ('scaleway', 'hetzner'): pass", True),
        ("match cloud:\n    case 'digitalocean': pass", True),
        ("cloud: Literal['scaleway']", False),
        ("if zone == 'fr-par-1': pass", False),
    ],
)
def test_a_choice_by_the_name_of_a_cloud_is_seen(source: str, seen: bool) -> None:
    assert bool(choosing_by_cloud(source)) is seen


@pytest.mark.parametrize(
    "path", [p for p in files("components", "systems") if p.split("/")[1] not in CLOUD_ROOMS]
)
def test_only_a_cloud_package_knows_its_cloud(path: str) -> None:
    assert choosing_by_cloud((ROOT / path).read_text(encoding="utf-8")) == []


def root_classes(source: str) -> list[str]:
    """Classes taken from the root of Scaleway's SDK, where each is the deprecated twin of a submodule's."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [a.name for a in node.names if a.name == SDKS["scaleway"]]
        elif isinstance(node, ast.ImportFrom) and node.module == SDKS["scaleway"]:
            names += [a.name for a in node.names if a.name[0].isupper()]
    return names


def test_scaleways_submodules_only() -> None:
    assert root_classes("import pulumiverse_scaleway as scaleway")
    assert root_classes("from pulumiverse_scaleway import InstanceServer")
    assert not root_classes("from pulumiverse_scaleway import instance")
    for path in files("components"):
        assert root_classes((ROOT / path).read_text(encoding="utf-8")) == [], path
