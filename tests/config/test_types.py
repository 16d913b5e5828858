"""What each annotated type takes; what it refuses stands in tests/negative."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from config import types


def accepts(kind: Any, value: str) -> bool:
    try:
        assert TypeAdapter(kind).validate_python(value) == value
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (types.Fqdn, "scell.io"),
        (types.Fqdn, "a.b-c.d0.xn--p1ai"),
        (types.EmailAddress, "ops+alerts@mail.scell.io"),
        (types.UserName, "ada-l_1"),
        (types.AdminCidr, "51.15.0.0/16"),
        (types.PrivateCidr, "172.31.255.240/28"),
        (types.PrivateCidr, "192.168.16.0/20"),
        (types.Region, "it-mil"),
        (types.Zone, "pl-waw-3"),
        (types.AdoptId, "fr-par-1/11111111-2222-4333-8444-555555555555"),
        (types.AdoptId, "scell.io"),
        (types.GitUrl, "https://git.scell.io:8443/group/sub/project.git"),
        (types.GitUrl, "ssh://git@github.com/scell-io/frontend.git"),
        (types.GitUrl, "git@github.com:scell-io/frontend.git"),
        (types.Release, "v1.4.2"),
        (types.Release, "1.10"),
        (types.Release, "frontend/v1.4.2-rc.1+build.5"),
        (types.Release, "release-2026-11-20"),
        (types.Release, "1234567890123456789012345678901234567890"),
        (types.Release, "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
        (types.ViteName, "VITE_REVERB_APP_KEY"),
        (types.Line, ""),
        (types.Timezone, "America/Argentina/Buenos_Aires"),
        (types.Timezone, "UTC"),
        (types.TimeOfDay, "23:59"),
        (types.HttpsUrl, "https://acme.scell.io/directory"),
    ],
)
def test_accepts(kind: Any, value: str) -> None:
    assert accepts(kind, value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (types.Fqdn, "localhost"),
        (types.Fqdn, "-a.scell.io"),
        (types.Fqdn, "a." * 125 + "scell.io"),
        (types.Fqdn, "scell.io."),
        (types.Fqdn, "scell.io\n"),
        (types.Fqdn, "scéll.io"),
        (types.Fqdn, "1.2.3.4"),
        (types.EmailAddress, "a b@scell.io"),
        (types.UserName, "Ada"),
        (types.PrivateCidr, "172.32.0.0/24"),
        (types.GitUrl, "https://github.com/"),
        (types.GitUrl, "https://github.com/a/../b"),
        (types.GitUrl, "--upload-pack=x@github.com:a/b"),
        (types.GitUrl, "https://github.com/a/b.git?x=1"),
        (types.Release, "--exec=1"),
        (types.Release, "v1..2"),
        (types.Release, "v1.lock"),
        (types.Release, "origin/v1"),
        (types.Release, "v1\n"),
        (types.Release, "DA39A3EE5E6B4B0D3255BFEF95601890AFD80709"),
        (types.ViteName, "VITE_lower"),
        (types.ViteName, "VITE_A=B"),
        (types.Line, "two\nlines"),
        (types.TimeOfDay, "24:00"),
        (types.HttpsUrl, "https://u:p@acme.scell.io/"),
    ],
)
def test_refuses(kind: Any, value: str) -> None:
    assert not accepts(kind, value)


@pytest.mark.parametrize(
    "kind", [("ed25519",), ("rsa", "-b", "2048"), ("ecdsa", "-b", "256"), ("ecdsa", "-b", "521")]
)
def test_takes_keys_that_ssh_keygen_makes(kind: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-C", "ada@laptop", "-f", file, "-t", *kind], check=True)
    line = file.with_suffix(".pub").read_text(encoding="utf-8").strip()
    assert accepts(types.SshPublicKey, line)
    assert accepts(types.SshPublicKey, " ".join(line.split()[:2]))
    assert not accepts(types.SshPublicKey, line.replace(" AAAA", " AAAB"))
    assert not accepts(types.SshPublicKey, file.read_text(encoding="utf-8"))


def test_every_type_shows_its_schema_what_it_takes() -> None:
    """An example that its own type or pattern refuses would teach the wrong thing."""
    for name, kind in vars(types).items():
        if not hasattr(kind, "__metadata__") or name == "Items":
            continue
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
        schema = adapter.json_schema()
        if schema.get("type") != "string" or name == "SshPublicKey":
            continue
        (example,) = schema["examples"]
        assert adapter.validate_python(example) == example, name
        assert re.search(schema["pattern"], example), name
