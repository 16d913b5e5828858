"""``sandbox status``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console

from sandbox import engine, paths, stacks
from sandbox.inventory import open_store
from sandbox.twins.cloud import STATELESS

out = Console(highlight=False, soft_wrap=True)
MB = 2**20
MOST = 20  # refusals shown


def gather() -> dict[str, Any]:
    """``stacks`` by name, ``orphans``, ``faults``, and ``machine`` (hosts and services) where there are any.

    An orphan is what the inventory holds and no state knows; ``missing`` is the other way round.
    """
    root = paths.root()
    state = paths.state(root)
    name = engine.project(root)
    store = open_store(state)
    rows = store.every()
    found: dict[str, Any] = {}
    orphans = []
    for stack in sorted({*stacks.stacks(root), *(row.stack for row in rows)}):
        latest = engine.read_checkpoint(engine.checkpoint(state, name, stack))
        known = {
            (resource["type"], resource["id"]): resource["urn"]
            for resource in latest.get("resources", ())
            if resource.get("custom") and resource.get("id")
        }
        mine = [row for row in rows if row.stack == stack]
        held = {(row.token, row.id) for row in mine}
        lost = [row for row in mine if (row.token, row.id) not in known and row.state == "ready"]
        orphans += [{"stack": stack, "type": row.token, "id": row.id, "name": row.name} for row in lost]
        found[stack] = {
            "mode": {None: None, True: "real", False: "record-only"}[store.real(stack)],
            "resources": len(latest.get("resources", ())),
            "pending": len(latest.get("pending_operations") or ())
            + sum(row.state != "ready" for row in mine),
            "missing": [
                urn
                for (token, id), urn in known.items()
                if not token.startswith("pulumi:")
                and token.partition(":")[0] not in STATELESS
                and (token, id) not in held
            ],
            "types": dict(sorted(Counter(row.token for row in mine).items())),
        }
    faults = [vars(fault) for fault in store.faults()]
    store.close()
    machine = None
    if paths.runtime(root).exists():
        from sandbox import real

        machine = real.status(root)
    return {"stacks": found, "orphans": orphans, "faults": faults, "machine": machine}


def status(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Show stacks, what they hold, orphans, faults, hosts and services."""
    report = gather()
    if as_json:
        typer.echo(json.dumps(report, indent=2, default=str))
        return
    for name, stack in report["stacks"].items():
        mode = stack["mode"] or "nothing in the cloud"
        out.print(f"[bold]{name}[/]  {stack['resources']} resources in the state, {mode}")
        for token, count in stack["types"].items():
            out.print(f"  {count:3} {token.rpartition(':')[2]}  [dim]{token}[/]")
        if stack["pending"]:
            out.print(f"  [yellow]{stack['pending']} operations were cut off; the next `up` settles them[/]")
        for urn in stack["missing"]:
            out.print(f"  [yellow]gone behind the engine's back:[/] {urn.rpartition('::')[2]}  [dim]{urn}[/]")
    for orphan in report["orphans"]:
        out.print(
            f"[yellow]orphan of {orphan['stack']}:[/] {orphan['name']}  "
            f"[dim]{orphan['type']} {orphan['id']}[/]"
        )
    for fault in report["faults"]:
        if not fault["spent"]:
            out.print(
                f"[yellow]fault {fault['fault']}:[/] {fault['kind']} at {fault['op']} of {fault['token']}"
            )
    if report["machine"]:
        _machine(report["machine"])


def _machine(machine: Mapping[str, Any]) -> None:
    for host in machine["hosts"]:
        addresses = ", ".join([*host["addresses"], *host["private_addresses"]])
        memory = f"{host['memory'] // MB} of {host['memory_limit'] // MB} MB"
        out.print(f"[bold]{host['name']}[/]  {host['state']}, {addresses}, {host['image']}, {memory}")
    for service in machine["services"]:
        state = "[yellow]down until `sandbox fault clear`[/]" if service["down"] else "up"
        what = " (database)" if service["database"] else ""
        out.print(f"[bold]{service['name']}[/]  {state}{what}, {service['memory'] // MB} MB")
    internet = machine["internet"]
    services = ", ".join(f"{one['name']} ({one['memory'] // MB} MB)" for one in internet["services"])
    out.print(f"[bold]internet[/]  {services or 'none runs'}")
    all_ = [*machine["services"], *internet["services"]]
    others = sum(one["memory"] for one in all_ if not one.get("database"))
    out.print(f"  without hosts and databases: {others // MB} MB")
    for issued in internet["certificates"]:
        out.print(f"  certificate for {', '.join(issued['names'])} until {issued['expires'][:10]}")
    for refusal in internet["refused"][:MOST]:
        out.print(
            f"  [yellow]refused:[/] {refusal['kind']} {refusal['name']} "
            f"[dim]asked by {refusal['client']}, {refusal['count']} times[/]"
        )
    if len(internet["refused"]) > MOST:
        out.print(f"  [yellow]refused:[/] {len(internet['refused']) - MOST} more; `status --json` has all")
    for note in internet["notes"]:
        out.print(f"  {note}")
