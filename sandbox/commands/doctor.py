"""``sandbox doctor``: what this machine can run, and what is in the way."""

from __future__ import annotations

import typer
from rich.console import Console

from sandbox.commands._run import LOST


def doctor() -> None:
    """Try for real, leaving nothing, what hosts need. Exit code 1 when they can only be recorded."""
    from sandbox import real

    out = Console(highlight=False, soft_wrap=True)
    reasons = real.capable()
    for reason in reasons:
        out.print(f"[red]✗[/] {reason}", markup=True)
    if reasons:
        out.print("Until then `up` records hosts without running them; `preview` works as it is.")
        raise typer.Exit(1)
    for gone in real.lost():
        out.print(f"[yellow]![/] {LOST.format(gone)}")
    out.print("[green]✓[/] this machine runs real hosts: system containers, networks, firewalls, names.")
