"""Debian systems built once with mmdebstrap from this machine's mirror: base images, and roots of services.

A base image is Debian as its own cloud images have it. The package list is a subset of Debian's
``genericcloud`` image (classes BASE, SYSTEM_BOOT, CLOUD, GENERIC, EXTRAS of
https://salsa.debian.org/cloud-team/debian-cloud-images, read for Debian 12): without kernel, boot loader and
what only a disk needs, and without tools nobody's script relies on. Never add what is not in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sandbox import paths, process
from sandbox.effects.protocol import EffectError
from sandbox.errors import SandboxError

PACKAGES = (
    # BASE and SYSTEM_BOOT
    "init", "systemd-sysv", "dbus", "libpam-systemd", "systemd-resolved", "systemd-timesyncd",
    "libnss-myhostname", "netplan.io", "polkitd", "sudo", "unattended-upgrades", "apt-utils", "iptables",
    "iputils-ping", "iproute2", "less", "nano", "netbase", "vim-tiny", "whiptail", "procps", "zstd",
    # CLOUD and GENERIC
    "openssh-server", "cloud-init", "cloud-guest-utils",
    # EXTRAS
    "ca-certificates", "curl", "ethtool", "uuid-runtime", "xz-utils", "bash-completion", "psmisc",
)  # fmt: skip
SUITES = {
    "debian_bookworm": "bookworm",
    "debian-12": "bookworm",
    "debian_trixie": "trixie",
    "debian-13": "trixie",
}
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
CUSTOMIZE = Path(__file__).parent / "image" / "customize.sh"


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A Debian system to build once and keep: ``name`` is its place in the cache, ``what`` for messages.

    ``prepare`` is a script run on the new tree (its argument): ``early`` before the packages that are not
    essential are installed, and again when all are.
    """

    name: str
    what: str
    suite: str
    packages: tuple[str, ...]
    prepare: Path
    early: bool = False


@dataclass(frozen=True)
class Source:
    """One line of apt's sources: where from, which suites."""

    uri: str
    suites: tuple[str, ...]


def suite(image: str) -> str:
    """Debian's code name of a cloud's image label. Raises EffectError for one that has no stand-in."""
    try:
        return SUITES[image.rpartition("/")[2]]
    except KeyError:
        known = ", ".join(sorted(SUITES))
        raise EffectError(f"the sandbox has no image {image!r}; it has {known}") from None


def base(suite: str, log: Callable[[str], None]) -> Path:
    """Directory of the base image of a Debian suite, built when it is not in the cache (about 30 s)."""
    what = f"base image of Debian {suite}"
    return ready(Tree(name=suite, what=what, suite=suite, packages=PACKAGES, prepare=CUSTOMIZE), log)


def ready(tree: Tree, log: Callable[[str], None]) -> Path:
    """Directory of a tree, built when it is not in the cache; several commands build it once."""
    sources = _render(machine_sources(), tree.suite)
    text = "\n".join([tree.suite, *tree.packages, sources, tree.prepare.read_text()])
    images = paths.cache() / "images"
    images.mkdir(parents=True, exist_ok=True)
    place = images / f"{tree.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if place.exists():
        return place
    waiting = f"another command is building the {tree.what}; waiting for it"
    with process.lock(images / f"{place.name}.lock", lambda: log(waiting)):
        if not place.exists():
            _build(tree, sources, place, log)
    return place


def machine_sources(etc: Path = Path("/etc/apt"), release: Path = Path("/etc/os-release")) -> list[Source]:
    """Debian's archive as this machine reaches it: its own entries for its own release."""
    match = re.search(r"^VERSION_CODENAME=\"?(\w+)", release.read_text() if release.exists() else "", re.M)
    codename = match.group(1) if match else ""
    wanted = {codename: "{}", f"{codename}-updates": "{}-updates", f"{codename}-security": "{}-security"}
    found: dict[str, list[str]] = {}
    for uri, suites in _entries(etc):
        mine = [wanted[name] for name in suites if name in wanted]
        parts = urlsplit(_first(uri))
        if mine and parts.hostname and "debian" in parts.path:
            # Credentials of the machine stay with the machine: hosts ask the sandbox's own mirror.
            port = f":{parts.port}" if parts.port else ""
            found.setdefault(f"{parts.scheme}://{parts.hostname}{port}{parts.path}", []).extend(mine)
    if not any("{}" in suites for suites in found.values()):
        raise SandboxError(
            "this machine's apt sources name no Debian archive, so no base image can be built;"
            " run the sandbox on Debian (a virtual machine or a dev container will do)"
        )
    return [Source(uri, tuple(dict.fromkeys(suites))) for uri, suites in found.items()]


