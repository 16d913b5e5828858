"""Real hosts, end to end, in a world of their own. Tests of this file build on each other in order."""

import contextlib
import dataclasses
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncssh
import pytest
import yaml

from sandbox import paths, process, real
from sandbox.effects.protocol import EffectError
from sandbox.errors import SandboxError
from sandbox.hosts import desired as want
from sandbox.hosts import effects, instance, net
from sandbox.hosts.instance import Place
from sandbox.internet.layout import GATEWAY, STRANGER
from sandbox.inventory import Record, open_store

WHY_NOT = real.capable()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(WHY_NOT), reason=f"this machine runs no hosts: {'; '.join(WHY_NOT)}"),
    pytest.mark.xdist_group("hosts"),
]
COMMAND = "command:remote:Command"
LOGIN = asyncssh.generate_private_key("ssh-ed25519")
HOST_KEY = asyncssh.generate_private_key("ssh-ed25519")
OTHER_KEY = asyncssh.generate_private_key("ssh-ed25519")
A, B = "198.18.16.1", "198.18.16.2"
PRIVATE_A, PRIVATE_B = "10.20.0.2", "10.20.0.3"


def public(key):
    return key.export_public_key().decode().strip()


def private(key):
    return key.export_private_key().decode()


CLOUD_INIT = "#cloud-config\n" + yaml.safe_dump(
    {
        "users": [
            {
                "name": "ops",
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "shell": "/bin/bash",
                "ssh_authorized_keys": [public(LOGIN)],
            }
        ],
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": private(HOST_KEY), "ed25519_public": public(HOST_KEY)},
    }
)


class Cloud:
    """Drives the effects in the order the twins do."""

    def __init__(self, root):
        self.root = root
        self.world = real.prepare(root)
        self.inventory = open_store(self.world.root)
        self.lines: list[str] = []
        self.world.notes["log"] = self.lines.append

    def row(self, token, id):
        return self.inventory.get(token, id)

    def create(self, token, name, inputs, outputs=None):
        row = Record(
            id=f"fr-par-1/{name}",
            token=token,
            name=name,
            inputs=inputs,
            outputs=outputs or {},
            state="pending",
            real=True,
        )
        self.inventory.put(row)
        return self._ready(row, effects.EFFECTS[token].create(self.world, row))

    def update(self, token, name, **inputs):
        old = self.row(token, f"fr-par-1/{name}")
        outputs = {**old.outputs, **{"state": inputs["state"]}} if "state" in inputs else old.outputs
        new = dataclasses.replace(old, inputs={**old.inputs, **inputs}, outputs=outputs, state="pending")
        self.inventory.put(new)
        return self._ready(new, effects.EFFECTS[token].update(self.world, old, new))

    def delete(self, token, name):
        row = self.row(token, f"fr-par-1/{name}")
        self.inventory.put(dataclasses.replace(row, state="deleting"))
        effects.EFFECTS[token].delete(self.world, row)
        self.inventory.remove(token, row.id)

    def _ready(self, row, outputs):
        row = dataclasses.replace(row, outputs={**row.outputs, **outputs}, state="ready")
        self.inventory.put(row)
        return row

    def server(self, name, ip, type="DEV1-S"):
        inputs = {
            "type": type,
            "image": "debian_bookworm",
            "name": name,
            "ipIds": [f"fr-par-1/{ip}"],
            "securityGroupId": "fr-par-1/group",
            "cloudInit": CLOUD_INIT,
        }
        return self.create(want.SERVER, name, inputs, {"state": "started"})

    def nic(self, name, server, address):
        inputs = {"serverId": f"fr-par-1/{server}", "privateNetworkId": "fr-par-1/net"}
        return self.create(want.NIC, name, inputs, {"privateIps": [{"address": address}]})

    def place(self, name):
        return Place(self.root, want.key(f"fr-par-1/{name}"))

    def run(self, command, host=A, **more):
        """Standard output of a command on a host, as the program would run it."""
        inputs = {"connection": connection(host), "create": command, **more}
        row = Record(id="run", token=COMMAND, name="run", inputs=inputs, outputs={})
        return effects.EFFECTS[COMMAND].create(self.world, row)["stdout"]


