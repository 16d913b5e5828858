"""Names of the inventory made real: each change renders all zones anew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox.effects.protocol import Effect, EffectError, Row, World
from sandbox.internet import names
from sandbox.internet.layout import Layout

# Provider features that a plain name server does not have.
UNSERVED = ("geoIp", "httpService", "views", "weighteds")


# What effects of this process did last, by checkout, token and id; None is deleted. Other rows' effects run
# at the same time, and the inventory holds the old row until the twin commits: rendering from it alone would
# bring a deleted record back or an old value over a new one.
_done: dict[tuple[Path, str, str], Row | None] = {}


class Names:
    """Zone, record or reverse name: nothing is kept beside the name server's own rendering."""

    def create(self, world: World, row: Row) -> Mapping[str, Any]:
        self.check(world, row)
        _done[world.root, row.token, row.id] = row
        _render(world)
        return {}

    def update(self, world: World, old: Row, new: Row) -> Mapping[str, Any]:
        return self.create(world, new)

    def delete(self, world: World, row: Row) -> None:
        _done[world.root, row.token, row.id] = None
        _render(world)

    def read(self, world: World, row: Row) -> Mapping[str, Any] | None:
        return {}

    def check(self, world: World, row: Row) -> None:
        """Raise EffectError for what the provider would refuse."""


class Records(Names):
    def check(self, world: World, row: Row) -> None:
        used = [key for key in UNSERVED if row.inputs.get(key)]
        if used:
            raise EffectError(f"the sandbox's name server serves plain records only, not {', '.join(used)}")


def _overlay(world: World) -> names.Overlay:
    mine = [(key, row) for key, row in list(_done.items()) if key[0] == world.root]
    return names.Overlay(
        world.inventory,
        put=[row for _, row in mine if row],
        drop=[(token, id) for (_, token, id), row in mine if row is None],
    )


def _render(world: World) -> None:
    names.render(Layout(world.root.parent), lambda: _overlay(world))


EFFECTS: dict[str, Effect] = {names.ZONE: Names(), names.RECORD: Records(), names.REVERSE: Names()}
