"""The process behind ``smtp.tem.scw.cloud``: takes mail as Transactional Email does, and keeps it.

``mail_server STATE DIRECTORY ADDRESS CERTIFICATE KEY``: ``.sandbox``, where messages go, and what to listen
with; the name server is at the same address. Each message is two files, ``<n>.eml`` as it was sent and
``<n>.json`` about it, the latter last.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default as policy
from email.utils import parseaddr
from pathlib import Path
from typing import Any, cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from sandbox.inventory import Store, open_store
from sandbox.services import iam
from sandbox.services.mail_dns import check

DOMAIN = "scaleway:tem/domain:Domain"
NAME = "smtp.tem.scw.cloud"
STARTTLS = (587, 2587)
IMPLICIT = (465, 2465)
SIZE = 2 * 1024 * 1024  # bytes of a message, attachments included: Scaleway's limit
RECIPIENTS = 10  # of one message: Scaleway's limit
SENDS = frozenset(
    {"TransactionalEmailEmailSmtpCreate", "TransactionalEmailEmailFullAccess", "TransactionalEmailFullAccess"}
    | {"AllProductsFullAccess"}
)


class Relay:
    """Decides and keeps; aiosmtpd speaks."""

    def __init__(self, inventory: Store, directory: Path, name_server: str) -> None:
        self.inventory, self.directory, self.name_server = inventory, directory, name_server

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        """Login is a project's id, password the secret of a key that may send there."""
        if not isinstance(data, LoginPassword):
            return _failed("535 5.7.8 Authentication credentials invalid")
        project, secret = data.login.decode(errors="replace"), data.password.decode(errors="replace")
        refusal = self._may_send(project, secret)
        return _failed(refusal) if refusal else AuthResult(success=True, auth_data=(project, secret))

    def _may_send(self, project: str, secret: str) -> str | None:
        principal = iam.by_secret_key(self.inventory, secret)
        if principal is None:
            return "535 5.7.8 Authentication credentials invalid"
        if not SENDS & iam.permission_sets(self.inventory, principal, project):
            return "535 5.7.8 Permission denied"
        return None

    def _may_be_from(self, session: Session, address: str) -> str | None:
        """Why this session must not send as ``address``; asks again, for keys go while sessions last."""
        project, secret = cast(tuple[str, str], session.auth_data)
        if refusal := self._may_send(project, secret):
            return refusal
        domain = address.rpartition("@")[2].lower()
        for row in iam.standing(self.inventory, DOMAIN):
            if str(row.outputs["name"]).lower() != domain or row.outputs["projectId"] != project:
                continue
            verdict = check(row.outputs, self.name_server)
            if verdict.status == "checked":
                return None
            return f"550 5.7.1 Sender domain {domain} is {verdict.status}: {verdict.error}"
        return f"550 5.7.1 Sender domain {domain or '(none)'} is not one of project {project}"

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """The envelope's sender."""
        refusal = await asyncio.to_thread(self._may_be_from, session, address)
        if refusal:
            return refusal
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """A recipient: anybody in the world, for nothing leaves the sandbox."""
        if len(envelope.rcpt_tos) >= RECIPIENTS:
            return "452 4.5.3 Too many recipients"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """The message: its own From has to be as good as the envelope's."""
        content = envelope.original_content or b""
        message = message_from_bytes(content, policy=policy)
        refusal = await asyncio.to_thread(
            self._may_be_from, session, parseaddr(str(message["From"] or ""))[1]
        )
        if refusal:
            return refusal
        about = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "subject": str(message["Subject"] or ""),
            "project": cast(tuple[str, str], session.auth_data)[0],
            "client": session.peer[0] if session.peer else "",
            "size": len(content),
        }
        return f"250 2.0.0 OK: queued as {keep(self.directory, content, about)}"


def keep(directory: Path, content: bytes, about: dict[str, Any]) -> int:
    """Store a message on disk; its number, from 1."""
    number = 1 + max((int(path.stem) for path in directory.glob("*.eml")), default=0)
    for kind, data in (("eml", content), ("json", json.dumps(about).encode())):
        temporary = directory / f"{number}.{kind}.new"
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(directory / f"{number}.{kind}")
    return number


def _failed(message: str) -> AuthResult:
    return AuthResult(success=False, handled=False, message=message)


async def serve(relay: Relay, address: str, context: ssl.SSLContext) -> None:
    """Listen on all ports until cancelled."""
    loop = asyncio.get_running_loop()

    def session(*, implicit: bool) -> SMTP:
        return SMTP(
            relay,
            hostname=NAME,
            ident="Transactional Email of the sandbox",
            data_size_limit=SIZE,
            enable_SMTPUTF8=True,
            tls_context=None if implicit else context,
            require_starttls=not implicit,
            # aiosmtpd knows no TLS but its own STARTTLS; on the other ports nothing is in the clear.
            auth_require_tls=not implicit,
            auth_required=True,
            authenticator=relay.authenticate,
            loop=loop,
        )

    for ports, implicit in ((STARTTLS, False), (IMPLICIT, True)):
        for port in ports:
            await loop.create_server(
                lambda implicit=implicit: session(implicit=implicit),
                address,
                port,
                ssl=context if implicit else None,
            )
    await asyncio.Event().wait()


def main() -> None:
    """Serve until killed."""
    state, directory, address, certificate, key = sys.argv[1:]
    Path(directory).mkdir(mode=0o700, exist_ok=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    asyncio.run(serve(Relay(open_store(Path(state)), Path(directory), address), address, context))


if __name__ == "__main__":
    main()
