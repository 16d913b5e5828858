"""The systems berth runs: the only rooms that know both a cloud and an application."""

from __future__ import annotations

from components.scaleway.catalogue import catalogue as scaleway
from config.model import Registry
from systems.scell import ScellConfig

REGISTRY = Registry(systems={"scell": ScellConfig}, catalogues={"scaleway": scaleway()})
