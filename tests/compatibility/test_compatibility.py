"""Stacks of earlier versions: today's program reads their files, and replaces and deletes nothing of theirs.

Each directory beside this file is what one version left (see make.py). A version that replaces something
has to say so in the upgrade notes of CHANGELOG.md and in this test; what holds data is never among it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.compatibility.make import HERE, STACK
from tests.project import ROOT, begun, with_secrets

pytestmark = pytest.mark.sandbox

VERSIONS = sorted(path.parent.name for path in HERE.glob("*/state.json"))
HARMLESS = {"same", "create", "update"}


def harmed(version: str, home: Path, program: str) -> dict[str, str]:
    """What the preview would do to resources of the earlier state beyond an update: operation by name."""
    state = HERE / version / "state.json"
    stackfile = (HERE / version / f"Pulumi.{STACK}.yaml").read_text(encoding="utf-8")
    with begun(home, with_secrets(home, stackfile, STACK), name="berth", stack=STACK) as project:
        project.pulumi("stack", "import", "--file", str(state))
        (home / "__main__.py").write_text(program)
        # The engine refuses to plan the end of what is protected, which would hide what else is wrong.
        project.pulumi("state", "unprotect", "--all", "--yes")
        plan = project.plan()
    kept = json.loads(state.read_text())["deployment"]["resources"]
    known = {r["urn"] for r in kept if not r["type"].startswith("pulumi:providers:")}
    assert known <= {step["urn"] for step in plan["steps"]}
    return {s["urn"].rpartition("::")[2]: s["op"] for s in plan["steps"] if s["op"] not in HARMLESS}


@pytest.mark.parametrize("version", VERSIONS)
def test_todays_program_replaces_and_deletes_nothing_of_an_earlier_version(
    version: str, tmp_path: Path
) -> None:
    assert harmed(version, tmp_path, (ROOT / "__main__.py").read_text()) == {}


def test_the_judge_of_that_can_say_no(tmp_path: Path) -> None:
    before = "for system, outputs in"
    program = (ROOT / "__main__.py").read_text()
    assert program.count(before) == 1
    other = "from systems.scell import composition\ncomposition.NAME = 'other'\n"
    renamed = program.replace(before, f"{other}{before}")
    assert {"scell-ip", "scell-server", "scell-host-key"} <= harmed(VERSIONS[0], tmp_path, renamed).keys()
