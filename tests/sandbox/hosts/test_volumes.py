"""Block volumes on real hosts, in a world of their own. Tests of this file build on each other in order."""

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import pytest

from sandbox import paths, process, real
from sandbox.effects.protocol import EffectError
from sandbox.hosts import desired as want
from sandbox.hosts import effects, instance, net, volumes
from tests.sandbox.hosts.test_hosts import CLOUD_INIT, WHY_NOT, A, B, Cloud, host_processes, wait

NO_LOOP = "" if WHY_NOT else volumes.capable()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(WHY_NOT), reason=f"this machine runs no hosts: {'; '.join(WHY_NOT)}"),
    pytest.mark.skipif(bool(NO_LOOP), reason=f"block volumes: {NO_LOOP}"),
    pytest.mark.xdist_group("hosts"),
]
FIRST, SECOND = "fr-par-1/vol-1", "fr-par-1/vol-2"
BY_ID = "/dev/disk/by-id/scsi-0SCW_sbs_volume-vol-{}"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkout")
    others = loops(anybody=True)
    cloud = Cloud(root)
    try:
        for name, address in (("ip-a", A), ("ip-b", B)):
            cloud.create(want.IP, name, {}, {"address": address})
        cloud.create(want.VOLUME, "vol-1", {"iops": 5000, "sizeInGb": 1})
        cloud.create(want.VOLUME, "vol-2", {"iops": 5000, "sizeInGb": 2})
        yield cloud
    finally:
        real.reset(root)
        net.leave()
    assert loops(anybody=True) == others
    assert not volumes.directory(root).exists()


def server(cloud, name, ip, *ids):
    inputs = {
        "type": "DEV1-S",
        "image": "debian_bookworm",
        "name": name,
        "ipIds": [f"fr-par-1/{ip}"],
        "cloudInit": CLOUD_INIT,
        "additionalVolumeIds": list(ids),
    }
    return cloud.create(want.SERVER, name, inputs, {"state": "started"})


def loops(root=None, anybody=False):
    """Files behind the machine's loop devices."""
    prefix = "/" if anybody else f"{volumes.directory(root)}/"
    files = [path.read_text().strip() for path in volumes.BLOCKS.glob("loop*/loop/backing_file")]
    return sorted(file for file in files if file.startswith(prefix))


def test_a_volume_is_a_disk_with_the_provider_s_names(cloud):
    assert loops(cloud.root) == []  # nobody has it yet
    server(cloud, "a", "ip-a", FIRST)
    assert cloud.run("sudo blockdev --getsize64 /dev/sdb") == str(10**9)
    assert cloud.run(f"readlink -f {BY_ID.format(1)}") == "/dev/sdb"
    assert cloud.run("stat -c '%A %U:%G' /dev/sdb") == "brw-rw---- root:disk"
    used = volumes.file(cloud.root, "vol-1").stat()
    assert (used.st_blocks * 512, used.st_mode & 0o777) == (0, 0o600)  # sparse
    cloud.run(
        f"sudo mkfs.ext4 -q {BY_ID.format(1)} && sudo mkdir /data && sudo mount /dev/sdb /data"
        " && echo kept | sudo tee /data/file"
    )
    assert cloud.run("df --output=source /data").split()[-1] == "/dev/sdb"


def test_a_host_reaches_its_own_volumes_and_no_other_device(cloud):
    """Root in a host may make device nodes; the kernel lets it open only what is its own."""
    other = subprocess.run(["losetup", "--find"], capture_output=True, text=True, check=True).stdout.strip()
    number = Path(other).stat().st_rdev
    with pytest.raises(EffectError, match="Operation not permitted"):
        cloud.run(f"sudo mknod /tmp/other b {os.major(number)} {os.minor(number)}; sudo head -c1 /tmp/other")


def test_it_grows_under_a_running_host(cloud):
    cloud.update(want.VOLUME, "vol-1", sizeInGb=3)
    assert cloud.run("sudo blockdev --getsize64 /dev/sdb") == str(3 * 10**9)
    if volumes.resizes_mounted():
        cloud.run("sudo resize2fs /dev/sdb")
    else:
        cloud.run("sudo umount /data && sudo e2fsck -fp /dev/sdb && sudo resize2fs /dev/sdb")
        cloud.run("sudo mount /dev/sdb /data")
    assert int(cloud.run("df --output=size -B1 /data").split()[-1]) > 2.7e9
    assert cloud.run("cat /data/file") == "kept"


