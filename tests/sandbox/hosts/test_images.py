"""Where base images come from; no network, no root."""

import pytest

from sandbox.effects.protocol import EffectError
from sandbox.errors import SandboxError
from sandbox.hosts import images
from sandbox.hosts.images import Source


def machine(tmp_path, *, codename="bookworm", **files):
    (tmp_path / "sources.list.d").mkdir()
    for name, text in files.items():
        (tmp_path / name.replace("__", "/").replace("_", ".")).write_text(text)
    release = tmp_path / "os-release"
    release.write_text(f'NAME="Debian GNU/Linux"\nVERSION_CODENAME={codename}\n')
    return images.machine_sources(tmp_path, release)


DEB822 = """Types: deb
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/k.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
URIs: https://other.example/node
Suites: nodistro
Components: main
"""


def test_the_machine_s_own_archive_is_found_and_others_are_not(tmp_path):
    assert machine(tmp_path, sources_list__="", **{"sources.list.d__debian_sources": DEB822}) == [
        Source("http://mirror.example/debian", ("{}", "{}-updates")),
        Source("http://mirror.example/debian-security", ("{}-security",)),
    ]


def test_one_line_sources_are_read_and_credentials_stay_behind(tmp_path):
    text = (
        "deb [arch=amd64] https://me:secret@mirror.example:8443/debian trixie main contrib\n"
        "# deb http://x.example/debian trixie main\n"
    )
    found = machine(tmp_path, codename="trixie", sources_list=text)
    assert found == [Source("https://mirror.example:8443/debian", ("{}",))]


def test_a_list_of_mirrors_as_cloud_images_have_it_leads_to_its_first(tmp_path):
    mirrors = tmp_path / "debian.list"
    mirrors.write_text(
        "# nearest first\nhttps://near.example/debian priority:1\nhttps://far.example/debian\n"
    )
    for slashes in ("", "//"):
        text = DEB822.replace("http://mirror.example/debian\n", f"mirror+file:{slashes}{mirrors}\n")
        found = images.machine_sources(*_etc(tmp_path / f"etc{slashes.count('/')}", text))
        assert found[0] == Source("https://near.example/debian", ("{}", "{}-updates"))


def _etc(etc, text):
    (etc / "sources.list.d").mkdir(parents=True)
    (etc / "sources.list.d" / "debian.sources").write_text(text)
    (etc / "os-release").write_text("VERSION_CODENAME=bookworm\n")
    return etc, etc / "os-release"


def test_a_machine_without_debian_s_archive_is_told_so(tmp_path):
    with pytest.raises(SandboxError, match="no Debian archive"):
        machine(tmp_path, sources_list="deb http://mirror.example/ubuntu noble main\n", codename="noble")


def test_another_release_is_taken_from_the_same_archive():
    text = images._render([Source("http://m.example/debian", ("{}", "{}-updates"))], "trixie")
    assert "Suites: trixie trixie-updates\n" in text


def test_image_labels():
    assert images.suite("debian_bookworm") == images.suite("debian-12") == "bookworm"
    with pytest.raises(EffectError, match="ubuntu_noble"):
        images.suite("ubuntu_noble")
