"""Every bad stack file fails for exactly its reason, says so helpfully, and says nothing it should not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from config import stackfile
from config.loader import parse
from config.report import ConfigError
from systems import REGISTRY

HERE = Path(__file__).parent
BASE = (HERE / "base.yaml").read_text(encoding="utf-8")
CASES: list[dict[str, Any]] = yaml.safe_load((HERE / "cases.yaml").read_text(encoding="utf-8"))
FILE = "Pulumi.bad.yaml"


def text_of(case: dict[str, Any]) -> str:
    if "replace" not in case:
        return BASE
    assert BASE.count(case["replace"]) == 1, "the case does not change what it means to change"
    return BASE.replace(case["replace"], case["with"])


def errors_of(text: str, caller: str | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(stackfile.read(text, FILE), file=FILE, registry=REGISTRY, caller=caller)
    return caught.value


def test_the_base_itself_is_sound() -> None:
    stack = parse(stackfile.read(BASE, FILE), file=FILE, registry=REGISTRY, caller="62.210.1.7")
    assert stack.systems["scell"].cloud == "scaleway"  # type: ignore[attr-defined]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_fails_for_exactly_its_reason(case: dict[str, Any]) -> None:
    error = errors_of(text_of(case), case.get("caller"))

    assert [problem.path for problem in error.problems] == [wanted["path"] for wanted in case["expect"]]
    for problem, wanted in zip(error.problems, case["expect"], strict=True):
        assert problem.file == FILE
        assert wanted["rule"] in problem.rule
        assert wanted["remedy"] in problem.remedy
    if "secret" in case:
        assert case["secret"] in text_of(case)
        assert case["secret"] not in str(error) + repr(error) + repr(error.problems)


def test_names_are_unique_and_many() -> None:
    names = [case["name"] for case in CASES]
    assert len(set(names)) == len(names) >= 45


def test_all_faults_are_reported_at_once_in_the_order_of_the_file() -> None:
    text = BASE
    for old, new in [
        ("cidrs: [51.15.0.0/24,", "cidrs: [0.0.0.0/0,"),  # a bad value
        ("      zone: fr-par-1", "      zone: nl-ams-1"),  # a broken cross reference
        ("size: DEV1-M,", "szie: DEV1-M,"),  # an unknown key, and so a missing one
        ("aliases: [www.scell.io]", "aliases: [www.scell.com]"),  # another cross reference
        ("release: v1.0.0", "release: 1.10"),  # a wrong type
        ('VITE_REVERB_PORT: "443"', "VITE_REVERB_PORT: 443"),  # and one more
    ]:
        assert text.count(old) == 1
        text = text.replace(old, new)

    error = errors_of(text)

    assert [problem.path.removeprefix("berth:") for problem in error.problems] == [
        "admin.cidrs[0]",
        "systems.scell.zone",
        "systems.scell.instance.szie",
        "systems.scell.instance.size",
        "systems.scell.site.aliases[0]",
        "systems.scell.frontend.release",
        "systems.scell.frontend.variables.VITE_REVERB_PORT",
    ]
    assert str(error).startswith(f"{FILE}: 7 problems\n\n")
    for problem in error.problems:
        assert f"{problem.path}\n  {problem.rule}\n  → {problem.remedy}" in str(error)
