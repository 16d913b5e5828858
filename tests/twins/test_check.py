"""What the twins refuse, in the words of the real plugins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.twins import tables
from sandbox.twins.check import CallError, Checker, check_provider
from sandbox.twins.wire import UNKNOWN

SERVER = "scaleway:instance/server:Server"
GROUP = "scaleway:instance/securityGroup:SecurityGroup"
RECORD = "scaleway:domain/record:Record"
DATABASES = "scaleway:databases/instance:Instance"
PASSWORD = "random:index/randomPassword:RandomPassword"
KEY = "tls:index/privateKey:PrivateKey"
COMMAND = "command:remote:Command"
NETWORK = "fr-par/11111111-1111-1111-1111-111111111111"
IMAGE = {"image": "debian_bookworm"}


@pytest.mark.parametrize(
    ("token", "news", "reason"),
    [
        (
            SERVER,
            IMAGE,
            'Missing required argument. The argument "type" is required, but no definition was found.. '
            "Examine values at 'it.type'.",
        ),
        (
            SERVER,
            {**IMAGE, "type": "DEV1-S", "size": 3},
            "Invalid or unknown key. Examine values at 'it.size'.",
        ),
        (
            GROUP,
            {"inboundDefaultPolicy": "deny"},
            'expected inbound_default_policy to be one of ["accept" "drop"], got deny. '
            "Examine values at 'it.inboundDefaultPolicy'.",
        ),
        (
            GROUP,
            {"inboundRules": [{"action": "accept", "ipRange": "10.0.0.0/33"}]},
            'expected "inbound_rule.0.ip_range" to be a valid CIDR Value, got 10.0.0.0/33: '
            "invalid CIDR address: "
            "10.0.0.0/33. Examine values at 'it.inboundRules'.",
        ),
        (
            GROUP,
            {"inboundRules": [{"port": 22}]},
            'Missing required argument. The argument "action" is required, but no definition was found.. '
            "Examine values at 'it.inboundRules'.",
        ),
        (
            RECORD,
            {"dnsZone": "scell.io", "type": "A", "data": "198.18.0.1", "name": "", "ttl": 5},
            "expected ttl to be in the range (60 - 2592000), got 5. Examine values at 'it.ttl'.",
        ),
        (
            SERVER,
            {**IMAGE, "type": "DEV1-S", "ipId": "a", "ipIds": ["b"]},
            'Conflicting configuration arguments. "ip_id": conflicts with ip_ids. Examine '
            "values at 'it.ipId'.",
        ),
        (
            SERVER,
            {"type": "DEV1-S"},
            'Missing required argument. "image": one of `image,root_volume.0.volume_id` must be specified. '
            "Examine values at 'it.image'.",
        ),
        (
            DATABASES,
            {"nodeType": "db-dev-s", "passwordWo": "x"},
            'Missing required argument. "password_wo": all of `password_wo,password_wo_version` '
            "must be specified. "
            "Examine values at 'it.passwordWo'.",
        ),
        (
            DATABASES,
            {"nodeType": "db-dev-s", "volumeSizeInGb": 12},
            "expected volume_size_in_gb to be divisible by 5, got: 12. Examine values at "
            "'it.volumeSizeInGb'.",
        ),
        (
            SERVER,
            {**IMAGE, "type": "DEV1-S", "projectId": "mine"},
            "invalid UUID: mine. Examine values at 'it.projectId'.",
        ),
        (
            SERVER,
            {**IMAGE, "type": "DEV1-S", "privateNetworks": [{"pnId": NETWORK}] * 9},
            "Too many list items. Attribute private_network supports 8 item maximum, but config "
            "has 9 declared. "
            "Examine values at 'it.privateNetworks'.",
        ),
        (
            SERVER,
            {**IMAGE, "type": "DEV1-S", "privateIps": [{"address": "10.0.0.1"}]},
            "Invalid or unknown key. Examine values at 'it.privateIps.address'.",
        ),
        (PASSWORD, {}, "Missing required property 'length'"),
        (
            PASSWORD,
            {"length": 0},
            "Invalid Attribute Value. Attribute length value must be at least 1, got: 0. "
            "Examine values at 'it.length'.",
        ),
        (
            KEY,
            {"algorithm": "DSA"},
            'Invalid Attribute Value Match. Attribute algorithm value must be one of: ["RSA" '
            '"ECDSA" "ED25519"], '
            "got: \"DSA\". Examine values at 'it.algorithm'.",
        ),
        (
            PASSWORD,
            {"length": 8, "lower": False, "upper": False, "numeric": False, "special": False},
            "Invalid Attribute Combination. At least one attribute out of "
            "[lower,numeric,special,upper] must be "
            "specified as true. Examine values at 'it.numeric'.",
        ),
        (COMMAND, {"create": "true"}, "Missing required field 'connection' on 'remote.CommandInputs'"),
        (
            COMMAND,
            {"connection": {"host": "h"}, "creates": "x"},
            "Unrecognized field 'creates' on 'remote.CommandInputs'",
        ),
        (
            COMMAND,
            {"connection": {"host": "h"}, "create": ["x"]},
            "Field 'create' on 'remote.CommandInputs' must be a 'string'; got 'list' instead",
        ),
    ],
)
def test_refusals(twin, token, news, reason):
    assert twin.reasons(token, news)[0] == reason


def test_a_good_one_is_not_refused(twin):
    assert twin.reasons(SERVER, {**IMAGE, "type": "DEV1-S", "ipIds": ["a"], "tags": ["x"]}) == []


def test_both_sides_of_a_conflict_and_everything_else_are_reported_at_once(twin):
    reasons = twin.reasons(
        SERVER, {"type": "DEV1-S", "ipId": "a", "ipIds": ["b"], "bootType": "x", "nope": 1}
    )
    places = {reason.rpartition("'it.")[2].rstrip("'.") for reason in reasons}
    assert places == {"ipId", "ipIds", "bootType", "nope", "image"}


def test_a_framework_plugin_drops_what_it_does_not_know(twin):
    assert "nope" not in twin.inputs(PASSWORD, {"length": 8, "nope": 1})


@pytest.mark.parametrize(
    ("token", "news", "name", "value"),
    [
        (SERVER, {**IMAGE, "type": "DEV1-S", "protected": "true"}, "protected", True),
        (SERVER, {**IMAGE, "type": "DEV1-S", "tags": "one"}, "tags", ["one"]),
        (
            SERVER,
            {**IMAGE, "type": "DEV1-S", "rootVolume": [{"sizeInGb": "20"}]},
            "rootVolume",
            {"sizeInGb": 20},
        ),
        (DATABASES, {"nodeType": "db-dev-s", "settings": {"work_mem": 4}}, "settings", {"work_mem": "4"}),
        (RECORD, {"dnsZone": "a.b", "type": "A", "data": "1.1.1.1", "ttl": "300"}, "ttl", 300),
        (PASSWORD, {"length": "16"}, "length", 16),
        (COMMAND, {"connection": {"host": "h", "port": "22"}}, "connection", {"host": "h", "port": 22}),
    ],
)
def test_conversions(twin, token, news, name, value):
    assert twin.inputs(token, news)[name] == value


def test_a_framework_plugin_converts_no_boolean_and_says_so_in_the_call(twin):
    with pytest.raises(CallError, match=r"expected boolean value for property special, got string"):
        twin.check(PASSWORD, {"length": 8, "special": "true"})


def test_a_number_that_does_not_parse_is_an_error_of_the_call(twin):
    with pytest.raises(CallError, match=r'ttl: .*parsing "soon": invalid syntax'):
        twin.check(RECORD, {"dnsZone": "a.b", "type": "A", "data": "1.1.1.1", "ttl": "soon"})


def test_what_is_not_known_yet_passes(twin):
    news = {"type": UNKNOWN, "image": UNKNOWN, "ipIds": [UNKNOWN], "rootVolume": {"sizeInGb": UNKNOWN}}
    assert twin.inputs(SERVER, news)["ipIds"] == [UNKNOWN]


def test_a_secret_does_not_show_in_a_refusal(twin):
    found = twin.check(GROUP, {"inboundDefaultPolicy": "hunter2"}, secrets=("inboundDefaultPolicy",))
    assert [reason for _, reason in found.failures] == [
        'expected inbound_default_policy to be one of ["accept" "drop"], got [secret]. '
        "Examine values at 'it.inboundDefaultPolicy'."
    ]


def test_a_name_is_made_up_once_and_kept(twin):
    first = twin.inputs(GROUP, {}, "web")
    assert first["name"].startswith("web-")
    assert len(first["name"]) == len("web-") + 7
    assert twin.check(GROUP, {}, first, "web").inputs["name"] == first["name"]
    assert twin.inputs(GROUP, {}, "web")["name"] != first["name"]  # a replacement gets another


def test_an_explicit_name_that_goes_away_is_made_up(twin):
    given = twin.inputs(GROUP, {"name": "mine"})
    assert twin.check(GROUP, {}, given, "web").inputs["name"].startswith("web-")


def test_defaults_are_filled_in_and_noted(twin):
    inputs = twin.inputs(SERVER, {**IMAGE, "type": "DEV1-S"})
    assert inputs["bootType"] == "local"
    assert "bootType" in inputs["__defaults"]


def test_a_default_is_not_filled_in_beside_what_it_conflicts_with(twin):
    network = [{"privateNetworkId": "fr-par/11111111-1111-1111-1111-111111111111"}]
    inputs = twin.inputs(
        "scaleway:loadbalancers/loadBalancer:LoadBalancer", {"type": "LB-S", "privateNetworks": network}
    )
    assert "externalPrivateNetworks" not in inputs


def test_provider_settings():
    table = tables.load("scaleway")
    good = check_provider(
        table, "mine", {"region": "fr-par", "endpoints": '[{"s3": "http://x"}]', "version": "1"}
    )
    assert good.failures == []
    assert good.inputs["endpoints"] == [{"s3": "http://x"}]
    bad = check_provider(table, "mine", {"regoin": "fr-par"})
    assert bad.failures == [
        (
            "",
            "could not validate provider configuration: Invalid or unknown key. Examine values "
            "at 'mine.regoin'.",
        )
    ]


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(-9, 9)
    | st.text(max_size=4)
    | st.just(UNKNOWN),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(st.data())
def test_whatever_is_given_is_accepted_or_refused_but_never_breaks(data):
    table = tables.load(data.draw(st.sampled_from(tables.available())))
    token = data.draw(st.sampled_from(sorted(table.resources)))
    resource = tables.Resource(table, token, table.resources[token])
    names = st.sampled_from(sorted(resource.inputs)) | st.text(max_size=3)
    news = data.draw(st.dictionaries(names, values, max_size=4))
    checker = Checker(table, resource.inputs, resource.kind, "it", token)
    try:
        checker.run({name: value for name, value in news.items() if value is not None})
    except CallError:
        return
    assert all(reason for _, reason in checker.failures)
