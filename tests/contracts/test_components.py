"""What holds for every noun of every registered cloud."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from components import cloud
from components.clouds import CLOUDS
from components.scaleway.catalogue import catalogue
from tests import mocks
from tests.contracts import facts, samples

EVERY = [(of, noun) for of in CLOUDS for noun in samples.NOUNS]
every = pytest.mark.parametrize(("of", "noun"), EVERY, ids=[f"{of}-{noun}" for of, noun in EVERY])
every_cloud = pytest.mark.parametrize("of", CLOUDS)

DATA = {
    "scaleway:block/volume:Volume",
    "scaleway:databases/database:Database",
    "scaleway:databases/instance:Instance",
    "scaleway:databases/user:User",
    "scaleway:domain/zone:Zone",
    "scaleway:instance/ip:Ip",
    "scaleway:instance/server:Server",  # in the sample a stateful one
    "scaleway:loadbalancers/ip:Ip",
    "scaleway:object/bucket:Bucket",
    "scaleway:redis/cluster:Cluster",
    "scaleway:tem/domain:Domain",
    "random:index/randomPassword:RandomPassword",
    "random:index/randomId:RandomId",  # whose replacement stands for one that no protection could see
}
"""Types that hold data, or what cannot be had back: addresses, names, passwords."""

PUBLIC_ENDPOINTS = {
    "scaleway:databases/instance:Instance": {"loadBalancer"},
    "scaleway:redis/cluster:Cluster": {"publicNetwork", "acls"},
}
"""Inputs that would give a data store an address on the internet."""


def custom(run: mocks.Run) -> Iterator[mocks.Recorded]:
    return (r for r in run.resources if r.custom)


def run(of: str, noun: str, **changes: Any) -> mocks.Run:
    return mocks.run(samples.build(of, noun, **changes))


# ---------------------------------------------------------------- structure


def test_the_samples_cover_the_vocabulary() -> None:
    methods = {name for name, _ in inspect.getmembers(cloud.Cloud, inspect.isfunction) if name[0] != "_"}
    assert set(samples.NOUNS) == methods


@every
def test_one_component_with_everything_under_it(of: str, noun: str) -> None:
    found = run(of, noun)
    (component,) = found.components
    assert component.type == f"berth:{of}:{noun.title().replace('_', '')}"
    assert component.parent.endswith("pulumi:pulumi:Stack::berth-test")
    assert list(custom(found))
    assert {r.parent for r in custom(found)} == {component.urn}


@every
def test_outputs_are_the_neutral_ones_and_registered(of: str, noun: str) -> None:
    found = run(of, noun)
    (component,) = found.components
    wanted = typing.get_type_hints(getattr(cloud.Cloud, noun))["return"]
    if wanted is type(None):
        assert found.value is None
        assert found.outputs[component.urn] == {}
        return
    assert type(found.value) is wanted
    held = {f.name for f in dataclasses.fields(wanted)} - {"resource", "owned"}  # what to wait for
    assert set(found.outputs[component.urn]) == held
    assert None not in [getattr(found.value, name) for name in held]


@every_cloud
def test_every_cloud_speaks_the_protocol_word_for_word(of: str) -> None:
    assert CLOUDS[of].name == of
    for noun in samples.NOUNS:
        ours, theirs = (getattr(c, noun) for c in (cloud.Cloud, type(CLOUDS[of])))
        assert list(inspect.signature(theirs).parameters) == list(inspect.signature(ours).parameters)
        assert typing.get_type_hints(theirs) == typing.get_type_hints(ours)


# ---------------------------------------------------------------- what the provider will say


@every
def test_the_provider_takes_the_inputs(of: str, noun: str) -> None:
    for recorded in custom(run(of, noun)):
        assert facts.failures(recorded) == [], recorded.type
        assert facts.outdated(recorded) == [], recorded.type


def test_the_judge_of_that_can_say_no() -> None:
    good = run("scaleway", "instance").one("scaleway:instance/server:Server")
    for change, complaint in (
        ({"imaginary": 1}, "Invalid or unknown key"),
        ({"bootType": "by-hand"}, "expected"),
        ({"rootVolume": {"volumeType": "floppy"}}, "expected"),
        ({"type": None}, "Missing required argument"),
    ):
        inputs = {k: v for k, v in {**good.inputs, **change}.items() if v is not None}
        (said,) = facts.failures(dataclasses.replace(good, inputs=inputs))
        assert complaint in said
    old = dataclasses.replace(good, inputs={"bootscriptId": "x"})
    assert facts.outdated(old) == ["bootscriptId"]


@every
def test_no_deprecated_twin_of_a_type_is_used(of: str, noun: str) -> None:
    for recorded in custom(run(of, noun)):
        assert facts.resource(recorded.type).token == recorded.type
        assert not recorded.type.startswith("scaleway:index/")


@every
def test_what_can_be_tagged_is(of: str, noun: str) -> None:
    found = run(of, noun)
    for recorded in custom(found):
        fact = facts.resource(recorded.type).inputs.get("tags")
        if fact is None:
            continue
        tags = recorded.inputs["tags"]
        if fact["type"].startswith("array"):
            tags = dict(tag.split("=", 1) for tag in tags)
        assert tags == samples.scope(of).tags


# ---------------------------------------------------------------- data


@every
def test_data_is_protected_if_it_is_to_be_kept_and_only_then(of: str, noun: str) -> None:
    kept, loose = run(of, noun, keep_data=True), run(of, noun, keep_data=False)
    assert {r.urn for r in custom(kept) if r.protect} == {r.urn for r in custom(kept) if r.type in DATA}
    assert not [r.urn for r in loose.resources if r.protect]
    for found in (kept, loose):
        assert {r.urn for r in found.resources if r.retain_on_delete} == {
            r.urn for r in found.resources if r.protect
        }


ADOPTING = [
    (of, noun)
    for of, noun in EVERY
    if "adopt"
    in {f.name for f in dataclasses.fields(typing.get_type_hints(getattr(cloud.Cloud, noun))["args"])}
]


@pytest.mark.parametrize(("of", "noun"), ADOPTING)
def test_an_existing_thing_is_taken_over_and_protected(of: str, noun: str) -> None:
    def program() -> None:
        args = samples.arguments(noun, samples.scope(of, keep_data=False), of)
        getattr(CLOUDS[of], noun)("scell", dataclasses.replace(args, adopt="some-id"))

    (taken,) = [r for r in mocks.run(program).resources if r.import_id]
    assert taken.import_id.rsplit("/", 1)[-1] == "some-id"
    assert taken.type in DATA
    assert taken.protect is True
    assert not taken.inputs.get("forceDestroy")  # what was not made here is never emptied


@every_cloud
def test_the_seal_holds_the_whole_system(of: str) -> None:
    found = mocks.run(samples.whole(of))
    seal = found.one("RandomId", "scell-seal")
    assert seal.protect
    assert {r.urn for r in custom(found)} - {seal.urn} <= set(seal.dependencies)


# ---------------------------------------------------------------- secrets


@every
def test_secret_inputs_arrive_as_secrets(of: str, noun: str) -> None:
    for recorded in custom(run(of, noun)):
        given = facts.secret_inputs(recorded.type) & set(recorded.inputs)
        assert given <= recorded.secrets, recorded.type


@every_cloud
def test_no_secret_stands_in_the_clear_anywhere(of: str) -> None:
    found = mocks.run(samples.whole(of))
    assert len(facts.secret_texts(found)) >= 6  # cloud-init, private key, passwords, two keys of IAM
    assert facts.in_the_clear(found) == []


# ---------------------------------------------------------------- least privilege


@every_cloud
def test_data_stores_have_no_address_on_the_internet(of: str) -> None:
    found = mocks.run(samples.whole(of))
    stores = [r for r in found.resources if r.type in PUBLIC_ENDPOINTS]
    assert len(stores) == 2
    for store in stores:
        assert not PUBLIC_ENDPOINTS[store.type] & set(store.inputs)
    for noun in ("data", "cache"):
        assert ip_address(found.value[noun].host) in ip_network("10.20.0.0/24")


@every
def test_nothing_is_opened_that_was_not_asked_for(of: str, noun: str) -> None:
    asked = {s for rule in samples.RULES for s in rule.sources} | {"10.20.0.0/24"}
    sources = set()
    for recorded in custom(run(of, noun)):
        rules = [*recorded.inputs.get("inboundRules", ()), *recorded.inputs.get("aclRules", ())]
        sources |= {str(rule.get("ipRange") or rule.get("ip")) for rule in rules}
        for rule in recorded.inputs.get("inboundRules", ()):
            if rule.get("port") == 22:
                assert ip_network(rule["ipRange"]).prefixlen > 0
    assert sources <= asked


# ---------------------------------------------------------------- names


LONG = "a-system-with-a-name-that-nobody-in-his-right-mind-would-ever-give-to-anything-at-all"


@every
def test_long_names_fit_and_stay_apart(of: str, noun: str) -> None:
    one, two = (run(of, noun, name=LONG + end) for end in ("-1", "-2"))
    limit = catalogue().limit("name")
    for recorded in (*custom(one), *custom(two)):
        made_up = len(recorded.name) + catalogue().limit("autoname_suffix")
        assert len(recorded.inputs.get("name", "")) <= limit
        assert made_up <= limit, recorded.name
        assert facts.failures(recorded) == []
    assert not {r.name for r in custom(one)} & {r.name for r in custom(two)}
    assert len({r.name for r in custom(one)}) == len(list(custom(one)))


# ---------------------------------------------------------------- arguments


SPIED = (cloud.Rule, cloud.Health, cloud.Expiry, cloud.DnsRecord, cloud.Access)


def spied(value: Any, read: set[str]) -> Any:
    """The same arguments, noting which fields are looked at; what other components return is left alone."""
    if isinstance(value, tuple):
        return tuple(spied(item, read) for item in value)
    if not (
        isinstance(value, SPIED)
        or (dataclasses.is_dataclass(value) and type(value).__name__.endswith("Args"))
    ):
        return value
    kind = type(value)

    class Spy(kind):  # type: ignore[misc, valid-type]
        def __getattribute__(self, name: str) -> Any:
            if not name.startswith("_"):
                read.add(f"{kind.__name__}.{name}")
            return super().__getattribute__(name)

    copy = object.__new__(Spy)
    for part in dataclasses.fields(value):
        object.__setattr__(copy, part.name, spied(getattr(value, part.name), read))
    return copy


def fields(value: Any) -> set[str]:
    if isinstance(value, tuple):
        return {name for item in value for name in fields(item)}
    if not (
        isinstance(value, SPIED)
        or (dataclasses.is_dataclass(value) and type(value).__name__.endswith("Args"))
    ):
        return set()
    own = {f"{type(value).__name__}.{f.name}" for f in dataclasses.fields(value)}
    return own | {n for f in dataclasses.fields(value) for n in fields(getattr(value, f.name))}


@every
def test_every_field_of_the_arguments_is_used(of: str, noun: str) -> None:
    read: set[str] = set()
    there: set[str] = set()

    def program() -> None:
        args = samples.arguments(noun, samples.scope(of), of)
        there.update(fields(args))
        getattr(CLOUDS[of], noun)("scell", spied(args, read))

    mocks.run(program)
    assert there - read == set()


# ---------------------------------------------------------------- previews


@every
def test_a_preview_knows_what_it_can_and_crashes_on_nothing(of: str, noun: str) -> None:
    planned, done = mocks.run(samples.build(of, noun), preview=True), run(of, noun)
    assert {r.urn for r in planned.resources} == {r.urn for r in done.resources}
    assert {r.urn: r.protect for r in planned.resources} == {r.urn: r.protect for r in done.resources}


@every_cloud
def test_a_preview_of_a_whole_new_system_plans_every_resource(of: str) -> None:
    planned, done = mocks.run(samples.whole(of), preview=True), mocks.run(samples.whole(of))
    assert sorted(r.urn for r in planned.resources) == sorted(r.urn for r in done.resources)
    for before in planned.resources:
        after = done.urn(before.urn)
        assert set(before.inputs) == set(after.inputs), before.urn
        known = {k: v for k, v in before.inputs.items() if "Unknown" not in repr(v)}
        assert known == {k: after.inputs[k] for k in known}, before.urn