def _first(uri: str) -> str:
    """What a list of mirrors, as Debian's cloud images have it, tries first; any other URI as it is."""
    if not uri.startswith("mirror+file:"):
        return uri
    path = Path(uri.removeprefix("mirror+file:").replace("//", "/", 1))
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.split()[0] for line in lines if line.strip() and not line.startswith("#")), uri)


def _entries(etc: Path) -> Iterator[tuple[str, list[str]]]:
    for path in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*.list"))]:
        for line in path.read_text().splitlines() if path.exists() else ():
            match = re.match(r"deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+.*\bmain\b", line)
            if match:
                yield match.group(1), [match.group(2)]
    for path in sorted((etc / "sources.list.d").glob("*.sources")):
        for paragraph in re.split(r"\n\s*\n", re.sub(r"^#.*\n?", "", path.read_text(), flags=re.M)):
            fields = {
                key.lower(): value.split()
                for key, value in re.findall(r"^(\S+):((?:.*\n?)(?:^\s.*\n?)*)", paragraph, re.M)
            }
            if "deb" in fields.get("types", []) and fields.get("enabled", ["yes"]) != ["no"]:
                for uri in fields.get("uris", []):
                    yield uri, fields.get("suites", [])


def _render(sources: list[Source], suite: str) -> str:
    return "\n".join(
        f"Types: deb\nURIs: {source.uri}\nSuites: {' '.join(name.format(suite) for name in source.suites)}\n"
        f"Components: main\nSigned-By: {KEYRING}\n"
        for source in sources
    )


def _build(tree: Tree, sources: str, place: Path, log: Callable[[str], None]) -> None:
    building = place.with_name(f"{place.name}.building")
    if building.exists():  # of a build that was killed; we hold its lock
        shutil.rmtree(building)
    building.mkdir()
    listed = building / "debian.sources"
    listed.write_text(sources)
    log(f"building the {tree.what}, about half a minute, once on this machine")
    began = time.monotonic()
    output = place.with_suffix(".log")
    command = [
        "mmdebstrap", "--variant=minbase", f"--include={','.join(tree.packages)}",
        "--aptopt=Acquire::Languages \"none\"",
        *([f"--essential-hook={tree.prepare}"] if tree.early else []),
        f"--customize-hook={tree.prepare}",
        tree.suite, str(building / "rootfs"), str(listed),
    ]  # fmt: skip
    with output.open("w") as handle:
        build = subprocess.Popen(
            # The namespace of the sandbox has no way out; packages come in through the machine's own.
            [*process.outside(), *command],
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=subprocess.STDOUT,
        )
        try:
            _follow(build, output, log)
        except BaseException:
            build.terminate()
            build.wait()
            raise
    if build.returncode:
        raise SandboxError(
            f"the {tree.what} could not be built:\n{process.tail(output)}\n  whole log: {output}"
        )
    (building / "rootfs").rename(place)
    shutil.rmtree(building)
    log(f"{tree.what} ready after {time.monotonic() - began:.0f} s")


def _follow(build: subprocess.Popen[bytes], output: Path, log: Callable[[str], None]) -> None:
    """Pass on what mmdebstrap says it does, a line a step."""
    seen = 0
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            build.wait(0.5)
        said = [line for line in output.read_text(errors="replace").splitlines() if line.startswith("I: ")]
        for line in said[seen:]:
            log(f"  {line.removeprefix('I: ')}")
        seen = len(said)
        if build.returncode is not None:
            return
