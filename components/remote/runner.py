"""One step on a host: a real script with its files and values, sent over one SSH session.

The command line is short and always the same; the program that receives the step, the script, the files
and all values go over standard input as one JSON document. Nothing secret is ever in argv, and the step
runs again exactly when that document (or the way to the host) changes.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi_command as command
from pulumi import CustomTimeouts, Input, Output, ResourceOptions

from components.base import Component
from components.cloud import Instance, Scope
from components.remote.connection import connection_args
from components.remote.files import File

RECEIVER = Path(__file__).parent / "receive.py"
LIBRARY = Path(__file__).parent / "lib.sh"

READER = (
    "import json,sys;d=json.load(sys.stdin);"
    "exec(compile(d['receiver'],'receive.py','exec'),{'__name__':'__main__','DOCUMENT':d})"
)
"""All that stands in the command line: reads the document, runs the receiver that came in it."""

WAIT_SECONDS = 900
"""How long a step waits for cloud-init, and for another step that holds the host."""

SHORTEST_MASK = 4
"""Shorter values are not masked: they would tear holes into every line."""


@dataclass(frozen=True, kw_only=True)
class StepArgs:
    """``step`` names unit and log on the host (/var/log/berth/<step>.log), ``host`` is for messages.

    ``script`` is bash; it finds lib.sh and ``files`` in its working directory. ``environment`` and
    ``secrets`` are its environment; values of ``secrets`` are masked. ``timeout`` is in seconds. Steps of one
    ``lock`` run one after the other on a host; a step with a lock of its own may run beside them.
    """

    scope: Scope
    instance: Instance
    step: str
    host: str
    script: Path
    files: Sequence[File] = ()
    environment: Mapping[str, Input[str]] = field(default_factory=dict)
    secrets: Mapping[str, Input[str]] = field(default_factory=dict)
    timeout: int = 600
    lock: str = "host"


@dataclass(frozen=True, kw_only=True)
class Done:
    """``facts``: what the script wrote with ``fact``; never secret."""

    facts: Output[Mapping[str, str]]


class Step(Component[StepArgs, Done]):
    """A step of a host, as one pulumi-command. Depend on the component to come after it."""

    def build(self, args: StepArgs) -> Done:
        # Update is the same converging script as create. `triggers` would replace instead, and a host that
        # is replaced must get the step again (replace_with) without anybody undoing it first (deleted_with).
        run = command.remote.Command(
            self.named("command"),
            connection=connection_args(args.instance.connection),
            create=command_line(args.step),
            update=command_line(args.step),
            stdin=document(args),
            add_previous_output_in_env=False,
            logging=command.remote.Logging.STDERR,
            opts=self.child(
                ResourceOptions(
                    deleted_with=args.instance.resource,
                    replace_with=[args.instance.resource],
                    custom_timeouts=_timeouts(args.timeout),
                )
            ),
        )
        return Done(facts=Output.unsecret(run.stdout).apply(_facts))


def command_line(step: str) -> str:
    """What the login shell of the host gets to see."""
    return f"sudo -n python3 -c {shlex.quote(READER)} {shlex.quote(step)}"


def document(args: StepArgs) -> Output[str]:
    """The whole step as JSON, secret; equal input gives equal text, byte for byte."""
    plain = {
        "step": args.step,
        "host": args.host,
        "lock": args.lock,
        "timeout": args.timeout,
        "wait": WAIT_SECONDS,
        "receiver": RECEIVER.read_text(encoding="utf-8"),
        "script": args.script.read_text(encoding="utf-8"),
    }
    secret_files = [file.path for file in args.files if file.secret]

    def whole(values: dict[str, Any]) -> str:
        files, secrets = values["files"], values["secrets"]
        hidden = [*secrets.values(), *(files[path] for path in secret_files)]
        changing = {
            "files": {"lib.sh": LIBRARY.read_text(encoding="utf-8"), **files},
            "environment": {**values["environment"], **secrets},
            "mask": sorted(set(masks(hidden))),
        }
        return json.dumps(plain | changing, sort_keys=True)

    return Output.secret(
        Output.all(
            files={file.path: file.content for file in args.files},
            environment=dict(args.environment),
            secrets=dict(args.secrets),
        ).apply(whole)
    )


def masks(values: Iterable[str]) -> Iterable[str]:
    """The texts to hide: logs are masked by line, so each line of a value, and what follows NAME= in it."""
    for value in values:
        for line in value.splitlines():
            for text in (line.strip(), line.partition("=")[2].strip()):
                if len(text) >= SHORTEST_MASK:
                    yield text


def _timeouts(seconds: int) -> CustomTimeouts:
    """Longer than all the receiver may wait for, so that its message is the one that is seen."""
    whole = f"{seconds + 2 * WAIT_SECONDS + 600}s"
    return CustomTimeouts(create=whole, update=whole)


def _facts(stdout: str | None) -> Mapping[str, str]:
    facts: Mapping[str, str] = json.loads(stdout or "{}")
    return facts
