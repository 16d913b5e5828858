"""Rules between systems, placeholders, remarks, and that a check's own defect is not taken for a bad file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config import stackfile
from config.checks import is_placeholder, remarks
from config.loader import parse
from config.model import Finding, Registry, World
from config.report import ConfigError
from systems import REGISTRY
from systems.scell import ScellConfig
from tests import stand_ins

ROOT = Path(__file__).parents[2]
TWO = Registry(systems={"scell": ScellConfig, "mirror": ScellConfig}, catalogues=REGISTRY.catalogues)


def two_systems() -> dict[str, Any]:
    """Production with a second system beside the first, and nothing wrong."""
    text = (ROOT / "Pulumi.prod.yaml").read_text(encoding="utf-8")
    raw = stackfile.read(text, "Pulumi.prod.yaml")
    raw["systems"]["mirror"] = stackfile.read(text, "Pulumi.prod.yaml")["systems"]["scell"]
    raw["systems"]["mirror"]["network"] = {"cidr": "10.30.0.0/24"}
    raw["systems"]["mirror"]["site"] = {"name": "mirror.scell.io"}
    for part in ("postgres", "redis", "bucket", "mail", "backend"):
        del raw["systems"]["mirror"][part]
    return raw | {"secrets": stand_ins.sealed()}


def problems(raw: dict[str, Any], registry: Registry = TWO) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        parse(raw, file="Pulumi.prod.yaml", registry=registry)
    return {problem.path: problem.rule for problem in caught.value.problems}


def test_two_systems_stand_side_by_side() -> None:
    assert list(parse(two_systems(), file="Pulumi.prod.yaml", registry=TWO).systems) == ["scell", "mirror"]


@pytest.mark.parametrize("cidr", ["10.20.0.0/24", "10.20.0.128/25", "10.20.0.0/20"])
def test_private_networks_of_two_systems_do_not_overlap(cidr: str) -> None:
    raw = two_systems()
    raw["systems"]["mirror"]["network"]["cidr"] = cidr
    assert problems(raw) == {
        "berth:systems.mirror.network.cidr": f"{cidr} overlaps 10.20.0.0/24, the range of scell"
    }


def test_overlaps_are_found_beside_a_faulty_system() -> None:
    raw = two_systems()
    raw["systems"]["mirror"] |= {"network": {"cidr": "10.20.0.0/24"}, "zone": "x"}
    assert list(problems(raw)) == ["berth:systems.mirror.zone", "berth:systems.mirror.network.cidr"]


def test_two_systems_do_not_share_a_name() -> None:
    raw = two_systems()
    raw["systems"]["mirror"]["site"]["name"] = "www.scell.io"
    assert problems(raw) == {
        "berth:systems.mirror.site.name": "www.scell.io is already the name at"
        " berth:systems.scell.site.aliases[0]"
    }


def test_a_zone_has_one_manager() -> None:
    raw = two_systems()
    for name in ("scell", "mirror"):
        raw["systems"][name]["dns"]["manage"] = True
    assert problems(raw) == {"berth:systems.mirror.dns.manage": "scell manages the zone scell.io already"}


def test_the_end_of_production_takes_both_keys() -> None:
    raw = two_systems() | {"data": "delete", "confirm_delete": "prod"}
    assert not parse(raw, file="Pulumi.prod.yaml", registry=TWO).keep_data


@pytest.mark.parametrize(
    "text",
    [
        "changeme",
        "ChangeMe!",
        "please-change-me",
        "change_me",
        "TODO",
        "xxx",
        "<your key>",
        "your-domain.com",
    ],
)
def test_placeholders(text: str) -> None:
    assert is_placeholder(text)


@pytest.mark.parametrize(
    "text", ["todo.scell.io", "xx", "exchange-media", "my-app", "Mirror", "a<b", "v1.0.0"]
)
def test_not_placeholders(text: str) -> None:
    assert not is_placeholder(text)


def test_documentation_ranges_are_remarked() -> None:
    raw = two_systems()
    raw["admin"]["cidrs"] = ["51.15.0.0/24", "192.0.2.7/32"]
    found = dict(remarks(parse(raw, file="Pulumi.prod.yaml", registry=TWO)))
    assert "192.0.2.7/32 is a range for documentation" in found.pop(("admin", "cidrs", 1))
    assert "the bucket shuts it out" in found.pop(("systems", "scell", "bucket", "managers", 0))
    assert not found


class _Defective(ScellConfig):
    def checks(self, world: World) -> list[Iterator[Finding]]:
        def defective() -> Iterator[Finding]:
            yield Finding(("zone",), self.regoin, "")  # type: ignore[attr-defined]

        return [defective()]


class _DefectiveNames(ScellConfig):
    def names(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        yield ("site", "name"), self.siet.name  # type: ignore[attr-defined]


@pytest.mark.parametrize("defective", [_Defective, _DefectiveNames])
def test_a_defect_of_a_check_is_not_hidden_by_a_sound_file(defective: type[ScellConfig]) -> None:
    raw = two_systems()
    del raw["systems"]["mirror"]
    registry = Registry(systems={"scell": defective}, catalogues=REGISTRY.catalogues)
    with pytest.raises(AttributeError, match=r"regoin|siet"):
        parse(raw, file="Pulumi.prod.yaml", registry=registry)


def test_every_check_that_can_be_judged_is_judged() -> None:
    raw = two_systems()
    scell = raw["systems"]["scell"]
    scell["region"] = 5  # so neither the zone nor the size can be judged, but the names can
    scell["site"]["aliases"] = ["www.cell.io"]
    raw["systems"]["mirror"]["instance"]["size"] = "STARDUST1-S"
    assert list(problems(raw)) == [
        "berth:systems.scell.region",
        "berth:systems.scell.site.aliases[0]",
        "berth:systems.mirror.instance.size",
    ]
