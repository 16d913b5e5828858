"""One provider plugin, as the engine sees it: its protocol over gRPC in front of :class:`Cloud`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from sandbox.twins import tables
from sandbox.twins.check import CallError, Checked, Checker, check, check_provider
from sandbox.twins.cloud import Cloud, CloudError, split_urn
from sandbox.twins.diff import Difference, diff
from sandbox.twins.log import LOG
from sandbox.twins.tables import Resource, Table
from sandbox.twins.wire import Props, decode, encode, has_unknown

KINDS = {
    ("add", False): provider_pb2.PropertyDiff.ADD,
    ("add", True): provider_pb2.PropertyDiff.ADD_REPLACE,
    ("delete", False): provider_pb2.PropertyDiff.DELETE,
    ("delete", True): provider_pb2.PropertyDiff.DELETE_REPLACE,
    ("update", False): provider_pb2.PropertyDiff.UPDATE,
    ("update", True): provider_pb2.PropertyDiff.UPDATE_REPLACE,
}


class Provider(provider_pb2_grpc.ResourceProviderServicer):
    """The twin of one provider; every provider resource of a program has its own connection and settings."""

    def __init__(self, table: Table, cloud: Cloud) -> None:
        self.table = table
        self.cloud = cloud
        self._settings: dict[str, Props] = {}

    # ------------------------------------------------------------ the plugin itself

    def Handshake(self, request: Any, context: Any) -> Any:
        LOG.attach(request.engine_address)
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True)

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version=self.table.version)

    def Attach(self, request: Any, context: Any) -> Any:
        LOG.attach(request.address)
        return empty_pb2.Empty()

    def Cancel(self, request: Any, context: Any) -> Any:
        self.cloud.cancelled.set()
        return empty_pb2.Empty()

    def CheckConfig(self, request: Any, context: Any) -> Any:
        news, _ = decode(request.news)
        found = check_provider(self.table, split_urn(request.urn)[1], news)
        return provider_pb2.CheckResponse(inputs=request.news, failures=_failures(found))

    def DiffConfig(self, request: Any, context: Any) -> Any:
        """Changed settings (another key, another default zone) never replace what was made with them."""
        olds, _ = decode(request.old_inputs if request.HasField("old_inputs") else request.olds)
        news, _ = decode(request.news)
        changed = sorted(key for key in olds.keys() | news.keys() if olds.get(key) != news.get(key))
        some = provider_pb2.DiffResponse.DIFF_SOME if changed else provider_pb2.DiffResponse.DIFF_NONE
        return provider_pb2.DiffResponse(changes=some, diffs=changed)

    def Configure(self, request: Any, context: Any) -> Any:
        args, _ = decode(request.args)
        settings = check_provider(self.table, self.table.name, args).inputs
        self.cloud.cancelled.clear()
        self._settings[context.peer()] = {
            name: value for name, value in settings.items() if not has_unknown(value)
        }
        return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    # ------------------------------------------------------------ resources

    def Check(self, request: Any, context: Any) -> Any:
        resource = self._resource(request.urn, context)
        olds, _ = decode(request.olds)
        news, secrets = decode(request.news)
        name = split_urn(request.urn)[1]
        try:
            found = check(resource, name, news, olds, request.randomSeed, secrets)
        except CallError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        hidden = {*secrets, *(key for key, fact in resource.inputs.items() if fact.get("secret"))}
        return provider_pb2.CheckResponse(inputs=encode(found.inputs, hidden), failures=_failures(found))

    def Diff(self, request: Any, context: Any) -> Any:
        resource = self._resource(request.urn, context)
        olds, _ = decode(request.olds)
        old_inputs, _ = decode(request.old_inputs)
        news, _ = decode(request.news)
        return _answer(diff(resource, old_inputs, olds, news, list(request.ignoreChanges)))

    def Create(self, request: Any, context: Any) -> Any:
        resource = self._resource(request.urn, context)
        inputs, secrets = decode(request.properties)
        made = self._call(
            context,
            lambda: self.cloud.create(
                resource, request.urn, inputs, secrets, self._of(context), request.preview
            ),
            request.urn,
        )
        return provider_pb2.CreateResponse(id=made.id, properties=encode(made.outputs, made.secrets))

    def Update(self, request: Any, context: Any) -> Any:
        resource = self._resource(request.urn, context)
        olds, _ = decode(request.olds)
        old_inputs, _ = decode(request.old_inputs)
        inputs, secrets = decode(request.news)
        made = self._call(
            context,
            lambda: self.cloud.update(
                resource,
                request.urn,
                request.id,
                old_inputs,
                olds,
                inputs,
                secrets,
                self._of(context),
                request.preview,
            ),
            request.urn,
        )
        return provider_pb2.UpdateResponse(properties=encode(made.outputs, made.secrets))

    def Delete(self, request: Any, context: Any) -> Any:
        resource = self._resource(request.urn, context)
        outputs, _ = decode(request.properties)
        inputs, _ = decode(request.old_inputs)
        self._call(
            context,
            lambda: self.cloud.delete(resource, request.urn, request.id, inputs or outputs, outputs),
            request.urn,
        )
        return empty_pb2.Empty()

    def Read(self, request: Any, context: Any) -> Any:
        resource = self._resource(request.urn, context)
        outputs, secrets = decode(request.properties)
        inputs, secret_inputs = decode(request.inputs)
        known = inputs if request.inputs.fields or request.properties.fields else None
        made = self._call(
            context,
            lambda: self.cloud.read(
                resource, request.urn, request.id, known, outputs, {*secrets, *secret_inputs}
            ),
        )
        if made is None:
            return provider_pb2.ReadResponse()
        hidden = {*secret_inputs, *(key for key, fact in resource.inputs.items() if fact.get("secret"))}
        return provider_pb2.ReadResponse(
            id=made.id,
            properties=encode(made.outputs, made.secrets),
            inputs=encode(made.inputs or {}, hidden),
        )

    # ------------------------------------------------------------ functions

    def Invoke(self, request: Any, context: Any) -> Any:
        facts = self.table.functions.get(request.tok)
        if facts is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, self._absent("function", request.tok))
        assert facts is not None  # noqa: S101  (abort raises)
        args, secrets = decode(request.args)
        checker = Checker(
            self.table, facts["inputs"], "bridged", request.tok.rpartition(":")[2], request.tok, secrets
        )
        try:
            checked = Checked(checker.run(args), checker.failures)
        except CallError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        if checked.failures:
            return provider_pb2.InvokeResponse(failures=_failures(checked))
        result = self._call(
            context,
            lambda: self.cloud.call(self.table.name, request.tok, checked.inputs, self._of(context)),
        )
        hidden = {*secrets, *(name for name, fact in facts["outputs"].items() if fact.get("secret"))}
        answer = {"return": encode(result, hidden)}  # the field's name is a word of Python
        return provider_pb2.InvokeResponse(**answer)  # type: ignore[arg-type]

    def Construct(self, request: Any, context: Any) -> Any:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, self._absent("component", request.type))

    def Call(self, request: Any, context: Any) -> Any:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, self._absent("method", request.tok))

    def Parameterize(self, request: Any, context: Any) -> Any:
        context.abort(
            grpc.StatusCode.UNIMPLEMENTED, f"the sandbox's {self.table.name} twin takes no parameters"
        )

    # ------------------------------------------------------------ pieces

    def _of(self, context: Any) -> Props:
        return self._settings.get(context.peer(), {})

    def _resource(self, urn: str, context: Any) -> Resource:
        token = urn.split("::")[2].rpartition("$")[2]
        found = self.table.resource(token)
        if found is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, self._absent("resource type", token))
        assert found is not None  # noqa: S101  (abort raises)
        return found

    def _absent(self, what: str, token: str) -> str:
        return (
            f"the sandbox has no twin of {what} {token}: sandbox/schemas/{self.table.name}.json does not "
            f"list it (there are tables for {', '.join(tables.available())})"
        )

    @staticmethod
    def _call(context: Any, action: Callable[[], Any], urn: str = "") -> Any:
        try:
            with LOG.of(urn):
                return action()
        except CloudError as error:
            context.abort(grpc.StatusCode.UNKNOWN, str(error))


class Refuser(provider_pb2_grpc.ResourceProviderServicer):
    """Stands where an SDK is installed and no table exists: says so, instead of a missing plugin."""

    def __init__(self, name: str, version: str) -> None:
        self.name, self.version = name, version

    def Handshake(self, request: Any, context: Any) -> Any:
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True)

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version=self.version)

    def Attach(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()

    def Cancel(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()

    def CheckConfig(self, request: Any, context: Any) -> Any:
        context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            f"the sandbox has no twin of provider {self.name}: there is no sandbox/schemas/{self.name}.json "
            f"(there are tables for {', '.join(tables.available())})",
        )


def _failures(found: Checked) -> list[Any]:
    return [provider_pb2.CheckFailure(property=where, reason=reason) for where, reason in found.failures]


def _answer(found: Difference) -> Any:
    some = provider_pb2.DiffResponse.DIFF_SOME if found.changes else provider_pb2.DiffResponse.DIFF_NONE
    return provider_pb2.DiffResponse(
        changes=some,
        diffs=found.diffs,
        replaces=found.replaces,
        deleteBeforeReplace=found.delete_first,
        hasDetailedDiff=True,
        detailedDiff={
            change.path: provider_pb2.PropertyDiff(kind=KINDS[change.how, change.replace], inputDiff=False)
            for change in found.changes
        },
    )
