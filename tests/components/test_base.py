"""What the base class does for every component."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_random as random
import pytest
from pulumi import Output, ResourceOptions

from components.base import Component, Seal, SealArgs, computed, ipv4, shorten
from components.cloud import Scope
from tests import mocks


def scope(system: str = "scell", *, keep: bool = True) -> Scope:
    return Scope(system=system, environment="production", region="fr-par", zone="fr-par-1", keep_data=keep)


@dataclass(frozen=True, kw_only=True)
class ThingArgs:
    scope: Scope
    adopt: str | None = None


@dataclass(frozen=True, kw_only=True)
class Inner:
    word: Output[str]


@dataclass(frozen=True, kw_only=True)
class Things:
    id: Output[str]
    inner: Inner
    many: Mapping[str, Inner]
    plain: int
    resource: pulumi.Resource


class Thing(Component[ThingArgs, Things]):
    def build(self, args: ThingArgs) -> Things:
        password = random.RandomPassword(
            self.named("data"), length=20, opts=self.child(data=True, adopt=args.adopt)
        )
        other = random.RandomId(self.named("other"), byte_length=4, opts=self.child())
        inner = Inner(word=password.result)
        return Things(id=other.id, inner=inner, many={"a": inner}, plain=5, resource=other)


class Moved(Thing):
    former_types = ("berth:old:Thing",)


def run(program: Callable[[], Any], **kwargs: Any) -> mocks.Run:
    return mocks.run(program, **kwargs)


def test_children_stand_under_the_component_and_are_called_after_it() -> None:
    made = run(lambda: Thing("scell", ThingArgs(scope=scope())))
    component = made.components[0]
    assert component.type.endswith(":Thing")
    assert [(c.name, c.type.rsplit(":")[-1]) for c in made.children(component)] == [
        ("scell-data", "RandomPassword"),
        ("scell-other", "RandomId"),
    ]


def test_the_type_names_room_and_noun() -> None:
    made = run(lambda: Seal("scell", SealArgs(scope=scope())))
    assert made.components[0].type == "berth:base:Seal"


def test_outputs_are_registered_without_being_asked() -> None:
    made = run(lambda: Thing("scell", ThingArgs(scope=scope())))
    urn = made.components[0].urn
    assert made.outputs[urn]["inner"] == {"word": "Aa1!scell-dataxxxxxx"}
    assert made.outputs[urn]["many"] == {"a": {"word": "Aa1!scell-dataxxxxxx"}}
    assert made.outputs[urn]["plain"] == 5
    assert "resource" not in made.outputs[urn]
    assert made.secret_outputs[urn] == {"inner", "many"}


def test_outputs_are_typed_values_for_the_program() -> None:
    made = run(lambda: Thing("scell", ThingArgs(scope=scope())).outputs)
    assert made.value.inner.word == "Aa1!scell-dataxxxxxx"


@pytest.mark.parametrize("keep", [True, False])
def test_data_is_protected_as_the_scope_says(keep: bool) -> None:
    made = run(lambda: Thing("scell", ThingArgs(scope=scope(keep=keep))))
    assert made.one("RandomPassword").protect is keep
    assert not made.one("RandomId").protect


def test_what_is_adopted_is_imported_and_protected_whatever_the_scope_says() -> None:
    made = run(lambda: Thing("scell", ThingArgs(scope=scope(keep=False), adopt="existing")))
    assert made.one("RandomPassword").import_id == "existing"
    assert made.one("RandomPassword").protect is True
    assert made.one("RandomId").import_id == ""


def test_children_wait_for_what_the_component_waits_for() -> None:
    def program() -> None:
        first = random.RandomId("first", byte_length=4)
        Thing("scell", ThingArgs(scope=scope()), ResourceOptions(depends_on=[first]))

    made = run(program)
    first = made.one("RandomId", "first")
    assert first.urn in made.one("RandomPassword").dependencies
    assert first.urn in made.one("RandomId", "scell-other").dependencies


def test_a_component_moved_under_a_parent_is_still_the_same() -> None:
    def program() -> None:
        Thing(
            "inner",
            ThingArgs(scope=scope()),
            ResourceOptions(parent=Thing("outer", ThingArgs(scope=scope()))),
        )

    made = run(program)
    inner, outer = (made.one("Thing", name) for name in ("inner", "outer"))
    assert inner.parent == outer.urn
    assert inner.aliases == ("parent=",)
    assert outer.aliases == ()


def test_a_renamed_class_and_a_renamed_component_are_still_the_same() -> None:
    old = ResourceOptions(aliases=[pulumi.Alias(name="before")])
    made = run(lambda: Moved("now", ThingArgs(scope=scope()), old))
    assert set(made.components[0].aliases) == {"name=before", "type=berth:old:Thing"}


def test_two_components_of_one_name_are_told_apart_by_their_type_only() -> None:
    def program() -> None:
        Thing("scell", ThingArgs(scope=scope()))
        Thing("scell", ThingArgs(scope=scope("other")))

    with pytest.raises(ValueError, match=r"two components berth:.*:Thing named 'scell'"):
        run(program)


def test_the_next_program_may_use_the_same_names() -> None:
    for _ in range(2):
        run(lambda: Thing("scell", ThingArgs(scope=scope())))


def test_two_children_of_one_name_are_refused() -> None:
    class Twice(Component[ThingArgs, None]):
        def build(self, args: ThingArgs) -> None:
            self.named("a")
            self.named("a")

    with pytest.raises(ValueError, match="scell: two children named 'a'"):
        run(lambda: Twice("scell", ThingArgs(scope=scope())))


@pytest.mark.parametrize(
    ("name", "limit", "short"),
    [
        ("scell-server", 55, "scell-server"),
        ("x" * 55, 55, "x" * 55),
        ("x" * 56, 55, "x" * 48 + "-"),
        ("a-long-name--with-its-cut-at-a-hyphen", 20, "a-long-name-"),
    ],
)
def test_names_are_cut_only_where_they_must(name: str, limit: int, short: str) -> None:
    cut = shorten(name, limit)
    assert len(cut) <= limit
    assert cut == short if len(name) <= limit else cut.startswith(short)
    assert "--" not in cut


def test_long_names_that_begin_alike_stay_different_and_stable() -> None:
    one, two = shorten("x" * 80 + "1", 30), shorten("x" * 80 + "2", 30)
    assert one != two
    assert one == shorten("x" * 80 + "1", 30)


def test_a_value_the_provider_owes_is_unknown_in_a_preview_and_an_error_after() -> None:
    def program() -> Output[str]:
        return Output.from_input("x").apply(lambda _: computed(None, "address of scell"))

    assert run(program, preview=True).value is None
    with pytest.raises(RuntimeError, match="the provider gave no address of scell"):
        run(program)
    assert computed("10.0.0.1", "address") == "10.0.0.1"


@pytest.mark.parametrize(
    ("addresses", "first"),
    [
        (["fd00::1", "10.20.0.4"], "10.20.0.4"),
        (["10.20.0.4/24", "10.20.0.5"], "10.20.0.4"),
        (["fd00::1"], None),
        ([None], None),
        ([], None),
    ],
)
def test_the_first_ipv4_of_a_mixed_list(addresses: list[str | None], first: str | None) -> None:
    assert ipv4(addresses) == first


# ---------------------------------------------------------------- the seal


def sealed(*, keep: bool) -> mocks.Run:
    def program() -> None:
        outer = Thing("outer", ThingArgs(scope=scope(keep=keep)))
        Thing("inner", ThingArgs(scope=scope(keep=keep)), ResourceOptions(parent=outer))
        Thing("stranger", ThingArgs(scope=scope("other", keep=keep)))
        Seal("scell", SealArgs(scope=scope(keep=keep)), ResourceOptions(parent=outer))

    return run(program)


def test_the_seal_is_protected_and_depends_on_everything_of_its_system() -> None:
    made = sealed(keep=True)
    seal = made.one("RandomId", "scell-seal")
    assert seal.protect is True
    ours = {r.urn for r in made.resources if r.custom and r.name.split("-")[0] in ("outer", "inner")}
    assert ours == set(seal.dependencies) & {r.urn for r in made.resources if r.custom}
    assert len(ours) == 4


def test_the_seal_of_one_system_does_not_hold_another() -> None:
    made = sealed(keep=True)
    seal = made.one("RandomId", "scell-seal")
    assert not [urn for urn in seal.dependencies if "stranger" in urn]


def test_where_data_is_not_kept_the_seal_is_open() -> None:
    assert sealed(keep=False).one("RandomId", "scell-seal").protect is False
