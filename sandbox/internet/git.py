"""The Git hosts: bare repositories made from the fixtures, served by git's own HTTP backend.

``sandbox/fixtures/repositories.toml`` says which repository has which files and tags. Commits have a fixed
author and date, so a tag has the same hash on every machine.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sandbox import process
from sandbox.errors import SandboxError
from sandbox.internet.layout import Layout
from sandbox.internet.out import accepts

HOSTS = ("github.com", "gitlab.com", "bitbucket.org", "codeberg.org")
FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
FORMAT = 2  # of the repositories made here; a higher one makes them anew
AUTHOR = "Fixture <fixture@berth.invalid>"
SKIPPED = shutil.ignore_patterns("node_modules", "dist", ".git")


@dataclass(frozen=True, kw_only=True)
class Release:
    """``overlay``: a directory whose files are laid over those of the release before. ``date``: ISO 8601."""

    tag: str
    date: str
    overlay: str | None = None


@dataclass(frozen=True, kw_only=True)
class Repository:
    """``files`` is a directory of the fixtures; ``url`` the public address people clone from."""

    url: str
    files: str
    releases: tuple[Release, ...]

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def path(self) -> str:
        return f"{self.host}/{urlsplit(self.url).path.strip('/').removesuffix('.git')}.git"


def repositories(fixtures: Path = FIXTURES) -> list[Repository]:
    """What ``repositories.toml`` declares. Raises SandboxError for a malformed one."""
    path = fixtures / "repositories.toml"
    if not path.exists():
        return []
    try:
        declared = tomllib.loads(path.read_text())
        return [
            Repository(
                url=entry["url"],
                files=entry["files"],
                releases=tuple(Release(**release) for release in entry["release"]),
            )
            for entry in declared["repository"]
        ]
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise SandboxError(f"{path}: {error}") from error


def names(fixtures: Path = FIXTURES) -> list[str]:
    """Public names of the Git hosts."""
    return list(dict.fromkeys([*HOSTS, *(repository.host for repository in repositories(fixtures))]))


def publish(layout: Layout, fixtures: Path = FIXTURES) -> None:
    """Make every declared repository that is missing or whose fixture changed."""
    for repository in repositories(fixtures):
        target = layout.git / repository.path
        mark = _mark(fixtures, repository)
        if (target / "berth-mark").exists() and (target / "berth-mark").read_text() == mark:
            continue
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = target.with_name(target.name + ".new")
        shutil.rmtree(temporary, ignore_errors=True)
        _make(fixtures, repository, temporary)
        (temporary / "berth-mark").write_text(mark)
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)


def service(layout: Layout) -> process.Service:
    """fcgiwrap: runs the backend for nginx."""
    path = layout.run / "git.sock"
    return process.Service(
        name="git",
        command=["fcgiwrap", "-c", "1", "-s", f"unix:{path}"],
        sockets=[path],
        ready=lambda: accepts(path),
        environment={"GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent"},
    )


def backend() -> Path:
    """git's program for serving a repository over HTTP."""
    done = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip()) / "git-http-backend"


def _make(fixtures: Path, repository: Repository, target: Path) -> None:
    tree = target / "tree"  # the work tree, gone when the repository is published
    shutil.copytree(_directory(fixtures, repository.files), tree, ignore=SKIPPED)
    _git(target, "", "init", "--quiet", "--bare", "--initial-branch=main", str(target))
    for release in repository.releases:
        if release.overlay:
            overlay = _directory(fixtures, release.overlay)
            # Not copy2: Git takes a file of the same size and an old date for the one it knows.
            shutil.copytree(overlay, tree, dirs_exist_ok=True, ignore=SKIPPED, copy_function=shutil.copy)
        _git(target, release.date, "add", "--all", ".")
        _git(target, release.date, "commit", "--quiet", "--allow-empty", f"--message={release.tag}")
        _git(target, release.date, "tag", "--annotate", f"--message={release.tag}", release.tag)
    shutil.rmtree(tree)
    (target / "index").unlink()
    _git(target, "", "config", "core.bare", "true")


def _git(target: Path, date: str, *words: str) -> None:
    name, _, mail = AUTHOR.rstrip(">").partition(" <")
    environment = {
        **process.ENVIRONMENT,
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": mail,
        "GIT_AUTHOR_DATE": date,
        "GIT_COMMITTER_NAME": name,
        "GIT_COMMITTER_EMAIL": mail,
        "GIT_COMMITTER_DATE": date,
    }
    if words[0] != "init":
        words = (f"--git-dir={target}", f"--work-tree={target / 'tree'}", *words)
    done = subprocess.run(
        ["git", *words], cwd=target, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SandboxError(f"git {words[-1]} for {target.name}: {done.stderr.strip()}")


def _directory(fixtures: Path, name: str) -> Path:
    path = fixtures / name
    if not path.is_dir():
        raise SandboxError(f"{fixtures / 'repositories.toml'}: there is no directory {name}")
    return path


def _mark(fixtures: Path, repository: Repository) -> str:
    digest = hashlib.sha256(f"{FORMAT} {repository!r}".encode())
    for name in (repository.files, *(release.overlay for release in repository.releases if release.overlay)):
        for path in _walk(_directory(fixtures, name)):
            digest.update(f"\0{path.relative_to(fixtures)}\0{path.stat().st_mode & 0o111}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _walk(directory: Path) -> Iterable[Path]:
    for path in sorted(directory.iterdir()):
        if path.name in ("node_modules", "dist", ".git"):
            continue
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path
