"""The cloud behind the twins: create, read, update and delete over the inventory, with rules and effects.

Order of a create: rules, id, outputs and the row ``pending`` in one transaction; then the effect, which
may take minutes; then the row ``ready``. See :mod:`sandbox.effects.protocol` for what a kill leaves behind.
Providers in STATELESS hold nothing in a cloud (the engine's state is all there is): no rows for them.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from sandbox.effects.protocol import Effect, EffectError, Row, World
from sandbox.errors import SandboxError
from sandbox.inventory import Fault, Record, Store
from sandbox.twins.outputs import Call, Context, Refusal, module
from sandbox.twins.rules import Rules, plain
from sandbox.twins.shape import base_outputs, preview_outputs, strip, zero
from sandbox.twins.tables import Resource
from sandbox.twins.wire import Props

STATELESS = ("random", "tls", "command")


class CloudError(SandboxError):
    """A call failed as it would at the provider; the message is the provider's."""


@dataclass(frozen=True)
class Made:
    """What a call returns: outputs and the names of the secret ones."""

    id: str
    outputs: Props
    secrets: set[str]
    inputs: Props | None = None


def split_urn(urn: str) -> tuple[str, str]:
    """(stack, name) of a URN."""
    return urn.split("::")[0].rpartition(":")[2], urn.split("::", 3)[3]


