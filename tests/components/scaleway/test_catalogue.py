from __future__ import annotations

import datetime
import json
import subprocess
import sys
from importlib import resources
from typing import Any

import pytest

from components.scaleway.catalogue import Catalogue, catalogue


def raw() -> dict[str, Any]:
    text = resources.files("components.scaleway").joinpath("catalogue.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return data


def test_sizes_of_a_zone() -> None:
    size = catalogue().sizes("fr-par-1")["DEV1-M"]
    assert (size.vcpu, size.memory_gb, size.arch) == (3, 4, "x86_64")
    assert size.price_month == pytest.approx(14.74308)


def test_a_size_is_offered_only_where_it_is_sold() -> None:
    assert "BASIC2-A2C-4G" in catalogue().sizes("fr-par-1")
    assert "BASIC2-A2C-4G" not in catalogue().sizes("pl-waw-1")
    assert catalogue().sizes("mars-1") == {}


def test_every_zone_has_its_region() -> None:
    zones = catalogue().zones()
    assert zones["fr-par-1"] == "fr-par"
    assert all(zone.rsplit("-", 1)[0] == region for zone, region in zones.items())


def test_a_price_comes_with_its_date_and_source() -> None:
    price = catalogue().price("ip", "flexible-ipv4", "nl-ams-1")
    assert (price.month, price.hour, price.unit) == (3.65, 0.005, "address")
    assert datetime.date.fromisoformat(price.date).year == 2026
    assert "scaleway.com" in price.source


def test_what_was_not_found_is_none_and_never_free() -> None:
    data = {
        **raw(),
        "items": [
            {
                "kind": "database", "name": "X", "regions": ["fr-par"], "price_month": "unknown",
                "price_hour": None, "unit": "node", "date": "unknown", "source": "none found",
            }
        ],
    }  # fmt: skip
    price = Catalogue(data).price("database", "X", "fr-par")
    assert (price.month, price.hour) == (None, None)


def test_an_item_that_is_not_there_is_an_error_that_names_it() -> None:
    with pytest.raises(KeyError, match="no server DEV1-M in it-mil-1"):
        catalogue().price("server", "DEV1-M", "it-mil-1")


def test_names_of_managed_services() -> None:
    assert "DB-DEV-S" in catalogue().names("database", "fr-par")
    assert "RED1-MICRO" in catalogue().names("cache", "fr-par-1")
    assert "LB-S" in catalogue().names("load-balancer", "fr-par-1")


@pytest.mark.parametrize("item", raw()["items"], ids=lambda i: f"{i['kind']}-{i['name']}")
def test_every_item_says_when_and_where_it_was_read(item: dict[str, Any]) -> None:
    assert item["date"] == "unknown" or datetime.date.fromisoformat(item["date"]).year >= 2024
    assert item["source"]
    assert item["unit"]
    for price in (item["price_month"], item["price_hour"]):
        assert price is None or price == "unknown" or price >= 0
    if item["kind"] == "server":
        assert item["vcpu"] >= 1
        assert item["memory_gb"] > 0
        assert set(item["regions"]) <= set(raw()["zones"])


@pytest.mark.parametrize("limit", raw()["limits"].values(), ids=raw()["limits"])
def test_every_limit_says_where_it_is_from(limit: dict[str, Any]) -> None:
    assert limit["value"] > 0
    assert limit["source"]
    assert limit["unit"]


def test_images() -> None:
    assert catalogue().image("debian-12") == "debian_bookworm"
    with pytest.raises(KeyError):
        catalogue().image("debian-11")


def test_reading_it_loads_no_sdk() -> None:
    code = "import sys, components.scaleway.catalogue as c; c.catalogue(); print('pulumi' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_managed_services_have_their_sizes_where_there_is_a_place() -> None:
    found = catalogue()
    small = found.databases("fr-par")["DB-DEV-S"]
    assert (small.memory_gb, small.volume_min_gb, small.ha_required) == (2, 5, False)
    assert found.databases("fr-par")["DB-GP-L"].ha_required
    assert found.caches("fr-par-1")["RED1-MICRO"].memory_gb == 2
    assert set(found.caches("nl-ams-1")) == set(found.caches("fr-par-1"))  # not read: the same
    assert found.databases("fr-lyo") == found.caches("fr-lyo-1") == {}
    # Whatever has a price is known.
    assert found.names("database", "fr-par") - {"Serverless SQL, vCPU"} <= set(found.databases("fr-par"))
    assert found.names("cache", "fr-par-1") <= set(found.caches("fr-par-1"))


def test_versions_of_engines_in_their_order() -> None:
    assert list(catalogue().postgres_versions()) == [15, 16, 17]
    assert list(catalogue().redis_versions()) == ["7.2.11", "8.6.6"]
