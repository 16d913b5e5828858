"""``sandbox preview``."""

from __future__ import annotations

import typer

from sandbox.commands._run import on_stack
from sandbox.commands.up import Stack


def preview(context: typer.Context, stack: Stack = "sandbox") -> None:
    """Show what `up` would change; never root, never a host. Further options go to `pulumi preview`."""
    with on_stack(stack, real=False) as session:
        code = session.pulumi(
            *("preview", "--stack", stack, "--config-file", str(session.config_file(stack))), *context.args
        )
    raise typer.Exit(code)
