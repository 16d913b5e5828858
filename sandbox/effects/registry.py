"""Which resource types are made real, and by what. Imported in real mode only: what it imports is heavy."""

from __future__ import annotations

from sandbox.effects.protocol import Effect
from sandbox.hosts.effects import EFFECTS as HOSTS
from sandbox.internet.effects import EFFECTS as INTERNET
from sandbox.services.effects import EFFECTS as SERVICES

# By resource token, e.g. "scaleway:instance/server:Server".
EFFECTS: dict[str, Effect] = {**HOSTS, **INTERNET, **SERVICES}

if len(EFFECTS) != len(HOSTS) + len(INTERNET) + len(SERVICES):
    raise ValueError("two rooms claim one resource type")
