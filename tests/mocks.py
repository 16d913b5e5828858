"""Run a piece of the program without an engine and look at every resource it registered.

    def test_bucket_is_protected() -> None:
        run = mocks.run(lambda: Bucket("data", args).outputs)
        assert run.one("scaleway:object/bucket:Bucket").protect
        assert run.value.name == "scell-storage"          # outputs are resolved, secrets unwrapped

``run`` wraps the program in ``pulumi.runtime.test``: outside of it an assertion inside an ``apply``, or an
exception nobody awaits, is lost and the test passes. Assertions stand after ``run``, on plain values.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pulumi
from pulumi.runtime import rpc
from pulumi.runtime.settings import set_root_resource

SECRET = "4dabf18193072939515e22adb298388d"
SECRET_VALUE = "1b47061264138c4ac30d75fd1eb44270"

Properties = dict[str, Any]
Fake = Callable[[str, Properties], Properties]
"""(logical name, plain inputs) -> computed outputs, both in the engine's camelCase."""


def identifier(name: str, locality: str = "") -> str:
    """The id the mock gives to a resource of that name: stable, and shaped as the provider's."""
    bare = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
    return f"{locality}/{bare}" if locality else bare


def number(name: str) -> int:
    """A host part between 10 and 249 made from the name, so that addresses differ."""
    return 10 + uuid.uuid5(uuid.NAMESPACE_DNS, name).int % 240


# ---------------------------------------------------------------- what the fakes answer


def _server(name: str, inputs: Properties) -> Properties:
    public = {"id": identifier(name + "-ip"), "family": "inet6", "address": f"2001:db8::{number(name)}"}
    routed = {"id": identifier(name + "-ip4"), "family": "inet", "address": f"198.18.16.{number(name)}"}
    return {"publicIps": [public, routed], "privateIps": [], "name": name}


def _private_nic(name: str, inputs: Properties) -> Properties:
    return {
        "macAddress": "02:00:00:00:00:01",
        "privateIps": [
            {"id": identifier(name + "6"), "address": f"fd5f:519c:6d46::{number(name)}"},
            {"id": identifier(name + "4"), "address": f"10.20.0.{number(name)}"},
        ],
    }


def _database(name: str, inputs: Properties) -> Properties:
    private = {**inputs.get("privateNetwork", {}), "ip": f"10.20.0.{number(name)}", "port": 5432}
    return {"privateNetwork": private, "certificate": f"-----BEGIN CERTIFICATE-----\n{name}\n"}


def _redis(name: str, inputs: Properties) -> Properties:
    networks = [
        {**network, "ips": [f"10.20.0.{number(name)}/24"], "port": 6379}
        for network in inputs.get("privateNetworks", [])
    ]
    return {"privateNetworks": networks, "certificate": f"-----BEGIN CERTIFICATE-----\n{name}\n"}


def _password(name: str, inputs: Properties) -> Properties:
    return {"result": f"Aa1!{name}".ljust(int(inputs["length"]), "x"), "bcryptHash": "$2y$10$hash"}


def _tem_domain(name: str, inputs: Properties) -> Properties:
    domain, project = inputs["name"], inputs.get("projectId", identifier("project"))
    return {
        "dkimName": f"{project}._domainkey.{domain}",
        "dkimConfig": "v=DKIM1; h=sha256; k=rsa; p=MIIB",
        "dmarcName": f"_dmarc.{domain}",
        "dmarcConfig": "v=DMARC1; p=none",
        "spfValue": "v=spf1 include:_spf.tem.scaleway.com -all",
        "mxConfig": "blackhole.tem.scaleway.com.",
        "mxPriority": 10,
        "smtpHost": "smtp.tem.scaleway.com",
        "smtpPort": 587,
        "smtpPortAlternative": 2587,
        "smtpsAuthUser": project,
        "projectId": project,
    }


