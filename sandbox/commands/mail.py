"""``sandbox mail``: what the mail relay has taken."""

from __future__ import annotations

import dataclasses
import json
import time
from email import message_from_bytes
from email.policy import default as policy
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sandbox import paths
from sandbox.errors import SandboxError
from sandbox.services.mail import Mail, received
from sandbox.services.mail import clear as clear_all

mail = typer.Typer(no_args_is_help=True, help="What the mail relay received.")
out = Console(highlight=False, soft_wrap=True)
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]


@mail.command("list")
def list_(
    as_json: Json = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait until there is one.", min=0)] = 0.0,
    subject: Annotated[str, typer.Option(help="Only those with this text in the subject.")] = "",
    to: Annotated[str, typer.Option(help="Only those to this address.")] = "",
) -> None:
    """Messages, oldest first. With --wait it is an error when none came."""
    deadline = time.monotonic() + wait
    while not (found := _fitting(subject, to)) and time.monotonic() < deadline:
        time.sleep(0.2)
    if wait and not found:
        raise SandboxError(f"no such mail within {wait:g} s; `sandbox mail list` shows what came")
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(one) for one in found], indent=2, default=str))
        return
    table = Table("mail", "received", "from", "to", "subject", box=None)
    for one in found:
        cells = (one.at[:19].replace("T", " "), one.sender, ", ".join(one.recipients), one.subject)
        table.add_row(str(one.number), *map(escape, cells))
    out.print(table if found else "no mail")


@mail.command()
def show(
    number: Annotated[int, typer.Argument(help="As `list` shows it.")],
    raw: Annotated[bool, typer.Option("--raw", help="As it was sent, byte by byte.")] = False,
    as_json: Json = False,
) -> None:
    """One message: headers and text, and the names of its attachments."""
    one = next((found for found in received(paths.root()) if found.number == number), None)
    if one is None:
        raise SandboxError(f"there is no mail {number}; `sandbox mail list` shows them")
    content = one.path.read_bytes()
    if raw:
        typer.echo(content, nl=False)
        return
    message = message_from_bytes(content, policy=policy)
    body = message.get_body(("plain", "html"))
    text = body.get_content() if body is not None else ""
    attached = [part.get_filename() or part.get_content_type() for part in message.iter_attachments()]
    if as_json:
        about = {**dataclasses.asdict(one), "headers": dict(message.items())}
        typer.echo(json.dumps({**about, "text": text, "attachments": attached}, indent=2, default=str))
        return
    out.print(f"[dim]{one.at} from {escape(one.sender)} to {escape(', '.join(one.recipients))}[/]")
    for name, value in message.items():
        out.print(f"[bold]{escape(name)}[/]: {escape(str(value))}")
    out.print(f"\n{escape(text)}", end="")
    for name in attached:
        out.print(f"[dim]attached: {escape(name)}[/]")


@mail.command()
def clear() -> None:
    """Delete all messages."""
    out.print(f"{clear_all(paths.root())} deleted")


def _fitting(subject: str, to: str) -> list[Mail]:
    return [
        one
        for one in received(paths.root())
        if subject.lower() in one.subject.lower() and (not to or to in one.recipients)
    ]
