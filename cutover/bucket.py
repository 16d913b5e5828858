"""Files of a bucket, copied and compared by rclone; only what differs is sent."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping

from cutover.databases import Failed

NAMES = {  # of Laravel's S3 disk -> what rclone calls it
    "ACCESS_KEY_ID": "AWS_ACCESS_KEY_ID",
    "SECRET_ACCESS_KEY": "AWS_SECRET_ACCESS_KEY",
    "REGION": "AWS_DEFAULT_REGION",
    "ENDPOINT": "AWS_ENDPOINT",
}
# Checksums decide, not times: the new bucket's times are those of the copy.
LIKE = ("--checksum", "--fast-list", "--transfers=16", "--checkers=32", "--s3-no-check-bucket")


def remotes(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[dict[str, str], str, str]:
    """(environment for rclone, the old bucket and the new one as rclone names them). Raises Failed."""
    environment: dict[str, str] = {}
    for name, values in (("OLD", old), ("NEW", new)):
        absent = [variable for variable in (*NAMES.values(), "AWS_BUCKET") if not values.get(variable)]
        if absent:
            raise Failed(f"the {name.lower()} .env has no {', '.join(absent)}")
        prefix = f"RCLONE_CONFIG_{name}"
        environment |= {f"{prefix}_TYPE": "s3", f"{prefix}_PROVIDER": "Scaleway", f"{prefix}_ACL": "private"}
        environment |= {f"{prefix}_{key}": values[variable] for key, variable in NAMES.items()}
    return environment, f"old:{old['AWS_BUCKET']}", f"new:{new['AWS_BUCKET']}"


def copy(old: Mapping[str, str], new: Mapping[str, str], *, delete: bool, say: Callable[[str], None]) -> None:
    """Make the new bucket hold what the old one does; ``delete``: and nothing else. Raises Failed."""
    environment, source, target = remotes(old, new)
    if (old["AWS_ENDPOINT"], old["AWS_BUCKET"]) == (new["AWS_ENDPOINT"], new["AWS_BUCKET"]):
        raise Failed("both .env files name the same bucket; there is nothing to copy")
    began = time.monotonic()
    _rclone(environment, "sync" if delete else "copy", *LIKE, source, target)
    size = json.loads(_rclone(environment, "size", "--json", "--fast-list", target))
    say(
        f"bucket: {size['count']} files, {size['bytes'] / 1e6:.1f} MB, "
        f"{'as the old one' if delete else 'copied'} in {time.monotonic() - began:.1f} s"
    )


def differences(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Files that are not the same in both, by checksum."""
    environment, source, target = remotes(old, new)
    told = {"+": "only there", "-": "only here", "*": "differs", "!": "cannot be read"}
    text = _rclone(environment, "check", *LIKE, "--combined=-", source, target, codes=(0, 1))
    marks = [line.split(" ", 1) for line in text.splitlines() if line[:2].strip() and line[:1] != "="]
    return [f"bucket: {name}: {told.get(mark, mark)}" for mark, name in marks]


def _rclone(environment: Mapping[str, str], *words: str, codes: tuple[int, ...] = (0,)) -> str:
    variables = {"PATH": os.environ.get("PATH", os.defpath), "RCLONE_CONFIG": "/dev/null", **environment}
    for name in ("SSL_CERT_FILE", "HOME"):
        if name in os.environ:
            variables[name] = os.environ[name]
    try:
        done = subprocess.run(["rclone", *words], env=variables, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Failed("rclone is not installed: apt-get install rclone") from None
    if done.returncode not in codes:
        raise Failed(f"rclone {words[0]}: {done.stderr.strip()[-2000:]}")
    return done.stdout
