"""The key an application encrypts with: decided once, on mocks and on the real engine."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest

from components.app.key import ApplicationKey, ApplicationKeyArgs
from tests import mocks
from tests.contracts.samples import scope
from tests.project import Project, begun

GIVEN = "base64:" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


def run(given: str | None = None, *, keep: bool = True) -> mocks.Run:
    def program() -> Any:
        secret = pulumi.Output.secret(given) if given is not None else None
        args = ApplicationKeyArgs(scope=scope("scaleway", keep_data=keep), given=secret)
        return ApplicationKey("api", args).outputs

    return mocks.run(program)


def test_one_is_made_with_32_bytes_secret_and_protected() -> None:
    made = run()
    key = made.one("RandomBytes")
    assert key.inputs["length"] == 32
    assert key.protect is True
    assert made.value.key.startswith("base64:")
    assert len(base64.b64decode(made.value.key.removeprefix("base64:"))) == 32
    assert made.secret_outputs[made.components[0].urn] == {"key"}
    assert run(keep=False).one("RandomBytes").protect is False


def test_the_key_of_an_application_that_moves_here_is_its_own() -> None:
    made = run(GIVEN)
    assert made.value.key == GIVEN
    assert "keepers" in made.one("RandomBytes").secrets
    assert made.one("RandomBytes").ignore_changes == ("keepers",)


@pytest.mark.parametrize("bad", ["hunter2-hunter2", "base64:aHVudGVyMg==", "base64:!!!", GIVEN[7:]])
def test_a_key_that_would_not_work_is_refused_unseen(bad: str) -> None:
    with pytest.raises(ValueError, match="32 bytes") as caught:
        run(bad)
    assert bad not in str(caught.value)


PROGRAM = """
import pulumi
from components.app.key import ApplicationKey, ApplicationKeyArgs
from components.cloud import Scope

scope = Scope(system="s", environment="production", region="fr-par", zone="fr-par-1")
given = {given!r} and pulumi.Output.secret({given!r})
pulumi.export("key", ApplicationKey("api", ApplicationKeyArgs(scope=scope, given=given or None)).outputs.key)
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with begun(tmp_path) as found:
        yield found


def exported(project: Project) -> str:
    return project.pulumi("stack", "output", "key", "--show-secrets").strip()


@pytest.mark.sandbox
@pytest.mark.parametrize(("first", "later"), [("", GIVEN), (GIVEN, ""), (GIVEN, GIVEN[:7] + "A" * 43 + "=")])
def test_it_is_decided_at_the_beginning(project: Project, first: str, later: str) -> None:
    project.up(PROGRAM.format(given=first))
    key = exported(project)
    assert (key == GIVEN) is bool(first)
    said = project.up(PROGRAM.format(given=later), "--expect-no-changes")
    assert exported(project) == key
    assert ("which stays" in said.replace("\n", " ")) is bool(later)
    assert GIVEN[7:] not in project.pulumi("stack", "export")