def connection(host=A, **more):
    return {
        "host": host,
        "user": "ops",
        "privateKey": private(LOGIN),
        "hostKey": public(HOST_KEY),
        "dialErrorLimit": 30,
        "perDialTimeout": 3,
        **more,
    }


def knock(address, port, source=net.ADMIN, patience=1.0):
    """``open``, ``silent`` (dropped), or the error's name."""
    with socket.socket() as caller:
        caller.settimeout(patience)
        caller.bind((source, 0))
        try:
            caller.connect((address, port))
        except TimeoutError:
            return "silent"
        except OSError as error:
            return type(error).__name__ + f" {error.errno}"
    return "open"


INBOUND = [
    {"action": "accept", "port": 22, "ipRange": "198.18.1.0/24"},
    {"action": "accept", "port": 80, "ipRange": "0.0.0.0/0"},
]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkout")
    cloud = Cloud(root)
    try:
        cloud.create(want.NETWORK, "net", {}, {"ipv4Subnet": {"subnet": "10.20.0.0/24"}})
        cloud.create(want.GROUP, "group", {"inboundDefaultPolicy": "drop", "inboundRules": INBOUND})
        for name, address in (("ip-a", A), ("ip-b", B), ("ip-c", "198.18.16.3")):
            cloud.create(want.IP, name, {}, {"address": address})
        yield cloud
    finally:
        real.reset(root)
        net.leave()


def test_a_host_answers_seconds_after_its_creation(cloud):
    cloud.server("first", "ip-a", type="STARDUST1-S")  # builds the base image where there is none
    cloud.delete(want.SERVER, "first")
    began = time.monotonic()
    cloud.server("a", "ip-a", type="STARDUST1-S")
    assert cloud.run("hostname") == "a"  # the command waits for sshd by itself
    assert time.monotonic() - began < 8  # 2 s on two idle cores


def test_it_is_a_whole_debian_with_nothing_failed(cloud):
    seen = cloud.run(
        "cloud-init status --wait >/dev/null; systemctl is-system-running --wait; systemctl --failed -q"
    )
    assert seen == "running"
    assert cloud.run("sudo stat -c %a /var/lib/cloud/seed/nocloud/user-data") == "600"  # it holds keys
    assert cloud.run("find /etc/systemd/system -lname /dev/null") == ""  # Debian's packages mask some in /lib
    assert cloud.run("sudo id -u; sudo cat /etc/ssh/ssh_host_ed25519_key.pub").split()[:3] == [
        "0",
        *public(HOST_KEY).split(),
    ]


def test_it_trusts_the_sandbox_s_authority_and_has_the_machine_s_archive_without_a_proxy(cloud):
    assert cloud.run("openssl verify /usr/local/share/ca-certificates/berth-sandbox.crt").endswith(": OK")
    cloud.run("sudo update-ca-certificates")
    assert cloud.run("openssl verify /usr/local/share/ca-certificates/berth-sandbox.crt").endswith(": OK")
    assert cloud.run("apt-config dump | grep -ci proxy || true") == "0"


def limits(cloud, name):
    """Memory in bytes as the host sees it, and processors as the kernel enforces them."""
    if instance.legacy_cgroups():
        memory = cloud.run("cat /sys/fs/cgroup/memory/memory.limit_in_bytes")
        payload = f"lxc.payload.{cloud.place(name).name}"
        found = [path / "cpu.cfs_quota_us" for path in groups(cloud.place(name).name) if path.name == payload]
        (quota,) = [path.read_text() for path in found if path.exists()]
        return int(memory), int(quota) / instance.PERIOD
    memory, quota, period = cloud.run("cd /sys/fs/cgroup; cat memory.max cpu.max").split()
    return int(memory), int(quota) / int(period)


def test_size_limits_memory_and_processor(cloud):
    assert limits(cloud, "a") == (2**30, 1)


