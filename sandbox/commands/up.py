"""``sandbox up``."""

from __future__ import annotations

from typing import Annotated

import typer

from sandbox import paths
from sandbox.commands._run import choose, err, on_stack, say

Stack = Annotated[str, typer.Option("--stack", "-s", help="Pulumi.<stack>.yaml to bring up.")]
RecordOnly = Annotated[bool, typer.Option("--record-only", help="Record hosts without running them.")]


def up(stack: Stack = "sandbox", record_only: RecordOnly = False) -> None:
    """Bring a stack up with the unmodified engine; done again, it changes nothing."""
    real, reasons = choose(paths.root(), stack, record_only)
    with on_stack(stack, real=real) as session:
        session.resolve(stack, say)
        code = session.pulumi(
            *("up", "--stack", stack, "--config-file", str(session.config_file(stack))),
            *("--yes", "--skip-preview", "--continue-on-error"),
        )
        if not real:
            err.print(
                f"[yellow]Recorded only:[/] no host was run and no service started ({'; '.join(reasons)})."
            )
    raise typer.Exit(code)
