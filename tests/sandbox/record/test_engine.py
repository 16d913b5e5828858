"""The real engine against the twins, nothing run: changes, replacements, drift, secrets, unknowns."""

import json
import time

import pytest

from sandbox.inventory import Fault

pytestmark = pytest.mark.sandbox

HOST = """
net = network.PrivateNetwork("net", ipv4_subnet={"subnet": "10.7.0.0/24"})
group = instance.SecurityGroup("group", inbound_default_policy="drop",
    inbound_rules=[{"action": "accept", "port": 22, "ip_range": "198.18.1.0/24"}])
ip = instance.Ip("ip")
vm = instance.Server("vm", type="DEV1-S", image=IMAGE, ip_ids=[ip.id], security_group_id=group.id, tags=TAGS)
nic = instance.PrivateNic("nic", server_id=vm.id, private_network_id=net.id)
pulumi.export("public", vm.public_ips[0].address)
pulumi.export("private", nic.private_ips[0].address)
secret = pulumi.Output.secret("s3cr3t")
run = command.remote.Command("run", connection={"host": ip.address}, create="hostname", stdin=secret)
pulumi.export("stdout", run.stdout)
"""


def known(text):
    """What the program printed as known: name -> value."""
    lines = (
        line.strip().partition("KNOWN ")[2].partition(" ") for line in text.splitlines() if "KNOWN" in line
    )
    return {name: value for name, _, value in lines}


def host(image="debian_bookworm", tags=()):
    return f"IMAGE, TAGS = {image!r}, {list(tags)!r}\n{HOST}"


def test_a_host_comes_up_and_a_second_time_nothing_changes(lab):
    lab.use("host")
    lab.program(host())
    lab.up().good()
    assert lab.outputs() == {"public": "198.18.16.2", "private": "10.7.0.2", "stdout": ""}
    assert {row.token.rpartition(":")[2] for row in lab.rows()} == {
        "Ip", "PrivateNetwork", "PrivateNic", "SecurityGroup", "Server"
    }  # fmt: skip
    again = lab.up("--expect-no-changes").good()
    assert "8 unchanged" in again.text or "unchanged" in again.text
    lab.pulumi("refresh", "--yes", "--expect-no-changes").good()
    lab.preview("--expect-no-changes").good()

    # In place: an update reaches the cloud.
    lab.program(host(tags=["web"]))
    lab.up().good()
    assert lab.rows("Server")[0].inputs["tags"] == ["web"]

    # A new image replaces the host: the new one first, what stands on it too, then the old one goes.
    first = lab.rows("Server")[0].id
    before = len(lab.events())
    lab.program(host("debian_trixie", ["web"]))
    refused = lab.up()
    # The reserved address can only be on one host: the cloud says so, and nothing is lost.
    refused.bad("already attached to server")
    assert [row.id for row in lab.rows("Server")] == [first]
    lab.program(
        host("debian_trixie", ["web"]).replace("tags=TAGS)", "tags=TAGS, opts=O(delete_before_replace=True))")
    )
    lab.up().good()
    assert lab.rows("Server")[0].id != first
    done = lab.events()[before:]
    assert done.index(("deleted", "vm")) < done.index(("created", "vm"))

    lab.destroy().good()
    assert lab.rows() == []
    with lab.inventory() as store:
        assert store.holders("public") == []


def test_a_made_up_name_is_created_first_an_explicit_one_deleted_first(lab):
    lab.use("names")
    text = 'instance.Server("{0}", type="DEV1-S", image={1!r}, name={2!r})\n'
    lab.program(
        text.format("auto", "debian_bookworm", None) + text.format("named", "debian_bookworm", "mine")
    )
    lab.up().good()
    lab.program(text.format("auto", "debian_trixie", None) + text.format("named", "debian_trixie", "mine"))
    before = len(lab.events())
    lab.up().good()
    done = lab.events()[before:]
    assert done.index(("created", "auto")) < done.index(("deleted", "auto"))
    assert done.index(("deleted", "named")) < done.index(("created", "named"))


