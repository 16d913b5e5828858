"""``sandbox up``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from sandbox import engine, paths
from sandbox.commands._run import LOST, choose, err, on_stack, say
from sandbox.hosts.desired import SERVER

Stack = Annotated[str, typer.Option("--stack", "-s", help="Pulumi.<stack>.yaml to bring up.")]
RecordOnly = Annotated[bool, typer.Option("--record-only", help="Record hosts without running them.")]
MOST = 3  # URLs, and hosts, in the closing lines


def up(stack: Stack = "sandbox", record_only: RecordOnly = False) -> None:
    """Bring a stack up with the unmodified engine; done again, it changes nothing."""
    began = time.monotonic()
    real, reasons = choose(paths.root(), stack, record_only)
    with on_stack(stack, real=real) as session:
        session.resolve(stack, say)
        code = session.pulumi(
            *("up", "--stack", stack, "--config-file", str(session.config_file(stack))),
            *("--yes", "--skip-preview", "--continue-on-error"),
        )
        hosts = [row.name for row in session.store.every(stack) if row.token == SERVER and row.real]
        ended = f"{'up' if code == 0 else 'not up: see above. Ended'} after {time.monotonic() - began:.0f} s"
        for line in _closing(ended, exported(session, stack), hosts, reasons):
            err.print(line)
        if real:
            _others()
    raise typer.Exit(code)


def exported(session: engine.Session, stack: str) -> list[str]:
    """What looks like the URL of a site among the outputs of a stack, without secrets."""
    latest = engine.read_checkpoint(engine.checkpoint(session.state, engine.project(session.root), stack))
    tops = (r for r in latest.get("resources", ()) if r["type"] == "pulumi:pulumi:Stack")
    return list(dict.fromkeys(url for top in tops for url in _urls(top.get("outputs", {}))))


def _urls(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value.startswith("https://") and len(value.split()) == 1:
        yield value
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _urls(part)


def _closing(ended: str, urls: list[str], hosts: list[str], reasons: list[str]) -> Iterator[str]:
    """At most six lines for somebody who is here for the first time."""
    sandbox = f"{_python()} -m sandbox"
    if reasons:
        text = "no host was run and no service started"
        yield f"[bold]==> {ended}.[/] [yellow]Recorded only:[/] {text} ({escape('; '.join(reasons))})."
        if urls:
            nowhere = escape(" ".join(urls[:MOST]))
            yield f"    Nothing answers at {nowhere} until hosts can run: {sandbox} doctor"
        return
    yield f"[bold]==> {ended}[/], on real hosts: {', '.join(hosts[:MOST]) or 'none yet'}"
    for url in urls[:MOST]:
        yield f"    {sandbox} curl {escape(url)}"
    if hosts:
        yield f"    {sandbox} ssh {hosts[0]}"
    yield f"    {sandbox} status"


def _python() -> Path:
    """This interpreter as somebody in the checkout would type it."""
    here, python = Path.cwd(), Path(sys.executable)
    return python.relative_to(here) if python.is_relative_to(here) else python


def _others() -> None:
    from sandbox import real

    for gone in real.lost():
        say(LOST.format(gone))
