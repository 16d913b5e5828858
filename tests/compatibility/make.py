"""``python -m tests.compatibility.make VERSION``: keep the state this version of berth makes, for later ones.

Run once for each release, never again for the same one: what it wrote is what people's stacks look like. The
state is of the production stack, recorded and not run; its keys open nothing and its passphrase is known.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from tests.project import ROOT, begun, with_secrets

HERE = Path(__file__).parent
STACK = "prod"
WHERE_MADE = {"sourcePosition", "stackTrace"}
"""What tells of the machine, not of the stack."""


def main(version: str) -> None:
    """Write ``<version>/Pulumi.prod.yaml`` and ``<version>/state.json`` beside this file."""
    stackfile = (ROOT / f"Pulumi.{STACK}.yaml").read_text(encoding="utf-8")
    with (
        tempfile.TemporaryDirectory() as home,
        begun(Path(home), with_secrets(Path(home), stackfile, STACK), name="berth", stack=STACK) as made,
    ):
        made.up((ROOT / "__main__.py").read_text(encoding="utf-8"))
        state = json.loads(made.pulumi("stack", "export"))
    for resource in state["deployment"]["resources"]:
        for key in WHERE_MADE & resource.keys():
            del resource[key]
    directory = HERE / version
    directory.mkdir()
    (directory / f"Pulumi.{STACK}.yaml").write_text(stackfile, encoding="utf-8")
    (directory / "state.json").write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