FAKES: dict[str, Fake] = {
    "scaleway:instance/server:Server": _server,
    "scaleway:instance/ip:Ip": lambda name, _: {"address": f"198.18.16.{number(name)}"},
    "scaleway:instance/privateNic:PrivateNic": _private_nic,
    "scaleway:databases/instance:Instance": _database,
    "scaleway:redis/cluster:Cluster": _redis,
    "scaleway:object/bucket:Bucket": lambda name, inputs: {
        "endpoint": f"https://{inputs['name']}.s3.{inputs['region']}.scw.cloud",
        "apiEndpoint": f"https://s3.{inputs['region']}.scw.cloud",
        "projectId": inputs.get("projectId", identifier("project")),
    },
    "scaleway:iam/apiKey:ApiKey": lambda name, _: {
        "accessKey": f"SCW{identifier(name)[:17].replace('-', '').upper()}",
        "secretKey": identifier(name + "-secret"),
    },
    "scaleway:domain/zone:Zone": lambda *_: {"ns": ["ns0.dom.scw.cloud", "ns1.dom.scw.cloud"]},
    "scaleway:loadbalancers/ip:Ip": lambda name, _: {"ipAddress": f"198.18.17.{number(name)}"},
    "scaleway:tem/domain:Domain": _tem_domain,
    "random:index/randomPassword:RandomPassword": _password,
    "random:index/randomBytes:RandomBytes": lambda name, inputs: {
        "base64": base64.b64encode(name.ljust(int(inputs["length"]), "-").encode()).decode(),
        "hex": name.ljust(int(inputs["length"]), "-").encode().hex(),
    },
    "random:index/randomId:RandomId": lambda name, inputs: {"hex": identifier(name)[:8]},
    "tls:index/privateKey:PrivateKey": lambda name, _: {
        "privateKeyOpenssh": f"-----BEGIN OPENSSH PRIVATE KEY-----\n{name}\n",
        "privateKeyPem": f"-----BEGIN PRIVATE KEY-----\n{name}\n",
        "publicKeyOpenssh": f"ssh-ed25519 AAAAC3Nza{name.replace('-', '')}\n",
        "publicKeyPem": f"-----BEGIN PUBLIC KEY-----\n{name}\n",
    },
    "command:remote:Command": lambda *_: {"stdout": "", "stderr": ""},
    "command:local:Command": lambda *_: {"stdout": "", "stderr": ""},
}
"""Computed outputs by type; inputs are always echoed. A type that is not here has no computed outputs."""

_ZONAL = ("scaleway:instance/", "scaleway:redis/", "scaleway:loadbalancers/", "scaleway:block/")
_REGIONAL = ("scaleway:network/", "scaleway:databases/", "scaleway:tem/", "scaleway:ipam/")


def _physical_id(token: str, name: str, inputs: Properties) -> str:
    """Scaleway writes the zone or the region before its identifiers; IAM does not."""
    if token == "scaleway:object/bucket:Bucket":
        return f"{inputs['region']}/{inputs['name']}"
    if token.startswith(_ZONAL):
        return identifier(name, str(inputs.get("zone", "fr-par-1")))
    if token.startswith(_REGIONAL):
        return identifier(name, str(inputs.get("region", "fr-par")))
    return identifier(name)


# ---------------------------------------------------------------- what is recorded


@dataclass(frozen=True)
class Recorded:
    """One registration as the engine would have got it; names of properties are the engine's camelCase."""

    type: str
    name: str
    urn: str
    parent: str
    """URN of the parent; the stack's own for a resource somebody forgot to give a parent."""
    custom: bool
    inputs: Properties
    """Plain values, secrets unwrapped; what a preview does not know is a ``pulumi.output.Unknown``."""
    secrets: frozenset[str]
    """Top-level inputs that arrived marked as secret."""
    protect: bool | None
    dependencies: tuple[str, ...]
    """URNs: of ``depends_on`` and of every resource whose outputs are among the inputs."""
    ignore_changes: tuple[str, ...]
    replace_on_changes: tuple[str, ...]
    delete_before_replace: bool | None
    retain_on_delete: bool | None
    deleted_with: str
    replace_with: tuple[str, ...]
    aliases: tuple[str, ...]
    """URNs, or ``name=…``, ``type=…``, ``parent=…`` of an alias written in parts."""
    secret_outputs: tuple[str, ...]
    import_id: str
    timeouts: Mapping[str, str]
    version: str


