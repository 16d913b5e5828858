"""``sandbox reset``."""

from __future__ import annotations

import contextlib
import shutil
from typing import Annotated

import typer

from sandbox import engine, paths, stacks
from sandbox.commands._run import say
from sandbox.errors import SandboxError
from sandbox.process import using

# What bootstrapping found or built is no part of what a reset is for.
KEPT = ("toolchain.json",)
Orphans = Annotated[bool, typer.Option("--orphans", help="Clear what deleted checkouts left running, only.")]


def reset(orphans: Orphans = False) -> None:
    """Remove everything this checkout made on this machine: hosts, networks, servers, state."""
    from sandbox import real

    if orphans:
        for gone in real.lost():
            real.reset(gone)
            for left in (paths.state(gone), gone):  # what a mount had kept from being deleted
                with contextlib.suppress(OSError):
                    left.rmdir()
            say(f"removed what still ran for {gone}")
        return
    root = paths.root()
    state = paths.state(root)
    with using(state) as alone:
        if not alone():
            raise SandboxError("another command is at work in this sandbox; wait for it to end, or end it")
        for stack in stacks.stacks(root):
            engine.unlock(state, engine.project(root), stack)
        engine.end_orphans(state)
        for place in (*real.moved(root), root):
            if paths.runtime(place).exists() or (paths.state(place) / "hosts").exists():
                real.reset(place)
        for entry in state.iterdir():
            if entry.name in KEPT:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    say("reset: nothing of this checkout's sandbox is left on this machine")
