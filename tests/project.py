"""A project of one file on the real engine, with the sandbox's twins behind it in record-only mode."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config import schema as stack_schema
from sandbox import engine, stacks
from sandbox.errors import SandboxError
from sandbox.inventory import open_store
from sandbox.twins.cloud import Cloud
from sandbox.twins.server import serve

ROOT = Path(__file__).resolve().parent.parent
PASSPHRASE = "test"
"""Of states that hold nothing worth hiding, the committed ones included."""
SCALEWAY = "config:\n  scaleway:region: fr-par\n  scaleway:zone: fr-par-1\n"


def with_secrets(home: Path, text: str, stack: str) -> str:
    """A committed stack file with stand-ins for its outside secrets, encrypted for :class:`Project`.

    The same secret has the same stand-in whenever ``home`` is the same.
    """
    committed, state = home / "committed", home / "derived"
    if not state.exists():
        (committed / "config").mkdir(parents=True)
        (committed / stack_schema.FILE).write_text((ROOT / stack_schema.FILE).read_text(encoding="utf-8"))
        state.mkdir()
        (state / "passphrase").write_text(PASSPHRASE)
    (committed / f"Pulumi.{stack}.yaml").write_text(text, encoding="utf-8")
    return stacks.derive(committed, state, stack).read_text(encoding="utf-8")


class Project:
    """A project of one file in a directory of its own."""

    def __init__(
        self, home: Path, tools: engine.Toolchain, attached: str, stackfile: str, name: str, stack: str
    ) -> None:
        self.home, self.tools = home, tools
        kept = {k: v for k, v in os.environ.items() if not k.startswith(engine.FOREIGN)}
        (home / "state").mkdir()
        self.environment = kept | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), *tools.path, kept["PATH"]]),
            "PYTHONPATH": str(ROOT),
            "PULUMI_HOME": str(home / "home"),
            "PULUMI_BACKEND_URL": f"file://{home / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PULUMI_DEBUG_PROVIDERS": attached,
            "BERTH_CALLER_IP": "203.0.113.1",  # wherever the tests run: within the stack files' ranges
        }
        (home / "Pulumi.yaml").write_text(f"name: {name}\nruntime: python\n")
        (home / f"Pulumi.{stack}.yaml").write_text(stackfile)
        self.pulumi("stack", "init", stack)

    def pulumi(self, *arguments: str, fails: bool = False) -> str:
        """Run pulumi; both outputs. AssertionError where it fails (or does not, with ``fails``)."""
        done = self._run(*arguments)
        said = done.stdout + done.stderr
        assert (done.returncode != 0) is fails, said
        return said

    def plan(self) -> dict[str, Any]:
        """What a preview says would be done."""
        done = self._run("preview", "--json", "--show-sames")
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.tools.pulumi), *arguments, "--non-interactive"],
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def up(self, program: str, *arguments: str, fails: bool = False) -> str:
        """Write the program and bring it up."""
        (self.home / "__main__.py").write_text(program)
        return self.pulumi("up", "--yes", "--skip-preview", *arguments, fails=fails)

    def resources(self, *options: str) -> dict[str, dict[str, Any]]:
        """The state's resources of a cloud, by URN. ``--show-secrets`` among ``options``: as it says."""
        exported = json.loads(self.pulumi("stack", "export", *options))
        found = exported["deployment"].get("resources", [])
        return {r["urn"]: r for r in found if r.get("custom") and "pulumi:providers" not in r["type"]}

    def cloud(self, id: str) -> bool:
        """Whether the recorded cloud holds something of that id, known to the state or not."""
        store = open_store(self.home)
        try:
            return any(row.id == id for row in store.every())
        finally:
            store.close()

    def ids(self) -> dict[str, str]:
        """Ids by the last part of the URN, types kept apart."""
        return {f"{r['type']} {urn.rsplit('::', 1)[1]}": r["id"] for urn, r in self.resources().items()}


@contextlib.contextmanager
def begun(
    home: Path, stackfile: str = SCALEWAY, *, name: str = "contracts", stack: str = "test"
) -> Iterator[Project]:
    """A new project in ``home`` with an empty stack; skips where Pulumi has not been set up."""
    try:
        tools = engine.toolchain(ROOT)
    except SandboxError as error:
        pytest.skip(str(error))
    store = open_store(home)
    try:
        with serve(Cloud(store)) as attached:
            yield Project(home, tools, attached, stackfile, name, stack)
    finally:
        store.close()
