"""Who pays for the sandbox's account: a fictional key, made up once for each checkout, that may do all.

Commands of `sandbox exec` get it in the variables Scaleway's tools read; nobody else knows it.
"""

from __future__ import annotations

import json
import secrets
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path

PROJECT = "11111111-2222-4333-8444-555555555555"  # where resources are that name no project
ORGANIZATION = "00000000-1111-4222-8333-444444444444"
APPLICATION = "22222222-3333-4444-8555-666666666666"  # what the key speaks for


@dataclass(frozen=True, kw_only=True)
class Owner:
    """An API key of :data:`APPLICATION`."""

    access_key: str
    secret_key: str = field(repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """As Scaleway's tools read it."""
        return {
            "SCW_ACCESS_KEY": self.access_key,
            "SCW_SECRET_KEY": self.secret_key,
            "SCW_DEFAULT_PROJECT_ID": PROJECT,
            "SCW_DEFAULT_ORGANIZATION_ID": ORGANIZATION,
        }


def owner(state: Path) -> Owner:
    """The key of a checkout, in its ``.sandbox`` directory; made on first use, closed to others."""
    path = state / "owner.json"
    if not path.exists():
        from sandbox.stacks import write_private  # here: servers that only read the key stay small

        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
        made = Owner(
            access_key="SCW" + "".join(secrets.choice(alphabet) for _ in range(17)),
            secret_key=str(uuid.uuid4()),
        )
        write_private(path, json.dumps(asdict(made)), replace=False)
    return Owner(**json.loads(path.read_text()))
