"""Who may do what at Scaleway: API keys and IAM policies as the inventory holds them at this moment.

Nothing is remembered between two questions, so a key or a policy that goes is refused at the next request.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from sandbox.effects.protocol import Inventory, Row
from sandbox.owner import APPLICATION, PROJECT, Owner

API_KEY = "scaleway:iam/apiKey:ApiKey"
POLICY = "scaleway:iam/policy:Policy"


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Whom a key speaks for. ``name`` is as a bucket policy names it: ``application_id:…``, ``user_id:…``."""

    name: str
    access_key: str
    secret_key: str
    project: str  # where it makes and lists things unless told otherwise


def standing(inventory: Inventory, token: str) -> Iterator[Row]:
    """Resources of one type; stacks that were only recorded share the inventory, but nothing else."""
    yield from (row for row in inventory.all(token) if getattr(row, "real", True))


def plain(id: object) -> str:
    """An identifier without its region or zone."""
    return str(id or "").rpartition("/")[2]


def holder(owner: Owner) -> Principal:
    """Whose the sandbox's account is; may do everything a bucket's policy does not keep to others."""
    return Principal(
        name=f"application_id:{APPLICATION}",
        access_key=owner.access_key,
        secret_key=owner.secret_key,
        project=PROJECT,
    )


def by_access_key(inventory: Inventory, access_key: str) -> Principal | None:
    """The key, None when there is none of this name or its time is over."""
    return next(_keys(inventory, lambda row: str(row.outputs["accessKey"]) == access_key), None)


def by_secret_key(inventory: Inventory, secret_key: str) -> Principal | None:
    """The key with this secret."""
    wanted = secret_key.encode()
    return next(
        _keys(
            inventory,
            lambda row: hmac.compare_digest(str(row.outputs.get("secretKey") or "").encode(), wanted),
        ),
        None,
    )


def permission_sets(inventory: Inventory, principal: Principal, project: str) -> set[str]:
    """Names of the permission sets ``principal`` has in ``project``.

    A rule with a condition grants nothing: its language is not spoken here, and too little is safer.
    """
    kind, _, id = principal.name.partition("_id:")
    found: set[str] = (
        {"AllProductsFullAccess"} if principal.name == f"application_id:{APPLICATION}" else set()
    )
    for row in standing(inventory, POLICY):
        if plain(row.inputs.get(f"{kind}Id")) != id:
            continue
        for rule in row.inputs["rules"]:
            everywhere = bool(rule.get("organizationId"))
            if not rule.get("condition") and (everywhere or project in rule.get("projectIds", ())):
                found.update(rule["permissionSetNames"])
    return found


def _keys(inventory: Inventory, fits: Callable[[Row], bool]) -> Iterator[Principal]:
    for row in standing(inventory, API_KEY):
        if not row.outputs.get("secretKey") or not fits(row):
            continue
        expires = row.inputs.get("expiresAt")
        if expires and datetime.fromisoformat(str(expires)) <= datetime.now(UTC):
            continue
        kind = "application" if row.inputs.get("applicationId") else "user"
        yield Principal(
            name=f"{kind}_id:{plain(row.inputs.get(f'{kind}Id'))}",
            access_key=str(row.outputs["accessKey"]),
            secret_key=str(row.outputs["secretKey"]),
            project=str(row.outputs["defaultProjectId"]),
        )