def test_drift_is_seen_and_mended(lab):
    lab.use("drift")
    lab.program(
        'g = instance.SecurityGroup("g", inbound_default_policy="drop", tags=["a"])\ni = instance.Ip("i")'
    )
    lab.up().good()
    group, ip = lab.rows("SecurityGroup")[0], lab.rows("Ip")[0]
    with lab.inventory() as store:  # somebody at the console
        store.put(
            type(group)(**{**vars(group), "outputs": {**group.outputs, "inboundDefaultPolicy": "accept"}})
        )
        store.remove(ip.token, ip.id, None)
    seen = lab.pulumi("refresh", "--yes").good()
    assert "1 deleted" in seen.text
    assert "1 updated" in seen.text
    mended = lab.up().good()
    assert "1 created" in mended.text
    assert lab.rows("SecurityGroup")[0].outputs["inboundDefaultPolicy"] == "drop"
    assert lab.rows("Ip")[0].id != ip.id
    lab.up("--expect-no-changes").good()


def test_an_existing_resource_is_imported_and_looked_up(lab):
    lab.use("import-from")
    lab.program('z = domain.Zone("z", domain="example.org", subdomain="")')
    lab.up().good()
    lab.use("import-to")
    lab.program("""
        z = domain.Zone("mine", domain="example.org", subdomain="", opts=O(import_="example.org"))
        pulumi.export("ns", domain.Zone.get("theirs", "example.org").ns)
    """)
    lab.up().good()
    assert lab.outputs()["ns"] == ["ns0.dom.scw.cloud", "ns1.dom.scw.cloud"]
    assert lab.state("mine")["id"] == "example.org"
    lab.program('domain.Zone("mine", domain="example.net", subdomain="", opts=O(import_="example.net"))')
    lab.up().bad("example.net")


def test_secrets_never_show(lab):
    lab.use("secrets")
    lab.stackfile("config:\n  lab:token:\n    secure: v1:AAAAAAAAAAAAAAAA:bm90IG91cnM=\n")
    lab.program("""
        plain = "hunter2-planted"
        secret = pulumi.Output.secret(plain)
        db = databases.Instance("db", node_type="db-dev-s", engine="PostgreSQL-15", password=secret)
        vm = instance.Server("vm", type="DEV1-S", image="debian_bookworm", cloud_init=secret,
            user_data={"a": secret})
        run = command.remote.Command("run", connection={"host": "h", "password": secret}, create="true",
            stdin=secret, environment={"X": secret})
        made = random.RandomPassword("made", length=32)
        key = tls.PrivateKey("key", algorithm="ED25519")
        token = pulumi.Config().require_secret("token")
        pulumi.export("kept", made.result)
        pulumi.export("init", vm.cloud_init)
        pulumi.export("key", key.private_key_openssh)
        pulumi.export("token", token)
    """)
    seen = [
        lab.preview("--json").good().text,
        lab.up("--diff").good().text,
        lab.preview("--json", "--diff").good().text,
    ]
    made = lab.outputs()
    seen.append(json.dumps(lab.export()))
    seen += [
        path.read_text(errors="replace")
        for path in (lab.state_directory / "state").rglob("*")
        if path.is_file()
    ]
    seen += [path.read_text(errors="replace") for path in (lab.state_directory / "home").rglob("*.log")]
    everything = "\n".join(seen)
    key_body = made["key"].splitlines()[2]
    for value in ("hunter2-planted", made["kept"], made["token"], key_body):
        assert len(value) > 10
        assert value not in everything
    assert lab.rows("Server")[0].inputs["cloudInit"] == "hunter2-planted"  # the cloud has it


def test_what_is_not_known_yet_stays_unknown_in_a_preview(lab):
    lab.use("unknown")
    lab.program("""
        net = network.PrivateNetwork("net")
        ip = instance.Ip("ip")
        db = databases.Instance("db", node_type="db-dev-s", engine="PostgreSQL-15",
            private_network={"pn_id": net.id, "enable_ipam": True})
        record = domain.Record("record", dns_zone="example.org", type="A", name="db", data=ip.address)
        hosts = command.remote.Command("hosts", connection={"host": ip.address}, create=db.private_network.ip)
        for name, value in {"ip": db.private_network.ip, "port": db.private_network.port, "fqdn": record.fqdn,
                            "out": hosts.stdout, "zone": record.dns_zone}.items():
            value.apply(lambda v, name=name: print("KNOWN", name, v))
    """)
    before = lab.preview().good().text
    assert set(known(before)) == {"zone"}
    after = lab.up().good().text
    assert known(after) == {
        "ip": "172.16.0.2",
        "port": "5432",
        "fqdn": "db.example.org",
        "out": "",
        "zone": "example.org",
    }


