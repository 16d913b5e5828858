"""Update or replace, and what is no change at all."""

import pytest

from sandbox.twins.diff import diff
from sandbox.twins.wire import UNKNOWN

SERVER = "scaleway:instance/server:Server"
GROUP = "scaleway:instance/securityGroup:SecurityGroup"
RECORD = "scaleway:domain/record:Record"
IP = "scaleway:instance/ip:Ip"
NETWORK = "scaleway:network/privateNetwork:PrivateNetwork"
PASSWORD = "random:index/randomPassword:RandomPassword"
COMMAND = "command:remote:Command"
VM = {"type": "DEV1-S", "image": "debian_bookworm", "name": "vm"}
A = {"dnsZone": "scell.io", "type": "A", "name": "www", "data": "198.18.0.1"}
CALL = {"connection": {"host": "h"}, "create": "one"}


@pytest.mark.parametrize(
    ("token", "old", "new", "changed", "replaced"),
    [
        (SERVER, VM, {**VM, "tags": ["a"]}, ["tags"], []),
        (SERVER, {**VM, "tags": ["a", "b"]}, {**VM, "tags": ["a"]}, ["tags[1]"], []),
        (SERVER, VM, {**VM, "type": "DEV1-M"}, ["type"], []),
        (
            SERVER,
            {**VM, "replaceOnTypeChange": True},
            {**VM, "replaceOnTypeChange": True, "type": "DEV1-M"},
            ["type"],
            ["type"],
        ),
        (SERVER, VM, {**VM, "image": "debian_trixie"}, ["image"], ["image"]),
        (SERVER, VM, {**VM, "zone": "fr-par-2"}, ["zone"], ["zone"]),
        (
            SERVER,
            {**VM, "rootVolume": {"sizeInGb": 20, "volumeType": "sbs_volume"}},
            {**VM, "rootVolume": {"sizeInGb": 30, "volumeType": "sbs_volume"}},
            ["rootVolume.sizeInGb"],
            [],
        ),
        (
            SERVER,
            {**VM, "rootVolume": {"sizeInGb": 10, "volumeType": "l_ssd"}},
            {**VM, "rootVolume": {"sizeInGb": 20, "volumeType": "l_ssd"}},
            ["rootVolume.sizeInGb"],
            ["rootVolume"],
        ),
        (
            GROUP,
            {"inboundRules": [{"action": "accept", "port": 22}]},
            {"inboundRules": [{"action": "accept", "port": 23}]},
            ["inboundRules[0].port"],
            [],
        ),
        (RECORD, A, {**A, "data": "198.18.0.2"}, ["data"], []),
        (RECORD, A, {**A, "name": "api"}, ["name"], ["name"]),
        (
            NETWORK,
            {"ipv4Subnet": {"subnet": "10.0.0.0/24"}},
            {"ipv4Subnet": {"subnet": "10.0.1.0/24"}},
            ["ipv4Subnet.subnet"],
            ["ipv4Subnet"],
        ),
        (PASSWORD, {"length": 8}, {"length": 9}, ["length"], ["length"]),
        (
            PASSWORD,
            {"length": 8, "keepers": {"a": "1"}},
            {"length": 8, "keepers": {"a": "2"}},
            ["keepers.a"],
            ["keepers"],
        ),
        (
            PASSWORD,
            {"length": 8, "keepers": {"a": "1"}},
            {"length": 8, "keepers": {"a": "1", "b": "1"}},
            ["keepers.b"],
            ["keepers"],
        ),
        (
            COMMAND,
            {**CALL, "environment": {"A": "1"}},
            {**CALL, "environment": {"B": "1"}},
            ["environment.A", "environment.B"],
            [],
        ),
        (COMMAND, CALL, {**CALL, "create": "two"}, ["create"], []),
        (COMMAND, CALL, {**CALL, "connection": {"host": "g"}}, ["connection.host"], []),
        (COMMAND, {**CALL, "triggers": [1]}, {**CALL, "triggers": [2]}, ["triggers[0]"], ["triggers"]),
        (COMMAND, CALL, {**CALL, "stdin": ""}, ["stdin"], []),
    ],
)
def test_changes(twin, token, old, new, changed, replaced):
    found = twin.diff(token, old, new)
    assert [change.path for change in found.changes] == changed
    assert found.replaces == replaced


@pytest.mark.parametrize(
    ("token", "old", "new"),
    [
        (SERVER, VM, VM),
        (SERVER, VM, {**VM, "tags": []}),
        (SERVER, {**VM, "tags": []}, VM),
        (SERVER, VM, {**VM, "bootType": "local"}),
        (SERVER, VM, {**VM, "type": "dev1-s"}),
        (GROUP, {"description": ""}, {}),
        (RECORD, A, {**A, "ttl": 3600}),
        (PASSWORD, {"length": 8}, {"length": 8, "special": True}),
        (NETWORK, {"ipv4Subnet": {"subnet": "10.0.0.0/24"}}, {"ipv4Subnet": {"subnet": "10.0.0.0/24"}}),
        (COMMAND, CALL, CALL),
    ],
)
def test_no_change(twin, token, old, new):
    assert twin.diff(token, old, new).changes == ()


def test_an_id_with_its_zone_is_the_same_id(twin):
    group = twin.create(GROUP, {}, "g")
    old = {**VM, "securityGroupId": group.id}
    assert twin.diff(SERVER, old, {**VM, "securityGroupId": group.id.partition("/")[2]}).changes == ()


def test_an_explicit_name_is_deleted_first_a_made_up_one_is_not(twin):
    assert twin.diff(SERVER, VM, {**VM, "image": "debian_trixie"}).delete_first
    nameless = {key: value for key, value in VM.items() if key != "name"}
    assert not twin.diff(SERVER, nameless, {**nameless, "image": "debian_trixie"}).delete_first
    assert not twin.diff(PASSWORD, {"length": 8}, {"length": 9}).delete_first


def test_a_value_not_known_yet_is_a_change(twin):
    found = twin.diff(IP, {"zone": "fr-par-1"}, {"zone": UNKNOWN})
    assert found.replaces == ["zone"]


def test_ignored_changes_are_none(twin):
    made = twin.create(SERVER, VM)
    news = twin.inputs(SERVER, {**VM, "image": "debian_trixie", "tags": ["x"]})
    found = diff(twin.resource(SERVER), {}, made.outputs, news, ["image"])
    assert found.diffs == ["tags"]


def test_a_write_only_value_alone_is_no_difference(twin):
    token = "scaleway:databases/instance:Instance"
    old = {"nodeType": "db-dev-s", "passwordWo": "a", "passwordWoVersion": 1}
    assert twin.diff(token, old, {**old, "passwordWo": "b"}).changes == ()
    assert twin.diff(token, old, {**old, "passwordWo": "b", "passwordWoVersion": 2}).diffs == [
        "passwordWoVersion"
    ]
