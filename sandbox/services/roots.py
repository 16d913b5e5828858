"""The Debian systems that servers of managed services run in, and how to run something in one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sandbox.hosts import images

SCRIPTS = Path(__file__).parent / "root"
POSTGRES = images.Tree(
    name="postgres-17",
    what="root of PostgreSQL 17 (Debian trixie)",
    suite="trixie",
    packages=("postgresql-17",),
    prepare=SCRIPTS / "postgres.sh",
    early=True,
)
REDIS = images.Tree(
    name="redis-7",
    what="root of Redis 7 (Debian bookworm)",
    suite="bookworm",
    packages=("redis-server",),
    prepare=SCRIPTS / "redis.sh",
)


@dataclass(frozen=True)
class Room:
    """A server's place: ``tree`` is its Debian, ``state`` seen as /srv in it, ``run`` as /run.

    ``user`` is a system user of the tree, who owns what is in the two directories.
    """

    tree: Path
    user: str
    state: Path
    run: Path

    def inside(self, *command: str) -> list[str]:
        """``command`` in there."""
        places = (str(self.tree), self.user, str(self.state), str(self.run))
        return [str(SCRIPTS / "enter.sh"), *places, *command]

    def call(self, *command: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run ``command`` in there to its end, ``text`` on its standard input."""
        return subprocess.run(
            self.inside(*command), input=text, capture_output=True, text=True, check=False, env={"PATH": PATH}
        )

    def own(self, path: Path, mode: int) -> None:
        """Give ``path`` to the user, closed to all others."""
        uid, gid = self._ids()
        shutil.chown(path, uid, gid)
        path.chmod(mode)

    def directory(self, path: Path) -> Path:
        """``path``, made if need be, the user's own."""
        if not path.exists():
            path.mkdir(parents=True)
            self.own(path, 0o700)
        return path

    def write(self, path: Path, text: str) -> None:
        """Replace a file, readable by the user only."""
        new = path.with_name(f"{path.name}.new")
        new.touch(0o600)
        self.own(new, 0o600)
        new.write_text(text)
        new.replace(path)

    def _ids(self) -> tuple[int, int]:
        for line in (self.tree / "etc/passwd").read_text().splitlines():
            fields = line.split(":")
            if fields[0] == self.user:
                return int(fields[2]), int(fields[3])
        raise LookupError(f"no user {self.user} in {self.tree}")


PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def room(tree: images.Tree, user: str, state: Path, run: Path, log: Callable[[str], None]) -> Room:
    """A place for one server; builds the tree where it is not in the cache."""
    found = Room(images.ready(tree, log), user, state, run)
    found.directory(state)
    found.directory(run)
    return found
