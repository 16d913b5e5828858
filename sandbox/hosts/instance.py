"""One host: a Debian system container on an overlay of a base image, with its own systemd and cloud-init."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox import paths, process
from sandbox.effects.protocol import EffectError
from sandbox.errors import SandboxError
from sandbox.hosts import images, net, plumbing, volumes
from sandbox.hosts.desired import Host
from sandbox.internet.certs import ca_certificate
from sandbox.internet.layout import GATEWAY

CGROUPS = Path("/sys/fs/cgroup")
MACHINE_TRUST = Path("/usr/local/share/ca-certificates")
PERIOD = 100_000  # microseconds over which processor time is dealt out
STOP_SECONDS = 20
Log = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """Where one host lives. ``root`` is the checkout."""

    root: Path
    key: str

    @property
    def name(self) -> str:
        """The container's name, also of its control groups."""
        return f"{paths.netns(self.root)}-{self.key}"

    @property
    def parent(self) -> Path:
        return paths.state(self.root) / "hosts"

    @property
    def directory(self) -> Path:
        return self.parent / self.name

    @property
    def rootfs(self) -> Path:
        return self.directory / "rootfs"

    @property
    def made(self) -> Path:
        """Written last: what lies here without it is half a host."""
        return self.directory / "host.json"

    @property
    def log(self) -> Path:
        return self.directory / "lxc.log"

    @property
    def volumes(self) -> Path:
        """Block volumes it has, as plug.sh reads them."""
        return self.directory / "volumes"


def places(root: Path) -> list[Place]:
    """Every host with something on disk."""
    prefix = f"{paths.netns(root)}-"
    found = (paths.state(root) / "hosts").glob(f"{prefix}*/")
    return [Place(root, path.name.removeprefix(prefix)) for path in sorted(found)]


@contextlib.contextmanager
def locked(place: Place) -> Iterator[None]:
    """One command at a time works on a host."""
    place.parent.mkdir(mode=0o700, exist_ok=True)
    with process.lock(place.parent / f"{place.key}.lock"):
        yield


def ensure(place: Place, host: Host, log: Log, *, make: bool = True) -> None:
    """Have the host made, mounted, configured, and running or stopped as it should be.

    Its cables are there. Returns once systemd runs, not once sshd answers: neither does a provider's API.
    ``make`` False leaves one that is not made as it is.
    """
    with locked(place):
        if not place.made.exists():
            if not make:
                return
            destroy(place)  # half a host that a kill has left
            _make(place, host, log)
        _mount(place, log)
        before, now = _volumes(place, host)
        limits = _config(place, host)
        network = _network(place, host)
        up = running(place)
        if up and (limits or not host.started):
            stop(place)
            up = False
        if host.started and not up:
            _start(place)
        elif up:
            if now or before:
                _plug(place, before, now)
            if network:
                _reload(place, log)


def running(place: Place) -> bool:
    """Whether its first process lives (also while it reboots)."""
    done = _lxc(place, "lxc-info", "-sH", check=False)
    return done.stdout.strip() in ("RUNNING", "STARTING", "FROZEN")


def stop(place: Place) -> None:
    """Shut down cleanly, by force after 20 s; no error when it is not running."""
    if running(place):
        _lxc(place, "lxc-stop", "-t", str(STOP_SECONDS))


def destroy(place: Place) -> None:
    """Remove every trace of the host but its cables; no error when there is none."""
    _lxc(place, "lxc-stop", "-k", check=False)
    _sweep(place)
    for mount in _mounts(place):
        if subprocess.run(["umount", mount], capture_output=True, check=False).returncode:
            subprocess.run(["umount", "-l", mount], check=True)
    if place.directory.exists():
        shutil.rmtree(place.directory)


def state(place: Place) -> str | None:
    """``started``, ``stopped``, or None when there is no such host."""
    if not place.made.exists():
        return None
    return "started" if running(place) else "stopped"


# ---------------------------------------------------------------- making


