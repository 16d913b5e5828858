"""Transactional Email: domains that are checked in the sandbox's DNS, and an SMTP relay that keeps mail.

Nothing is sent anywhere. ``.sandbox/mail`` holds the messages; `sandbox mail` shows them.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sandbox import paths, process
from sandbox.effects.protocol import Effect, EffectError, Row, World
from sandbox.internet import certs
from sandbox.internet.layout import GATEWAY
from sandbox.internet.out import accepts
from sandbox.services.iam import plain, standing
from sandbox.services.layout import Layout
from sandbox.services.mail_dns import Verdict, check

KIND = "mail"
DOMAIN = "scaleway:tem/domain:Domain"
VALIDATION = "scaleway:tem/domainValidation:DomainValidation"
HOST = "smtp.tem.scw.cloud"
PORTS = (587, 2587, 465, 2465)
SOURCES = ("iam", "mail_dns", "mail_server")


def ensure(root: Path, world: World) -> None:
    """Have the relay up where there is a sending domain."""
    layout = Layout(root)
    with process.lock(layout.run / f"{KIND}.lock"):
        if any(standing(world.inventory, DOMAIN)):
            layout.serve(service(layout, world.root))
        else:
            process.stop(KIND, layout.run)


def service(layout: Layout, state: Path) -> process.Service:
    """The relay; ``state`` is the checkout's ``.sandbox``."""
    room = Path(__file__).parent
    certificate, key = certs.leaf(layout.root, KIND, [HOST])
    code = "".join((room / f"{name}.py").read_text() for name in SOURCES)
    return process.Service(
        name=KIND,
        command=[
            *(sys.executable, "-m", f"{__package__}.mail_server"),
            *(str(state), str(directory(layout.root)), GATEWAY, str(certificate), str(key)),
        ],
        settings=hashlib.sha256(code.encode()).hexdigest(),
        ready=lambda: all(accepts((GATEWAY, port)) for port in PORTS),
        environment={"PYTHONPATH": str(room.parent.parent), "MALLOC_ARENA_MAX": "2"},
        patience=60,
    )


# ---------------------------------------------------------------- what was received


@dataclass(frozen=True, kw_only=True)
class Mail:
    """A message as it was taken. ``sender`` and ``recipients`` are the envelope's; ``at`` is ISO 8601."""

    number: int
    at: str
    sender: str
    recipients: list[str]
    subject: str
    project: str
    client: str
    size: int
    path: Path


def directory(root: Path) -> Path:
    """Where messages are."""
    return paths.state(root) / "mail"


def received(root: Path) -> list[Mail]:
    """All messages, oldest first."""
    found = []
    for path in sorted(directory(root).glob("*.json"), key=lambda path: int(path.stem)):
        about = json.loads(path.read_text())
        found.append(
            Mail(
                number=int(path.stem),
                at=about["at"],
                sender=about["from"],
                recipients=about["to"],
                subject=about["subject"],
                project=about["project"],
                client=about["client"],
                size=about["size"],
                path=path.with_suffix(".eml"),
            )
        )
    return found


def clear(root: Path) -> int:
    """Delete all messages; how many they were."""
    found = received(root)
    for mail in found:
        mail.path.with_suffix(".json").unlink(missing_ok=True)
        mail.path.unlink(missing_ok=True)
    return len(found)


# ---------------------------------------------------------------- effects


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Domain:
    """A sending domain: unchecked until somebody looks at its records."""

    def create(self, world: World, row: Row) -> Mapping[str, Any]:
        layout = Layout(world.root.parent)
        with process.lock(layout.run / f"{KIND}.lock"):
            layout.serve(service(layout, world.root))
        return {}

    def update(self, world: World, old: Row, new: Row) -> Mapping[str, Any]:
        return self.create(world, new)

    def delete(self, world: World, row: Row) -> None:
        layout = Layout(world.root.parent)
        with process.lock(layout.run / f"{KIND}.lock"):
            if not any(other.id != row.id for other in standing(world.inventory, DOMAIN)):
                process.stop(KIND, layout.run)

    def read(self, world: World, row: Row) -> Mapping[str, Any] | None:
        verdict = check(row.outputs, GATEWAY)
        seen = {"status": verdict.status, "lastError": verdict.error}
        if verdict.status == "checked":
            seen["lastValidAt"] = str(row.outputs.get("lastValidAt") or _now())
        return seen


class Validation:
    """Waits for a domain's check, as the provider does: an invalid one is no error, and not validated."""

    def create(self, world: World, row: Row) -> Mapping[str, Any]:
        seconds = int(row.inputs.get("timeout") or 300)
        deadline = time.monotonic() + seconds
        while (verdict := _verdict(world, row)).status == "pending":
            if time.monotonic() > deadline:
                raise EffectError(f"domain validation did not complete in {seconds} seconds")
            time.sleep(1)
        return {"validated": verdict.status == "checked"}

    def update(self, world: World, old: Row, new: Row) -> Mapping[str, Any]:
        return self.create(world, new)

    def delete(self, world: World, row: Row) -> None:
        """Nothing stands for it."""

    def read(self, world: World, row: Row) -> Mapping[str, Any] | None:
        return {"validated": _verdict(world, row).status == "checked"}


def _verdict(world: World, row: Row) -> Verdict:
    wanted = plain(row.inputs["domainId"])
    for domain in standing(world.inventory, DOMAIN):
        if plain(domain.id) == wanted:
            return check(domain.outputs, GATEWAY)
    raise EffectError(f"scaleway-sdk-go: resource domain with ID {wanted} is not found")


EFFECTS: dict[str, Effect] = {DOMAIN: Domain(), VALIDATION: Validation()}
