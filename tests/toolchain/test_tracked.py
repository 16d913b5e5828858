"""What may not be in the repository: package registries by name, paths of a machine, hosts in lock files.

The registries are those this machine's clients are configured with and those they fall back to; the clients
are asked for both, so that no name stands here either.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pip._internal.models.index import PyPI, TestPyPI

ROOT = Path(__file__).resolve().parents[2]
FIXTURE = ROOT / "sandbox/fixtures/scell-frontend"


def tracked() -> list[Path]:
    """Everything git would clone, and what is about to be added."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file()]


def say(*command: str, **env: str) -> str:
    """What a client answers; nothing where it is not installed."""
    if not shutil.which(command[0]):
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **env})
    return done.stdout


def hosts(text: str) -> Iterator[str]:
    for word in re.split(r"[\s,|'\"=]+", text):
        host = urlsplit(word if "//" in word else f"//{word}").hostname or ""
        if re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", host) and not host[-1].isdigit():
            yield host


def pip_hosts() -> set[str]:
    configured = say(sys.executable, "-m", "pip", "config", "list") + " ".join(
        value for name, value in os.environ.items() if re.fullmatch(r"(PIP|UV)_\w*(INDEX|URL|HOST)\w*", name)
    )
    defaults = {index.netloc for index in (PyPI, TestPyPI)} | {
        i.file_storage_domain for i in (PyPI, TestPyPI)
    }
    return defaults | set(hosts(" ".join(re.findall(r"https?://\S+", configured))))


def npm_hosts() -> set[str]:
    quiet = {
        "NPM_CONFIG_USERCONFIG": os.devnull,
        "NPM_CONFIG_GLOBALCONFIG": os.devnull,
        "NPM_CONFIG_REGISTRY": "",
    }
    configured = json.loads(say("npm", "config", "list", "--json") or "{}")
    urls = [value for key, value in configured.items() if key.endswith("registry") and isinstance(value, str)]
    return {*hosts(" ".join(urls)), *hosts(say("npm", "config", "get", "registry", **quiet))}


def go_hosts() -> set[str]:
    names = ("GOPROXY", "GOSUMDB")
    bare = dict.fromkeys(names, "")  # an empty variable means the client's built-in default
    return {
        host
        for env in ({}, {**bare, "GOENV": "off"})
        for host in hosts(say("go", "env", *names, **env))
    }  # fmt: skip


def apt_hosts() -> set[str]:
    found: set[str] = set()
    for file in [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]:
        if file.is_file():
            lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]
            found |= set(hosts(" ".join(re.findall(r"https?://\S+", "\n".join(lines)))))
    return found


CLIENTS = {"pip": pip_hosts, "npm": npm_hosts, "go": go_hosts, "apt-get": apt_hosts}


@pytest.mark.parametrize("client", CLIENTS)
def test_no_tracked_file_names_a_package_registry(client: str):
    if not shutil.which(client) and client != "pip":
        pytest.skip(f"{client} is not installed here: its registry cannot be asked for")
    names = CLIENTS[client]()
    assert names, f"{client} names no registry, so nothing would be looked for"
    wanted = re.compile("|".join(rf"(?<![\w.-]){re.escape(name)}(?![\w-]|\.\w)" for name in sorted(names)))
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in tracked()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        for match in wanted.finditer(line)
    ]
    assert not found


def test_no_tracked_file_holds_a_path_of_this_machine():
    wanted = {str(ROOT), str(Path.home() / ".cache")}
    found = [
        f"{path.relative_to(ROOT)}: {text}"
        for path in tracked()
        for text in wanted
        if re.search(rf"{re.escape(text)}(?![\w-])", path.read_text(errors="replace"))
    ]
    assert not found


def test_the_site_locks_every_package_by_hash_and_names_no_host():
    text = (FIXTURE / "package-lock.json").read_text()
    assert "://" not in text
    packages = json.loads(text)["packages"]
    for name, entry in packages.items():
        assert "resolved" not in entry, name
        if name:
            assert entry["integrity"].startswith("sha512-"), name
            assert re.fullmatch(r"\d+\.\d+\.\d+\S*", entry["version"]), name


def test_the_site_uses_every_variable_of_the_sandbox_stack_file():
    declared = set(re.findall(r"\bVITE_[A-Z_]+(?=:)", (ROOT / "Pulumi.sandbox.yaml").read_text()))
    source = "".join(path.read_text() for path in [FIXTURE / "index.html", *(FIXTURE / "src").iterdir()])
    assert declared
    assert set(re.findall(r"\bVITE_[A-Z_]+", source)) == declared
