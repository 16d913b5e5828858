"""Record-only commands: nothing runs, so nothing is printed. In real mode effects run them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from sandbox.twins.outputs import Call, Compute, Context, Function


def identify(context: Context) -> str:
    """The resource's name and eight hex digits."""
    return f"{context.name}{secrets.token_hex(4)}"


def _command(context: Context) -> None:
    context.give(stdout="", stderr="")


def _run(call: Call) -> Mapping[str, Any]:
    return {**call.args, "stdout": "", "stderr": ""}


COMPUTE: dict[str, Compute] = {
    "command:local:Command": _command,
    "command:remote:Command": _command,
}
FUNCTIONS: dict[str, Function] = {"command:local:run": _run}
