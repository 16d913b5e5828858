"""A checkout of its own for tests with the real engine: small programs, its own sandbox, nothing shared."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sandbox import engine, paths
from sandbox.inventory import Record, Store, open_store

REPOSITORY = Path(__file__).resolve().parents[2]
PROLOGUE = """
import pulumi
from pulumi import ResourceOptions as O
import pulumi_command as command, pulumi_random as random, pulumi_tls as tls
from pulumiverse_scaleway import databases, domain, instance, network, object as s3
"""


@dataclass
class Done:
    """How a command ended; ``text`` is everything it printed."""

    code: int
    text: str

    def good(self) -> Done:
        assert self.code == 0, self.text
        return self

    def bad(self, *expected: str) -> Done:
        assert self.code != 0, self.text
        for part in expected:
            assert part in self.text, self.text
        assert "Traceback" not in self.text, self.text
        return self


@dataclass
class Lab:
    """A checkout in a temporary directory. ``stack`` is what commands are about."""

    root: Path
    stack: str = "dev"
    config: dict[str, Any] = field(default_factory=dict)
    inside: engine.Session | None = None

    # ------------------------------------------------------------ writing

    def program(self, text: str) -> None:
        (self.root / "__main__.py").write_text(PROLOGUE + textwrap.dedent(text))

    def stackfile(self, text: str, stack: str | None = None) -> Path:
        path = self.root / f"Pulumi.{stack or self.stack}.yaml"
        path.write_text(textwrap.dedent(text))
        return path

    def use(self, stack: str) -> None:
        """Go on with a stack of its own: nothing of an earlier test is in it."""
        self.stack = stack
        self.stackfile("config: {}\n")

    # ------------------------------------------------------------ running

    @contextlib.contextmanager
    def session(self) -> Iterator[Lab]:
        with engine.session(self.root) as self.inside:
            yield self
        self.inside = None

    def pulumi(self, *arguments: str, config: bool = True) -> Done:
        """The engine itself, inside the session."""
        assert self.inside is not None
        self.inside.ensure(self.stack)
        file = ("--config-file", str(self.inside.config_file(self.stack))) if config else ()
        done = subprocess.run(
            [str(self.inside.tools.pulumi), *arguments, "--stack", self.stack, *file, "--non-interactive"],
            cwd=self.root,
            env=self.inside.environment,
            timeout=120,
            capture_output=True,
            text=True,
            check=False,
        )
        return Done(done.returncode, done.stdout + done.stderr)

    def up(self, *arguments: str) -> Done:
        return self.pulumi("up", "--yes", "--skip-preview", *arguments)

    def preview(self, *arguments: str) -> Done:
        return self.pulumi("preview", *arguments)

    def destroy(self) -> Done:
        return self.pulumi("destroy", "--yes", "--skip-preview")

    def export(self) -> list[dict[str, Any]]:
        done = self.pulumi("stack", "export", config=False).good()
        found: list[dict[str, Any]] = json.loads(done.text)["deployment"].get("resources", [])
        return found

    def state(self, name: str) -> dict[str, Any]:
        """One resource of the state by its name."""
        return next(r for r in self.export() if r["urn"].endswith(f"::{name}"))

    def outputs(self) -> dict[str, Any]:
        done = self.pulumi("stack", "output", "--json", "--show-secrets", config=False).good()
        found: dict[str, Any] = json.loads(done.text)
        return found

    def sandbox(self, *arguments: str, user: Sequence[str] = ()) -> Done:
        """``python -m sandbox`` as a person would call it."""
        done = subprocess.run(
            [*user, sys.executable, "-m", "sandbox", *arguments],
            cwd=REPOSITORY,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        return Done(done.returncode, done.stdout + done.stderr)

    def environment(self) -> dict[str, str]:
        return {**os.environ, "BERTH_ROOT": str(self.root), "TERM": "dumb", "COLUMNS": "200"}

    # ------------------------------------------------------------ looking

    @property
    def state_directory(self) -> Path:
        return paths.state(self.root)

    @contextlib.contextmanager
    def inventory(self) -> Iterator[Store]:
        store = open_store(self.state_directory)
        try:
            yield store
        finally:
            store.close()

    def rows(self, kind: str = "") -> list[Record]:
        """What the cloud holds of the stack, by the last part of the type."""
        with self.inventory() as store:
            return [row for row in store.every(self.stack) if row.token.endswith(kind)]

    def events(self) -> list[tuple[str, str]]:
        """(what happened, name) of everything in the stack so far."""
        with self.inventory() as store:
            return [
                (event.op, event.urn.rpartition("::")[2])
                for event in store.events()
                if event.urn.startswith(f"urn:pulumi:{self.stack}::")
            ]


def checkout(root: Path) -> Lab:
    """A new one; skips where Pulumi has not been set up."""
    tools = REPOSITORY / ".sandbox" / "toolchain.json"
    if not tools.exists():
        pytest.skip("no Pulumi here: run `make preview` once")
    (root / "Pulumi.yaml").write_text("name: lab\nruntime: python\n")
    (root / ".venv").symlink_to(REPOSITORY / ".venv")
    shutil.copy(tools, paths.state(root) / "toolchain.json")
    lab = Lab(root)
    lab.use("dev")
    lab.program("")
    return lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One checkout and one session a module; each test takes a stack of its own with ``lab.use``."""
    with checkout(tmp_path_factory.mktemp("lab")).session() as found:
        yield found


@pytest.fixture
def own_lab(tmp_path: Path) -> Lab:
    """A checkout for one test, without a session: for commands as a person calls them."""
    return checkout(tmp_path)
