"""Addresses and places of the small internet of one checkout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sandbox import paths

INTERNET = "198.18.0.0/15"
GATEWAY = "198.18.0.1"  # name server, HTTP, HTTPS; every public name without a zone of its own
STRANGER = "198.18.2.10"  # `sandbox curl`: somebody out there
LETS_ENCRYPT = "198.18.2.20"  # where validations come from


@dataclass(frozen=True)
class Layout:
    """``root`` is the checkout. State survives a reboot of the machine, ``run`` does not."""

    root: Path

    @property
    def state(self) -> Path:
        return _made(paths.state(self.root) / "internet")

    @property
    def logs(self) -> Path:
        return _made(paths.state(self.root) / "log")

    @property
    def run(self) -> Path:
        """Unix sockets and process records; short, because socket paths are limited."""
        return _made(paths.runtime(self.root) / "net")

    @property
    def cache(self) -> Path:
        """Debian packages, shared by all checkouts of this user."""
        return _made(paths.cache() / "debian")

    @property
    def git(self) -> Path:
        return paths.state(self.root) / "git"

    @property
    def refusals(self) -> Path:
        return self.logs / "refused.jsonl"

    @property
    def namespace(self) -> Path:
        return Path("/run/netns") / paths.netns(self.root)


def _made(path: Path) -> Path:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