def test_a_command_that_will_run_again_has_an_unknown_output(lab):
    lab.use("chain")
    text = """
        on = {{"host": "h"}}
        a = command.remote.Command("a", connection=on, create="prepare {0}", update="prepare {0}")
        b = command.remote.Command("b", connection=on, create=a.stdout.apply(lambda s: "switch " + s))
    """
    lab.program(text.format("v1"))
    lab.up().good()
    lab.program(text.format("v2"))
    steps = json.loads(lab.preview("--json").good().text)["steps"]
    assert {s["urn"].rpartition("::")[2]: s["op"] for s in steps if "::command" in s["urn"]} == {
        "a": "update",
        "b": "update",
    }


def test_explicit_providers_have_settings_of_their_own(lab):
    lab.use("providers")
    lab.program("""
        import pulumiverse_scaleway as scaleway
        ams = scaleway.Provider("ams", region="nl-ams", zone="nl-ams-1",
            project_id="22222222-2222-4222-8222-222222222222")
        instance.Ip("here")
        instance.Ip("there", opts=O(provider=ams))
    """)
    lab.up().good()
    assert lab.state("here")["id"].startswith("fr-par-1/")
    there = lab.state("there")
    assert there["id"].startswith("nl-ams-1/")
    assert there["outputs"]["projectId"].startswith("22222222")
    lab.up("--expect-no-changes").good()
    lab.program("""
        import pulumiverse_scaleway as scaleway
        class Wrong(pulumi.ProviderResource):
            def __init__(self):
                super().__init__("scaleway", "wrong", {"regoin": "fr-par"})
        instance.Ip("ip", opts=O(provider=Wrong()))
    """)
    lab.up().bad("could not validate provider configuration", "wrong.regoin")


def test_a_refusal_reads_like_the_plugins_and_names_the_resource(lab):
    lab.use("refusals")
    lab.program('instance.SecurityGroup("g", inbound_default_policy="deny")')
    lab.preview().bad(
        "scaleway:instance/securityGroup:SecurityGroup resource 'g' has a problem: expected "
        'inbound_default_policy to be one of ["accept" "drop"], got deny. '
        "Examine values at 'g.inboundDefaultPolicy'."
    )


def test_a_type_without_a_twin_is_named(lab):
    lab.use("missing")
    lab.program("""
        class Nope(pulumi.CustomResource):
            def __init__(self):
                super().__init__("scaleway:instance/nope:Nope", "n", {})
        Nope()
    """)
    lab.preview().bad(
        "no twin of resource type scaleway:instance/nope:Nope", "tables for command, random, scaleway, tls"
    )


def test_ordered_faults_strike_once_each(lab):
    lab.use("faults")
    lab.program('instance.Ip("one")')
    for kind, said in (
        ("fail", "500 Internal Server Error"),
        ("no-capacity", "out of stock"),
        ("rate-limit", "429 Too Many Requests"),
        ("after-commit", "504 Gateway Timeout"),
    ):
        with lab.inventory() as store:
            store.add_fault(Fault(token="*:Ip", kind=kind))
        lab.up().bad(said)
        assert len(lab.rows("Ip")) == (1 if kind == "after-commit" else 0)
    lab.up().good()
    # The twin does not de-duplicate: what was made without an answer is an orphan.
    assert len(lab.rows("Ip")) == 2
    lab.destroy().good()
    assert len(lab.rows("Ip")) == 1


def test_a_slow_call_takes_its_time(lab):
    lab.use("fault-slow")
    lab.program('instance.Ip("one")')
    with lab.inventory() as store:
        store.add_fault(Fault(token="*:Ip", kind="slow", seconds=3))
    start = time.monotonic()
    lab.up().good()
    assert time.monotonic() - start > 3
