"""``sandbox doctor``: what this machine can run, and what is in the way."""

from __future__ import annotations

import typer
from rich.console import Console

from sandbox.commands._run import LOST


def doctor() -> None:
    """Try for real, leaving nothing, what hosts need. Exit code 1 when they can only be recorded."""
    from sandbox import real
    from sandbox.hosts import volumes

    out = Console(highlight=False, soft_wrap=True)
    reasons = real.capable()
    for reason in reasons:
        out.print(f"[red]✗[/] {reason}", markup=True)
    if reasons:
        out.print("Until then `up` records hosts without running them; `preview` works as it is.")
        raise typer.Exit(1)
    for gone in real.lost():
        out.print(f"[yellow]![/] {LOST.format(gone)}")
    if lack := volumes.capable():
        out.print(f"[yellow]![/] block volumes cannot be attached: {lack}")
    elif not volumes.resizes_mounted():
        out.print(
            "[yellow]![/] mounted file systems of block volumes cannot grow in a host (root has no "
            "CAP_SYS_RESOURCE here): unmount, e2fsck -f, resize2fs"
        )
    out.print("[green]✓[/] this machine runs real hosts: system containers, networks, firewalls, names.")
