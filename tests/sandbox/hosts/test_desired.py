"""What should stand, from the rows of an inventory; no network, no root."""

import pytest

from sandbox.effects.protocol import EffectError, Row
from sandbox.hosts import desired as want
from sandbox.hosts import firewall
from sandbox.inventory import Record


class Rows:
    def __init__(self, *rows):
        self.rows = list(rows)

    def get(self, token, id):
        return next((row for row in self.all(token) if row.id == id), None)

    def all(self, token):
        return [row for row in self.rows if row.token == token]


def server(id="fr-par-1/s1", **inputs):
    given = {"type": "DEV1-M", "image": "debian_bookworm", "name": "web", **inputs}
    return Row(id=id, token=want.SERVER, name="web", inputs=given, outputs={"state": "started"})


def address(id, value):
    return Row(id=id, token=want.IP, name=id, inputs={}, outputs={"address": value})


NETWORK = Row(
    id="fr-par/n1",
    token=want.NETWORK,
    name="net",
    inputs={},
    outputs={"ipv4Subnet": {"subnet": "10.20.0.0/24"}},
)


def test_a_host_has_the_size_of_its_type_and_the_addresses_attached_to_it():
    rows = Rows(
        server(ipIds=["fr-par-1/b", "a"]),
        address("fr-par-1/a", "198.18.16.1"),
        address("fr-par-1/b", "198.18.16.2"),
    )
    (host,) = want.desired(rows).hosts
    assert (host.cpus, host.memory, host.started) == (3, 4 * 2**30, True)
    assert host.addresses == ("198.18.16.2", "198.18.16.1")


def test_a_dynamic_address_counts_only_when_asked_for():
    row = server(enableDynamicIp=True)
    row = Row(**{**vars(row), "outputs": {**row.outputs, "publicIps": [{"address": "198.18.16.9"}]}})
    assert want.desired(Rows(row)).hosts[0].addresses == ("198.18.16.9",)
    plain = Row(**{**vars(row), "inputs": {**row.inputs, "enableDynamicIp": False}})
    assert want.desired(Rows(plain)).hosts[0].addresses == ()


def test_a_private_nic_takes_its_address_from_its_outputs_or_its_reservation():
    reserved = Row(id="fr-par/i1", token=want.IPAM_IP, name="i", inputs={}, outputs={"address": "10.20.0.7"})
    nic = Row(
        id="fr-par-1/nic1",
        token=want.NIC,
        name="nic",
        inputs={"serverId": "fr-par-1/s1", "privateNetworkId": "fr-par/n1", "ipamIpIds": ["fr-par/i1"]},
        outputs={"macAddress": "02:00:00:AA:BB:CC"},
    )
    (host,) = want.desired(Rows(server(), NETWORK, reserved, nic)).hosts
    assert [(nic.mac, nic.addresses) for nic in host.nics] == [("02:00:00:aa:bb:cc", ("10.20.0.7/24",))]


def test_networks_given_on_the_server_itself_are_cables_too_and_not_twice():
    inline = [{"pnId": "fr-par/n1", "pnicId": "fr-par-1/nic1", "macAddress": "02:00:00:00:00:01"}]
    row = server(privateNetworks=[{"pnId": "fr-par/n1"}])
    row = Row(
        **{**vars(row), "outputs": {"privateNetworks": inline, "privateIps": [{"address": "10.20.0.3"}]}}
    )
    (host,) = want.desired(Rows(row, NETWORK)).hosts
    assert [nic.addresses for nic in host.nics] == [("10.20.0.3/24",)]


def test_an_unknown_type_is_refused_to_the_one_who_asks_and_hinders_nobody_else():
    odd = server(id="fr-par-1/odd", type="MAINFRAME-1")
    with pytest.raises(EffectError, match="MAINFRAME-1"):
        want.desired(Rows(server()), put=odd)
    assert len(want.desired(Rows(server(), odd)).hosts) == 1


def test_what_is_being_removed_is_not_wanted_and_what_is_being_changed_is_wanted_as_it_will_be():
    rows = Rows(server())
    assert want.desired(rows, drop=server()).hosts == ()
    assert want.desired(rows, put=server(type="DEV1-S")).hosts[0].memory == 2 * 2**30


