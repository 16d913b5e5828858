"""``sandbox fault``: order failures of the cloud, and take its services down."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from sandbox import paths
from sandbox.errors import SandboxError
from sandbox.inventory import Fault, open_store
from sandbox.services.layout import Layout

fault = typer.Typer(no_args_is_help=True, help="Order failures of the cloud.")
out = Console(highlight=False, soft_wrap=True)


@fault.command()
def add(
    token: Annotated[str, typer.Option(help="Resource type, a glob: '*:Server'.")] = "*",  # noqa: S107
    op: Annotated[str, typer.Option(help=", ".join(Fault.OPS))] = "create",
    nth: Annotated[int, typer.Option(help="Which call from now on, 1 for the next.", min=1)] = 1,
    kind: Annotated[str, typer.Option(help=", ".join(Fault.KINDS))] = "fail",
    seconds: Annotated[float, typer.Option(help="How long a slow call takes.", min=0)] = 5.0,
) -> None:
    """Make the nth call of one kind go wrong, once."""
    for value, known, what in ((op, Fault.OPS, "--op"), (kind, Fault.KINDS, "--kind")):
        if value not in known:
            raise SandboxError(f"{what} {value}: expected one of {', '.join(known)}", 2)
    store = open_store(paths.state(paths.root()))
    number = store.add_fault(Fault(token=token, op=op, nth=nth, kind=kind, seconds=seconds))
    out.print(f"fault {number}: {kind} at {op} {nth} of {token}")


@fault.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Faults ordered, and how far each has come; services that are down."""
    for kind in sorted(Layout(paths.root()).down()) if not as_json else ():
        out.print(f"{kind} is down")
    found = open_store(paths.state(paths.root())).faults()
    if as_json:
        out.print_json(json.dumps([vars(item) for item in found]))
        return
    table = Table("fault", "type", "call", "kind", "state", box=None)
    for item in found:
        state = "over" if item.spent else f"{item.seen} of {item.nth} calls seen"
        table.add_row(str(item.fault), item.token, f"{item.op} {item.nth}", item.kind, state)
    out.print(table if found else "no faults")


Service = Annotated[str, typer.Argument(help="Kind of managed service: postgres, redis, …")]


@fault.command()
def down(service: Service) -> None:
    """Have a managed service answer nobody until `up` or `clear`; its data stays."""
    _set({*Layout(paths.root()).down(), service})
    out.print(f"{service} is down until `sandbox fault up {service}`")


@fault.command()
def up(service: Service) -> None:
    """Have a managed service answer again."""
    _set(Layout(paths.root()).down() - {service})
    out.print(f"{service} is up")


def _set(kinds: Iterable[str]) -> None:
    from sandbox import real, services

    root = paths.root()
    services.take_down(root, frozenset(kinds))
    if paths.runtime(root).exists():  # else it is when the sandbox comes up
        real.prepare(root)


@fault.command()
def clear() -> None:
    """Forget all faults; services that are down come up."""
    count = open_store(paths.state(paths.root())).clear_faults()
    if Layout(paths.root()).down():
        _set(())
    out.print(f"{count} forgotten")
