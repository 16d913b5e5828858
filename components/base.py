"""The one base class of components.

A noun is a class with a ``build`` method that makes its children and returns its neutral outputs::

    class PrivateNetwork(Component[NetworkArgs, Network]):
        def build(self, args: NetworkArgs) -> Network:
            vpc = network.Vpc(self.named("vpc"), opts=self.child())
            ...
            return Network(id=..., cidr=...)

    PrivateNetwork("scell", args).outputs        # typed, and registered with the engine

Parent, names, aliases, protection and ``register_outputs`` are done here, so that nobody can forget one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar, cast

import pulumi
import pulumi_random as random
from pulumi import Alias, ResourceOptions
from pulumi.output import UNKNOWN
from pulumi.runtime import get_root_resource

from components.cloud import Scope


class Scoped(Protocol):
    """What every Args class has."""

    @property
    def scope(self) -> Scope:
        """Where the component stands and whom it belongs to."""
        ...


ArgsT = TypeVar("ArgsT", bound=Scoped)
OutT = TypeVar("OutT")
T = TypeVar("T")


def shorten(name: str, limit: int) -> str:
    """``name`` if it fits into ``limit`` characters, else its beginning and six hex digits of its hash.

    Two long names that begin alike stay different, and the same name is shortened the same way each time.
    """
    if len(name) <= limit:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:6]
    return f"{name[: limit - 7].rstrip('-')}-{digest}"


class Component(pulumi.ComponentResource, Generic[ArgsT, OutT]):
    """Base of all components; type token ``berth:<room>:<Noun>`` from the module and the class name.

    ``name_limit``: most characters of a child's logical name. Providers make physical names of it by adding a
    random suffix of eight characters, so it is the cloud's own limit less eight.
    ``former_types``: tokens the class had in earlier versions, so that a renamed class replaces nothing.
    """

    name_limit: ClassVar[int] = 55
    former_types: ClassVar[Sequence[str]] = ()

    def __init__(self, name: str, args: ArgsT, opts: ResourceOptions | None = None) -> None:
        opts = opts or ResourceOptions()
        token = f"berth:{type(self).__module__.split('.')[1]}:{type(self).__name__}"
        _book().reserve(token, name)
        aliases: list[Any] = [Alias(type_=former) for former in self.former_types]
        if opts.parent is not None:  # moved under a parent later: the resource is still the same
            aliases.append(Alias(parent=pulumi.ROOT_STACK_RESOURCE))
        own = ResourceOptions.merge(opts, ResourceOptions(aliases=aliases))
        # The children wait, not the component itself: where what it waits for fails, the engine skips who
        # waits, and the outputs of a skipped component are an error that ends the whole program.
        self._after, own.depends_on = own.depends_on, None
        super().__init__(token, name, None, own)
        self.name, self.scope = name, args.scope
        self._names: set[str] = set()
        _book().systems[args.scope.system].append(self)
        self.outputs: OutT = self.build(args)
        self.register_outputs(_plain(self.outputs))

    @abstractmethod
    def build(self, args: ArgsT) -> OutT:
        """Make the children and return the neutral outputs; called once, by the constructor."""

    def named(self, part: str) -> str:
        """The logical name of the child ``part``: ``<component>-<part>``, within the limit.

        ValueError if the component already has such a child.
        """
        if part in self._names:
            raise ValueError(f"{self.name}: two children named {part!r}")
        self._names.add(part)
        return shorten(f"{self.name}-{part}", self.name_limit)

    def child(
        self, more: ResourceOptions | None = None, *, data: bool = False, adopt: str | None = None
    ) -> ResourceOptions:
        """Options for a child: its parent is this component, and it waits for what this component waits for.

        ``data``: it holds data, and is protected as the scope says. ``adopt``: the cloud's id of an existing
        thing to take over; that is protected whatever the scope says, since it was not made here.

        What is protected also stays in the cloud when the state forgets it: where another thing is adopted in
        its place, the engine asks no protection (measured, CLI 3.250) and would delete the old one.
        """
        opts = ResourceOptions(parent=self, depends_on=self._after, import_=adopt)
        if data or adopt is not None:
            opts.protect = opts.retain_on_delete = self.scope.keep_data or adopt is not None
        return ResourceOptions.merge(opts, more)


def _plain(outputs: object) -> dict[str, Any]:
    """Dataclass to what the engine stores: nested dataclasses as objects, resources left out."""
    if not dataclasses.is_dataclass(outputs) or isinstance(outputs, type):
        return {}
    return {
        f.name: value
        for f in dataclasses.fields(outputs)
        if (value := _storable(getattr(outputs, f.name))) is not None
    }


def _storable(value: Any) -> Any:
    if isinstance(value, pulumi.Resource):
        return None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(value)
    if isinstance(value, Mapping):
        return {key: _storable(item) for key, item in value.items()}
    return value


# ---------------------------------------------------------------- outputs that are there only later


def computed(value: T | None, what: str) -> T:
    """``value`` a provider fills in: unknown while a preview has none, RuntimeError where it never came."""
    if value is not None:
        return value
    if pulumi.runtime.is_dry_run():
        return cast(T, UNKNOWN)
    raise RuntimeError(f"the provider gave no {what}")


def ipv4(addresses: Iterable[str | None]) -> str | None:
    """The first IPv4 address of a mixed list, without the prefix length some providers add."""
    found = (ipaddress.ip_interface(address).ip for address in addresses if address)
    return next((str(ip) for ip in found if ip.version == 4), None)


# ---------------------------------------------------------------- what one program has made


class _Book:
    """The components of one program: no two of one name, and all of a system for its seal."""

    def __init__(self, root: pulumi.Resource | None) -> None:
        self.root = root
        self.names: set[tuple[str, str]] = set()
        self.systems: dict[str, list[pulumi.Resource]] = defaultdict(list)

    def reserve(self, token: str, name: str) -> None:
        """ValueError where the engine would later speak of a duplicate URN."""
        if (token, name) in self.names:
            raise ValueError(f"two components {token} named {name!r}: names are unique within a stack")
        self.names.add((token, name))


_open = _Book(None)


def _book() -> _Book:
    """The book of the running program: a new one for each root resource, as tests run many in a process."""
    global _open
    root = get_root_resource()
    if _open.root is not root:
        _open = _Book(root)
    return _open


# ---------------------------------------------------------------- the seal


def _leaves(component: pulumi.Resource, without: pulumi.Resource) -> Iterator[pulumi.Resource]:
    """Everything of the cloud below ``component``; not the component, which may be the seal's own parent."""
    for child in component._childResources:  # what the SDK itself expands a dependency on a component to
        if isinstance(child, pulumi.CustomResource):
            yield child
        elif child is not without:
            yield from _leaves(child, without)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SealArgs:
    """The last word of a system whose data is kept."""

    scope: Scope


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sealed:
    """Nothing to read: a seal only holds."""


class Seal(Component[SealArgs, Sealed]):
    """A protected leaf that depends on every component its system has made so far; make it last.

    The engine deletes what depends on others first, so a destroy (or the block of the system removed from the
    stack file) meets this resource before any other and is refused with nothing deleted. Where data need not
    be kept the leaf is there all the same, unprotected: the ``up`` that says so has to find it to release it.
    """

    def build(self, args: SealArgs) -> Sealed:
        everything = {leaf for c in _book().systems[args.scope.system] for leaf in _leaves(c, self)}
        last = self.child(ResourceOptions(depends_on=list(everything)), data=True)
        random.RandomId(self.named("seal"), byte_length=4, opts=last)
        return Sealed()