def test_what_was_only_recorded_is_not_made_real():
    rows = [
        Record(id=str(real), token=want.SERVER, name="web", inputs={"type": "DEV1-S"}, outputs={}, real=real)
        for real in (True, False)
    ]
    assert [host.id for host in want.desired(Rows(*rows)).hosts] == ["True"]


def group(**inputs):
    row = Row(id="fr-par-1/g", token=want.GROUP, name="g", inputs=inputs, outputs={})
    rows = Rows(
        server(securityGroupId="fr-par-1/g", ipId="fr-par-1/a"), address("fr-par-1/a", "198.18.16.1"), row
    )
    (host,) = want.desired(rows).hosts
    return host, firewall.render([host])


def chain(text, name):
    body = text.split(f"chain {name} {{\n")[1].split("  }")[0]
    return [line.strip() for line in body.splitlines()]


def test_rules_stand_in_the_order_given_before_the_default():
    host, text = group(
        inboundDefaultPolicy="drop",
        inboundRules=[
            {"action": "accept", "port": 22, "ipRange": "198.18.1.0/24"},
            {"action": "drop", "protocol": "UDP", "portRange": "8000-8010"},
            {"action": "accept", "protocol": "ICMP"},
            {"action": "accept", "protocol": "ANY", "ip": "10.0.0.1"},
            {"action": "accept", "protocol": "TCP", "ipRange": "::/0", "port": 443},
        ],
    )
    assert chain(text, f"{host.cable}_in") == [
        "ct state established,related return",
        "ip saddr 198.18.1.0/24 tcp dport 22 return",
        "udp dport 8000-8010 drop",
        "meta l4proto icmp return",
        "ip saddr 10.0.0.1/32 return",
        "drop",
    ]


def test_outbound_blocks_foreign_senders_and_mail_unless_told_otherwise():
    host, text = group()
    assert chain(text, f"{host.cable}_out") == [
        "meta nfproto ipv6 drop",
        "ip saddr != { 198.18.16.1 } drop",
        "ct state established,related return",
        "tcp dport { 25, 465, 587 } drop",
    ]
    host, text = group(enableDefaultSecurity=False, stateful=False, outboundDefaultPolicy="drop")
    assert chain(text, f"{host.cable}_out")[2:] == ["drop"]


def test_rules_of_their_own_resource_replace_the_group_s():
    host, _ = group(externalRules=True)
    assert host.group.rules_in == ()
    rules = Row(
        id="fr-par-1/g",
        token=want.GROUP_RULES,
        name="r",
        inputs={"securityGroupId": "fr-par-1/g", "inboundRules": [{"action": "drop", "port": 80.0}]},
        outputs={},
    )
    row = Row(id="fr-par-1/g", token=want.GROUP, name="g", inputs={"externalRules": True}, outputs={})
    (host,) = want.desired(Rows(server(securityGroupId="g"), row, rules)).hosts
    assert host.group.rules_in == (want.Rule(False, "TCP", "80", "0.0.0.0/0"),)


def admitted(**inputs):
    host, _ = group(**inputs)
    networks = host.admits(22)
    return None if networks is None else [str(network) for network in networks]


def test_who_a_group_lets_in_is_read_from_its_rules_in_order():
    assert admitted(inboundDefaultPolicy="accept", inboundRules=[]) is None
    assert admitted(inboundDefaultPolicy="drop", inboundRules=[]) == []
    rules = [
        {"action": "accept", "port": 80},
        {"action": "accept", "protocol": "ICMP", "ipRange": "192.0.2.1/32"},
        {"action": "accept", "port": 22, "ipRange": "203.0.113.0/29"},
        {"action": "accept", "portRange": "20-30", "ipRange": "198.51.100.0/24"},
        {"action": "drop", "port": 22},
        {"action": "accept", "port": 22, "ipRange": "192.0.2.0/24"},
    ]
    assert admitted(inboundDefaultPolicy="drop", inboundRules=rules) == ["203.0.113.0/29", "198.51.100.0/24"]
