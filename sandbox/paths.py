"""Where the sandbox of this checkout keeps its things. Only :func:`state` creates its directory."""

from __future__ import annotations

import hashlib
import os
from functools import cache as _once
from pathlib import Path

RUNTIME = Path("/run/berth")


@_once
def root() -> Path:
    """The checkout: ``BERTH_ROOT`` (tests), else the directory that holds the ``sandbox`` package."""
    given = os.environ.get("BERTH_ROOT")
    return Path(given).resolve() if given else Path(__file__).resolve().parent.parent


def key(root: Path) -> str:
    """Eight hex digits that tell this checkout from others on the machine."""
    return hashlib.sha256(str(root).encode()).hexdigest()[:8]


def state(root: Path) -> Path:
    """``.sandbox``: inventory, engine's state, derived stack files. Made in a checkout, closed to others."""
    path = root / ".sandbox"
    if root.is_dir():
        path.mkdir(mode=0o700, exist_ok=True)
        if path.stat().st_mode & 0o077 and os.access(path, os.W_OK):  # made by somebody less careful
            path.chmod(0o700)
    return path


def runtime(root: Path) -> Path:
    """Short directory for unix sockets and pid files (their path limit is about 100 bytes). Not created."""
    return RUNTIME / key(root)


def cache() -> Path:
    """Shared by all checkouts of this user: base images, packages, built tools. Not created."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "berth"


def netns(root: Path) -> str:
    """The network namespace in which everything real of this checkout lives."""
    return f"berth-{key(root)}"
