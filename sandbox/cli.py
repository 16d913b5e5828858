"""``python -m sandbox COMMAND``: the same program on one machine, with no cloud account.

One module of :mod:`sandbox.commands` a command, imported only when it is called, so that ``preview`` never
pays for what ``ssh`` needs.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys

import typer

from sandbox.errors import SandboxError

# Command -> one line of help, in the order shown.
COMMANDS = {
    "up": "Bring a stack up: real hosts where this machine can, else recorded only.",
    "preview": "Show what `up` would change. Needs no root.",
    "destroy": "Remove everything of a stack.",
    "status": "What the sandbox holds: stacks, resources, orphans, faults, hosts, services.",
    "exec": "Run any command with engine, twins and environment set, e.g. `exec -- pulumi stack export`.",
    "curl": "curl as a stranger on the sandbox's internet.",
    "mail": "What the mail relay received: list, show, clear.",
    "ssh": "Log in to a host of the sandbox.",
    "fault": "Order failures of the cloud: add, list, clear.",
    "reset": "Remove everything this checkout made on this machine.",
    "doctor": "What this machine can run, and what is missing.",
}
# What follows is somebody else's command line, or ends in options of somebody else.
REST = {"ignore_unknown_options": True, "allow_interspersed_args": False}
SETTINGS = {
    **dict.fromkeys(("exec", "curl", "ssh"), REST),
    "preview": {"ignore_unknown_options": True, "allow_extra_args": True},
}


def app(only: str | None = None) -> typer.Typer:
    """The command tree; ``only`` loads just that command, None all of them (for ``--help``)."""
    tree = typer.Typer(
        name="sandbox",
        help=(__doc__ or "").splitlines()[0],
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for name, text in COMMANDS.items():
        module = f"sandbox.commands.{name}"
        if (only is not None and name != only) or importlib.util.find_spec(module) is None:
            continue
        found = getattr(importlib.import_module(module), "exec_" if name == "exec" else name)
        if isinstance(found, typer.Typer):
            tree.add_typer(found, name=name, help=text)
            continue
        tree.command(name, help=text, context_settings=SETTINGS.get(name, {}))(found)
    tree.callback()(lambda: None)  # keeps `sandbox up` a sub-command even when only one is loaded
    return tree


def main() -> None:
    """Run; an expected failure is one message and exit code 1, never a traceback."""
    first = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    try:
        app(first if first in COMMANDS else None)()
    except SandboxError as error:
        sys.exit(_say(str(error), error.code))
    except PermissionError as error:
        hint = "root's, from an earlier run? Run this as root, or `reset` as root first"
        sys.exit(_say(f"{error.filename or error}: permission denied ({hint})", 1))


def _say(message: str, code: int) -> int:
    from rich.console import Console
    from rich.markup import escape

    Console(stderr=True).print(f"[bold red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    return code
