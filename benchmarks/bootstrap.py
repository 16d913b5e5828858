"""Bootstrap of Scell.io's host: berth against one hand-written script over one SSH session, side by side.

Both set up the same size and image in the same sandbox, before the same managed services, from "SSH answers"
to "HTTPS serves the built page and the API says that it is well", and end in the same configuration files and
packages. berth's side replaces the server of a stack that stands; while the script runs, that one is frozen.
The order alternates. What counts is the ratio, and what berth adds to the package managers' own work (apt,
pip, composer: timed inside the script; npm ci is in the build and not taken off).

    .venv/bin/python benchmarks/bootstrap.py [--rounds 3]     as root, on an idle machine; about 3 min a round
"""

from __future__ import annotations

import argparse
import base64
import io
import itertools
import json
import os
import shlex
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import asyncssh  # noqa: E402  (the checkout must be importable first)
import yaml  # noqa: E402

from components.app import laravel, static_site  # noqa: E402
from components.host import baseline  # noqa: E402
from components.host.access import user_data  # noqa: E402
from components.web import server as web  # noqa: E402
from sandbox import inventory, paths, real  # noqa: E402
from sandbox.hosts import desired as want  # noqa: E402
from sandbox.hosts import effects, instance, net  # noqa: E402
from sandbox.inventory import Record  # noqa: E402

LIMIT = 600  # seconds a round may take
ADDRESS, PRIVATE = (
    "198.18.31.250",
    "250",
)  # of the script's host; the latter is the end of its private address
APP = "scell-api"
CONFIGURATION = (
    "etc/nginx",
    "etc/nftables.conf",
    "etc/fail2ban/jail.d/berth.local",
    "etc/ssh/sshd_config.d/00-berth.conf",
    "etc/systemd/journald.conf.d/berth.conf",
    "etc/logrotate.d",
    "etc/apt/apt.conf.d/90berth",
    "etc/sysctl.d/60-berth.conf",
)
# Of the API's; what a host does not have is left out.
API_CONFIGURATION = (
    "etc/berth/ca",
    "etc/berth/php",
    f"etc/systemd/system/{APP}-php@.service",
    f"etc/systemd/system/berth-schedule-{APP}.service",
    f"etc/systemd/system/berth-schedule-{APP}.timer",
    "etc/systemd/system/supervisor.service.d/berth.conf",
    "etc/systemd/system/berth-postgresql-client.service",
    "etc/systemd/system/berth-postgresql-client.timer",
    "usr/local/sbin/berth-postgresql-client",
    "usr/local/sbin/berth-schedule",
    f"etc/tmpfiles.d/berth-{APP}.conf",
    f"etc/supervisor/conf.d/{APP}-horizon.conf",
    "etc/php/8.2/cli/conf.d/99-berth.ini",
)


# ---------------------------------------------------------------- what both sides share


def settings(root: Path) -> dict[str, Any]:
    """Scell.io's part of the stack file."""
    found: dict[str, Any] = yaml.safe_load((root / "Pulumi.sandbox.yaml").read_text())["config"]
    scell: dict[str, Any] = found["berth:systems"]["scell"]
    return scell


def watch(root: Path, address: str) -> subprocess.Popen[str]:
    """Start the probe inside the namespace of ``root``."""
    scell = settings(root)
    api = scell["backend"]["name"] if scell.get("backend") else "-"
    probe = [sys.executable, str(Path(__file__).with_name("probe.py"))]
    probe += [address, scell["site"]["name"], api, str(LIMIT)]
    return subprocess.Popen(net.nsenter(paths.netns(root), probe), stdout=subprocess.PIPE, text=True)


def seconds(probe: subprocess.Popen[str]) -> float:
    """From SSH to the last of what is awaited. Raises SystemExit when one of them never came."""
    seen = json.loads(probe.communicate(timeout=LIMIT * 3)[0])
    if None in seen.values():
        raise SystemExit(f"the host did not come up: {seen}")
    return float(max(seen.values()) - seen["ssh"])


