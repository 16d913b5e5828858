"""``python3 -m cutover``: see docs/cutover.md. Exit code 0: done, or the same; 1: not; 2: called wrongly."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from cutover import bucket, databases
from cutover.databases import Failed
from tasks.host.host import dotenv


def main(arguments: Sequence[str] | None = None) -> int:
    """One command; says how long it took, for the checklist."""
    parser = argparse.ArgumentParser(prog="python3 -m cutover", description=__doc__)
    parser.add_argument("--old", type=Path, required=True, help="the old application's .env")
    parser.add_argument("--new", type=Path, required=True, help="the new application's .env")
    commands = parser.add_subparsers(dest="command", required=True)
    moving = commands.add_parser("databases", help="dump the old databases, restore them into the new ones")
    moving.add_argument("--only", choices=["production", "sandbox"], help="one of them")
    moving.add_argument("--replace", action="store_true", help="throw away rows the new ones hold")
    moving.add_argument("--keep", type=Path, default=Path("dumps"), help="where the dumps stay")
    files = commands.add_parser("bucket", help="copy what the new bucket lacks")
    files.add_argument("--delete", action="store_true", help="and delete what the old one does not have")
    commands.add_parser("compare", help="say what is not the same")
    commands.add_parser("freeze", help="have the old databases' users read, and not write")
    commands.add_parser("thaw", help="undo `freeze`")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    try:
        old, new = read(options.old), read(options.new)
        if options.command == "databases":
            for source, target in pairs(old, new, options.only):
                databases.move(source, target, options.keep, replace=options.replace, say=print)
        elif options.command == "bucket":
            bucket.copy(old, new, delete=options.delete, say=print)
        elif options.command in ("freeze", "thaw"):
            for server in databases.servers(old):
                ended = databases.freeze(server, on=options.command == "freeze")
                state = "only read" if options.command == "freeze" else "may be written"
                print(f"{server.name}: {state} from now on, {ended} connections ended")
        elif not compare(old, new):
            return 1
    except Failed as error:
        print(f"cutover: {error}", file=sys.stderr)
        return 1
    print(f"{options.command}: {time.monotonic() - began:.1f} s")
    return 0


def compare(old: Mapping[str, str], new: Mapping[str, str]) -> bool:
    """Whether databases and bucket hold the same; prints what does not."""
    found: list[str] = []
    for source, target in pairs(old, new, None):
        found += databases.differences(source, target)
        content = target.content()
        print(f"{target.name}: {len(content)} tables and sequences, {databases.rows(content)} rows looked at")
    if old["AWS_BUCKET"] != new["AWS_BUCKET"] or old["AWS_ENDPOINT"] != new["AWS_ENDPOINT"]:
        found += bucket.differences(old, new)
    print("\n".join(found) if found else "the same")
    return not found


def pairs(
    old: Mapping[str, str], new: Mapping[str, str], only: str | None
) -> list[tuple[databases.Server, databases.Server]]:
    """The databases of both, by what they are for."""
    after = {server.name: server for server in databases.servers(new, only)}
    before = databases.servers(old, only)
    absent = [server.name for server in before if server.name not in after]
    if absent:
        raise Failed(f"the new .env has no database for {', '.join(absent)}")
    return [(server, after[server.name]) for server in before]


def read(path: Path) -> Mapping[str, str]:
    """An `.env`. Raises Failed."""
    try:
        return dotenv(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None


if __name__ == "__main__":
    sys.exit(main())
