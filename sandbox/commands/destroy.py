"""``sandbox destroy``."""

from __future__ import annotations

import typer

from sandbox import paths
from sandbox.commands._run import choose, on_stack, say
from sandbox.commands.up import RecordOnly, Stack


def destroy(stack: Stack = "sandbox", record_only: RecordOnly = False) -> None:
    """Remove everything of a stack, in the engine's order. What is protected is refused."""
    real, _ = choose(paths.root(), stack, record_only, grow=False)
    with on_stack(stack, real=real) as session:
        session.resolve(stack, say)
        # With the engine's own preview: it refuses protected resources before anything is deleted.
        code = session.pulumi(
            "destroy", "--stack", stack, "--config-file", str(session.config_file(stack)), "--yes"
        )
    raise typer.Exit(code)
