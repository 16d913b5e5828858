"""Bootstrap of one host: berth against one hand-written script over one SSH session, side by side.

Both set up the same size and image in the same sandbox, from "SSH answers" to "HTTPS serves the built page",
and end in the same configuration files and packages. The order alternates. What counts is the ratio, and what
berth adds to the package managers' own work (apt, pip, npm ci: timed inside the script).

    .venv/bin/python benchmarks/bootstrap.py [--rounds 3]     as root, on an idle machine; about 3 min a round
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import asyncssh  # noqa: E402  (the checkout must be importable first)

from components.app import static_site  # noqa: E402
from components.host import baseline  # noqa: E402
from components.host.access import user_data  # noqa: E402
from components.web import server as web  # noqa: E402
from sandbox import inventory, paths, real  # noqa: E402
from sandbox.hosts import desired as want  # noqa: E402
from sandbox.hosts import effects, net  # noqa: E402
from sandbox.inventory import Record  # noqa: E402

NAME, SIZE, LIMIT = "scell.io", "DEV1-M", 400
ADDRESS = "198.18.16.1"
CONFIGURATION = (
    "etc/nginx",
    "etc/nftables.conf",
    "etc/fail2ban/jail.d/berth.local",
    "etc/ssh/sshd_config.d/00-berth.conf",
    "etc/systemd/journald.conf.d/berth.conf",
    "etc/logrotate.d/berth",
    "etc/logrotate.d/nginx",
    "etc/apt/apt.conf.d/90berth",
    "etc/sysctl.d/60-berth.conf",
)
VARIABLES = {
    "VITE_API_URL": "https://api.scell.io/api/v1",
    "VITE_APP_NAME": "Scell.io",
    "VITE_REVERB_APP_KEY": "scell-key",
    "VITE_REVERB_HOST": "api.scell.io",
    "VITE_REVERB_PORT": "443",
    "VITE_REVERB_SCHEME": "https",
}


def watch(root: Path, address: str) -> subprocess.Popen[str]:
    """Start the probe inside the namespace of ``root``."""
    probe = [sys.executable, str(Path(__file__).with_name("probe.py")), address, NAME, str(LIMIT)]
    return subprocess.Popen(net.nsenter(paths.netns(root), probe), stdout=subprocess.PIPE, text=True)


def seconds(probe: subprocess.Popen[str]) -> float:
    """From SSH to HTTPS. Raises SystemExit when one of them never came."""
    seen = json.loads(probe.communicate(timeout=LIMIT + 10)[0])
    if None in seen.values():
        raise SystemExit(f"the host did not come up: {seen}")
    return float(seen["https"] - seen["ssh"])


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


def public_address(root: Path, up: subprocess.Popen[bytes]) -> str:
    """The address the server of this run got, as soon as it is recorded."""
    store = inventory.open_store(paths.state(root))
    try:
        while up.poll() is None:
            for row in store.all(want.SERVER):
                if net.exists(paths.netns(root)) and row.outputs.get("publicIps"):
                    return str(row.outputs["publicIps"][0]["address"])
            time.sleep(0.1)
    finally:
        store.close()
    raise SystemExit(f"sandbox up ended early; see {root}/.sandbox-benchmark.log")


def berth(root: Path) -> float:
    """One round: everything from nothing but caches."""
    up = sandbox(root, "up")
    took = seconds(watch(root, public_address(root, up)))
    if up.wait(timeout=LIMIT):
        raise SystemExit(f"sandbox up failed; see {root}/.sandbox-benchmark.log")
    return took


def configuration(root: Path) -> str:
    """The finished files of berth's host, as base64 of a tar.gz, for the script to unpack."""
    rootfs = next((paths.state(root) / "hosts").glob("*/rootfs"))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in CONFIGURATION:
            archive.add(rootfs / name, arcname=name)
    return base64.b64encode(packed.getvalue()).decode()


# ---------------------------------------------------------------- the script's side


