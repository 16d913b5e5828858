"""What Scaleway sells: zones, sizes, list prices and limits, from ``catalogue.json`` (no network).

Every item keeps the date its figure was read and where. ``None`` stands for "not found", never for free. A
month is 730 hours, as Scaleway counts it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Size:
    """An instance: ``memory_gb`` as printed, ``price_month`` in EUR without tax, disk and IPv4 apart."""

    name: str
    vcpu: int
    memory_gb: float
    arch: str
    price_month: float | None


@dataclass(frozen=True, kw_only=True)
class Price:
    """List price of one ``unit`` in EUR without tax, with the date it was read and the source."""

    month: float | None
    hour: float | None
    unit: str
    date: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node of a managed service. ``volume_min_gb``: its smallest block volume, 0 where it has none.

    ``ha_required``: sold in pairs only.
    """

    name: str
    vcpu: int
    memory_gb: float
    volume_min_gb: int = 0
    ha_required: bool = False


class Catalogue:
    """Typed view of the data; the methods never fail on an unknown zone, they find nothing there."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data

    def zones(self) -> Mapping[str, str]:
        """Every zone, with its region."""
        zones: dict[str, str] = self._data["zones"]
        return zones

    def sizes(self, zone: str) -> Mapping[str, Size]:
        """The instance sizes offered in ``zone``, by name; empty for a zone that does not exist."""
        return {
            item["name"]: Size(
                name=item["name"],
                vcpu=item["vcpu"],
                memory_gb=item["memory_gb"],
                arch=item["arch"],
                price_month=_number(item["price_month"]),
            )
            for item in self._items("server", zone)
        }

    def names(self, kind: str, place: str) -> frozenset[str]:
        """Names of one kind (``database``, ``cache``, ``load-balancer`` …) known in a zone or region.

        For managed services that is where a price was read: a name missing here is not proof of absence.
        """
        return frozenset(item["name"] for item in self._items(kind, place))

    def databases(self, place: str) -> Mapping[str, Node]:
        """Node types of managed PostgreSQL by name; of a place that was not read, all that are known."""
        return self._nodes("database", place)

    def caches(self, place: str) -> Mapping[str, Node]:
        """Node types of managed Redis by name; of a place that was not read, all that are known."""
        return self._nodes("cache", place)

    def postgres_versions(self) -> Sequence[int]:
        """Major versions of PostgreSQL, ascending; where each is known from stands in the data."""
        return sorted(int(version) for version in self._data["offers"]["database-engine"]["names"])

    def redis_versions(self) -> Sequence[str]:
        """Versions of Redis as the API names them, ascending. The account knows better: see preflight."""
        known = self._data["offers"]["cache-engine"]["names"]
        return sorted(known, key=lambda version: [int(part) for part in version.split(".")])

    def price(self, kind: str, name: str, place: str) -> Price:
        """List price in a zone or region. KeyError for an item that is not known there."""
        for item in self._items(kind, place):
            if item["name"] == name:
                return Price(
                    month=_number(item["price_month"]),
                    hour=_number(item["price_hour"]),
                    unit=item["unit"],
                    date=item["date"],
                    source=item["source"],
                )
        raise KeyError(f"no {kind} {name} in {place}")

    def limit(self, name: str) -> int:
        """A limit of the cloud or its provider, see ``limits`` in the data. KeyError for an unknown one."""
        value: int = self._data["limits"][name]["value"]
        return value

    def image(self, image: str) -> str:
        """Scaleway's label of a Debian release (``debian-12``). KeyError for one it has no image of."""
        label: str = self._data["images"][image]
        return label

    def _nodes(self, kind: str, place: str) -> Mapping[str, Node]:
        if place not in self.zones() and place not in self.zones().values():
            return {}
        # So far one place of each kind was read; of the others the same names are the best guess there is.
        return {name: Node(name=name, **facts) for name, facts in self._data["offers"][kind]["names"].items()}

    def _items(self, kind: str, place: str) -> list[dict[str, Any]]:
        region = self.zones().get(place, place)
        here = {place, region, "global", "all zones", "all regions"}
        return [i for i in self._data["items"] if i["kind"] == kind and here & set(i["regions"])]


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


@cache
def catalogue() -> Catalogue:
    """The catalogue of this version of berth."""
    text = resources.files(__package__).joinpath("catalogue.json").read_text(encoding="utf-8")
    return Catalogue(json.loads(text))
