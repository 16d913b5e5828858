"""How a stack says its host is reached: the output ``<system>.operator``, secret as a whole or in parts.

The composition of a system exports it; the state keeps it encrypted. Nothing of it is written to a disk here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr, ValidationError

from tasks.errors import Exit, TaskError


class Operator(BaseModel):
    """One system's host and what runs on it, as its operator needs it.

    ``user``, ``private_key`` (OpenSSH form) and ``host_key`` (`ssh-ed25519 AAAA…`) are those of the program's
    own connection. ``app`` is the application below /srv whose services carry its name, ``health`` the URL
    that answers for it, ``environment`` what the program writes into its `.env`.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)  # a newer program may export more

    host: str
    port: int = Field(22, ge=1, le=65535)
    user: str
    private_key: SecretStr
    host_key: str
    app: str | None = None
    health: HttpUrl | None = None
    environment: Mapping[str, SecretStr] = Field(default_factory=dict)


def read(stack: str | None, system: str | None = None) -> Operator:
    """The operator output of ``stack`` (the selected one without it). Raises TaskError."""
    return choose(outputs(stack), system)


def pulumi(stack: str | None, *words: str) -> str:
    """What `pulumi stack …` prints. Raises TaskError in its words; they hold no value of the stack."""
    if shutil.which("pulumi") is None:
        raise TaskError(
            "pulumi is not on PATH",
            "install it, or in the sandbox put `python -m sandbox exec --` in front",
            Exit.NO_STACK,
        )
    chosen = ("--stack", stack) if stack else ()
    command = ["pulumi", "stack", *words, *chosen, "--non-interactive"]
    environment = os.environ | {"PULUMI_SKIP_UPDATE_CHECK": "true"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().removeprefix("error: ")
        raise TaskError(
            f"pulumi stack {words[0]}: {said}",
            "`pulumi stack ls` shows the stacks there are; name one with --stack",
            Exit.NO_STACK,
        )
    return done.stdout


def outputs(stack: str | None) -> Mapping[str, Any]:
    """All outputs of the stack, secrets in the clear."""
    found: Mapping[str, Any] = json.loads(pulumi(stack, "output", "--json", "--show-secrets") or "{}")
    return found


def operators(found: Mapping[str, Any]) -> dict[str, Operator]:
    """Every system among the outputs that has a host to operate. Raises TaskError for half of one."""
    made = {}
    for name, output in found.items():
        if not isinstance(output, Mapping) or not output.get("operator"):
            continue
        try:
            made[name] = Operator.model_validate(output["operator"])
        except ValidationError as error:
            wrong = ", ".join(".".join(map(str, one["loc"])) for one in error.errors(include_input=False))
            raise TaskError(
                f"the output {name}.operator is not whole: {wrong}",
                "bring the stack up with this version of the program: `pulumi up`",
                Exit.NO_STACK,
            ) from None
    return made


def choose(found: Mapping[str, Any], system: str | None) -> Operator:
    """The one of them, or the one that was named."""
    systems = operators(found)
    if system is None and len(systems) > 1:
        raise TaskError(
            f"the stack has more than one system: {', '.join(sorted(systems))}",
            "name one with --system",
            Exit.USAGE,
        )
    name = system or next(iter(systems), None)
    if name is None or name not in systems:
        raise TaskError(
            "the stack does not say how its host is reached"
            if system is None
            else f"no system {system!r} here",
            "it is not up yet, or was last brought up by an older version: `pulumi up`",
            Exit.NO_STACK,
        )
    return systems[name]
