"""How somebody out there sees the API of Scell.io, and how its owner looks at it on the host."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox import internet
from sandbox.internet.layout import STRANGER
from tests.e2e.checkout import Checkout, until

NAME = "api.scell.io"
APP = "scell-api"
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Answer:
    """``headers``: names in lower case, each with all its values."""

    status: int
    version: str
    headers: Mapping[str, list[str]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def expect(self, status: int) -> Any:
        """The JSON of an answer that has this status."""
        assert self.status == status, f"{self.status} {self.body[:500]!r}"
        return self.json


class Api:
    """Calls from a stranger's address over verified TLS; scripts on the host as the application's user."""

    def __init__(self, clone: Checkout) -> None:
        self.clone = clone

    @property
    def authority(self) -> str:
        return str(self.clone.root / ".sandbox/ca/ca.pem")

    def call(
        self, method: str, path: str, given: Any = None, *headers: str, url: str = f"https://{NAME}"
    ) -> Answer:
        """``given``: bytes as they are, anything else as JSON. Fails where there is no HTTP answer."""
        body = given if isinstance(given, bytes | None) else json.dumps(given).encode()
        words = ["curl", "--silent", "--show-error", "--max-time", "60", "--cacert", self.authority]
        words += ["--interface", STRANGER, "--dump-header", "/dev/stderr", "--request", method]
        words += [word for header in headers for word in ("--header", header)]
        words += ["--head"] if method == "HEAD" else []
        words += ["--data-binary", "@-"] if body is not None else []
        command = [*internet.inside(self.clone.root), *words, url + path]
        done = subprocess.run(command, input=body, capture_output=True, check=False)
        assert done.returncode == 0, f"curl {method} {path}: {done.returncode} {done.stderr.decode()}"
        first, *lines = done.stderr.decode().strip().splitlines()
        found: dict[str, list[str]] = {}
        for name, _, value in (line.partition(":") for line in lines if ":" in line):
            found.setdefault(name.lower(), []).append(value.strip())
        protocol, status = first.split()[:2]
        return Answer(int(status), protocol.removeprefix("HTTP/"), found, done.stdout)

    def health(self) -> dict[str, Any]:
        """What it says of itself, well or not."""
        found: dict[str, Any] = self.call("GET", "/health").json
        return found

    def well(self) -> bool:
        answer = self.call("GET", "/health")
        return answer.status == 200 and answer.json["status"] == "ok"

    def work(self, kind: str, **more: Any) -> str:
        """Queue a job; its id."""
        return str(self.call("POST", "/api/v1/jobs", {"kind": kind, **more}).expect(202)["job"])

    def job(self, job: str) -> dict[str, Any] | None:
        """What the job left, if it has begun."""
        answer = self.call("GET", f"/api/v1/jobs/{job}")
        return answer.json if answer.status == 200 else None

    def finished(self, job: str, seconds: float) -> dict[str, Any]:
        until(lambda: (self.job(job) or {}).get("finished_at"), seconds, f"the end of job {job}")
        found = self.job(job)
        assert found is not None
        return found

    def processed(self, number: str, seconds: float) -> dict[str, Any]:
        """Wait for an invoice to be processed."""

        def seen() -> dict[str, Any]:
            found: dict[str, Any] = self.call("GET", f"/api/v1/invoices/{number}").expect(200)
            return found

        until(lambda: seen()["status"] == "processed", seconds, f"invoice {number}")
        return seen()

    # ------------------------------------------------------------ on the host

    def artisan(self, *words: str, ok: bool = True) -> str:
        """What an artisan command of the live release says."""
        line = " ".join(f"'{word}'" for word in words)
        return self.shell(f"cd /srv/{APP}/current && php8.2 artisan {line} --no-ansi", ok=ok)

    def shell(self, script: str, *, ok: bool = True, user: str = APP) -> str:
        """A script run by ``user`` who is given the `.env`, and psql's own variables for its database.

        Errors go to the output.
        """
        return self.clone.on_host(
            f"""
python3 - {APP} >/run/berth/env.$$ <<'END'
import re, shlex, sys
for line in open(f"/srv/{{sys.argv[1]}}/shared/.env"):
    name, _, value = line.rstrip("\\n").partition("=")
    if value.startswith('"'):
        value = re.sub(r"\\\\(.)", r"\\1", value[1:-1])
    if name:
        print(f"export {{name}}={{shlex.quote(value)}}")
END
trap 'rm /run/berth/env.$$' EXIT
cat /run/berth/env.$$ - <<'END' | setpriv --reuid={user} --regid={user} --init-groups \
  env HOME=/var/lib/berth/{user} bash -s 2>&1
export PGHOST=$DB_HOST PGPORT=$DB_PORT PGUSER=$DB_USERNAME PGPASSWORD=$DB_PASSWORD PGDATABASE=$DB_DATABASE
export PGSSLMODE=$DB_SSLMODE PGSSLROOTCERT=$DB_SSLROOTCERT PGCONNECT_TIMEOUT=5
{script}
END
""",
            ok=ok,
        )

    def variables(self, *names: str) -> list[str]:
        """Values of the `.env`."""
        return self.shell("".join(f'printf "%s\\n" "${name}"\n' for name in names)).splitlines()

    def query(self, sql: str, *, suffix: str = "", database: str = "", ok: bool = True) -> str:
        """SQL by the operators' client, as the user of one database (``suffix``), in it or another."""
        return self.shell(
            f"export PGUSER=$DB_USERNAME{suffix} PGPASSWORD=$DB_PASSWORD{suffix}\n"
            f"export PGDATABASE={database or f'$DB_DATABASE{suffix}'}\n"
            f"psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 <<'SQL'\n{sql}\nSQL\n",
            ok=ok,
        )

    def bucket(self, path: str, *options: str) -> str:
        """What S3 answers at ``path`` to a request signed with the application's key."""
        return self.shell(self.signed(path, *options))

    @staticmethod
    def signed(path: str, *options: str) -> str:
        """The line for that; ``options`` are curl's, for a request without a body."""
        digest = hashlib.sha256(b"").hexdigest()
        return (
            'curl --silent --show-error --aws-sigv4 "aws:amz:$AWS_DEFAULT_REGION:s3" --config - '
            f'--header "x-amz-content-sha256: {digest}" {" ".join(options)} "$AWS_ENDPOINT{path}" '
            '<<<"user = $AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY"\n'
        )

    # ------------------------------------------------------------ over a while

    @contextmanager
    def called(self) -> Iterator[dict[str, Any]]:
        """Somebody keeps calling meanwhile; what they saw is in the dictionary afterwards."""
        with self._beside("caller.py") as (process, seen):
            yield seen
            out, _ = process.communicate(timeout=60)
            seen.update(json.loads(out))

    @contextmanager
    def streaming(self, count: int, seconds: int) -> Iterator[dict[str, Any]]:
        """Streams are read meanwhile; what came is under ``streams`` afterwards."""
        with self._beside("streams.py", str(count), str(seconds)) as (process, seen):
            yield seen
            out, _ = process.communicate(timeout=seconds + 60)
            seen["streams"] = json.loads(out)

    @contextmanager
    def _beside(self, script: str, *words: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
        program = [sys.executable, str(HERE / script), NAME, self.authority, STRANGER, *words]
        command = [*internet.inside(self.clone.root), *program]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield process, {}
            finally:
                process.kill()