class Cloud:
    """All providers' resources of one checkout. ``world`` is given in real mode only."""

    def __init__(
        self, store: Store, world: World | None = None, effects: Mapping[str, Effect] | None = None
    ) -> None:
        self.store = store
        self.world = world
        self.effects = effects or {}
        self.cancelled = threading.Event()

    # ------------------------------------------------------------ the four calls

    def create(
        self,
        resource: Resource,
        urn: str,
        inputs: Props,
        secrets: Collection[str],
        settings: Mapping[str, Any],
        preview: bool,
    ) -> Made:
        """Make a resource. In a preview nothing is made and the id is ""."""
        self._needed(resource, inputs)
        hidden = self._secret(resource, secrets)
        if preview:
            return Made("", preview_outputs(resource, inputs, None), hidden)
        fault = self._strike(resource, "create")
        stack, name = split_urn(urn)
        context = self._context(resource, urn, name, inputs, settings, None)
        if _provider(resource) in STATELESS:
            row = self._stateless(context, stack)
            effect = self._effect(resource, stack)
            if effect is not None:
                begun = row
                row = self._run(lambda: {**begun.outputs, **effect.create(self._world(), begun)}, begun)
        else:
            row = self._stored(context, stack, hidden)
        if fault is not None and fault.kind == "after-commit":
            raise CloudError(_fault_text(resource, "after-commit"))
        return Made(row.id, dict(row.outputs), hidden)

    def update(
        self,
        resource: Resource,
        urn: str,
        id: str,
        old_inputs: Props,
        old_outputs: Props,
        inputs: Props,
        secrets: Collection[str],
        settings: Mapping[str, Any],
        preview: bool,
    ) -> Made:
        """Change a resource in place."""
        hidden = self._secret(resource, secrets)
        if preview:
            outputs = preview_outputs(resource, inputs, old_outputs)
            if resource.kind == "native":
                outputs |= self._rerun(resource)
            return Made(id, outputs, hidden)
        fault = self._strike(resource, "update")
        stack, name = split_urn(urn)
        if _provider(resource) in STATELESS:
            context = self._context(resource, urn, name, inputs, settings, old_outputs, id)
            made = self._row(context, stack, hidden)
            effect = self._effect(resource, stack)
            if effect is not None:
                old = replace(made, inputs=old_inputs, outputs=old_outputs)
                made = self._run(lambda: {**made.outputs, **effect.update(self._world(), old, made)}, made)
        else:
            made = self._stored_update(resource, urn, id, inputs, hidden, settings)
        if fault is not None and fault.kind == "after-commit":
            raise CloudError(_fault_text(resource, "after-commit"))
        return Made(id, dict(made.outputs), hidden)

    def delete(self, resource: Resource, urn: str, id: str, inputs: Props, outputs: Props) -> None:
        """Remove a resource; one that is gone already is no error."""
        stack, name = split_urn(urn)
        fault = self._strike(resource, "delete")
        if _provider(resource) in STATELESS:
            effect = self._effect(resource, stack)
            if effect is not None:
                gone = Row(id=id, token=resource.token, name=name, inputs=inputs, outputs=outputs)
                self._try(lambda: effect.delete(self._world(), gone))
        else:
            self._stored_delete(resource, id)
        if fault is not None and fault.kind == "after-commit":
            raise CloudError(_fault_text(resource, "after-commit"))

    def read(
        self,
        resource: Resource,
        urn: str,
        id: str,
        inputs: Props | None,
        outputs: Props,
        secrets: Collection[str],
    ) -> Made | None:
        """The resource as it is now, or None. ``inputs`` None: it is being imported or looked up."""
        self._strike(resource, "read")
        if _provider(resource) in STATELESS:
            if inputs is None:
                raise CloudError(f"{resource.token} cannot be imported: nothing outside the state holds it")
            return Made(id, outputs, self._secret(resource, secrets), inputs)
        row = self.store.get(resource.token, id)
        if row is None and inputs is None:
            row = next((other for other in self.store.all(resource.token) if plain(other.id) == id), None)
        if row is None:
            return None
        held = dict(row.outputs)
        effect = self._effect_of(row)
        if effect is not None:
            seen = self._try(lambda: effect.read(self._world(), row))
            if seen is None:
                self.store.remove(row.token, row.id, "vanished")
                return None
            held |= seen
        hidden = self._secret(resource, {*row.secrets, *secrets})
        return Made(row.id, held, hidden, self._as_inputs(resource, row, inputs, held))

    def call(self, provider: str, token: str, args: Props, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """A function of the program (an "invoke")."""
        found = module(provider)
        function = getattr(found, "FUNCTIONS", {}).get(token)
        if function is None:
            raise CloudError(f"the sandbox's {provider} twin does not answer function {token}")
        try:
            result: Mapping[str, Any] = function(Call(self.store, settings, args))
        except Refusal as error:
            raise CloudError(str(error)) from error
        return result

    # ------------------------------------------------------------ resources with rows

    def _stored(self, context: Context, stack: str, hidden: set[str]) -> Record:
        resource = context.resource
        real = self._mode(stack)
        with self.store.exclusive():
            context.id = module(_provider(resource)).identify(context) if module(_provider(resource)) else ""
            row = Record(
                id=context.id,
                token=resource.token,
                name=context.name,
                inputs=dict(context.inputs),
                outputs={},
                urn=context.urn,
                stack=stack,
                real=real,
                secrets=sorted(hidden),
            )
            try:
                rules(_provider(resource)).create(self.store, row)
                self._compute(context)
            except Refusal as error:
                raise CloudError(str(error)) from error
            effect = self._effect_of(row)
            row = replace(row, outputs=context.outputs, state="ready" if effect is None else "pending")
            self.store.put(row, "created")
        if effect is None:
            return row
        try:
            done = self._run(lambda: {**row.outputs, **effect.create(self._world(), row)}, row)
        except CloudError as failed:
            # The provider would have nothing either: what was begun is undone.
            try:
                self._try(lambda: effect.delete(self._world(), row))
            except CloudError as error:
                raise CloudError(f"{failed}\nundoing it failed too, the next run tries: {error}") from error
            self.store.remove(row.token, row.id, "undone")
            raise
        done = replace(done, state="ready")
        self.store.put(done)
        return done

    def _stored_update(
        self,
        resource: Resource,
        urn: str,
        id: str,
        inputs: Props,
        hidden: set[str],
        settings: Mapping[str, Any],
    ) -> Record:
        name = split_urn(urn)[1]
        with self.store.exclusive():
            old = self.store.get(resource.token, id)
            if old is None:
                raise CloudError(_missing(resource, id))
            context = self._context(resource, urn, name, inputs, settings, old.outputs, id)
            row = replace(old, inputs=inputs, urn=urn, name=name, secrets=sorted(hidden))
            try:
                rules(_provider(resource)).update(self.store, row)
                self._compute(context)
            except Refusal as error:
                raise CloudError(str(error)) from error
            effect = self._effect_of(old)
            before = {"inputs": old.inputs, "outputs": old.outputs, "secrets": list(old.secrets)}
            state = "ready" if effect is None else "pending"
            row = replace(row, outputs=context.outputs, state=state, before=before if effect else None)
            self.store.put(row, "updated")
        if effect is None:
            return row
        try:
            done = self._run(lambda: {**row.outputs, **effect.update(self._world(), old, row)}, row)
        except CloudError:
            self.store.put(old)
            raise
        done = replace(done, state="ready", before=None)
        self.store.put(done)
        return done

    def _stored_delete(self, resource: Resource, id: str) -> None:
        with self.store.exclusive():
            row = self.store.held(resource.token, id)
            if row is None:
                return
            try:
                rules(_provider(resource)).delete(self.store, row)
            except Refusal as error:
                raise CloudError(str(error)) from error
            effect = self._effect_of(row)
            if effect is None:
                self.store.remove(row.token, row.id)
                return
            self.store.put(replace(row, state="deleting"))
        try:
            self._try(lambda: effect.delete(self._world(), row))
        except CloudError:
            self.store.put(row)
            raise
        self.store.remove(row.token, row.id)

    def recover(self, row: Record) -> str:
        """Bring a row whose process died back to a state the engine can go on from; what was done."""
        effect = self._effect_of(row)
        if row.state == "deleting":
            if effect is not None:
                self._try(lambda: effect.delete(self._world(), row))
            self.store.remove(row.token, row.id)
            return "deleted"
        if row.before is not None:
            self.store.put(replace(row, state="ready", before=None, **row.before))
            return "put back"
        if effect is not None:
            self._try(lambda: effect.delete(self._world(), row))
        self.store.remove(row.token, row.id, "undone")
        return "undone"

    def remove(self, row: Record) -> None:
        """Delete a resource without asking the rules (for what a killed run left behind)."""
        effect = self._effect_of(row)
        if effect is not None:
            self._try(lambda: effect.delete(self._world(), row))
        self.store.remove(row.token, row.id, "undone")

    # ------------------------------------------------------------ pieces

    def _context(
        self,
        resource: Resource,
        urn: str,
        name: str,
        inputs: Props,
        settings: Mapping[str, Any],
        old: Mapping[str, Any] | None,
        id: str = "",
    ) -> Context:
        outputs = base_outputs(resource, inputs, old)
        return Context(self.store, resource, settings, urn, name, inputs, outputs, old, id)

    def _compute(self, context: Context) -> None:
        found = module(_provider(context.resource))
        for complete in (getattr(found, "common", None), getattr(found, "COMPUTE", {}).get(context.token)):
            if complete is not None:
                complete(context)
        for name, fact in context.resource.inputs.items():
            # An input the provider does not fill in stays absent, or the next diff would take it away.
            if name not in context.inputs and not (fact.keys() & {"computed", "default"}):
                context.outputs.pop(name, None)
        for name, fact in context.resource.outputs.items():
            if fact.get("required") and name not in context.outputs:
                context.outputs[name] = zero(fact["type"])

    def _stateless(self, context: Context, stack: str) -> Record:
        found = module(_provider(context.resource))
        context.id = found.identify(context)
        try:
            self._compute(context)
        except Refusal as error:
            raise CloudError(str(error)) from error
        return self._row(context, stack, set())

    @staticmethod
    def _row(context: Context, stack: str, hidden: set[str]) -> Record:
        return Record(
            id=context.id,
            token=context.token,
            name=context.name,
            inputs=dict(context.inputs),
            outputs=context.outputs,
            urn=context.urn,
            stack=stack,
            secrets=sorted(hidden),
        )

    @staticmethod
    def _rerun(resource: Resource) -> Props:
        """What a command prints is not known before it has run again."""
        from sandbox.twins.wire import UNKNOWN

        return {name: UNKNOWN for name in ("stdout", "stderr") if name in resource.outputs}

    @staticmethod
    def _secret(resource: Resource, secrets: Collection[str]) -> set[str]:
        declared = {name for name, fact in resource.outputs.items() if fact.get("secret")}
        return declared | {name for name in secrets if name in resource.outputs}

    @staticmethod
    def _needed(resource: Resource, inputs: Props) -> None:
        made_up = inputs.get("__defaults", ())
        for name, fact in resource.inputs.items():
            if fact.get("requiredAtPlan") and (name not in inputs or name in made_up):
                raise CloudError(f'Missing required argument: "{name}" is required')

    def _as_inputs(
        self, resource: Resource, row: Record, asked: Props | None, held: Mapping[str, Any]
    ) -> Props:
        """Inputs as they are now: what the program asked for, in the values the cloud holds."""
        base = dict(row.inputs) if asked is None else dict(asked)
        for name in base.keys() & held.keys():
            fact = resource.inputs.get(name)
            if fact is not None and not fact.get("writeOnly"):
                base[name] = strip(resource.table, fact["type"], base[name], held[name])
        return base

    def _mode(self, stack: str) -> bool:
        """Whether a new resource of this stack is made real."""
        known = self.store.real(stack)
        if known and self.world is None:
            raise CloudError(_unreal(stack))
        return self.world is not None if known is None else known

    def _effect(self, resource: Resource, stack: str) -> Effect | None:
        return self.effects.get(resource.token) if self._mode(stack) else None

    def _effect_of(self, row: Record) -> Effect | None:
        if not row.real:
            return None
        if self.world is None:
            raise CloudError(_unreal(row.stack))
        return self.effects.get(row.token)

    def _world(self) -> World:
        assert self.world is not None  # noqa: S101  (callers have an effect, so there is a world)
        return self.world

    def _run(self, action: Any, row: Record) -> Record:
        return replace(row, outputs=self._try(action))

    @staticmethod
    def _try(action: Any) -> Any:
        try:
            return action()
        except (EffectError, SandboxError) as error:
            raise CloudError(str(error)) from error
        except (OSError, subprocess.SubprocessError) as error:  # a full disk, a tool that is gone
            raise CloudError(f"the machine of the sandbox could not do it: {error}") from error

    def _strike(self, resource: Resource, op: str) -> Fault | None:
        fault = self.store.strike(resource.token, op)
        if fault is None:
            return None
        if fault.kind == "slow":
            self.cancelled.wait(fault.seconds)
        elif fault.kind != "after-commit":
            raise CloudError(_fault_text(resource, fault.kind))
        return fault


def _provider(resource: Resource) -> str:
    return resource.table.name


@cache
def rules(provider: str) -> Rules:
    """The rules of one provider, loaded once."""
    return Rules(provider)


def _missing(resource: Resource, id: str) -> str:
    noun = resource.token.rpartition(":")[2]
    return f"scaleway-sdk-go: resource {noun.lower()} with ID {plain(id)} is not found"


def _unreal(stack: str) -> str:
    return (
        f"the hosts of stack {stack!r} are real and this run is record-only; "
        "run as root where `sandbox doctor` finds nothing missing"
    )


def _fault_text(resource: Resource, kind: str) -> str:
    noun = resource.token.rpartition(":")[2]
    sdk = "scaleway-sdk-go: " if _provider(resource) == "scaleway" else ""
    return sdk + {
        "no-capacity": f"out of stock: no capacity is left for this {noun}, try another zone",
        "rate-limit": "http error 429 Too Many Requests: rate limit exceeded, try again later",
        "after-commit": f"http error 504 Gateway Timeout: no answer while waiting for {noun}",
    }.get(kind, f"http error 500 Internal Server Error: {noun} could not be served")
