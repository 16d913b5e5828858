"""``sandbox reset``."""

from __future__ import annotations

import shutil

from sandbox import engine, paths, stacks
from sandbox.commands._run import say

# What bootstrapping found or built is no part of what a reset is for.
KEPT = ("toolchain.json",)


def reset() -> None:
    """Remove everything this checkout made on this machine: hosts, networks, servers, state."""
    root = paths.root()
    state = paths.state(root)
    for stack in stacks.stacks(root):
        engine.unlock(state, engine.project(root), stack)
    engine.end_orphans(state)
    if paths.runtime(root).exists() or (state / "hosts").exists():
        from sandbox import real

        real.reset(root)
    for entry in state.iterdir():
        if entry.name in KEPT:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    say("reset: nothing of this checkout's sandbox is left on this machine")
