"""The end of the story of the other modules here, and what happens where no host can run."""

from __future__ import annotations

import re
from pathlib import Path

from tests.e2e.checkout import PYTHON, Checkout
from tests.e2e.conftest import Site
from tests.e2e.test_acceptance import tracked, unchanged


def test_a_machine_that_runs_no_hosts_is_told_so_and_records_them(tmp_path: Path) -> None:
    """Root without any capability: what a plain container gives."""
    plain = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
    why = "network namespaces cannot be made"
    clone = Checkout(tmp_path / "plain")
    told = clone.run(*plain, PYTHON, "-m", "sandbox", "doctor")
    assert told.code == 1
    assert why in told.out
    assert "Until then `up` records hosts without running them" in told.out
    done = clone.run(*plain, *clone.make("up")).good()
    assert f"Recorded only: no host was run and no service started ({why}" in done.text
    assert re.search(r"\d\d created", done.out)
    assert unchanged(clone.run(*plain, *clone.make("up")).good().out)
    refused = clone.run(*plain, PYTHON, "-m", "sandbox", "curl", "https://scell.io/").bad()
    assert "the sandbox runs no hosts here" in refused.text
    assert clone.traces() == []
    assert tracked(clone) == ""
    clone.run(*plain, *clone.make("reset")).good()
    assert sorted(path.name for path in (clone.root / ".sandbox").iterdir()) == ["toolchain.json"]


def test_destroy_and_reset_leave_nothing(site: Site) -> None:
    clone = site.checkout
    site.figures["make down"] = f"{clone.run(*clone.make('down')).good().seconds:.1f} s"
    assert clone.traces() == []
    assert clone.status()["stacks"]["sandbox"]["types"] == {}
    assert tracked(clone) == ""
    clone.run(*clone.make("reset")).good()
    assert clone.traces() == []
    assert sorted(path.name for path in (clone.root / ".sandbox").iterdir()) == ["toolchain.json"]
    assert clone.run("git", "status", "--porcelain").good().out == " M Pulumi.sandbox.yaml\n"
