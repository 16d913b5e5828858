"""`secrets`: what the program has generated and only the state knows, for a copy outside of it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tasks.errors import Exit, TaskError

SECRET = "4dabf18193072939515e22adb298388d"  # noqa: S105 - how the engine marks a secret in a state
OTHER_FORMS = ("bcryptHash", "hex", "privateKeyPem", "privateKeyPemPkcs8")
"""Of a value that is exported anyway."""
NOT_OURS = ("command:", "pulumi:")
"""Commands are sent secrets and make none; providers have the account's own keys."""
SENT = ("connectionString", "userData")
"""What the cloud shows of what it was sent, and where it is."""


def generated(state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Secret outputs that are no inputs, by name of the resource: passwords, keys, tokens.

    ``state`` is that of `pulumi stack export --show-secrets`. What the stack file gave is not in it: that is
    known elsewhere.
    """
    found: list[tuple[str, dict[str, Any]]] = []
    for resource in state["deployment"].get("resources") or ():
        if not resource.get("custom") or resource["type"].startswith(NOT_OURS):
            continue
        given = resource.get("inputs") or {}
        values = {
            path: value
            for name, output in (resource.get("outputs") or {}).items()
            if name not in given and name not in SENT
            for path, value in _secrets(name, output)
        }
        if len(values) > 1:
            values = {path: value for path, value in values.items() if path not in OTHER_FORMS}
        if values:
            found.append((resource["urn"], {"type": resource["type"], **values}))
    names = Counter(urn.rpartition("::")[2] for urn, _ in found)
    return {_called(urn, names): values for urn, values in found}


def _called(urn: str, names: Counter[str]) -> str:
    """The resource's name, and where two have the same, what it is part of as well."""
    *_, types, name = urn.split("::")
    return name if names[name] == 1 else f"{name} of {types.rpartition('$')[0].rpartition('$')[2]}"


def _secrets(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        if SECRET in value:
            yield path, json.loads(value["plaintext"])
        else:
            for name, part in value.items():
                yield from _secrets(f"{path}.{name}", part)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _secrets(f"{path}.{index}", part)


def document(stack: str, found: Mapping[str, Any], environments: Mapping[str, Mapping[str, str]]) -> str:
    """The export as JSON: what was generated, and each application's `.env`, which has it by other names."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    whole = {"stack": stack, "exported": when, "generated": found, "environments": environments}
    return json.dumps(whole, indent=2) + "\n"


def save(path: Path, text: str) -> None:
    """A new file for its owner only. Raises TaskError where it would be seen, or would replace one."""
    directory = path.absolute().parent
    inside = subprocess.run(
        ["git", "-C", str(directory), "rev-parse", "--is-inside-work-tree"],
        capture_output=True,
        text=True,
        check=False,
    )
    if inside.stdout.strip() == "true":
        raise TaskError(
            f"{path} is in a Git checkout, one `git add` away from everybody",
            "write it elsewhere",
            Exit.USAGE,
        )
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise TaskError(
            f"{path}: {error.strerror}", "name a new file in a directory of yours", Exit.USAGE
        ) from None
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write(text)
