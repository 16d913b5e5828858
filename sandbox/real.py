"""Real mode: what this machine can run, and the world of one checkout brought up, described and taken down.

No daemon: each command calls :func:`prepare`, which finds what stands and mends the rest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sandbox import internet, inventory, paths, process, services
from sandbox.effects.protocol import EffectError, World
from sandbox.errors import SandboxError
from sandbox.hosts import desired as want
from sandbox.hosts import effects, images, instance, net, plumbing, volumes
from sandbox.internet.render import write

TOOLS = {
    "haproxy": "haproxy",
    "ip": "iproute2",
    "losetup": "mount",
    "lxc-start": "lxc",
    "mmdebstrap": "mmdebstrap",
    "mount": "mount",
    "nft": "nftables",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "ssh": "openssh-client",
    "sysctl": "procps",
    **internet.TOOLS,
}
# A host needs a cable, a bridge, forwarding and stateful filtering in a namespace of its own.
NETWORK_TRIAL = """
ip link add a0 type veth peer name a1 && ip link add b0 type bridge && ip link set a1 master b0 &&
echo 1 >/proc/sys/net/ipv4/ip_forward &&
nft 'table inet t { chain c { type filter hook forward priority filter; ct state established accept; }; }'
"""
NOTE = "checkout"  # a file with the path of a checkout
MACHINE = "use a machine with a kernel of its own: a virtual machine, Lima, or a privileged dev container"


def capable() -> list[str]:
    """Why this machine cannot run real hosts, each with a remedy; empty when it can. Leaves nothing."""
    if not sys.platform.startswith("linux"):
        return [f"system containers need Linux; {MACHINE}"]
    if os.geteuid() != 0:
        return ["not root: namespaces, containers and mounts need it; run the command with sudo"]
    missing = sorted({packages for tool, packages in TOOLS.items() if shutil.which(tool) is None})
    if missing:
        return [f"Debian packages are missing: apt-get install {' '.join(missing)}"]
    reasons = [_namespaces(), _network(), _overlay(), _cgroups(), _archive()]
    return [reason for reason in reasons if reason]


def prepare(root: Path) -> World:
    """Bring up the world of the checkout ``root`` and move this thread into it; call before starting threads.

    Whatever the inventory says runs, runs afterwards; what it does not know is removed. Raises SandboxError.
    """
    state = paths.state(root)
    world = World(root=state, inventory=inventory.open_store(state))
    _claim(root)
    with process.lock(state / "hosts.lock"):
        net.ensure(root)
    places = instance.places(root)  # before the inventory is read: another command may just make a host
    desired = effects.connect(world)
    ready = {row.id for row in world.inventory.all(want.SERVER) if row.state == "ready"}
    known = {host.key for host in desired.hosts}
    for place in places:
        if place.key not in known:
            with instance.locked(place):
                instance.destroy(place)

    def mend(host: want.Host) -> None:
        # One that is not made is being made or removed by another command, or was lost: its twin's business.
        if host.id in ready:
            instance.ensure(instance.Place(root, host.key), host, effects.log(world), make=False)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(mend, desired.hosts))
    try:
        volumes.release(root, keep={id for host in desired.hosts for id in host.volumes})
    except EffectError as error:
        effects.log(world)(str(error))
    internet.ensure(root, world)
    services.ensure(root, world)
    return world


def _claim(root: Path) -> None:
    """Note whose world this is: in the world, should the checkout go, and in the checkout, should it move."""
    mine = paths.state(root) / NOTE
    before = Path(mine.read_text()) if mine.exists() else root
    if before != root:
        raise SandboxError(
            f"this checkout was at {before} when its hosts were made, and they do not move along: "
            "`python -m sandbox reset`, then `up`"
        )
    paths.runtime(root).mkdir(mode=0o700, parents=True, exist_ok=True)
    for note in (mine, paths.runtime(root) / NOTE):
        write(note, str(root))


def moved(root: Path) -> list[Path]:
    """Where the checkout was when its hosts were made, if that is elsewhere and nothing is there now."""
    note = paths.state(root) / NOTE
    return [place for place in lost() if note.exists() and note.read_text() == str(place)]


def lost() -> list[Path]:
    """Checkouts that are gone without a `reset`, so that what they started still runs."""
    found = []
    for note in sorted(paths.RUNTIME.glob(f"*/{NOTE}")):
        root = Path(note.read_text())
        # What a mount has kept from being removed is no checkout.
        there = any((root / name).exists() for name in ("Pulumi.yaml", ".sandbox/inventory.db"))
        if not there and paths.runtime(root) == note.parent:
            found.append(root)
    return found


def reset(root: Path) -> None:
    """Remove everything real of the checkout: servers, hosts, mounts, namespaces. The inventory stays.

    Also that of a checkout that is gone, or was at another place.
    """
    name = paths.netns(root)
    if net.exists(name) and not net.inside(name):
        net.enter(name)  # where its containers can be spoken to
    services.stop(root)
    internet.stop(root)
    namespaces = [path.name for path in net.NETNS.glob(plumbing.namespace(root, "*"))]
    # Also hosts whose directory somebody has removed; a service's has none.
    bare = {instance.Place(root, found.removeprefix(f"{name}-")) for found in namespaces}
    for place in bare.union(instance.places(root)):
        instance.destroy(place)
    volumes.release(root, keep=())
    net.leave()
    for found in [*namespaces, name]:
        net.drop(found)
    (paths.state(root) / NOTE).unlink(missing_ok=True)
    made = (paths.state(root) / "hosts", paths.state(root) / "services", volumes.directory(root))
    for directory in (*made, paths.runtime(root)):
        if directory.exists():
            shutil.rmtree(directory)


def status(root: Path) -> dict[str, Any]:
    """``namespace``, ``hosts`` (name, addresses, state, memory in bytes), ``services``, ``internet``.

    Moves this thread into the namespace.
    """
    store = inventory.open_store(paths.state(root))
    try:
        rows = {row.id: row for row in store.all(want.SERVER)}
        hosts = want.desired(store).hosts
    finally:
        store.close()
    name = paths.netns(root)
    if net.exists(name) and not net.inside(name):
        net.enter(name)  # only there lxc can be asked
    return {
        "namespace": name if net.exists(name) else None,
        "hosts": [_host(root, host, rows[host.id].name) for host in hosts],
        "services": services.status(root),
        "internet": internet.status(root),
    }


def _host(root: Path, host: want.Host, name: str) -> dict[str, Any]:
    place = instance.Place(root, host.key)
    return {
        "name": name,
        "hostname": host.hostname,
        "id": host.id,
        "image": host.image,
        "addresses": list(host.addresses),
        "private_addresses": [address for nic in host.nics for address in nic.addresses],
        "state": instance.state(place) or "missing",
        "memory": instance.memory(place),
        "memory_limit": host.memory,
    }


# ---------------------------------------------------------------- trials


def _try(command: list[str], text: str | None = None) -> str | None:
    """What a trial complained about, None when it passed."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=20)
    lines = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()
    return lines[-1] if done.returncode else None


