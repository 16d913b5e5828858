"""``sandbox destroy``."""

from __future__ import annotations

import typer

from sandbox import paths
from sandbox.commands._run import choose, on_stack, say
from sandbox.commands.up import RecordOnly, Stack


def destroy(stack: Stack = "sandbox", record_only: RecordOnly = False) -> None:
    """Remove everything of a stack, in the engine's order. What is protected is refused.

    With the last real stack its world goes too: networks, servers, namespaces.
    """
    root = paths.root()
    real, _ = choose(root, stack, record_only, grow=False)
    with on_stack(stack, real=real) as session:
        session.resolve(stack, say)
        # With the engine's own preview: it refuses protected resources before anything is deleted.
        code = session.pulumi(
            "destroy", "--stack", stack, "--config-file", str(session.config_file(stack)), "--yes"
        )
        empty = real and code == 0 and not any(row.real for row in session.store.every())
    if empty:
        from sandbox import real as machine

        machine.reset(root)
    raise typer.Exit(code)