@dataclass
class Run:
    """Everything one program registered. Order is not the program's: registrations run in threads."""

    value: Any = None
    """What the program returned, outputs resolved; dataclasses stay what they are."""
    resources: list[Recorded] = field(default_factory=list)
    outputs: dict[str, Properties] = field(default_factory=dict)
    """What components registered with ``register_outputs``, by URN, secrets unwrapped."""
    secret_outputs: dict[str, frozenset[str]] = field(default_factory=dict)
    """Which of those were marked secret, by URN."""
    calls: list[tuple[str, Properties]] = field(default_factory=list)
    """Invokes: token and arguments."""

    def of(self, kind: str) -> list[Recorded]:
        """All of one type, sorted by name. ``kind`` is the token or its class (``Server``)."""
        found = [r for r in self.resources if kind in (r.type, r.type.rsplit(":", 1)[-1])]
        return sorted(found, key=lambda r: r.name)

    def one(self, kind: str, name: str | None = None) -> Recorded:
        """The only one of that type (and name); AssertionError names what there was instead."""
        found = [r for r in self.of(kind) if name is None or r.name == name]
        if len(found) != 1:
            raise AssertionError(
                f"wanted one {kind} {name or ''}, got {[r.name for r in found]} among "
                f"{sorted((r.type, r.name) for r in self.resources)}"
            )
        return found[0]

    def urn(self, urn: str) -> Recorded:
        """The resource of that URN; KeyError for an unknown one."""
        by_urn = {r.urn: r for r in self.resources}
        return by_urn[urn]

    def children(self, parent: Recorded) -> list[Recorded]:
        """Direct children, sorted by name."""
        return sorted((r for r in self.resources if r.parent == parent.urn), key=lambda r: r.name)

    @property
    def components(self) -> list[Recorded]:
        """Component resources only."""
        return [r for r in self.resources if not r.custom]