def _make(place: Place, host: Host, log: Log) -> None:
    suite = images.suite(host.image)
    base = images.base(suite, log)
    for name in ("upper", "work", "rootfs"):
        (place.directory / name).mkdir(parents=True)
    place.directory.chmod(0o700)
    _overlay(place, base)
    _write(place, "etc/hostname", host.hostname + "\n")
    seed = "var/lib/cloud/seed/nocloud"
    # Exactly what the program sent: a typing error in it shows here as it would at the provider.
    _write(place, f"{seed}/user-data", host.user_data or "#cloud-config\n{}\n", 0o600)
    meta = {"instance-id": host.id.rpartition("/")[2], "local-hostname": host.hostname}
    _write(place, f"{seed}/meta-data", json.dumps(meta))
    _trust(place)
    _note(place, {"id": host.id, "suite": suite, "base": str(base)})


def _note(place: Place, made: Mapping[str, str]) -> None:
    new = place.made.with_suffix(".new")
    new.write_text(json.dumps(made))
    new.replace(place.made)  # whole or not at all: a kill may come here too


def _trust(place: Place) -> None:
    """What ``update-ca-certificates`` does, in no time: trust the sandbox's authority and the machine's."""
    certificates = {"berth-sandbox": ca_certificate(place.root).read_text()}
    for path in sorted(
        MACHINE_TRUST.rglob("*.crt")
    ):  # e.g. of a company that intercepts the package registries
        certificates[f"machine-{path.stem}"] = path.read_text()
    bundle = place.rootfs / "etc/ssl/certs/ca-certificates.crt"
    text = bundle.read_text()
    for name, certificate in certificates.items():
        _write(place, f"usr/local/share/ca-certificates/{name}.crt", certificate)
        _link(place, f"etc/ssl/certs/{name}.pem", f"/usr/local/share/ca-certificates/{name}.crt")
        digest = subprocess.run(
            ["openssl", "x509", "-noout", "-subject_hash"],
            input=certificate,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        _link(place, f"etc/ssl/certs/{digest}.0", f"{name}.pem")
        text += certificate
    _write(place, "etc/ssl/certs/ca-certificates.crt", text)


def _mount(place: Place, log: Log) -> None:
    if place.rootfs.is_mount():
        return
    made = json.loads(place.made.read_text())
    base = Path(made["base"])
    if not base.exists():  # the cache was cleaned
        base = images.base(made["suite"], log)
        _note(place, {**made, "base": str(base)})
    _overlay(place, base)


def _overlay(place: Place, base: Path) -> None:
    layers = {"lowerdir": base, "upperdir": place.directory / "upper", "workdir": place.directory / "work"}
    escaped = {name: re.sub(r"([\\,:])", r"\\\1", str(path)) for name, path in layers.items()}
    options = ",".join(f"{name}={path}" for name, path in escaped.items())
    command = ["mount", "-t", "overlay", "overlay", "-o", options, str(place.rootfs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EffectError(f"the disk of {place.name}: {done.stderr.strip()}")


def _config(place: Place, host: Host) -> bool:
    """Write the container's configuration; whether a running one must start again for it."""
    if legacy_cgroups():
        limits = [
            f"lxc.cgroup.memory.limit_in_bytes = {host.memory}",
            f"lxc.cgroup.cpu.cfs_period_us = {PERIOD}",
            f"lxc.cgroup.cpu.cfs_quota_us = {int(host.cpus * PERIOD)}",
        ]
    else:
        limits = [
            f"lxc.cgroup2.memory.max = {host.memory}",
            f"lxc.cgroup2.cpu.max = {int(host.cpus * PERIOD)} {PERIOD}",
        ]
    lines = [
        "lxc.include = /usr/share/lxc/config/common.conf",
        f"lxc.uts.name = {host.hostname}",
        f"lxc.rootfs.path = dir:{place.rootfs}",
        f"lxc.namespace.share.net = {net.NETNS / plumbing.namespace(place.root, place.key)}",
        "lxc.mount.auto =",
        "lxc.mount.auto = proc:mixed sys:mixed cgroup:rw",
        "lxc.apparmor.profile = unconfined",
        "lxc.init.cmd = /sbin/init",
        # Not in this file, which a running host starts again for.
        f"lxc.include = {place.volumes}.conf",
        # Through a shell; lxc takes outer quotes away.
        f"lxc.hook.start-host = {_escaped(volumes.PLUG)} {_escaped(place.volumes)}",
        "lxc.tty.max = 0",
        "lxc.pty.max = 64",
        # Also the last one bears the name, so that nothing of ours is left in the machine's hierarchies.
        f"lxc.cgroup.dir.container = lxc.payload.{place.name}",
        f"lxc.cgroup.dir.monitor = lxc.monitor.{place.name}",
        f"lxc.cgroup.dir.monitor.pivot = lxc.pivot.{place.name}",
        *limits,
        "",
    ]
    text = "\n".join(lines)
    path = place.directory / "config"
    old = path.read_text() if path.exists() else None
    if old != text:
        path.write_text(text)
    return old is not None and old != text


def _escaped(path: Path) -> str:
    return re.sub(r"([^\w/.-])", r"\\\1", str(path))


def _volumes(place: Place, host: Host) -> tuple[list[volumes.Device], list[volumes.Device]]:
    """Attach the host's volumes and write down which they are; (before, now)."""
    lines = place.volumes.read_text().splitlines() if place.volumes.exists() else []
    before = [
        volumes.Device(name=name, number=number, id=id.removeprefix(volumes.PREFIX))
        for name, number, id in map(str.split, lines)
    ]
    now = volumes.plugged(place.root, host.volumes, before)
    place.volumes.write_text("".join(device.line for device in now))
    # With version 1 plug.sh does it: lxc would forget, when a host reboots itself, what it allowed since.
    allowed = [] if legacy_cgroups() else [f"lxc.cgroup2.devices.allow = {device.rule}\n" for device in now]
    place.volumes.with_suffix(".conf").write_text("".join(allowed))
    return before, now


def _plug(place: Place, before: list[volumes.Device], now: list[volumes.Device]) -> None:
    """Give a running host its volumes, and take away those it has no longer."""
    pid = _lxc(place, "lxc-info", "-pH").stdout.strip()
    for device in now if not legacy_cgroups() else ():
        _lxc(place, "lxc-cgroup", "devices.allow", device.rule)
    done = subprocess.run(
        [str(volumes.PLUG), str(place.volumes)],
        env={**process.ENVIRONMENT, "LXC_PID": pid},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise EffectError(f"the volumes of {place.name}: {done.stderr.strip()}")
    for device in before:
        if device.number not in {other.number for other in now}:
            # Pulled out, as a detached disk is, whether it was unmounted or not.
            for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
                if line.split()[2] == device.number:
                    target = line.split()[4].replace("\\040", " ")
                    _lxc(place, "lxc-attach", "--", "umount", "--lazy", target, check=False)
            _lxc(place, "lxc-cgroup", "devices.deny", device.rule)


def _network(place: Place, host: Host) -> bool:
    """Write the host's network files as its provider's DHCP would have it; whether any changed."""
    names = plumbing.interfaces(place.root, host)
    files = {"10-eth0.network": _public(host)}
    for nic in host.nics:
        name = names[nic.mac]
        addresses = "".join(f"Address={address}\n" for address in nic.addresses)
        files[f"10-{name}.network"] = _unit(name, addresses)
    directory = place.rootfs / "etc/systemd/network"
    changed = False
    for path in directory.glob("10-eth*.network"):
        if path.name not in files:
            path.unlink()
            changed = True
    for file, text in files.items():
        path = directory / file
        if not path.exists() or path.read_text() != text:
            _write(place, f"etc/systemd/network/{file}", text)
            changed = True
    return changed


def _public(host: Host) -> str:
    if not host.addresses:
        return _unit("eth0", "")
    addresses = "".join(f"Address={address}/32\n" for address in host.addresses)
    route = f"\n[Route]\nGateway={GATEWAY}\nGatewayOnLink=yes\nPreferredSource={host.addresses[0]}\n"
    return _unit("eth0", f"{addresses}DNS={GATEWAY}\n") + route


def _unit(interface: str, network: str) -> str:
    required = "" if network else "\n[Link]\nRequiredForOnline=no\n"
    network += "LinkLocalAddressing=no\nIPv6AcceptRA=no\n"
    return f"[Match]\nName={interface}\n{required}\n[Network]\n{network}"


def _start(place: Place) -> None:
    _sweep(place)
    began = place.log.stat().st_size if place.log.exists() else 0
    done = _lxc(place, "lxc-start", "-d", "-o", str(place.log), "-l", "WARN", check=False)
    if done.returncode:
        said = place.log.read_bytes()[began:].decode(errors="replace") if place.log.exists() else ""
        raise EffectError(f"the host {place.name} does not start:\n{said}  whole log: {place.log}")


# ---------------------------------------------------------------- helpers


def legacy_cgroups() -> bool:
    """Whether memory and processor are limited by version 1 control groups."""
    return (CGROUPS / "memory").is_dir()


def _lxc(place: Place, tool: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [tool, "-P", str(place.parent), "-n", place.name, *words]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise EffectError(f"{tool} of {place.name}: {done.stderr.strip()}")
    return done


def _reload(place: Place, log: Log) -> None:
    """Have the host read its network files; its systemd may be just starting.

    A host that broke its own network keeps it broken, as at a provider.
    """
    for _ in range(50):
        done = _lxc(place, "lxc-attach", "--", "networkctl", "reload", check=False)
        if done.returncode == 0:
            return
        time.sleep(0.1)
    log(f"{place.name} did not take its new network settings: {done.stderr.strip()}")


def _inner(place: Place, path: str) -> Path:
    """A path in the host's tree, never led out of it by a link the host has made."""
    target = place.rootfs / path
    parent = target.parent.resolve()
    if not parent.is_relative_to(place.rootfs.resolve()):
        raise EffectError(f"{path} in {place.name} leads out of the host")
    return parent / target.name


def _write(place: Place, path: str, text: str, mode: int = 0o644) -> None:
    target = _inner(place, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(f".{target.name}.new")
    new.unlink(missing_ok=True)
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    new.chmod(mode)
    new.replace(target)


def _link(place: Place, path: str, to: str) -> None:
    target = _inner(place, path)
    target.unlink(missing_ok=True)
    target.symlink_to(to)


def _mounts(place: Place) -> list[str]:
    """Mount points of a host, innermost first, also where its checkout was moved with them."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [Path(line.split()[4].replace("\\040", " ")) for line in lines]
    # Its network namespace has its name too, and stays.
    found = (point for point in points if place.name in point.parts and net.NETNS not in point.parents)
    return sorted(map(str, found), key=len, reverse=True)


def _sweep(place: Place) -> None:
    """End what is left of a container lxc has lost sight of, and remove its control groups.

    lxc would otherwise count up new names, and two would run on one tree.
    """
    deadline = time.monotonic() + 5
    # Until none is left: a monitor that sees its container die cleans up too, and makes groups to do so.
    while groups := [Path(path) for path, _, _ in os.walk(CGROUPS) if f".{place.name}" in path]:
        for group in sorted(groups, key=lambda path: "lxc.monitor." not in path.name):
            with contextlib.suppress(OSError):
                for pid in (group / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
        for group in sorted(groups, key=lambda path: len(path.parts), reverse=True):
            with contextlib.suppress(OSError):  # its last process is just ending
                group.rmdir()
        if time.monotonic() > deadline:
            raise SandboxError(f"what is left of {place.name} does not end: {groups[0]}/cgroup.procs")
        time.sleep(0.02)


def memory(place: Place) -> int:
    """Bytes the host uses now, page cache included; 0 when it does not run."""
    file = "memory.usage_in_bytes" if legacy_cgroups() else "memory.current"
    for path, _, files in os.walk(CGROUPS / "memory" if legacy_cgroups() else CGROUPS):
        if path.endswith(f"lxc.payload.{place.name}") and file in files:
            return int((Path(path) / file).read_text())
    return 0
