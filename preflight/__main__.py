"""``python -m preflight``: looks at a stack's account before `pulumi up` does, and only looks.

Where the rooms are put together, as in ``config/__main__.py``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import httpx
import yaml

from config import stackfile
from config.loader import caller_address, missing_secrets, parse
from config.model import Stack
from config.report import ConfigError, Problem
from preflight import local, scaleway
from preflight.needs import Cloud, needs
from preflight.reader import Reader, Unreadable
from preflight.report import Check, Row, as_json, exit_code, table, unknown
from systems import REGISTRY

ROOT = Path(__file__).resolve().parent.parent
CLOUDS: Mapping[str, Cloud] = {"scaleway": scaleway.checks}
AT_ONCE = 8  # checks; each asks one thing after the other


def main(arguments: Sequence[str] | None = None, transport: httpx.BaseTransport | None = None) -> int:
    """Exit code 0: nothing is missing; 1: something is, or the stack file is wrong; 2: nothing is known to be
    missing, but not everything could be read, or the command was called wrongly. ``transport`` is for tests.
    """
    parser = argparse.ArgumentParser(
        prog="python -m preflight",
        description="Reads what a stack needs of the cloud, and says what is missing. Changes nothing.",
        epilog="exit code: 0 nothing is missing; 1 something is; 2 not everything could be read",
    )
    parser.add_argument("--stack", required=True, help="the stack (Pulumi.<stack>.yaml)")
    parser.add_argument(
        "--config-file",
        type=Path,
        help="read this file instead of Pulumi.<stack>.yaml, as pulumi's own option",
    )
    parser.add_argument("--json", action="store_true", help="for programs: one JSON document")
    parser.add_argument("--timeout", type=float, default=15.0, help="seconds to wait for one answer")
    options = parser.parse_args(arguments)
    file = options.config_file or ROOT / f"Pulumi.{options.stack}.yaml"
    try:
        stack, absent = read(file)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    except (OSError, UnicodeDecodeError) as error:
        print(
            f"{file.name}: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}", file=sys.stderr
        )
        return 2
    reader = Reader(transport, timeout=options.timeout)
    wanted = list(needs(stack))
    checks = local.checks(stack, options.stack, absent, wanted, reader)
    for cloud in dict.fromkeys(need.cloud for need in wanted):
        ours = [need for need in wanted if need.cloud == cloud]
        checks += CLOUDS[cloud](ours, stack.environment, provider_settings(file, cloud), reader)
    try:
        rows = run(checks, _progress(len(checks)) if sys.stderr.isatty() else None)
    finally:
        reader.close()
    print(as_json(options.stack, rows) if options.json else table(options.stack, rows))
    return exit_code(rows)


def read(file: Path) -> tuple[Stack, list[Problem]]:
    """The stack, and the secrets it lacks: those are reported beside everything else.

    Raises ConfigError for anything else that is wrong with the file, OSError.
    """
    raw = stackfile.read(file.read_text(encoding="utf-8"), file.name)
    caller = caller_address(os.environ, raw)
    stack = parse(raw, file=file.name, registry=REGISTRY, caller=caller, secrets=False)
    return stack, list(missing_secrets(raw, stack, file.name))


def provider_settings(file: Path, cloud: str) -> dict[str, Any]:
    """What a stack file sets of a provider (``scaleway:projectId``); encrypted values are left out."""
    settings = yaml.safe_load(file.read_text(encoding="utf-8")).get("config") or {}
    return {
        str(key).partition(":")[2]: value
        for key, value in settings.items()
        if str(key).startswith(f"{cloud}:") and isinstance(value, str)
    }


def run(checks: Sequence[Check], progress: Callable[[str], None] | None = None) -> list[Row]:
    """All checks, several at once; rows in their order. What cannot be read is a row, not an end."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = {pool.submit(_answers, check): check for check in checks}
        for done in as_completed(asked):
            if progress:
                progress(asked[done].title)
        return list(dict.fromkeys(row for future in asked for row in future.result()))


def _answers(check: Check) -> list[Row]:
    rows: list[Row] = []
    try:
        rows.extend(check.ask())  # what was found before something that cannot be read stays
    except Unreadable as error:
        rows.append(unknown(check.title, error.why, error.remedy))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        # An answer of another shape than the one documented: say so, and go on with the rest.
        found = f"the cloud answers in a shape that is not known ({type(error).__name__})"
        rows.append(unknown(check.title, found, "look at it in the console, and report this"))
    return rows


def _progress(total: int) -> Callable[[str], None]:
    left: Iterator[int] = iter(range(1, total + 1))

    def show(title: str) -> None:
        number, clear = next(left), "\r\033[K"
        text = f"{clear}{number}/{total} {title}" if number < total else clear
        print(text, end="", file=sys.stderr, flush=True)

    return show


if __name__ == "__main__":
    sys.exit(main())