def script(files: str) -> str:
    """floor.sh with its values in front."""
    packages = {*baseline.PACKAGES, *web.PACKAGES, *static_site.PACKAGES}
    values = {
        "PACKAGES": " ".join(sorted(packages)),
        "REPOSITORY": "https://github.com/scell-io/frontend.git",
        "RELEASE": "v1.0.0",
        "NODE_REQUIREMENTS": (ROOT / "components/app/node-20.txt").read_text(),
        "NAMES": f"{NAME} www.{NAME}",
        "FILES": files,
        **VARIABLES,
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in values.items() if name != "FILES"]
    lines.append(f"FILES={shlex.quote(values['FILES'])}")  # too long for an environment
    return "\n".join(lines) + "\n" + Path(__file__).with_name("floor.sh").read_text()


def floor(root: Path, files: str) -> tuple[float, float]:
    """One round; returns seconds in all, and of those the package managers' own."""
    world = real.prepare(root)
    login, host_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    public = [key.export_public_key().decode().strip() for key in (login, host_key)]
    key = root / "login"
    key.write_text(login.export_private_key().decode())
    key.chmod(0o600)

    def make(token: str, name: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> Record:
        row = Record(id=f"fr-par-1/{name}", token=token, name=name, inputs=inputs, outputs=outputs, real=True)
        world.inventory.put(row)  # type: ignore[attr-defined]  # the store behind the read-only protocol
        effects.EFFECTS[token].create(world, row)
        return row

    try:
        ip = make(want.IP, "ip", {"type": "routed_ipv4"}, {"address": ADDRESS})
        probe = watch(root, ADDRESS)
        inputs = {
            "type": SIZE,
            "image": "debian_bookworm",
            "name": "floor",
            "ipIds": [ip.id],
            "cloudInit": user_data({"ops": public[:1]}, host_key.export_private_key().decode(), public[1]),
        }
        outputs = {"state": "started", "publicIps": [{"id": ip.id, "address": ADDRESS}]}
        server = make(want.SERVER, "floor", inputs, outputs)
        log = _session(key, script(files))
        took = seconds(probe)
        effects.EFFECTS[want.SERVER].delete(world, server)
        return took, _package_managers(log)
    finally:
        real.reset(root)
        shutil.rmtree(paths.state(root))


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


def _package_managers(log: str) -> float:
    """apt and pip, from the script's marks; npm's share is in the build and not taken off."""
    marks = {
        words[1]: float(words[2]) for line in log.splitlines() if (words := line.split())[:1] == ["MARK"]
    }
    return marks["installed"] - marks["start"] + marks["node"] - marks["configured"]


def main() -> None:
    """Alternate the two and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    if reasons := real.capable():
        raise SystemExit("not run: " + "; ".join(reasons))
    with tempfile.TemporaryDirectory(prefix="berth-benchmark-") as name:
        root = checkout(Path(name))
        sandbox(root, "up").wait()  # warms every cache, and makes the files the script unpacks
        files = configuration(root)
        ours: list[float] = []
        theirs: list[tuple[float, float]] = []
        try:
            for number in range(rounds):
                sandbox(root, "destroy").wait()
                for turn in (0, 1) if number % 2 else (1, 0):
                    if turn:
                        ours.append(berth(root))
                    else:
                        other = Path(name) / f"floor-{number}"
                        other.mkdir()
                        theirs.append(_apart(other, files))
                print(f"round {number + 1}: berth {ours[-1]:.1f} s, script {theirs[-1][0]:.1f} s", flush=True)
        finally:
            sandbox(root, "reset").wait()
    total, packages = (statistics.median(column) for column in zip(*theirs, strict=True))
    median = statistics.median(ours)
    print(f"berth   {median:6.1f} s   ({min(ours):.1f}-{max(ours):.1f})")
    print(f"script  {total:6.1f} s   ({min(t for t, _ in theirs):.1f}-{max(t for t, _ in theirs):.1f})")
    print(f"ratio   {median / total:6.2f}     (target at most 1.15)")
    own = f"berth {median - packages:.1f} s, script {total - packages:.1f} s (target 8 s)"
    print(f"not the package managers' own work: {own}")


def _apart(root: Path, files: str) -> tuple[float, float]:
    """The script's round in a process of its own: it moves into another namespace."""
    code = "import json,sys;sys.path.insert(0,sys.argv[1]);import bootstrap as b;from pathlib import Path;"
    code += "print(json.dumps(b.floor(Path(sys.argv[2]),sys.stdin.read())))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent), str(root)],
        input=files,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    took, packages = json.loads(done.stdout.splitlines()[-1])
    return took, packages


if __name__ == "__main__":
    main()
