"""Stand-ins for the outside secrets of every system, for programs that run on mocks."""

from __future__ import annotations

import base64

import pulumi

from config.loader import Sealed
from config.model import Secret, Secrets
from systems import REGISTRY


def stand_in(name: str, secret: Secret) -> str:
    """A value that can be told from every other, in the form of its kind."""
    if secret.kind == "text":
        return f"stand-in-of-{name}"
    if secret.kind == "app-key":
        return "base64:" + base64.b64encode(name.ljust(32, "-").encode()).decode()
    return f"-----BEGIN {name}-----\nstand-in-of-{name}\n-----END {name}-----"


def usual(system: str = "scell") -> dict[str, str]:
    """Those that most stacks need, by name."""
    return {n: stand_in(n, s) for n, s in REGISTRY.systems[system].SECRETS.items() if s.usual}


def secrets(**values: str) -> Secrets:
    """What a loaded stack holds: the usual ones of every system, and ``values`` of Scell.io."""
    given = {system: usual(system) for system in REGISTRY.systems}
    given["scell"] |= values
    return Secrets(
        {
            system: {name: pulumi.Output.secret(value) for name, value in named.items()}
            for system, named in given.items()
        }
    )


def sealed() -> dict[str, dict[str, Sealed]]:
    """The same as the loader's ``parse`` is told of them."""
    return {system: dict.fromkeys(usual(system), Sealed()) for system in REGISTRY.systems}
