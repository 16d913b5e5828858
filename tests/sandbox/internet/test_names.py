"""What the inventory's rows become in the name server."""

from __future__ import annotations

import pytest

from sandbox.effects.protocol import EffectError, Row, World
from sandbox.internet import effects, names
from sandbox.internet.names import Entry, Overlay
from sandbox.inventory import Record
from tests.sandbox.internet.conftest import Fake, scell


@pytest.mark.parametrize(
    ("values", "entry"),
    [
        ({"name": "", "type": "A", "data": "1.2.3.4"}, Entry("scell.io", "A", "1.2.3.4", 3600)),
        ({"name": "@", "type": "A", "data": "1.2.3.4"}, Entry("scell.io", "A", "1.2.3.4", 3600)),
        ({"name": "API", "type": "A", "data": "1.2.3.4"}, Entry("api.scell.io", "A", "1.2.3.4", 3600)),
        (
            {"name": "api.scell.io.", "type": "A", "data": "1.2.3.4"},
            Entry("api.scell.io", "A", "1.2.3.4", 3600),
        ),
        ({"name": "w", "type": "CNAME", "data": "a.b."}, Entry("w.scell.io", "CNAME", "a.b", 3600)),
        # Without a final dot the provider takes a target as relative to the zone.
        ({"name": "w", "type": "CNAME", "data": "a.b"}, Entry("w.scell.io", "CNAME", "a.b.scell.io", 3600)),
        ({"name": "", "type": "MX", "data": "10 mx.b."}, Entry("scell.io", "MX", "mx.b", 3600, 10)),
        (
            {"name": "", "type": "MX", "data": "mx.b.", "priority": 5},
            Entry("scell.io", "MX", "mx.b", 3600, 5),
        ),
        ({"name": "s", "type": "SRV", "data": "1 2 3 t."}, Entry("s.scell.io", "SRV", "2 3 t", 3600, 1)),
        ({"name": "t", "type": "TXT", "data": 'say "hi"'}, Entry("t.scell.io", "TXT", r'"say \"hi\""', 3600)),
        ({"name": "t", "type": "TXT", "data": '"done"'}, Entry("t.scell.io", "TXT", '"done"', 3600)),
        ({"name": "t", "type": "A", "data": "1.2.3.4", "ttl": 60}, Entry("t.scell.io", "A", "1.2.3.4", 60)),
    ],
)
def test_a_record_as_the_name_server_writes_it(values, entry):
    assert names.record("scell.io", values) == entry


def test_a_long_text_is_cut_into_pieces_of_at_most_255_bytes():
    text = "k" * 600
    content = names.record("scell.io", {"name": "t", "type": "TXT", "data": text}).content
    pieces = [piece.strip('"') for piece in content.split()]
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= 255


def served(inventory, name):
    """The addresses of a name in its zone."""
    return [entry.content for entry in names.zones(inventory)["scell.io"] if entry.name == name]


def test_a_zone_that_is_only_looked_up_is_served_from_its_records():
    fake = Fake()
    fake.record("www", "A", "1.2.3.4")
    assert Entry("www.scell.io", "A", "1.2.3.4", 300) in names.zones(fake)["scell.io"]


def test_a_zone_below_a_domain_is_a_zone_of_its_own():
    fake = Fake()
    fake.put(names.ZONE, "z", {"domain": "scell.io", "subdomain": "staging"}, {})
    assert list(names.zones(fake)) == ["staging.scell.io"]


def test_records_of_a_stack_that_was_only_recorded_are_not_served():
    fake = scell()
    for real, address in ((False, "2.2.2.2"), (True, "3.3.3.3")):
        inputs = {"dnsZone": "scell.io", "name": "new", "type": "A", "data": address}
        row = Record(id=address, token=names.RECORD, name="new", inputs=inputs, outputs={}, real=real)
        fake.rows[names.RECORD, address] = row
    assert served(fake, "new.scell.io") == ["3.3.3.3"]


def test_an_overlay_shows_the_new_row_and_hides_the_deleted_one():
    fake = scell()
    old = fake.record("x", "A", "1.1.1.1")
    new = Row(id=old.id, token=old.token, name="x", inputs={**old.inputs, "data": "2.2.2.2"}, outputs={})
    assert served(Overlay(fake, put=[new]), "x.scell.io") == ["2.2.2.2"]
    assert served(Overlay(fake, drop=[(old.token, old.id)]), "x.scell.io") == []


def test_a_record_that_only_the_provider_can_serve_is_refused_by_name(tmp_path):
    fake = scell()
    row = fake.record("w", "A", "1.2.3.4", weighteds=[{"ip": "1.2.3.4", "weight": 1}])
    with pytest.raises(EffectError, match="weighteds"):
        effects.EFFECTS[names.RECORD].create(World(root=tmp_path / ".sandbox", inventory=fake), row)