def _unwrap(value: Any) -> Any:
    if isinstance(value, Mapping):
        if value.get(SECRET) == SECRET_VALUE:
            return _unwrap(value["value"])
        return {key: _unwrap(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unwrap(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)  # the wire has one kind of number
    return value


def _is_secret(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get(SECRET) == SECRET_VALUE


def _alias(alias: Any) -> str:
    if alias.urn:
        return str(alias.urn)
    spec = alias.spec
    parts = [f"name={spec.name}" if spec.name else "", f"type={spec.type}" if spec.type else ""]
    parts.append("parent=" if spec.noParent else f"parent={spec.parentUrn}" if spec.parentUrn else "")
    return ",".join(part for part in parts if part)


class _Answers(pulumi.runtime.Mocks):
    """Computed outputs from the fakes; in a preview nothing computed is known, as with the engine."""

    def __init__(self, fakes: Mapping[str, Fake], preview: bool, run: Run) -> None:
        self.fakes, self.preview, self.recorded = fakes, preview, run
        self.secret_outputs = threading.local()

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, Properties]:
        if not args.custom and not args.resource_id:
            return "", dict(args.inputs)
        if self.preview:
            return "", dict(args.inputs)
        plain = _unwrap(args.inputs)
        fake = self.fakes.get(args.typ)
        computed = fake(args.name, plain) if fake else {}
        for name in getattr(self.secret_outputs, "names", ()):
            if name in computed:
                computed[name] = {SECRET: SECRET_VALUE, "value": computed[name]}
        outputs = {**args.inputs, **computed}
        return args.resource_id or _physical_id(args.typ, args.name, plain), outputs

    def call(self, args: pulumi.runtime.MockCallArgs) -> Properties:  # type: ignore[override]
        self.recorded.calls.append((args.token, _unwrap(args.args)))
        fake = self.fakes.get(args.token)
        if fake is None:
            raise AssertionError(f"invoke {args.token} has no answer: give one with run(fakes=…)")
        return fake("", _unwrap(args.args))  # alone: the SDK's mocks cannot take the None beside it


@contextmanager
def _loop_of_this_thread() -> Iterator[None]:
    """The SDK makes a loop in each worker thread it serializes in, and leaves it open; this one is closed."""
    if threading.current_thread() is threading.main_thread():
        yield
        return
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield
    finally:
        asyncio.set_event_loop(None)
        loop.close()


class _Monitor(pulumi.runtime.mocks.MockMonitor):
    """Records the options the mocks are not told about, and refuses what the engine would refuse."""

    def __init__(self, answers: _Answers, run: Run) -> None:
        super().__init__(answers)
        self.answers, self.recorded, self.lock = answers, run, threading.Lock()

    def RegisterResource(self, request: Any) -> Any:
        with _loop_of_this_thread():
            return self._register(request)

    def Invoke(self, request: Any) -> Any:
        with _loop_of_this_thread():
            return super().Invoke(request)

    def ReadResource(self, request: Any) -> Any:
        with _loop_of_this_thread():
            return super().ReadResource(request)

    def _register(self, request: Any) -> Any:
        self.answers.secret_outputs.names = tuple(request.additionalSecretOutputs)
        urn = self.make_urn(request.parent, request.type, request.name)
        with self.lock:
            if request.type != "pulumi:pulumi:Stack" and urn in {r.urn for r in self.recorded.resources}:
                raise AssertionError(f"duplicate resource {urn}: the engine refuses two of one name")
            if request.type != "pulumi:pulumi:Stack":
                self.recorded.resources.append(self._record(request, urn))
        return super().RegisterResource(request)

    def RegisterResourceOutputs(self, request: Any) -> Any:
        outputs = rpc.deserialize_properties(request.outputs, keep_unknowns=True)
        with self.lock:
            self.recorded.outputs[request.urn] = _unwrap(outputs)
            self.recorded.secret_outputs[request.urn] = frozenset(
                name for name, value in outputs.items() if _is_secret(value)
            )
        return super().RegisterResourceOutputs(request)

    @staticmethod
    def _record(request: Any, urn: str) -> Recorded:
        inputs = rpc.deserialize_properties(request.object, keep_unknowns=True)
        timeouts = request.customTimeouts
        return Recorded(
            type=request.type,
            name=request.name,
            urn=urn,
            parent=request.parent,
            custom=request.custom,
            inputs=_unwrap(inputs),
            secrets=frozenset(name for name, value in inputs.items() if _is_secret(value)),
            protect=request.protect if request.HasField("protect") else None,
            dependencies=tuple(sorted(request.dependencies)),
            ignore_changes=tuple(request.ignoreChanges),
            replace_on_changes=tuple(request.replaceOnChanges),
            delete_before_replace=request.deleteBeforeReplace if request.deleteBeforeReplaceDefined else None,
            retain_on_delete=request.retainOnDelete if request.HasField("retainOnDelete") else None,
            deleted_with=request.deletedWith,
            replace_with=tuple(request.replace_with),
            aliases=tuple(_alias(alias) for alias in request.aliases),
            secret_outputs=tuple(request.additionalSecretOutputs),
            import_id=request.importId,
            timeouts={
                name: getattr(timeouts, name)
                for name in ("create", "update", "delete")
                if getattr(timeouts, name)
            },
            version=request.version,
        )


# ---------------------------------------------------------------- running


async def _resolve(value: Any) -> Any:
    """Outputs inside dataclasses, mappings and sequences replaced by their values; None where unknown."""
    if isinstance(value, pulumi.Output):
        return await _resolve(await value.future(with_unknowns=False))
    if isinstance(value, pulumi.Resource):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: await _resolve(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        copy = object.__new__(type(value))
        for name, part in parts.items():
            object.__setattr__(copy, name, part)
        return copy
    if isinstance(value, Mapping):
        return {key: await _resolve(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [await _resolve(item) for item in value]
    return value


def run(
    program: Callable[[], Any],
    *,
    preview: bool = False,
    fakes: Mapping[str, Fake] | None = None,
    project: str = "berth",
    stack: str = "test",
) -> Run:
    """Run ``program`` against a recording mock and wait until everything it started has ended.

    ``preview``: computed outputs and ids are unknown. ``fakes``: answers to add to or put in place of
    :data:`FAKES`, by type or invoke token. Exceptions of the program, of an ``apply`` or of a registration
    come out of ``run``.
    """
    global _running
    if _running:
        raise AssertionError("mocks.run() inside mocks.run()")
    recorded = Run()
    answers = _Answers({**FAKES, **(fakes or {})}, preview, recorded)

    def awaited() -> Any:
        async def finish() -> None:
            recorded.value = await _resolve(program())

        return finish()

    _running = True
    try:
        set_root_resource(None)  # type: ignore[arg-type]  # a stack of its own, not the first test's
        pulumi.runtime.set_mocks(
            answers, project=project, stack=stack, preview=preview, monitor=_Monitor(answers, recorded)
        )
        pulumi.runtime.test(awaited)()
    finally:
        _running = False
        _abandon_tasks()
    return recorded


def _abandon_tasks() -> None:
    """What a program that failed half way has left: taken off the loop, or Python complains of it later."""
    loop = asyncio.get_event_loop()
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))


_running = False


def only_inside_run(original: Callable[..., None]) -> Callable[..., None]:
    """``Resource.__init__`` that refuses a resource made outside :func:`run`, where nobody awaits it.

    There the SDK merely schedules the registration: the test would pass whatever the resource looks like.
    """

    def init(self: pulumi.Resource, t: str, name: str, *args: Any, **kwargs: Any) -> None:
        if not _running:
            raise AssertionError(f"{t} {name} is made outside mocks.run(): nothing about it would be checked")
        original(self, t, name, *args, **kwargs)

    return init