@contextmanager
def rows(root: Path) -> Iterator[inventory.Store]:
    """The inventory of the measured checkout."""
    with closing(inventory.open_store(paths.state(root))) as store:
        yield store


# ---------------------------------------------------------------- berth's side


def checkout(directory: Path) -> Path:
    """A clone of what is committed here, so that the measured state is its own."""
    root = directory / "checkout"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(root)], check=True)
    (root / ".venv").symlink_to(ROOT / ".venv")
    bootstrap = [sys.executable, "toolchain/bootstrap.py", "pulumi"]
    subprocess.run(bootstrap, cwd=root, check=True, stdout=subprocess.DEVNULL)
    return root


def sandbox(root: Path, *words: str) -> subprocess.Popen[bytes]:
    """One command of the clone's sandbox, its output in a file."""
    log = (root / ".sandbox-benchmark.log").open("ab")
    command = [str(root / ".venv/bin/python"), "-m", "sandbox", *words]
    return subprocess.Popen(command, cwd=root, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def finish(root: Path, command: subprocess.Popen[bytes]) -> None:
    """Wait for it. Raises SystemExit with the end of the log when it failed."""
    if command.wait(timeout=LIMIT):
        log = (root / ".sandbox-benchmark.log").read_text(errors="replace")
        raise SystemExit(f"{log[-4000:]}\n{command.args!r} failed")


def berth(root: Path) -> tuple[float, float]:
    """One round: the server of the stack is replaced, and set up as any new one; seconds, processor's."""
    with rows(root) as store:
        (old,) = store.all(want.SERVER)
        replace = ["pulumi", "up", "--yes", "--skip-preview", "--replace", old.urn]
        up = sandbox(root, "exec", "--", *replace)
        new: list[Record] = []
        while up.poll() is None and not new:
            time.sleep(0.1)
            # The old one goes first: they cannot both have the reserved address.
            new = [row for row in store.all(want.SERVER) if row.id != old.id]
    if not new:
        finish(root, up)
        raise SystemExit("the server was not replaced")
    took = seconds(watch(root, str(new[0].outputs["publicIps"][0]["address"])))
    finish(root, up)
    return took, processor(root, new[0].id)


def processor(root: Path, id: str) -> float:
    """Seconds of processor time a host has used since it was made: other work hardly changes them."""
    name = f"lxc.payload.{instance.Place(root, want.key(id)).name}"
    for path, _, files in os.walk(instance.CGROUPS):
        if not path.endswith(name):
            continue
        if "cpuacct.usage" in files:
            return int((Path(path) / "cpuacct.usage").read_text()) / 1e9
        if "cpu.stat" in files:
            found = dict(line.split() for line in (Path(path) / "cpu.stat").read_text().splitlines())
            if "usage_usec" in found:
                return int(found["usage_usec"]) / 1e6
    return 0.0


def configuration(root: Path) -> tuple[str, Mapping[str, str]]:
    """The finished files of berth's host, as base64 of a tar.gz, and what the script is told besides."""
    rootfs = next((paths.state(root) / "hosts").glob("*/rootfs"))
    names = list(CONFIGURATION)
    variables: dict[str, str] = {}
    if settings(root).get("backend"):
        id = (rootfs / f"srv/{APP}/current").readlink().name
        release = f"srv/{APP}/releases/{id}"
        names += [*API_CONFIGURATION, f"{release}/.env", f"{release}/storage/certs"]
        variables = {"API": APP, "API_ID": id}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in names:
            if name in CONFIGURATION or (rootfs / name).exists():
                archive.add(rootfs / name, arcname=name)
    return base64.b64encode(packed.getvalue()).decode(), variables


# ---------------------------------------------------------------- the script's side


def script(root: Path, files: str, variables: Mapping[str, str]) -> str:
    """floor.sh with its values in front."""
    scell = settings(root)
    packages = {*baseline.PACKAGES, *web.PACKAGES, *static_site.PACKAGES}
    node = (ROOT / f"components/app/node-{scell['frontend']['node']}.txt").read_text()
    names = [scell["site"]["name"], *scell["site"].get("aliases", ())]
    values = {
        "REPOSITORY": scell["frontend"]["repository"],
        "RELEASE": scell["frontend"]["release"],
        "NODE_REQUIREMENTS": node,
        **{name: str(value) for name, value in scell["frontend"]["variables"].items()},
        **variables,
    }
    if variables:
        packages |= {*laravel.PACKAGES}
        backend = scell["backend"]
        names.append(backend["name"])
        values["API_NAME"] = backend["name"]
        values["API_REPOSITORY"], values["API_RELEASE"] = backend["repository"], backend["release"]
        values |= database(root)
    values |= {"PACKAGES": " ".join(sorted(packages)), "NAMES": " ".join(names)}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
    lines.append(f"FILES={shlex.quote(files)}")  # too long for an environment
    return "\n".join(lines) + "\n" + Path(__file__).with_name("floor.sh").read_text()


def database(root: Path) -> dict[str, str]:
    """How the administrator reaches PostgreSQL, and who owns which database."""
    with rows(root) as store:
        (row,) = store.all(want.POSTGRES)
        owned = {
            str(one.inputs["databaseName"]): str(one.inputs["userName"])
            for one in store.all("scaleway:databases/privilege:Privilege")
            if one.inputs["userName"] != row.inputs["userName"]
        }
    network = row.outputs["privateNetwork"]
    return {
        "PGHOST": str(network["ip"]),
        "PGPORT": str(int(network.get("port") or 5432)),
        "PGUSER": str(row.inputs["userName"]),
        "PGPASSWORD": str(row.inputs["password"]),
        "DATABASES": " ".join(f"{name}:{owner}" for name, owner in sorted(owned.items())),
    }


def floor(root: Path, files: str, variables: Mapping[str, str]) -> tuple[float, float, float, str]:
    """One round on a host beside berth's: seconds, of processor, the package managers', and the parts."""
    world = real.prepare(root)
    store = inventory.open_store(paths.state(root))
    login, host_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    public = [key.export_public_key().decode().strip() for key in (login, host_key)]
    key = root / ".sandbox" / "benchmark-login"
    key.unlink(missing_ok=True)
    key.touch(mode=0o600)
    key.write_text(login.export_private_key().decode())
    (mine,) = store.all(want.SERVER)
    (network,) = store.all(want.NETWORK)
    place = instance.Place(root, want.key(mine.id))
    made: list[Record] = []

    def make(token: str, name: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> Record:
        row = Record(id=f"fr-par-1/{name}", token=token, name=name, inputs=inputs, outputs=outputs, real=True)
        store.put(row)
        made.append(row)
        effects.EFFECTS[token].create(world, row)
        return row

    def freeze(*, frozen: bool) -> None:
        word = "lxc-freeze" if frozen else "lxc-unfreeze"
        subprocess.run([word, "-P", str(place.parent), "-n", place.name], check=True)

    try:
        ip = make(want.IP, "benchmark-ip", {"type": "routed_ipv4"}, {"address": ADDRESS})
        freeze(frozen=True)
        probe = watch(root, ADDRESS)
        inputs = {
            **{name: mine.inputs[name] for name in ("type", "image", "securityGroupId")},
            "name": "floor",
            "ipIds": [ip.id],
            "cloudInit": user_data({"ops": public[:1]}, host_key.export_private_key().decode(), public[1]),
        }
        outputs = {"state": "started", "publicIps": [{"id": ip.id, "address": ADDRESS}]}
        server = make(want.SERVER, "benchmark", inputs, outputs)
        subnet = str(network.outputs["ipv4Subnet"]["subnet"]).partition("/")[0].rpartition(".")[0]
        nic = {"serverId": server.id, "privateNetworkId": network.id}
        make(want.NIC, "benchmark-nic", nic, {"privateIps": [{"address": f"{subnet}.{PRIVATE}"}]})
        log = _session(key, script(root, files, variables))
        took = seconds(probe)
        return took, processor(root, server.id), *_package_managers(log)
    finally:
        freeze(frozen=False)
        for row in reversed(made):
            store.put(Record(**{**vars(row), "state": "deleting"}))
            effects.EFFECTS[row.token].delete(world, row)
            store.remove(row.token, row.id)
        store.close()
        key.unlink()


def _session(key: Path, text: str) -> str:
    options = ["-i", str(key), "-b", "198.18.1.10", "-oBatchMode=yes", "-oStrictHostKeyChecking=no"]
    options += ["-oUserKnownHostsFile=/dev/null", "-oLogLevel=ERROR", "-oConnectTimeout=2"]
    remote = ["ssh", *options, f"ops@{ADDRESS}", "sudo -n bash -s"]
    for _ in range(100):
        done = subprocess.run(remote, input=text, capture_output=True, text=True, check=False, timeout=LIMIT)
        if done.returncode != 255:
            break
        time.sleep(0.1)
    if done.returncode:
        raise SystemExit(f"the script failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def _package_managers(log: str) -> tuple[float, str]:
    """apt, pip and composer, from the script's marks; and how long each part took."""
    marks = {
        words[1]: float(words[2]) for line in log.splitlines() if (words := line.split())[:1] == ["MARK"]
    }
    names = list(marks)
    took = {name: marks[name] - marks[before] for before, name in itertools.pairwise(names)}
    own = sum(took.get(name, 0.0) for name in ("updated", "installed", "node", "client", "composer"))
    return own, ", ".join(f"{name} {time:.1f}" for name, time in took.items())


# ---------------------------------------------------------------- both


def main() -> None:
    """Alternate the two and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    if reasons := real.capable():
        raise SystemExit("not run: " + "; ".join(reasons))
    with tempfile.TemporaryDirectory(prefix="berth-benchmark-") as name:
        root = checkout(Path(name))
        ours: list[tuple[float, float]] = []
        theirs: list[tuple[float, float, float]] = []
        try:
            finish(root, sandbox(root, "up"))  # warms every cache, and makes the files the script unpacks
            for number in range(rounds):
                for turn in (0, 1) if number % 2 else (1, 0):
                    if turn:
                        ours.append(berth(root))
                    else:
                        *figures, parts = _apart(root)
                        theirs.append((figures[0], figures[1], figures[2]))
                print(
                    f"round {number + 1}: berth {_figures(ours[-1])}, script {_figures(theirs[-1])}: {parts}",
                    flush=True,
                )
        finally:
            sandbox(root, "reset").wait()
    total, busy, packages = (statistics.median(column) for column in zip(*theirs, strict=True))
    median, work = (statistics.median(column) for column in zip(*ours, strict=True))
    print(f"berth   {median:6.1f} s   ({min(t for t, _ in ours):.1f}-{max(t for t, _ in ours):.1f})")
    print(f"script  {total:6.1f} s   ({min(t for t, *_ in theirs):.1f}-{max(t for t, *_ in theirs):.1f})")
    print(f"ratio   {median / total:6.2f}     (target at most 1.15)")
    print(f"processor time of the host: berth {work:.1f} s, script {busy:.1f} s, ratio {work / busy:.2f}")
    own = f"berth {median - packages:.1f} s, script {total - packages:.1f} s"
    print(f"not the package managers' own work: {own}")


def _figures(found: Sequence[float]) -> str:
    return f"{found[0]:.1f} s (processor {found[1]:.1f} s)"


def _apart(root: Path) -> tuple[float, float, float, str]:
    """The script's round in a process of its own: it moves into another namespace."""
    code = "import json,sys;sys.path.insert(0,sys.argv[1]);import bootstrap as b;from pathlib import Path;"
    code += "r=Path(sys.argv[2]);print(json.dumps(b.floor(r,*b.configuration(r))))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent), str(root)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "BERTH_ROOT": str(root)},
    )
    took, busy, packages, parts = json.loads(done.stdout.splitlines()[-1])
    return took, busy, packages, parts


if __name__ == "__main__":
    main()
