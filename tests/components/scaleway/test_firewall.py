from __future__ import annotations

from typing import Any

import pytest

from components.cloud import FirewallArgs, Rule
from components.scaleway.firewall import Firewall
from tests import mocks
from tests.contracts.samples import scope


def group(*rules: Rule, smtp: bool = False) -> dict[str, Any]:
    args = FirewallArgs(scope=scope("scaleway"), inbound=rules, smtp=smtp)
    run = mocks.run(lambda: Firewall("scell", args).outputs)
    assert run.value.id == mocks.identifier("scell-group", "fr-par-1")
    return run.one("SecurityGroup").inputs


SSH = Rule(protocol="tcp", port="22", sources=("203.0.113.0/29", "198.51.100.7/32"), description="SSH")


def test_inbound_is_dropped_outbound_is_open_and_answers_come_back() -> None:
    inputs = group(SSH)
    assert inputs["inboundDefaultPolicy"] == "drop"
    assert inputs["outboundDefaultPolicy"] == "accept"
    assert inputs["stateful"] is True
    assert "outboundRules" not in inputs


def test_no_rule_lets_nothing_in() -> None:
    assert group()["inboundRules"] == []


def test_a_rule_for_each_source_in_the_order_given() -> None:
    assert group(SSH)["inboundRules"] == [
        {"action": "accept", "protocol": "TCP", "port": 22, "ipRange": "203.0.113.0/29"},
        {"action": "accept", "protocol": "TCP", "port": 22, "ipRange": "198.51.100.7/32"},
    ]


@pytest.mark.parametrize(
    ("rule", "sent"),
    [
        (
            Rule(protocol="udp", port="8000-8010", sources=("::/0",), description=""),
            {"action": "accept", "protocol": "UDP", "portRange": "8000-8010", "ipRange": "::/0"},
        ),
        (
            Rule(protocol="icmp", port=None, sources=("0.0.0.0/0",), description=""),
            {"action": "accept", "protocol": "ICMP", "ipRange": "0.0.0.0/0"},
        ),
    ],
)
def test_ranges_and_protocols_without_ports(rule: Rule, sent: dict[str, str]) -> None:
    assert group(rule)["inboundRules"] == [sent]


@pytest.mark.parametrize("smtp", [True, False])
def test_mail_ports_stay_closed_unless_asked(smtp: bool) -> None:
    assert group(SSH, smtp=smtp)["enableDefaultSecurity"] is not smtp


def test_the_group_says_what_its_rules_are_for() -> None:
    http = Rule(protocol="tcp", port="80", sources=("0.0.0.0/0",), description="HTTP of the site")
    assert group(SSH, http)["description"] == "SSH; HTTP of the site"
