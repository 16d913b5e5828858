"""What a machine can run, judged from control groups that are only files here; no root."""

import pytest

from sandbox import real
from sandbox.hosts import instance


@pytest.mark.parametrize(
    ("files", "refused"),
    [
        ({"cgroup.controllers": "cpu io memory pids"}, False),  # the kernel's root: processes do not matter
        ({"cgroup.controllers": "cpu io memory pids", "cgroup.procs": "1\n"}, False),
        ({"cgroup.controllers": "cpu memory", "cgroup.type": "domain", "cgroup.procs": ""}, False),
        ({"cgroup.controllers": "cpu memory", "cgroup.type": "domain", "cgroup.procs": "1\n"}, True),
        ({"cgroup.controllers": "io pids"}, True),
    ],
)
def test_version_2_control_groups(tmp_path, monkeypatch, files, refused):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(instance, "CGROUPS", tmp_path)
    said = real._cgroups()
    assert (said is not None) is refused
    assert not refused or "do not limit memory and processor; use a machine with a kernel" in str(said)
    assert {path.name for path in tmp_path.iterdir()} == set(files)
