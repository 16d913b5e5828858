"""Block volumes: a sparse file each, and a loop device while a host has it.

What tells our loop devices from others of the machine is the file behind them: it lies in this checkout's
``.sandbox/volumes``. No other is ever touched. Inside the host a volume has a SCSI disk's names, as at the
provider: ``/dev/sdb`` and so on, and ``/dev/disk/by-id/scsi-0SCW_sbs_volume-<uuid>``.
"""

from __future__ import annotations

import string
import subprocess
import time
from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from sandbox import paths, process
from sandbox.effects.protocol import EffectError

GB = 10**9
LIMIT = 15  # volumes a server takes (documentation of Scaleway's block storage)
SYS_RESOURCE = 24  # number of the capability
BLOCKS = Path("/sys/block")
DELETED = " (deleted)"
PREFIX = "scsi-0SCW_sbs_volume-"
PLUG = Path(__file__).with_name("plug.sh")
REMEDY = "`modprobe loop`, or a machine with a kernel of its own (a virtual machine)"


@dataclass(frozen=True)
class Device:
    """A volume in a host: its name there, the kernel's number of the device, the volume's bare id."""

    name: str  # sdb
    number: str  # 7:0
    id: str

    @property
    def line(self) -> str:
        """As plug.sh reads it."""
        return f"{self.name} {self.number} {PREFIX}{self.id}\n"

    @property
    def rule(self) -> str:
        """As control groups allow and deny it."""
        return f"b {self.number} rwm"


def directory(root: Path) -> Path:
    """Where the volumes of the checkout ``root`` are kept; not created."""
    return paths.state(root) / "volumes"


def file(root: Path, id: str) -> Path:
    """The data of one volume; ``id`` is bare."""
    return directory(root) / f"{id}.img"


def make(root: Path, id: str, gigabytes: int) -> None:
    """A new, empty volume; one that is there stays as it is, and grows if it is smaller."""
    directory(root).mkdir(mode=0o700, exist_ok=True)
    path = file(root, id)
    path.touch(mode=0o600)
    grow(root, id, gigabytes)


def grow(root: Path, id: str, gigabytes: int) -> None:
    """Make it larger, seen at once by whoever has it. Raises EffectError when its data is gone."""
    path = existing(root, id)
    if path.stat().st_size < gigabytes * GB:
        with path.open("r+b") as handle:
            handle.truncate(gigabytes * GB)
    for device in _loops(root).get(id, ()):
        _losetup("--set-capacity", f"/dev/{device}")


def existing(root: Path, id: str) -> Path:
    """The file of a volume. Raises EffectError where there is none: lost, or no block volume."""
    path = file(root, id)
    if not path.exists():
        raise EffectError(f"there is no data of a block volume {id} (others are recorded only): {path}")
    return path


def remove(root: Path, id: str) -> None:
    """Its device and its data; no error when there is neither."""
    with _locked(root):
        _release(root, id)
        file(root, id).unlink(missing_ok=True)


def plugged(root: Path, ids: Collection[str], before: Collection[Device]) -> list[Device]:
    """Devices of the volumes a host is to have. A volume keeps the name it has there (``before``).

    One whose data somebody has deleted is left out: the next refresh finds it gone.
    """
    if len(ids) > LIMIT:
        raise EffectError(f"scaleway-sdk-go: quota exceeded(s): a server takes at most {LIMIT} volumes")
    kept = {device.id: device.name for device in before if device.id in ids}
    free = (f"sd{letter}" for letter in string.ascii_lowercase[1:] if f"sd{letter}" not in kept.values())
    with _locked(root):
        numbers = {id: _attach(root, id) for id in ids if file(root, id).exists()}
    return [Device(name=kept.get(id) or next(free), number=number, id=id) for id, number in numbers.items()]


def detach(root: Path, id: str) -> None:
    """Free its device; no error when it has none. Raises EffectError when something there is still in use."""
    with _locked(root):
        _release(root, id)


def release(root: Path, keep: Collection[str]) -> None:
    """Free the devices of all volumes of this checkout but these. Raises EffectError for one still in use."""
    with _locked(root):
        for id in _loops(root).keys() - set(keep):
            _release(root, id)


def capable() -> str | None:
    """Why this machine has no block devices to give, with a remedy; None when it has. Takes none."""
    done = subprocess.run(["losetup", "--find"], capture_output=True, text=True, check=False)
    return f"no loop devices here ({done.stderr.strip()}): {REMEDY}" if done.returncode else None


def resizes_mounted() -> bool:
    """Whether a host can grow a file system it has mounted: for that the kernel wants CAP_SYS_RESOURCE.

    Root does not have it everywhere (in a container, for one), and a host has no more than its machine.
    """
    status = Path("/proc/self/status").read_text()
    powers = int(status.partition("CapBnd:")[2].split()[0], 16)
    return bool(powers & 1 << SYS_RESOURCE)


def _attach(root: Path, id: str) -> str:
    path = existing(root, id)
    have = _loops(root).get(id)
    name = have[0] if have else _losetup("--find", "--show", str(path)).strip().removeprefix("/dev/")
    return (BLOCKS / name / "dev").read_text().strip()


def _release(root: Path, id: str) -> None:
    for device in _loops(root).get(id, ()):
        _losetup("--detach", f"/dev/{device}")
    # A device that somebody has mounted is freed by the kernel at the end of that.
    deadline = time.monotonic() + 5
    while id in _loops(root):
        if time.monotonic() > deadline:
            raise EffectError(
                f"block volume {id} is still in use: something on the host it was on holds files open there; "
                "end that (`fuser -vm /dev/sdX`), unmount, and try again"
            )
        time.sleep(0.05)


def _loops(root: Path) -> dict[str, list[str]]:
    """Names of our loop devices by volume."""
    found: dict[str, list[str]] = {}
    for entry in BLOCKS.glob("loop*/loop/backing_file"):
        try:
            path = Path(entry.read_text().rstrip("\n").removesuffix(DELETED))
        except OSError:  # freed meanwhile
            continue
        if path.parent == directory(root) and path.suffix == ".img":
            found.setdefault(path.stem, []).append(entry.parents[1].name)
    return found


def _losetup(*words: str) -> str:
    done = subprocess.run(["losetup", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise EffectError(f"block volumes: {done.stderr.strip()}; {REMEDY}")
    return done.stdout


def _locked(root: Path) -> AbstractContextManager[None]:
    # Not beside the data: a checkout somebody has deleted may have devices yet.
    paths.runtime(root).mkdir(mode=0o700, parents=True, exist_ok=True)
    return process.lock(paths.runtime(root) / "volumes.lock")