def test_another_host_key_than_the_pinned_one_is_refused(cloud):
    wrong = connection(hostKey=public(OTHER_KEY), dialErrorLimit=1)
    with pytest.raises(EffectError, match=r"after 2 failed attempts: .*host key"):
        cloud.run("true", connection=wrong)


def test_another_login_key_is_refused(cloud):
    with pytest.raises(EffectError, match="unable to authenticate"):
        cloud.run("true", connection=connection(privateKey=private(OTHER_KEY), dialErrorLimit=0))


def serve(cloud, *ports):
    """Something that listens on host a; waits until it does."""
    for port in ports:
        start = f"sudo systemd-run -q --unit=w{port} python3 -m http.server {port}"
        wait = f"until curl -so /dev/null localhost:{port}; do sleep 0.1; done"
        cloud.run(f"systemctl -q is-active w{port} || {start}; {wait}")


def test_security_group(cloud):
    serve(cloud, 80, 8080)
    assert knock(A, 22) == "open"
    assert knock(A, 80, STRANGER, 3) == "open"
    assert {knock(A, 22, STRANGER), knock(A, 8080, STRANGER), knock(A, 8080)} == {"silent"}
    cloud.run("sudo iptables -F")  # what the host does to its own rules opens nothing
    assert knock(A, 8080) == "silent"
    cloud.update(want.GROUP, "group", inboundRules=[*INBOUND, {"action": "accept", "port": 8080}])
    assert knock(A, 8080, STRANGER, 3) == "open"
    cloud.update(want.GROUP, "group", inboundRules=INBOUND)
    assert knock(A, 8080, STRANGER) == "silent"


def test_mail_ports_are_closed_from_within_and_others_are_not(cloud):
    dial = "timeout 1 bash -c 'exec 3<>/dev/tcp/198.18.0.1/{}' 2>/dev/null; echo $?"
    assert cloud.run(dial.format(25)) == "124"
    assert cloud.run(dial.format(53)) == "0"


def test_private_network_connects_hosts_and_nobody_else(cloud):
    serve(cloud, 8080)
    cloud.nic("nic-a", "a", PRIVATE_A)  # plugged in while it runs
    cloud.server("b", "ip-b")
    cloud.nic("nic-b", "b", PRIVATE_B)
    dial = (
        f"for i in $(seq 30); do curl -sf -m 1 -o /dev/null http://{PRIVATE_A}:8080/ && echo yes && break;"
        " sleep 0.2; done"
    )
    assert cloud.run(dial, host=B) == "yes"
    assert knock(PRIVATE_A, 8080).startswith("OSError")  # no route: nothing to knock at
    public_dial = f"curl -s -m 1 -o /dev/null http://{A}:8080/; echo $?"
    assert cloud.run(public_dial, host=B) == "28"  # a neighbour is a stranger on the public side


def test_a_private_network_is_no_way_around_the_security_group(cloud):
    """The namespace's bridge is a neighbour, too, and would route what it is sent."""
    dial = f"timeout 1 bash -c 'exec 3<>/dev/tcp/{GATEWAY}/53' 2>/dev/null; echo $?"
    ask = f"timeout 1 curl -s -o /dev/null http://{A}:80/; echo $?"
    assert (cloud.run(dial, host=B), cloud.run(ask, host=B)) == ("0", "0")
    for there in (GATEWAY, A):
        cloud.run(f"sudo ip route add {there} dev eth1 src {B}", host=B)
    try:
        # To the gateway, and through it to a neighbour's public address.
        lladdr = next(link["address"] for link in net.show("link", "show", "type", "bridge"))
        cloud.run(f"sudo ip neigh replace {A} lladdr {lladdr} dev eth1", host=B)
        assert (cloud.run(dial, host=B), cloud.run(ask, host=B)) == ("124", "124")
    finally:
        for there in (GATEWAY, A):
            cloud.run(f"sudo ip route del {there} dev eth1", host=B)


