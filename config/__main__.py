"""``python -m config``: checks stack files offline, and writes the schema and the page made from the models.

Like the program's own ``__main__.py`` this is where the rooms are put together, and the only file here that
knows ``systems/``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from config import docs, schema, stackfile
from config.checks import remarks
from config.loader import caller_address, missing_secrets
from config.report import ConfigError, dotted
from systems import REGISTRY

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: all is well; 1: problems, printed; 2: called wrongly or a file cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m config", description="Settings of stack files.")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="check stack files without the engine and without an account")
    check.add_argument(
        "--stack", action="append", help="only this one (Pulumi.<stack>.yaml); may be repeated"
    )
    for name, made in (("schema", schema.FILE), ("docs", docs.FILE)):
        command = commands.add_parser(name, help=f"write {made} from the models")
        command.add_argument("--check", action="store_true", help="only tell whether the file is up to date")
    options = parser.parse_args(arguments)
    if options.command == "check":
        return _check(options.stack)
    if options.command == "schema":
        return _write(ROOT / schema.FILE, schema.text(REGISTRY), options.check)
    return _write(ROOT / docs.FILE, docs.text(REGISTRY), options.check)


def _check(stacks: Sequence[str] | None) -> int:
    names = [f"Pulumi.{stack}.yaml" for stack in stacks or ()]
    files = [ROOT / name for name in names] or sorted(ROOT.glob("Pulumi.*.yaml"))
    worst = 0
    for file in files:
        try:
            raw = stackfile.read(file.read_text(encoding="utf-8"), file.name)
            caller = caller_address(os.environ, raw)
            stack = stackfile.check(file, REGISTRY, caller)
        except ConfigError as error:
            print(f"{error}\n", file=sys.stderr)
            worst = max(worst, 1)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            print(f"{file.name}: cannot be read: {reason}", file=sys.stderr)
            worst = 2
        else:
            print(f"{file.name}: ok ({stack.environment}: {', '.join(stack.systems)})")
            for path, advice in remarks(stack):
                print(f"  {dotted(path)}: {advice}")
            lacking = missing_secrets(raw, stack, file.name)
            if lacking:
                print("  to be set before `pulumi up`:")
            for problem in lacking:
                print(f"    {problem.remedy}")
    return worst


def _write(file: Path, text: str, only_check: bool) -> int:
    if file.exists() and file.read_text(encoding="utf-8") == text:
        return 0
    if only_check:
        command = "schema" if file.suffix == ".json" else "docs"
        print(f"{file.name} is not what the models say: python -m config {command}", file=sys.stderr)
        return 1
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    print(f"wrote {file.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
