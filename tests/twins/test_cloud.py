"""Real mode: effects around the inventory, and what a kill leaves behind. Effects here only take notes."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from sandbox.effects.protocol import EffectError, World
from sandbox.errors import SandboxError
from sandbox.inventory import Store
from sandbox.twins.cloud import Cloud, CloudError
from tests.twins.conftest import Twin

IP = "scaleway:instance/ip:Ip"
COMMAND = "command:remote:Command"
CALL = {"connection": {"host": "h"}, "create": "c", "delete": "d"}


@dataclass
class Notes:
    """An effect that notes each call with the state of the row in the inventory, and fails where told."""

    calls: list[Any] = field(default_factory=list)
    fails: set[str] = field(default_factory=set)
    why: Exception = field(default_factory=lambda: EffectError("it did not work\nthe log says why"))
    gone: bool = False
    world: World | None = None

    def _note(self, what: str, world: World, row: Any) -> None:
        self.world = world
        held = world.inventory.get(row.token, row.id)
        self.calls.append((what, held.state if held else None))
        if what in self.fails:
            raise self.why

    def create(self, world, row):
        self._note("create", world, row)
        return {"reverse": "made.example"}

    def update(self, world, old, new):
        self._note("update", world, new)
        return {"reverse": f"{old.inputs.get('tags')}->{new.inputs.get('tags')}"}

    def delete(self, world, row):
        self._note("delete", world, row)

    def read(self, world, row):
        self._note("read", world, row)
        return None if self.gone else {"reverse": "read.example"}


@pytest.fixture
def notes():
    return Notes()


@pytest.fixture
def real(tmp_path, notes):
    store = Store(tmp_path / "inventory.db")
    cloud = Cloud(store, World(root=tmp_path, inventory=store), {IP: notes, COMMAND: notes})
    yield Twin(cloud)
    store.close()


def test_an_effect_works_on_a_pending_row_and_its_outputs_are_laid_over(real, notes):
    made = real.create(IP, {})
    assert made.outputs["reverse"] == "made.example"
    row = real.store.get(IP, made.id)
    assert (row.state, row.real, row.outputs["reverse"]) == ("ready", True, "made.example")
    changed = real.update(IP, made, {"tags": ["a"]})
    assert changed.outputs["reverse"] == "None->['a']"
    real.delete(IP, changed)
    # While it is being deleted, what is rendered from the inventory does not see it any more.
    assert notes.calls == [("create", "pending"), ("update", "pending"), ("delete", None)]
    assert real.store.every() == []


def test_a_preview_touches_nothing(real, notes):
    assert real.create(IP, {}, preview=True).id == ""
    assert notes.calls == []
    assert real.store.every() == []


def test_a_failing_create_is_undone(real, notes):
    notes.fails = {"create"}
    with pytest.raises(CloudError, match=r"^it did not work\nthe log says why$"):
        real.create(IP, {})
    assert [what for what, _ in notes.calls] == ["create", "delete"]
    assert real.store.every() == []
    assert real.store.holders("public") == []


@pytest.mark.parametrize(
    "why",
    [OSError(28, "No space left"), SandboxError("no namespace"), subprocess.CalledProcessError(32, "mount")],
)
def test_what_the_machine_cannot_do_is_a_failed_call_and_undone(real, notes, why):
    notes.fails, notes.why = {"create"}, why
    with pytest.raises(CloudError, match=r"No space left|no namespace|mount.*returned"):
        real.create(IP, {})
    assert real.store.every() == []


def test_an_undoing_that_fails_too_hides_nothing_and_is_left_to_the_next_run(real, notes):
    notes.fails = {"create", "delete"}
    with pytest.raises(CloudError, match=r"(?s)^it did not work.*undoing it failed too.*it did not work"):
        real.create(IP, {})
    assert [row.state for row in real.store.every()] == ["pending"]


def test_a_failing_update_or_delete_leaves_the_old_row(real, notes):
    made = real.create(IP, {})
    notes.fails = {"update", "delete"}
    with pytest.raises(CloudError, match="it did not work"):
        real.update(IP, made, {"tags": ["a"]})
    with pytest.raises(CloudError, match="it did not work"):
        real.delete(IP, made)
    row = real.store.get(IP, made.id)
    assert row.state == "ready"
    assert "tags" not in row.inputs


def test_a_read_shows_what_is_there_now(real, notes):
    made = real.create(IP, {})
    resource, urn = real.resource(IP), real.urn(IP, "it")
    seen = real.cloud.read(resource, urn, made.id, {}, made.outputs, ())
    assert seen.outputs["reverse"] == "read.example"
    notes.gone = True
    assert real.cloud.read(resource, urn, made.id, {}, made.outputs, ()) is None
    assert real.store.every() == []


def test_commands_have_effects_and_no_rows(real, notes):
    made = real.create(COMMAND, CALL)
    real.update(COMMAND, made, {**CALL, "create": "e"})
    real.delete(COMMAND, made)
    assert [what for what, _ in notes.calls] == ["create", "update", "delete"]
    assert real.store.every() == []


def left(real: Twin, **changes: Any) -> Any:
    """A row as a process that died left it."""
    made = real.create(IP, {})
    row = real.store.get(IP, made.id)
    assert row is not None
    real.store.put(replace(row, **changes))
    real.store._db.execute("update resources set owner='1:0'")
    (found,) = real.store.abandoned()
    return found


@pytest.mark.parametrize(
    ("changes", "said", "remains"),
    [
        ({"state": "pending"}, "undone", False),
        ({"state": "deleting"}, "deleted", False),
        (
            {"state": "pending", "before": {"inputs": {"tags": ["old"]}, "outputs": {}, "secrets": []}},
            "put back",
            True,
        ),
    ],
)
def test_what_a_dead_process_left_is_settled(real, notes, changes, said, remains):
    row = left(real, **changes)
    assert real.cloud.recover(row) == said
    assert bool(real.store.every()) is remains
    assert real.store.abandoned() == []
    if remains:
        assert real.store.every()[0].inputs == {"tags": ["old"]}


def test_a_row_somebody_works_on_is_not_abandoned(real):
    made = real.create(IP, {})
    real.store.put(replace(real.store.get(IP, made.id), state="pending"))
    assert real.store.abandoned() == []


def test_a_stack_stays_in_the_mode_it_began_in(tmp_path, real, notes):
    recorded = Twin(Cloud(real.store))
    recorded.create(IP, {}, stack="recorded")
    real.create(IP, {}, stack="recorded")
    assert notes.calls == []
    made = real.create(IP, {}, stack="real")
    for action in (
        lambda: recorded.create(IP, {}, stack="real"),
        lambda: recorded.delete(IP, made, stack="real"),
    ):
        with pytest.raises(CloudError, match="hosts of stack 'real' are real and this run is record-only"):
            action()


def test_a_fault_strikes_the_call_it_was_ordered_for(twin):
    from sandbox.inventory import Fault

    twin.store.add_fault(Fault(token="*:Ip", op="create", nth=2, kind="no-capacity"))
    twin.create(IP, {})
    with pytest.raises(CloudError, match="out of stock"):
        twin.create(IP, {})
    twin.create(IP, {})
    assert len(twin.store.every()) == 2
