"""From the neutral connection of a host to pulumi-command's."""

from __future__ import annotations

import pulumi_command as command

from components.cloud import Connection

DIAL_ATTEMPTS = 60
"""A refused connection is tried again after at most 5 s, so 60 attempts last over 4 minutes: a slow boot."""

DIAL_SECONDS = 5
"""How long one attempt may take when nothing answers at all."""


def connection_args(connection: Connection) -> command.remote.ConnectionArgs:
    """The host key is pinned: a host that cannot prove it is the one we made gets no work and no secrets."""
    return command.remote.ConnectionArgs(
        host=connection.host,
        port=connection.port,
        user=connection.user,
        private_key=connection.private_key,
        host_key=connection.host_key,
        dial_error_limit=DIAL_ATTEMPTS,
        per_dial_timeout=DIAL_SECONDS,
    )
