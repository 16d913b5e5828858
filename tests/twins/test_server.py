"""The plugin protocol at its edges: providers without a table, and calls no twin answers."""

import json

import grpc
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from sandbox.twins.server import installed, serve


@pytest.fixture
def stubs(twin, tmp_path):
    """A client for each provider; an SDK without a fact table is installed, too."""
    for name, described in {
        "pulumi_nowhere": {"resource": True, "name": "nowhere", "version": "7.0.0"},
        "pulumi_policy": {"resource": False},
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "pulumi-plugin.json").write_text(json.dumps(described))
    assert installed(tmp_path) == {"nowhere": "7.0.0"}
    with serve(twin.cloud, tmp_path) as attached:
        ports = dict(item.split(":") for item in attached.split(","))
        channels = {name: grpc.insecure_channel(f"127.0.0.1:{port}") for name, port in ports.items()}
        yield {name: provider_pb2_grpc.ResourceProviderStub(channel) for name, channel in channels.items()}
        for channel in channels.values():
            channel.close()


def said(call, request):
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=10)
    return caught.value.details()


def test_a_provider_without_a_table_is_named(stubs):
    urn = "urn:pulumi:dev::p::pulumi:providers:nowhere::default"
    text = said(stubs["nowhere"].CheckConfig, provider_pb2.CheckRequest(urn=urn))
    assert text == (
        "the sandbox has no twin of provider nowhere: there is no sandbox/schemas/nowhere.json "
        "(there are tables for command, random, scaleway, tls)"
    )
    assert stubs["nowhere"].GetPluginInfo(empty_pb2.Empty(), timeout=10).version == "7.0.0"


def test_what_no_twin_answers_is_named(stubs):
    twin = stubs["scaleway"]
    for call, request, words in (
        (
            twin.Construct,
            provider_pb2.ConstructRequest(type="scaleway:x:Y"),
            "no twin of component scaleway:x:Y",
        ),
        (twin.Call, provider_pb2.CallRequest(tok="a/b"), "no twin of method a/b"),
        (twin.Invoke, provider_pb2.InvokeRequest(tok="scaleway:a:b"), "no twin of function scaleway:a:b"),
        (twin.Parameterize, provider_pb2.ParameterizeRequest(), "takes no parameters"),
    ):
        assert words in said(call, request)


def test_arguments_of_functions_are_checked(stubs):
    token = "scaleway:index/getMarketplaceImage:getMarketplaceImage"
    answer = stubs["scaleway"].Invoke(provider_pb2.InvokeRequest(tok=token), timeout=10)
    assert 'The argument "label" is required' in answer.failures[0].reason