def test_an_address_moves_between_hosts_at_once(cloud):
    third = "198.18.16.3"
    cloud.update(want.SERVER, "a", ipIds=["fr-par-1/ip-a", "fr-par-1/ip-c"])
    assert cloud.run("hostname", host=third) == "a"
    cloud.update(want.SERVER, "a", ipIds=["fr-par-1/ip-a"])
    cloud.update(want.SERVER, "b", ipIds=["fr-par-1/ip-b", "fr-par-1/ip-c"])
    began = time.monotonic()
    assert cloud.run("hostname", host=third) == "b"
    assert time.monotonic() - began < 5
    assert third not in cloud.run("ip -br address", host=A)


def test_reboot_from_inside_keeps_disk_and_networks(cloud):
    before = cloud.run(
        "echo kept | sudo tee /var/kept >/dev/null; cat /proc/sys/kernel/random/boot_id; stat -c %Y /proc/1"
    )
    with contextlib.suppress(EffectError):
        cloud.run("sudo systemctl reboot")
    wait(lambda: cloud.run("stat -c %Y /proc/1") != before.split()[-1])
    assert cloud.run("cat /var/kept; ip -br address show eth1").split()[0] == "kept"
    assert f"{PRIVATE_A}/24" in cloud.run("ip -br address show eth1")
    assert limits(cloud, "a") == (2**30, 1)


def test_stop_and_start(cloud):
    cloud.update(want.SERVER, "a", state="stopped")
    assert instance.state(cloud.place("a")) == "stopped"
    assert effects.EFFECTS[want.SERVER].read(cloud.world, cloud.row(want.SERVER, "fr-par-1/a")) == {
        "state": "stopped"
    }
    assert knock(A, 22, patience=0.5) != "open"
    real.prepare(cloud.root)
    assert instance.state(cloud.place("a")) == "stopped"  # as recorded
    cloud.update(want.SERVER, "a", state="started")
    assert cloud.run("cat /var/kept") == "kept"


def test_a_larger_type_is_a_restart_with_the_same_disk(cloud):
    cloud.update(want.SERVER, "a", type="DEV1-S")
    assert limits(cloud, "a") == (2 * 2**30, 2)
    assert cloud.run("cat /var/kept") == "kept"