def test_it_does_not_shrink(cloud):
    with pytest.raises(EffectError, match="cannot be made smaller"):
        cloud.update(want.VOLUME, "vol-1", sizeInGb=2)
    cloud.inventory.put(cloud.inventory.held(want.VOLUME, FIRST))
    cloud.update(want.VOLUME, "vol-1", sizeInGb=3)
    assert volumes.file(cloud.root, "vol-1").stat().st_size == 3 * 10**9


def test_a_second_one_is_plugged_into_a_running_host_and_pulled_out(cloud):
    born = cloud.run("stat -c %Y /proc/1")
    cloud.update(want.SERVER, "a", additionalVolumeIds=[SECOND, FIRST])
    assert cloud.run(f"readlink -f {BY_ID.format(1)} {BY_ID.format(2)}").split() == ["/dev/sdb", "/dev/sdc"]
    cloud.run("sudo mkfs.ext4 -q /dev/sdc && sudo mkdir /more && sudo mount /dev/sdc /more")
    # With a service in a mount namespace of its own, which has copies of the mounts.
    cloud.run("sudo systemd-run -q --unit=own -p PrivateTmp=yes sleep 600; sudo umount /more")
    cloud.run("sudo mount /dev/sdc /more")
    cloud.update(want.SERVER, "a", additionalVolumeIds=[FIRST])  # mounted as it is
    assert cloud.run("ls /dev/sd* /dev/disk/by-id").split() == ["/dev/sdb", "/dev/disk/by-id:", *by_id(1)]
    assert cloud.run("findmnt -n /more; cat /data/file") == "kept"
    assert loops(cloud.root) == [str(volumes.file(cloud.root, "vol-1"))]
    assert cloud.run("stat -c %Y /proc/1") == born


def by_id(*numbers):
    return [BY_ID.format(number).rpartition("/")[2] for number in numbers]


def test_what_still_holds_it_is_said(cloud):
    cloud.update(want.SERVER, "a", additionalVolumeIds=[FIRST, SECOND])
    cloud.run("sudo mount /dev/sdc /more; sudo systemd-run -q --unit=hold tail -f /dev/null --retry")
    cloud.run("sudo systemd-run -q --unit=keep --working-directory=/more sleep 600")
    with pytest.raises(EffectError, match=r"vol-2 is still in use.*fuser"):
        cloud.update(want.SERVER, "a", additionalVolumeIds=[FIRST])
    cloud.run("sudo systemctl stop keep hold")
    cloud.update(want.SERVER, "a", additionalVolumeIds=[FIRST])
    assert loops(cloud.root) == [str(volumes.file(cloud.root, "vol-1"))]


def test_a_reboot_from_inside_keeps_what_was_plugged_in_while_it_ran(cloud):
    cloud.update(want.SERVER, "a", additionalVolumeIds=[FIRST, SECOND])
    before = cloud.run("stat -c %Y /proc/1")
    with contextlib.suppress(EffectError):
        cloud.run("sudo systemctl reboot")
    wait(lambda: cloud.run("stat -c %Y /proc/1") != before)
    assert cloud.run(f"sudo mount {BY_ID.format(1)} /data; cat /data/file") == "kept"
    assert cloud.run("sudo blockdev --getsize64 /dev/sdc") == str(2 * 10**9)


def test_a_mount_unit_brings_it_back_at_boot(cloud):
    unit = f"[Mount]\nWhat={BY_ID.format(1)}\nWhere=/data\nType=ext4\n[Install]\nWantedBy=local-fs.target\n"
    cloud.run("sudo tee /etc/systemd/system/data.mount; sudo systemctl enable data.mount", stdin=unit)
    before = cloud.run("stat -c %Y /proc/1")
    with contextlib.suppress(EffectError):
        cloud.run("sudo systemctl reboot")
    wait(lambda: cloud.run("stat -c %Y /proc/1") != before)
    assert cloud.run("cat /data/file") == "kept"


