"""Drives the unmodified Pulumi engine against the twins: environment, locks, and what a kill left behind.

The engine keeps its state in ``.sandbox/state`` (file backend) and everything else in ``.sandbox/home``; it
never sees an account of the caller's, nor the committed stack files.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox import paths, stacks
from sandbox.errors import SandboxError
from sandbox.inventory import Record, Store, open_store, process
from sandbox.process import began, using

if TYPE_CHECKING:
    from sandbox.twins.cloud import Cloud

# Accounts and settings of the caller: a real one must not be able to reach the sandbox's engine.
FOREIGN = ("PULUMI_", "SCW_", "DIGITALOCEAN_", "SPACES_", "HCLOUD_", "HETZNER_", "AWS_", "MINIO_")
SECRET = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270"}
SHIM = Path(__file__).resolve().parent / "shim"


@dataclass(frozen=True)
class Toolchain:
    """Where pulumi is, and the directories its language host is in."""

    pulumi: Path
    path: Sequence[str]


def toolchain(root: Path) -> Toolchain:
    """What ``toolchain/bootstrap.py`` decided on. Raises SandboxError."""
    try:
        found = json.loads((paths.state(root) / "toolchain.json").read_text())
        tools = Toolchain(Path(found["pulumi"]), found["path"])
    except (OSError, ValueError, KeyError) as error:
        raise SandboxError(
            "no Pulumi has been set up for this checkout; run `make preview` or `make up`"
        ) from error
    if not os.access(tools.pulumi, os.X_OK):
        raise SandboxError(f"{tools.pulumi} is gone; run `make preview` or `make up` to set it up again")
    return tools


# ---------------------------------------------------------------- a session


class Session:
    """Twins running, engine ready: one command of the sandbox. Made by :func:`session`."""

    def __init__(self, root: Path, store: Store, cloud: Cloud, attached: str) -> None:
        self.root = root
        self.state = paths.state(root)
        self.store = store
        self.cloud = cloud
        self.tools = toolchain(root)
        self.environment = self._environment(attached)

    @property
    def real(self) -> bool:
        """Whether hosts are made real in this session."""
        return self.cloud.world is not None

    def _environment(self, attached: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
        backend = self.state / "state"
        backend.mkdir(exist_ok=True)
        venv = self.root / ".venv"
        return kept | {
            "PATH": os.pathsep.join([str(venv / "bin"), *self.tools.path, kept.get("PATH", os.defpath)]),
            "VIRTUAL_ENV": str(venv),
            "PULUMI_HOME": str(self.state / "home"),
            "PULUMI_BACKEND_URL": f"file://{backend}",
            "PULUMI_CONFIG_PASSPHRASE_FILE": str(stacks.passphrase_file(self.state)),
            # The state is written beside and renamed, so a copy after each step only costs (a quarter of it).
            "PULUMI_DIY_BACKEND_DISABLE_CHECKPOINT_BACKUPS": "true",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PULUMI_DEBUG_PROVIDERS": attached,
            # The engine and its language host are Go programs that live for seconds: a tighter heap costs
            # next to no time, and leaves the memory to the hosts.
            "GOGC": "40",
            "BERTH_PULUMI": str(self.tools.pulumi),
            "BERTH_STACKS": str(self.state / "stacks"),
        }

    def config_file(self, stack: str) -> Path:
        """The derived stack file, fresh."""
        return stacks.derive(self.root, self.state, stack)

    def ensure(self, stack: str) -> None:
        """The stack exists in the engine's state, and nothing a killed run left is in its way."""
        self.config_file(stack)
        unlock(self.state, project(self.root), stack)
        if not checkpoint(self.state, project(self.root), stack).exists():
            # In a directory of its own, so that nothing is written beside the committed files.
            home = self.state / "stacks"
            (home / "Pulumi.yaml").write_text(f"name: {project(self.root)}\nruntime: python\n")
            self.capture(["stack", "init", stack], cwd=home)

    def pulumi(self, *arguments: str) -> int:
        """Run pulumi in the checkout with this terminal; its exit code."""
        return self.run([str(self.tools.pulumi), *arguments])

    def run(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
        """Run any command in the checkout with this terminal; its exit code."""
        environment = dict(environment or self.environment)
        if shutil.which(command[0], path=environment["PATH"]) is None:
            raise SandboxError(f"{command[0]}: command not found", 127)
        leash = shutil.which("setpriv")
        if leash:  # where this process is killed, the engine is told to stop
            command = [leash, "--pdeathsig", "TERM", *command]
        # An interrupt goes to the whole foreground group: the child decides what it means. A handler, not
        # SIG_IGN, which the child would inherit: the engine stops its plugins by interrupting them.
        before = signal.signal(signal.SIGINT, lambda *_: None)
        try:
            return subprocess.Popen(command, cwd=self.root, env=environment).wait()
        finally:
            signal.signal(signal.SIGINT, before)
            end_orphans(self.state)

    def capture(self, arguments: Sequence[str], cwd: Path | None = None, given: str | None = None) -> str:
        """Run pulumi quietly; what it prints. Raises SandboxError with what it said."""
        done = subprocess.run(
            [str(self.tools.pulumi), *arguments, "--non-interactive"],
            cwd=cwd or self.root,
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SandboxError(f"pulumi {arguments[0]}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    # ------------------------------------------------------------ after a kill

    def resolve(self, stack: str, say: Callable[[str], None]) -> None:
        """Settle what a killed run left between the engine's state and the inventory.

        A create the engine does not know the end of: where the inventory has the resource, it is taken into
        the state; where it is not whole, it is removed. Updates and deletes are simply done again.
        """
        for row in self.store.abandoned():
            if row.stack == stack and (self.real or not row.real):
                say(f"{row.name}: left in the middle, {self.cloud.recover(row)}")
        file = checkpoint(self.state, project(self.root), stack)
        latest = read_checkpoint(file)
        if not latest.get("pending_operations"):
            return
        deployment = json.loads(self.capture(["stack", "export", "--stack", stack]))
        held = deployment["deployment"]
        known = {(r["urn"], r.get("id")) for r in held.get("resources", ())}
        urns = {urn for urn, _ in known}
        for operation in held.pop("pending_operations", ()):
            resource = operation["resource"]
            for row in self.store.by_urn(resource["urn"]) if operation["type"] == "creating" else ():
                if (row.urn, row.id) in known:
                    continue
                if row.urn in urns:  # the successor of one that is still there: the engine makes another
                    self.cloud.remove(row)
                    say(f"{row.name}: made by the run that was killed, removed")
                else:
                    held["resources"].append(adopted(resource, row))
                    urns.add(row.urn)
                    say(f"{row.name}: made by the run that was killed, taken over")
        self.capture(["stack", "import", "--stack", stack], given=json.dumps(deployment))


def adopted(resource: Mapping[str, Any], row: Record) -> dict[str, Any]:
    """A pending create as the state would hold it had the engine lived; secrets for the engine to encrypt."""
    secret = {*row.secrets, *resource.get("additionalSecretOutputs", ())}
    outputs = {
        name: {**SECRET, "plaintext": json.dumps(value)} if name in secret else value
        for name, value in row.outputs.items()
    }
    return {**resource, "id": row.id, "outputs": outputs}


@contextmanager
def session(root: Path, *, real: bool = False) -> Iterator[Session]:
    """Twins and engine for one command. ``real``: hosts and services run; needs root.

    With the last real resource its world goes too: networks, servers, namespaces.
    """
    from sandbox.twins.cloud import Cloud
    from sandbox.twins.log import LOG
    from sandbox.twins.server import serve

    toolchain(root)
    with using(paths.state(root)) as alone:
        world, effects = None, {}
        if real:  # before any thread is started: it moves this one into the sandbox's network
            from sandbox import real as machine

            world = machine.prepare(root)
            world.notes["log"] = LOG
            from sandbox.effects.registry import EFFECTS

            effects = EFFECTS
        store = open_store(paths.state(root))
        try:
            cloud = Cloud(store, world, effects)
            with serve(cloud, site(root)) as attached:
                yield Session(root, store, cloud, attached)
        finally:
            empty = real and not any(row.real for row in store.every())
            store.close()
            if empty and alone():  # nothing real is left, or was never made: its world goes too
                machine.reset(root)


def site(root: Path) -> Path | None:
    """Where the program's packages are."""
    return next(iter(sorted((root / ".venv" / "lib").glob("python3*/site-packages"))), None)


def end_orphans(state: Path) -> None:
    """End language hosts of this checkout whose engine was killed: they would notice only after minutes."""
    mine = f"PULUMI_HOME={state / 'home'}\0".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if b"pulumi-language" not in (entry / "cmdline").read_bytes():
                continue
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            orphan = b"pulumi" not in Path(f"/proc/{parent}/cmdline").read_bytes()
            if orphan and mine in (entry / "environ").read_bytes():
                os.kill(int(entry.name), signal.SIGTERM)
        except OSError:  # just gone, or another user's
            continue


# ---------------------------------------------------------------- the engine's files


def project(root: Path) -> str:
    """The project's name, from Pulumi.yaml."""
    import yaml

    try:
        return str(yaml.safe_load((root / "Pulumi.yaml").read_text())["name"])
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise SandboxError(f"{root / 'Pulumi.yaml'}: no project here ({error})") from error


def checkpoint(state: Path, project: str, stack: str) -> Path:
    """The file the engine keeps a stack in."""
    return state / "state" / ".pulumi" / "stacks" / project / f"{stack}.json"


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Its ``latest`` part; {} when there is none."""
    try:
        latest = json.loads(file.read_text())["checkpoint"].get("latest")
    except FileNotFoundError:
        return {}
    return latest or {}


def unlock(state: Path, project: str, stack: str) -> None:
    """Remove the stack's lock if the process that held it is dead; refuse if it lives."""
    for lock in sorted(
        (state / "state" / ".pulumi" / "locks" / "organization" / project / stack).glob("*.json")
    ):
        try:
            held = json.loads(lock.read_text())
        except (OSError, ValueError):
            continue  # just going
        if held.get("hostname") != socket.gethostname():
            raise SandboxError(
                f"stack {stack!r} is locked by {held.get('username')} on {held.get('hostname')} "
                f"since {held.get('timestamp')}; when that run is over, delete {lock}"
            )
        pid = int(held["pid"])
        if _lives(pid, held.get("timestamp", "")):
            raise SandboxError(
                f"another run is at work on stack {stack!r} (process {pid}); wait for it to end"
            )
        lock.unlink(missing_ok=True)


def _lives(pid: int, since: str) -> bool:
    """Whether the process that took a lock at ``since`` is still that process."""
    mark = process(pid)
    if not mark:
        return False
    try:
        return began(pid) <= datetime.fromisoformat(since).timestamp() + 2
    except (OSError, ValueError):
        return True