def _namespaces() -> str | None:
    for left in net.NETNS.glob("berth-trial-*"):  # by one that was killed
        if not Path("/proc", left.name.rpartition("-")[2]).exists():
            net.drop(left.name)
    name = f"berth-trial-{os.getpid()}"
    try:
        net.make(name)
    except SandboxError as error:
        return f"network namespaces cannot be made ({error}); {MACHINE}"
    finally:
        if net.NETNS.exists():
            net.drop(name)
    return None


def _network() -> str | None:
    failed = _try(["unshare", "--net", "--", "sh", "-c", NETWORK_TRIAL])
    return f"virtual cables, bridges or nft filtering do not work ({failed}); {MACHINE}" if failed else None


def _overlay() -> str | None:
    with tempfile.TemporaryDirectory(dir=paths.state(paths.root()), prefix="trial-") as name:
        for part in ("lower", "upper", "work", "merged"):
            (Path(name) / part).mkdir()
        options = f"lowerdir={name}/lower,upperdir={name}/upper,workdir={name}/work"
        # In a mount namespace of its own, so that nothing is left mounted whatever happens.
        trial = [
            "unshare",
            "--mount",
            "--",
            "mount",
            "-t",
            "overlay",
            "overlay",
            "-o",
            options,
            f"{name}/merged",
        ]
        failed = _try(trial)
    if failed:
        where = paths.root()
        return (
            f"overlay mounts do not work in {where} ({failed}); put the checkout on a local disk (ext4, xfs)"
        )
    return None


def _cgroups() -> str | None:
    name = f"berth-trial-{os.getpid()}"
    hierarchies = ("memory", "cpu", "devices", "pids") if instance.legacy_cgroups() else ("",)
    needed = {"memory": "memory.limit_in_bytes", "cpu": "cpu.cfs_quota_us", "": "memory.max"}
    for hierarchy in hierarchies:
        group = instance.CGROUPS / hierarchy / name
        try:
            group.mkdir()
        except OSError as error:
            return f"control groups cannot be made ({group.parent}: {error.strerror}); {MACHINE}"
        try:
            limits = not hierarchy and _offers_limits(group.parent)
            if hierarchy in needed and not limits and not (group / needed[hierarchy]).exists():
                return f"control groups in {group.parent} do not limit memory and processor; {MACHINE}"
        finally:
            group.rmdir()
    return None


def _offers_limits(top: Path) -> bool:
    """Whether lxc can have memory and processor limited below ``top``, a version 2 control group.

    One that is not the kernel's own root passes nothing on while processes are in it (a container's, often).
    """
    offered = set((top / "cgroup.controllers").read_text().split())
    root = not (top / "cgroup.type").exists()
    return {"memory", "cpu"} <= offered and (root or not (top / "cgroup.procs").read_text().split())


def _archive() -> str | None:
    try:
        images.machine_sources()
    except SandboxError as error:
        return str(error)
    return None
