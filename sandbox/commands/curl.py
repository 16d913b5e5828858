"""``sandbox curl``: the view of somebody out there, who trusts nobody but the sandbox's authority."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Annotated

import typer

from sandbox import paths
from sandbox.internet import certs, inside
from sandbox.internet.layout import STRANGER


def curl(
    arguments: Annotated[list[str], typer.Argument(metavar="URL [CURL OPTIONS]", help="as curl takes them")],
) -> None:
    """curl from a stranger's address with the sandbox's names; ends with curl's own exit code."""
    root = paths.root()
    command = [
        *inside(root),
        # First of all: neither a .curlrc nor a proxy of this machine may change what is seen.
        *("curl", "--disable", "--noproxy", "*", "--interface", STRANGER),
        *("--cacert", str(certs.ca_certificate(root)), "--capath", "/nonexistent"),
        *arguments,
    ]
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    sys.exit(subprocess.run(command, env=environment, check=False).returncode)
