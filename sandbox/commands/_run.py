"""What the commands share: choosing a mode, and one line about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from sandbox import engine, paths
from sandbox.errors import SandboxError
from sandbox.inventory import open_store

LOST = "the hosts of a checkout that is gone still run: {}; `python -m sandbox reset --orphans` ends them"
err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """One line of progress, beside what the engine prints."""
    err.print(text, style="dim")


def choose(root: Path, stack: str, record_only: bool, *, grow: bool = True) -> tuple[bool, list[str]]:
    """(real, why not): the mode of a stack is that of what it already holds, else what the machine can do.

    ``grow``: resources are going to be made. Raises SandboxError where the two contradict each other.
    """
    store = open_store(paths.state(root))
    try:
        known = store.real(stack)
    finally:
        store.close()
    if not known and not grow:
        return False, []
    reasons = ["--record-only was given"] if record_only else incapable()
    if known and reasons:
        raise SandboxError(
            f"the hosts of stack {stack!r} are real and cannot be changed here: {reasons[0]}. "
            "Run it where they can, or remove everything with `sandbox reset`"
        )
    if known is False and not reasons:
        raise SandboxError(
            f"stack {stack!r} was recorded without running hosts, and this machine can run them: "
            f"`python -m sandbox destroy --stack {stack}` and then `up`, or go on with `up --record-only`"
        )
    return not reasons, reasons


def incapable() -> list[str]:
    """Why hosts cannot be run here; empty when they can."""
    from sandbox import real

    return real.capable()


@contextmanager
def on_stack(stack: str, *, real: bool) -> Iterator[engine.Session]:
    """A session with the stack ready for the engine."""
    root = paths.root()
    with engine.session(root, real=real) as session:
        session.ensure(stack)
        yield session
