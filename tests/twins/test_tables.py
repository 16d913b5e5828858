"""The fact tables fit the SDKs installed here, and hold together."""

from importlib.metadata import version

import pytest

from sandbox.twins import tables

PACKAGES = {
    "command": "pulumi-command",
    "random": "pulumi-random",
    "scaleway": "pulumiverse-scaleway",
    "tls": "pulumi-tls",
}


@pytest.mark.parametrize("name", tables.available())
def test_a_table_describes_the_installed_sdk(name):
    # The engine asks a plugin for its version and warns when it is not the SDK's.
    assert tables.load(name).version == version(PACKAGES[name])


@pytest.mark.parametrize("name", tables.available())
def test_every_type_a_fact_names_exists(name):
    table = tables.load(name)

    def names(text):
        shape, inner = tables.parse(text)
        if shape in ("array", "map"):
            return names(inner)
        if shape == "union":
            return {token for option in inner for token in names(option)}
        return {inner} if shape == "object" else set()

    facts = [
        fact
        for entry in [*table.resources.values(), *table.functions.values(), table.provider]
        for side in ("inputs", "outputs")
        for fact in entry[side].values()
    ] + [fact for entry in table.types.values() for fact in entry.values()]
    assert {token for fact in facts for token in names(fact["type"])} <= table.types.keys()


def test_an_old_type_name_leads_to_the_same_facts():
    table = tables.load("scaleway")
    old = table.resource("scaleway:index/instanceServer:InstanceServer")
    assert old is not None
    assert old.token == "scaleway:instance/server:Server"


def test_a_provider_without_a_table_is_named_with_those_there_are():
    with pytest.raises(KeyError, match=r"'aws'.*scaleway"):
        tables.load("aws")


@pytest.mark.parametrize(
    ("name", "type_", "there"),
    [
        ("ipRange", "string", "ip_range"),
        ("inboundRules", "array<#x>", "inbound_rule"),
        ("policies", "array<#x>", "policy"),
        ("tags", "array<string>", "tags"),
    ],
)
def test_upstream_names(name, type_, there):
    assert tables.upstream(name, {"type": type_}) == there
