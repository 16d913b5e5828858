"""The committed schema and page are what the models say, and the schema takes whole stack files."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from config import __main__ as command
from config import docs, schema
from systems import REGISTRY
from systems.scell import ScellConfig

ROOT = Path(__file__).parents[2]
STACKS = sorted(ROOT.glob("Pulumi.*.yaml"))
VALIDATOR = jsonschema.Draft7Validator(json.loads((ROOT / schema.FILE).read_text(encoding="utf-8")))
NEGATIVE = yaml.safe_load((ROOT / "tests/negative/cases.yaml").read_text(encoding="utf-8"))
BASE = (ROOT / "tests/negative/base.yaml").read_text(encoding="utf-8")


def test_fresh() -> None:
    assert (ROOT / schema.FILE).read_text(encoding="utf-8") == schema.text(REGISTRY), (
        "python -m config schema"
    )
    assert (ROOT / docs.FILE).read_text(encoding="utf-8") == docs.text(REGISTRY), "python -m config docs"
    assert command.main(["schema", "--check"]) == command.main(["docs", "--check"]) == 0


def test_the_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(VALIDATOR.schema)


@pytest.mark.parametrize("file", STACKS, ids=[file.name for file in STACKS])
def test_takes_committed_stack_files(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.splitlines()[0] == f"# yaml-language-server: $schema=./{schema.FILE}"
    VALIDATOR.validate(yaml.safe_load(text))


def test_takes_what_the_engine_adds() -> None:
    whole = yaml.safe_load(BASE)
    whole["encryptionsalt"] = "v1:0N5a2t9IBv8=:v1:Tt4Hgae6a4zu/4Kz:Cx2RMyYuTEiZ4EIKUcQjRgsFwhGETg=="
    whole["config"]["berth:secrets"] = {"scell": {"deploy_key": {"secure": "v1:u87O9jJR53+6Bn57:cqujYWC9"}}}
    whole["config"]["random:anything"] = "x"
    VALIDATOR.validate(whole)


def _broken() -> list[tuple[str, dict[str, Any]]]:
    def change(name: str, path: str, value: Any) -> tuple[str, dict[str, Any]]:
        whole = yaml.safe_load(BASE)
        at = whole
        *parts, last = path.split("/")
        for part in parts:
            at = at[part]
        at[last] = value
        return name, whole

    scell = "config/berth:systems/scell"
    return [
        change("unknown key at the top", "confg", {}),
        change("unknown key of berth", "config/berth:dta", "keep"),
        change("secret in clear", "config/berth:secrets", {"scell": {"deploy_key": "x"}}),
        change("unknown secret", "config/berth:secrets", {"scell": {"other": {"secure": "x"}}}),
        change("unknown system", "config/berth:systems/other", {}),
        change("null for a system", scell, None),
        change("unknown key of a system", f"{scell}/zoen", "fr-par-1"),
        change("number for a tag", f"{scell}/frontend/release", 1.1),
        change("variable not for the site", f"{scell}/frontend/variables", {"APP_NAME": "x"}),
        change("word for a truth value", f"{scell}/dns/manage", "yes"),
        change("name in capitals", f"{scell}/site/name", "Scell.io"),
        change("number out of range", f"{scell}/host/swap_gb", 64),
    ]


@pytest.mark.parametrize("case", _broken(), ids=lambda case: case[0])
def test_refuses(case: tuple[str, dict[str, Any]]) -> None:
    assert list(VALIDATOR.iter_errors(case[1]))


def test_editors_see_much_of_what_the_loader_refuses() -> None:
    """A schema cannot see cross references, which are about half of the cases; what it can see, it should."""
    seen = 0
    cases = [
        case for case in NEGATIVE if "replace" in case and case["expect"][0]["path"].startswith("berth:")
    ]
    for case in cases:
        whole = yaml.safe_load(BASE.replace(case["replace"], case["with"]))
        seen += bool(list(VALIDATOR.iter_errors(whole)))
    assert seen / len(cases) > 0.4


def test_every_setting_has_a_meaning() -> None:
    def meanings(node: Any, where: str) -> None:
        for name, each in node.get("properties", {}).items():
            assert each.get("description") or "$ref" in each, f"{where}.{name}"

    definitions = copy.deepcopy(schema.schema(REGISTRY)["$defs"])
    assert "ScellConfig" in definitions
    for name, node in definitions.items():
        meanings(node, name)
        assert name == "Systems" or node["description"]


def test_the_page_names_every_setting_and_secret() -> None:
    page = docs.text(REGISTRY)
    for name in ScellConfig.model_fields:
        assert f"| `{name}` |" in page
    assert '| `host.unattended_upgrades.reboot_time` | time of day | `"04:30"` |' in page
    assert "pulumi config set --secret --path 'berth:secrets.scell.deploy_key'" in page