def test_after_a_machine_s_restart_the_next_command_has_it_back(cloud):
    for pid in host_processes(cloud, "a"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait(lambda: instance.state(cloud.place("a")) == "stopped")
    volumes.release(cloud.root, keep=())
    stranger = cloud.root / "stranger.img"  # takes the number that was ours
    with stranger.open("wb") as handle:
        handle.truncate(10**6)
    taken = subprocess.run(
        ["losetup", "--find", "--show", stranger], capture_output=True, text=True, check=True
    ).stdout.strip()
    try:
        real.prepare(cloud.root)
        assert cloud.run("cat /data/file") == "kept"
        assert str(stranger) in loops(anybody=True)  # not ours, not touched
    finally:
        subprocess.run(["losetup", "--detach", taken], check=True)


def test_it_survives_its_server_and_moves_to_another(cloud):
    cloud.delete(want.SERVER, "a")
    assert loops(cloud.root) == []
    server(cloud, "b", "ip-b", SECOND, FIRST)
    cloud.run(f"sudo mkdir /data && sudo mount {BY_ID.format(1)} /data", host=B)
    assert cloud.run("cat /data/file", host=B) == "kept"


def test_what_is_no_block_volume_or_has_a_source_is_refused_in_words(cloud):
    with pytest.raises(EffectError, match="no data of a block volume local"):
        cloud.update(want.SERVER, "b", additionalVolumeIds=["fr-par-1/local"])
    cloud.update(want.SERVER, "b", additionalVolumeIds=[SECOND, FIRST])
    with pytest.raises(EffectError, match="empty block volumes only, not from snapshotId"):
        cloud.create(want.VOLUME, "vol-3", {"iops": 5000, "snapshotId": "fr-par-1/snap"})
    cloud.inventory.remove(want.VOLUME, "fr-par-1/vol-3")


def test_a_deleted_volume_leaves_nothing_and_a_lost_one_is_drift(cloud):
    cloud.update(want.SERVER, "b", additionalVolumeIds=[SECOND])
    cloud.delete(want.VOLUME, "vol-1")
    assert not volumes.file(cloud.root, "vol-1").exists()
    volume = volumes.file(cloud.root, "vol-2")
    volume.rename(volume.with_name("aside"))
    effect = effects.EFFECTS[want.VOLUME]
    assert effect.read(cloud.world, cloud.row(want.VOLUME, SECOND)) is None
    real.prepare(cloud.root)  # goes on without it
    assert cloud.run("ls /dev/sd* 2>/dev/null || true", host=B) == ""
    volume.with_name("aside").rename(volume)
    real.prepare(cloud.root)
    assert cloud.run("ls /dev/sd*", host=B) == "/dev/sdb"


def test_a_machine_without_loop_devices_is_told_and_nothing_else_fails(cloud, monkeypatch):
    cloud.update(want.SERVER, "b", additionalVolumeIds=[])
    (cloud.root / "bin").mkdir()
    lacking = cloud.root / "bin/losetup"
    lacking.write_text("#!/bin/sh\necho 'losetup: cannot find an unused loop device' >&2; exit 1\n")
    lacking.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{lacking.parent}:{os.environ['PATH']}")
        assert "cannot find an unused loop device): `modprobe loop`" in str(volumes.capable())
        with pytest.raises(EffectError, match="cannot find an unused loop device; `modprobe loop`"):
            cloud.update(want.SERVER, "b", additionalVolumeIds=[SECOND])
        cloud.update(want.SERVER, "b", additionalVolumeIds=[])
        assert real.capable() == []
        assert cloud.run("hostname", host=B) == "b"
    cloud.update(want.SERVER, "b", additionalVolumeIds=[SECOND])


def test_what_a_deleted_checkout_left_is_freed_by_reset(cloud):
    assert loops(cloud.root) != []
    subprocess.run(["rm", "-rf", str(volumes.directory(cloud.root))], check=True)
    real.reset(cloud.root)
    assert loops(cloud.root) == []
    assert process.outside()
    assert not paths.runtime(cloud.root).exists()