def test_killed_hosts_are_back_after_the_next_command(cloud):
    for pid in host_processes(cloud, "a"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait(lambda: instance.state(cloud.place("a")) == "stopped")
    real.prepare(cloud.root)
    assert cloud.run("cat /var/kept") == "kept"
    assert f"{PRIVATE_A}/24" in cloud.run("ip -br address show eth1")


def test_a_whole_namespace_lost_is_back_after_the_next_command(cloud):
    name = paths.netns(cloud.root)
    net.leave()
    for path in net.NETNS.glob(f"{name}*"):
        subprocess.run(["ip", "netns", "del", path.name], check=True)
    real.prepare(cloud.root)
    assert cloud.run("cat /var/kept") == "kept"


def test_what_the_inventory_does_not_know_is_removed(cloud):
    row = cloud.server("lost", "ip-c", type="STARDUST1-S")
    place = cloud.place("lost")
    cloud.inventory.remove(row.token, row.id)
    real.prepare(cloud.root)
    assert not place.directory.exists()
    assert traces(place.name) == []


def test_a_host_that_another_command_has_just_removed_is_not_made_again(cloud):
    host = want.desired(cloud.inventory).host("fr-par-1/a")
    assert host is not None
    gone = Place(cloud.root, want.key("gone"))
    instance.ensure(gone, host, cloud.lines.append, make=False)
    assert not gone.directory.exists()


def test_two_hosts_at_once(cloud):
    names = {"x": "ip-c", "y": "ip-d"}
    cloud.create(want.IP, "ip-d", {}, {"address": "198.18.16.4"})
    with ThreadPoolExecutor(2) as pool:  # threads stay in the namespace of the one that makes them
        list(pool.map(lambda name: cloud.server(name, names[name]), names))
        assert set(pool.map(lambda ip: cloud.run("hostname", host=ip), ("198.18.16.3", "198.18.16.4"))) == {
            "x",
            "y",
        }
        list(pool.map(lambda name: cloud.delete(want.SERVER, name), names))
    assert traces(cloud.place("x").name) == traces(cloud.place("y").name) == []


def test_status(cloud):
    hosts = {host["name"]: host for host in real.status(cloud.root)["hosts"]}
    assert hosts["a"]["state"] == "started"
    assert hosts["a"]["addresses"] == [A]
    assert hosts["a"]["private_addresses"] == [f"{PRIVATE_A}/24"]
    assert 0 < hosts["a"]["memory"] <= hosts["a"]["memory_limit"] == 2 * 2**30


def test_another_checkout_uses_the_same_addresses_and_never_meets(cloud, tmp_path):
    assert knock(A, 22) == "open"
    try:
        net.ensure(tmp_path)
        assert knock(A, 22).startswith("OSError")
    finally:
        net.enter(paths.netns(cloud.root))
        net.drop(paths.netns(tmp_path))


# ---------------------------------------------------------------- commands


def test_stdin_is_fed_and_both_streams_come_back_without_their_last_newline(cloud):
    big = "x" * 300_000
    row = cloud.create(
        COMMAND, "c1", {"connection": connection(), "create": "wc -c; echo no >&2; echo", "stdin": big}
    )
    assert (row.outputs["stdout"], row.outputs["stderr"]) == ("300000\n", "no")


def test_lines_go_to_the_log_as_asked(cloud):
    cloud.lines.clear()
    cloud.run("echo out; echo err >&2", logging="stderr")
    assert cloud.lines == ["err"]


def test_a_failing_command_reads_as_the_plugin_s(cloud):
    with pytest.raises(EffectError) as caught:
        cloud.run('echo out; echo err >&2; sh -c "exit 3"')
    first, *streams = str(caught.value).splitlines()
    assert first == 'Process exited with status 3: running "echo out; echo err >&2; sh -c \\"exit 3\\"":'
    assert sorted(streams) == ["err", "out"]


def test_a_command_killed_by_a_signal_says_so(cloud):
    with pytest.raises(EffectError, match="Process exited with status 143 from signal TERM"):
        cloud.run("kill -TERM $$")


def test_update_runs_update_else_create_and_delete_uses_the_stored_connection(cloud):
    inputs = {
        "connection": connection(),
        "create": "echo create >>/tmp/steps",
        "delete": "echo delete >>/tmp/steps",
    }
    cloud.create(COMMAND, "c2", inputs)
    cloud.update(COMMAND, "c2", stdin="changed")
    cloud.update(COMMAND, "c2", update="echo update >>/tmp/steps")
    cloud.delete(COMMAND, "c2")
    assert cloud.run("cat /tmp/steps").split() == ["create", "create", "update", "delete"]


def test_the_environment_needs_the_server_s_consent(cloud):
    assert cloud.run("echo $LC_BERTH", environment={"LC_BERTH": "a b"}) == "a b"  # Debian's sshd takes LC_*
    with pytest.raises(EffectError, match=r'(?s)could not set environment variable "BERTH".*AcceptEnv'):
        cloud.run("true", environment={"BERTH": "1"})


def test_through_a_jump_host_into_the_private_network(cloud):
    inside = connection(PRIVATE_B, proxy=connection(A))
    assert cloud.run("hostname", connection=inside) == "b"


def test_ssh_as_the_operator_with_the_program_s_keys(cloud):
    assert cloud.run("true") == ""  # some command of the program has been there
    for name in ("a", A):
        done = sandbox(cloud.root, "ssh", name, "whoami; echo $SSH_CONNECTION; exit 7")
        assert (done.returncode, done.stdout.split()[:2]) == (7, ["ops", net.ADMIN])
    logins = list((paths.state(cloud.root) / "hosts/logins").iterdir())
    assert {stat.S_IMODE(path.stat().st_mode) for path in logins} == {0o600}
    stranger = sandbox(cloud.root, "ssh", "--from", "203.0.113.1", "a", "true")
    assert stranger.returncode == 255
    nobody = sandbox(cloud.root, "ssh", "nix", "true")
    assert nobody.returncode == 1
    assert "no host is 'nix'; there is: a (198.18.16.1)" in nobody.stderr


def test_a_file_is_copied(cloud):
    cloud.create(
        "command:remote:CopyToRemote",
        "f",
        {
            "connection": connection(),
            "remotePath": "/tmp/copied",
            "source": {"text": "héllo\n"},
        },
    )
    assert cloud.run("cat /tmp/copied") == "héllo"


def test_a_local_command(cloud):
    token = "command:local:Command"
    row = cloud.create(token, "l", {"create": "cat; echo $X", "stdin": "in ", "environment": {"X": "y"}})
    assert row.outputs["stdout"] == "in y"
    with pytest.raises(EffectError, match='exit status 4: running "exit 4"'):
        cloud.create(token, "l2", {"create": "exit 4"})


# ---------------------------------------------------------------- the end


def test_a_deleted_host_leaves_nothing(cloud):
    place = cloud.place("b")
    assert traces(place.name) != []
    cloud.delete(want.NIC, "nic-b")
    cloud.delete(want.SERVER, "b")
    assert traces(place.name) == []
    assert not place.directory.exists()
    names = {link["ifname"] for link in net.show("link", "show")}
    assert f"v{place.key}" not in names
    assert f"v{cloud.place('a').key}" in names


def sandbox(root, *words):
    """A sandbox command as somebody types it: outside the namespace."""
    command = [*process.outside(), sys.executable, "-m", "sandbox", *words]
    environment = {**os.environ, "BERTH_ROOT": str(root), "TERM": "dumb"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_moved_checkout_says_that_its_hosts_do_not_move_along(cloud):
    place, elsewhere = cloud.place("a"), cloud.root.with_name("elsewhere")
    cloud.root.rename(elsewhere)
    try:
        with pytest.raises(SandboxError, match=rf"was at {cloud.root} .* reset"):
            real.prepare(elsewhere)
        assert real.moved(elsewhere) == [cloud.root]
        assert instance.running(place)  # nothing was touched yet
    finally:
        elsewhere.rename(cloud.root)
    assert real.moved(cloud.root) == []


def test_what_a_deleted_checkout_left_is_found_and_cleared_and_nothing_else(cloud, tmp_path):
    name = paths.netns(cloud.root)
    assert cloud.root not in real.lost()
    (tmp_path / "Pulumi.yaml").write_text("name: lab\nruntime: python\n")
    subprocess.run(["rm", "-rf", str(cloud.root)], capture_output=True, check=False)  # as somebody does
    assert (cloud.root / ".sandbox/hosts").exists()  # a disk is mounted there
    assert real.lost() == [cloud.root]
    assert f"still run: {cloud.root}" in sandbox(tmp_path, "doctor").stdout
    net.leave()
    done = sandbox(tmp_path, "reset", "--orphans")
    assert done.returncode == 0, done.stderr
    assert traces(name) == []
    assert real.lost() == []
    assert not paths.runtime(cloud.root).exists()
    assert not cloud.root.exists()


def wait(true, patience=15):
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with contextlib.suppress(EffectError):
            if true():
                return
        time.sleep(0.1)
    pytest.fail(f"not within {patience} s")


def host_processes(cloud, name):
    return [pid for group in groups(cloud.place(name).name) for pid in read_pids(group)]


def read_pids(group):
    try:
        return [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
    except FileNotFoundError:  # a session that ended meanwhile
        return []


def groups(name):
    return [Path(path) for path, _, _ in os.walk(instance.CGROUPS) if f".{name}" in path]


def traces(name):
    """Mounts, namespaces, control groups and processes that bear a name."""
    mounts = [
        line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if name in line
    ]
    spaces = [path.name for path in net.NETNS.glob(f"{name}*")]
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if name.encode() in path.read_bytes():
                commands.append(str(path))
    return [*mounts, *spaces, *map(str, groups(name)), *commands]
