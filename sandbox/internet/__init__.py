"""The small internet of a checkout: names, Let's Encrypt, Git hosts, mirrors, and a wall around all of it.

Everything here runs in the checkout's network namespace, which the caller has entered; only the way out to
the package registries runs in the machine's own. Servers are standard ones, started when missing and left
running.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sandbox import process
from sandbox.effects.protocol import World
from sandbox.errors import SandboxError
from sandbox.internet import acme, certs, gateway, git, names, out, registries
from sandbox.internet.layout import GATEWAY, Layout
from sandbox.internet.render import write

# Program -> Debian package of it.
TOOLS = {
    "curl": "curl",
    "fcgiwrap": "fcgiwrap",
    "git": "git",
    "nginx": "nginx libnginx-mod-stream",
    "pdns_server": "pdns-server pdns-backend-sqlite3",
    "pebble": "pebble",
}


def ensure(root: Path, world: World) -> None:
    """Have the internet of the checkout ``root`` up and saying what ``world``'s inventory says.

    Starts what is missing or was killed, reloads what changed, leaves the rest alone. The calling thread is
    in the checkout's network namespace, which has the addresses of :mod:`sandbox.internet.layout`.
    Raises SandboxError with the log of a server that does not come up.
    """
    layout = Layout(root)
    if process.born_in(layout.namespace):
        raise SandboxError("this command was itself started inside the sandbox; run it from outside")
    with process.lock(layout.run / "lock"):
        certs.bundle(root)
        found = registries.known(layout)
        out.wall()
        names.render(layout, lambda: world.inventory)
        git.publish(layout)
        for service in (names.service(layout), out.service(layout, found), git.service(layout)):
            process.ensure(service, layout.run, layout.logs)
        pebble = process.ensure(acme.service(layout), layout.run, layout.logs)
        front = gateway.service(layout, found, acme.authority(layout, pebble))
        front_door = process.ensure(front, layout.run, layout.logs)
        if out.trim(layout):
            os.kill(front_door.pid, signal.SIGUSR1)


def stop(root: Path) -> None:
    """End every server of the checkout; what it holds on disk stays. No error when nothing runs."""
    run = Layout(root).run
    with process.lock(run / "lock"):
        for name in process.names(run):
            process.stop(name, run)


def status(root: Path) -> dict[str, Any]:
    """What runs (pid, bytes of memory, seconds up), was refused, certificates issued, notes for the user."""
    layout = Layout(root)
    running = [record for name in process.names(layout.run) if (record := process.running(name, layout.run))]
    since = time.clock_gettime(time.CLOCK_BOOTTIME)
    ticks = os.sysconf("SC_CLK_TCK")
    return {
        "services": [
            {
                "name": record.name,
                "pid": record.pid,
                "memory": process.memory(record),
                "seconds": round(since - record.start / ticks),
            }
            for record in running
        ],
        "refused": [asdict(refusal) for refusal in out.refused(layout)],
        "certificates": [asdict(issued) for issued in acme.issued(layout)],
        "notes": registries.known(layout).notes if running else [],
    }


def environment(root: Path) -> dict[str, str]:
    """Variables that make the usual programs trust registries and stand-ins alike."""
    bundle = str(certs.bundle(root))
    names = (
        "SSL_CERT_FILE CURL_CA_BUNDLE REQUESTS_CA_BUNDLE GIT_SSL_CAINFO NODE_EXTRA_CA_CERTS PIP_CERT"
        " AWS_CA_BUNDLE NIX_SSL_CERT_FILE HTTPLIB2_CA_CERTS GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"
    )
    return dict.fromkeys(names.split(), bundle)


def inside(root: Path) -> list[str]:
    """What to put before a command that is to live on the sandbox's internet, its name server included.

    Enters the checkout's network namespace and gives the command alone a mount namespace in which the name
    service asks the sandbox's name server and nothing else. Raises SandboxError when there is no sandbox.
    """
    layout = Layout(root)
    if not layout.namespace.exists():
        raise SandboxError("the sandbox runs no hosts here; `make up` starts them")
    files = {
        "resolv.conf": f"nameserver {GATEWAY}\n",
        "hosts": "127.0.0.1 localhost\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    }
    mounts = []
    for name, text in files.items():
        path = layout.state / name
        write(path, text)  # another command may be reading it
        mounts.append(f'mount --bind "{path}" "$(readlink -f /etc/{name})"')
    script = f'{" && ".join(mounts)} && exec "$@"'
    return [
        *("nsenter", f"--net={layout.namespace}", "--"),
        *("unshare", "--mount", "--propagation", "private", "--", "sh", "-c", script, "sh"),
    ]


def run(root: Path, command: list[str], **options: Any) -> subprocess.CompletedProcess[Any]:
    """``subprocess.run`` of ``command`` on the sandbox's internet; see :func:`inside`."""
    return subprocess.run([*inside(root), *command], **options)
