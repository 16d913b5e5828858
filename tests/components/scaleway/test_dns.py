from __future__ import annotations

from typing import Any

import pytest

from components.cloud import DnsArgs, DnsRecord
from components.scaleway.dns import Dns, relative
from tests import mocks
from tests.contracts.samples import scope

RECORD = "scaleway:domain/record:Record"


def run(*records: DnsRecord, keep: bool = True, **changes: Any) -> mocks.Run:
    args = DnsArgs(scope=scope("scaleway", keep_data=keep), zone="scell.io", records=records, **changes)
    return mocks.run(lambda: Dns("scell", args).outputs)


A = DnsRecord(name="", type="A", value="198.18.16.9")


def test_the_apex_is_named_or_the_provider_would_make_a_name_up() -> None:
    inputs = run(A).one(RECORD).inputs
    assert inputs["name"] == ""
    assert (inputs["dnsZone"], inputs["type"], inputs["data"], inputs["ttl"]) == (
        "scell.io",
        "A",
        "198.18.16.9",
        300,
    )


def test_priority_only_where_given() -> None:
    mx = DnsRecord(name="", type="MX", value="mx.scell.io.", priority=10)
    assert run(mx).one(RECORD).inputs["priority"] == 10
    assert "priority" not in run(A).one(RECORD).inputs


def test_several_values_of_one_name_are_several_records() -> None:
    txt = [DnsRecord(name="", type="TXT", value=value) for value in ("one", "two", "three")]
    made = run(*txt)
    assert {r.name: r.inputs["data"] for r in made.of(RECORD)} == {
        "scell-apex-txt": "one",
        "scell-apex-txt-2": "two",
        "scell-apex-txt-3": "three",
    }


def test_a_zone_that_is_not_ours_is_neither_made_nor_looked_up() -> None:
    made = run(A)
    assert made.of("Zone") == []
    assert made.calls == []
    assert made.value.name_servers == ["ns0.dom.scw.cloud", "ns1.dom.scw.cloud"]


@pytest.mark.parametrize("keep", [True, False])
def test_a_managed_zone_is_there_before_its_records_and_kept(keep: bool) -> None:
    made = run(A, manage=True, keep=keep)
    zone = made.one("Zone")
    assert (zone.inputs["domain"], zone.inputs["subdomain"]) == ("scell.io", "")
    assert zone.protect is keep
    assert zone.urn in made.one(RECORD).dependencies
    assert not made.one(RECORD).protect


def test_taking_a_zone_over() -> None:
    assert run(manage=True, adopt="scell.io").one("Zone").import_id == "scell.io"


def test_managing_a_zone_later_does_not_touch_its_records() -> None:
    assert run(A).one(RECORD).inputs == run(A, manage=True).one(RECORD).inputs


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("scell.io", ""),
        ("scell.io.", ""),
        ("www.scell.io", "www"),
        ("_dmarc.mail.scell.io.", "_dmarc.mail"),
    ],
)
def test_names_within_a_zone(name: str, inside: str) -> None:
    assert relative(name, "scell.io") == inside


@pytest.mark.parametrize("name", ["example.org", "notscell.io", "io"])
def test_a_name_outside_the_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is not in the zone scell.io"):
        relative(name, "scell.io")
