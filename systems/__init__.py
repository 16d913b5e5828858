"""The systems berth runs: the only rooms that know both a cloud and an application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.scaleway.catalogue import catalogue as scaleway
from config.model import Registry, Stack
from systems.scell import ScellConfig

REGISTRY = Registry(systems={"scell": ScellConfig}, catalogues={"scaleway": scaleway()})


def build(stack: Stack) -> Mapping[str, Mapping[str, Any]]:
    """Every system of the stack; returns what each one exports."""
    # Here: the clouds' SDKs are large, and the config needs none.
    from components.clouds import CLOUDS
    from systems.scell import composition as scell

    exports: dict[str, Mapping[str, Any]] = {}
    for config in stack.systems.values():
        if isinstance(config, ScellConfig):
            size = REGISTRY.catalogues[config.cloud].sizes(config.zone)[config.instance.size]
            exports["scell"] = scell.build(stack, config, CLOUDS[config.cloud], size.memory_gb)
    return exports
