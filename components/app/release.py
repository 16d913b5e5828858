"""What releases of all kinds of applications have in common, beside release.sh."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

from pulumi import Input, Output

from components.remote.files import File

KEEP = 5
"""Releases that stay on the host, the live one included: that far back a rollback needs no build."""


def identifier(release: str, inputs: Sequence[Any]) -> str:
    """A directory's name for ``release``: readable, and with a hash of all the ``inputs`` that make it."""
    readable = re.sub(r"[^A-Za-z0-9._-]", "-", release)[:40]
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    return f"{readable}-{digest[:8]}"


def deploy_keys(key: Input[str] | None) -> list[File]:
    """The private SSH key release.sh fetches with, as the step's file, where there is one."""
    if key is None:
        return []
    text = Output.from_input(key).apply(lambda text: text.rstrip() + "\n")
    return [File(path="deploy_key", content=text, secret=True)]
