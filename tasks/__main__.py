"""``python -m tasks``: the night shift's commands. docs/night-shift.md says which one when.

Exit codes: 0 done and well, 1 done and something needs a person, 2 called wrongly, 3 no such stack or it is
not up, 4 the host was not reached or is another, 5 it cannot be done there. `psql` and `artisan` end as the
program they run.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import os
import secrets as random
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tasks import secrets, stack, status
from tasks.errors import Exit, TaskError
from tasks.show import as_json, short, table
from tasks.ssh import Host, at_terminal

Options = argparse.Namespace


def host(options: Options) -> Host:
    """The host of the chosen stack."""
    return Host(stack.read(options.stack, options.system))


# ---------------------------------------------------------------- looking


def show_status(options: Options) -> int:
    """One login, and meanwhile one visit."""
    operator = stack.read(options.stack, options.system)
    with ThreadPoolExecutor(1) as beside:
        visit = beside.submit(status.health, str(operator.health)) if operator.health else None
        try:
            seen = Host(operator).ask("status")
        except TaskError:
            if visit:  # the host is not reached: whether visitors reach it is the next question
                print("\n".join(status.rendered(status.judge({"health": visit.result()}))))
            raise
        if visit:
            seen["health"] = visit.result()
    lines = status.judge(seen)
    print(as_json(status.report(seen, lines)) if options.json else "\n".join(status.rendered(lines)))
    return Exit.OK if all(line.good for line in lines) else Exit.CARE


def show_logs(options: Options) -> int:
    """The list of logs, or one of them."""
    where = host(options)
    given = {"log": options.log, "lines": options.lines, "follow": options.follow, "grep": options.grep}
    if not options.log:
        rows = where.ask("logs", **given)
        text = [(row["log"], row["where"], "" if row["there"] else "nothing yet") for row in rows]
        print(as_json(rows) if options.json else table(("LOG", "WHERE", ""), text))
        return Exit.OK
    return where.stream("logs", stay=options.follow, **given)


def show_certificates(options: Options) -> int:
    """What each name has."""
    found = host(options).ask("certificate", renew=[])
    lines = status.judge({"certificates": found})
    print(as_json(found) if options.json else "\n".join(status.rendered(lines)) if lines else "no names")
    return Exit.OK if all(line.good for line in lines) else Exit.CARE


def show_slow_queries(options: Options) -> int:
    """The slowest, as the database counted."""
    found = host(options).ask("slow-queries", database=options.database, most=options.lines)
    if options.json:
        print(as_json(found))
    elif not found:
        print("the database has counted no query of the application yet")
    else:
        rows = [
            (
                one["mean_ms"],
                one["max_ms"],
                one["total_ms"],
                one["calls"],
                one["rows"],
                short(one["query"], 100),
            )
            for one in found
        ]
        print(table(("MEAN ms", "MAX ms", "TOTAL ms", "CALLS", "ROWS", "QUERY"), rows))
    return Exit.OK


def show_env_diff(options: Options) -> int:
    """Names whose values differ between what the last `up` wrote and what is there. No value is shown."""
    operator = stack.read(options.stack, options.system)
    if not operator.environment:
        raise TaskError(
            "the stack writes no .env", "bring it up with this version: `pulumi up`", Exit.NO_STACK
        )
    key = random.token_bytes(32)
    there = Host(operator).ask("env", key=key.hex())
    here = {
        name: hmac.new(key, value.get_secret_value().encode(), hashlib.sha256).hexdigest()
        for name, value in operator.environment.items()
    }
    found = {
        "changed": sorted(name for name in here.keys() & there.keys() if here[name] != there[name]),
        "missing": sorted(here.keys() - there.keys()),
        "extra": sorted(there.keys() - here.keys()),
    }
    differs = any(found.values())
    if options.json:
        print(as_json(found))
    elif not differs:
        print(f"the .env on the host is what the last `pulumi up` wrote: {len(here)} variables")
    else:
        means = {
            "changed": "has another value on the host",
            "missing": "is not on the host",
            "extra": "is only on the host",
        }
        print("\n".join(f"{kind:8} {name}  {means[kind]}" for kind, names in found.items() for name in names))
        print("The next release writes the .env anew; what is to stay belongs into the stack file.")
    return Exit.CARE if differs else Exit.OK


# ---------------------------------------------------------------- doing


def restart_workers(options: Options) -> int:
    """Horizon anew, without losing a job."""
    done = host(options).ask("workers", wait=options.wait)
    if options.json:
        print(as_json(done))
    elif done["renewed"]:
        print(f"Horizon runs anew: pid {done['before']['pid'] or 'none'} -> {done['now']['pid']}")
    elif done["now"]["state"] in ("RUNNING", "STOPPING", "STARTING"):
        print(
            f"Horizon (pid {done['before']['pid']}) still lets its workers finish their jobs, for at most an "
            "hour; then supervisor starts it anew. `status` shows when."
        )
    else:
        print(f"supervisor could not start Horizon: {done['now']['state']}. `logs horizon` says why")
    return Exit.OK if done["renewed"] else Exit.CARE


def restart_service(options: Options) -> int:
    """A service of the host."""
    done = host(options).ask("restart", service=options.service, force=options.force)
    print(as_json(done) if options.json else f"{done['unit']}: {done['state']}")
    return Exit.OK if done["state"] == "active" else Exit.CARE


def failed_jobs(options: Options) -> int:
    """The jobs that failed, newest first."""
    found = host(options).ask("jobs", retry=None)
    if options.json:
        print(as_json(found))
    elif not found:
        print("no failed jobs")
    else:
        rows = [
            (one["id"], one["failed_at"], one["queue"], one["job"], short(one["reason"] or "", 120))
            for one in found
        ]
        print(table(("ID", "FAILED AT", "QUEUE", "JOB", "WHY"), rows))
    return Exit.CARE if found else Exit.OK


def retry_jobs(options: Options) -> int:
    """Back into their queues."""
    done = host(options).ask("jobs", retry=options.ids)
    count = len(done["retried"])
    text = f"{count} failed job{'' if count == 1 else 's'} back in the queue" if count else "no failed jobs"
    print(as_json(done) if options.json else text)
    return Exit.OK


def renew_certificates(options: Options) -> int:
    """New ones now, whatever the old ones are good for."""
    return host(options).stream("certificate", renew=options.names)


def run_psql(options: Options) -> int:
    """psql on the host; at a terminal if there is one and no statement was given."""
    where = host(options)
    given = {"database": options.database, "write": options.write, "csv": options.csv}
    if options.command is not None:
        return where.stream("psql", given=options.command.encode(), **given)
    if at_terminal():
        return where.terminal("psql", **given)
    return where.stream("psql", given=sys.stdin.buffer, **given)


def run_artisan(options: Options) -> int:
    """Any other command of the application."""
    words = options.words[1:] if options.words[:1] == ["--"] else options.words
    where = host(options)
    if at_terminal():
        return where.terminal("artisan", words=words)
    return where.stream("artisan", given=b"" if sys.stdin.isatty() else sys.stdin.buffer, words=words)


def export_secrets(options: Options) -> int:
    """Names without values, a new file for its owner only, or, when told so, standard output."""
    state = json.loads(stack.pulumi(options.stack, "export", "--show-secrets"))
    found = secrets.generated(state)
    if options.to is None and not options.stdout:
        rows = [
            (name, one["type"], ", ".join(key for key in one if key != "type")) for name, one in found.items()
        ]
        print(table(("NAME", "TYPE", "VALUES"), rows))
        print("Values: `secrets export --to FILE` (a new file, for you only), or --stdout")
        return Exit.OK
    operators = stack.operators(stack.outputs(options.stack))
    environments = {
        one.app: {name: value.get_secret_value() for name, value in one.environment.items()}
        for one in operators.values()
        if one.app
    }
    text = secrets.document(options.stack or _selected(), found, environments)
    if options.stdout:
        sys.stdout.write(text)
    else:
        secrets.save(options.to, text)
        print(f"{options.to} holds the secrets, readable by you only: move it to where you keep such things")
    return Exit.OK


def _selected() -> str:
    """The name of the stack a task without --stack means."""
    rows = json.loads(stack.pulumi(None, "ls", "--json"))
    return next((str(row["name"]) for row in rows if row.get("current")), os.environ.get("PULUMI_STACK", ""))


# ---------------------------------------------------------------- command line


def parser() -> argparse.ArgumentParser:
    """Every task, with its options."""
    top = argparse.ArgumentParser(
        prog="python -m tasks",
        description="Tasks for the operators of a stack.",
        epilog=(__doc__ or "").split("\n\n")[-1],
    )
    # Before the task's name or behind it: where it is not given, it takes nothing from the other place.
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    for one in (top, common):
        one.add_argument("--stack", "-s", help="the stack; the selected one without it")
        one.add_argument("--system", help="the system, where a stack has several")
        one.add_argument("--json", action="store_true", help="answer as JSON")
    tasks = top.add_subparsers(dest="task", required=True, metavar="TASK")

    def task(
        parent: argparse._SubParsersAction[argparse.ArgumentParser],
        name: str,
        run: Callable[[Options], int],
        text: str,
    ) -> argparse.ArgumentParser:
        made = parent.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", parents=[common]
        )
        made.set_defaults(run=run)
        return made

    def group(name: str, text: str) -> argparse._SubParsersAction[argparse.ArgumentParser]:
        return tasks.add_parser(name, help=text).add_subparsers(dest="verb", required=True, metavar="VERB")

    def database(one: argparse.ArgumentParser) -> None:
        one.add_argument("--database", "-d", default="production", help="production, sandbox, or its name")

    task(tasks, "status", show_status, "what is live, what runs, and what needs a person")

    log = task(tasks, "logs", show_logs, "the end of a log; without a name, which there are")
    log.add_argument("log", nargs="?", default="", help="its name")
    log.add_argument("--follow", "-f", action="store_true", help="and what comes after it")
    log.add_argument("--lines", "-n", type=_count, default=50, help="how many (50)")
    log.add_argument(
        "--grep", "-g", default="", metavar="TEXT", help="only lines with this text, of all there are"
    )

    verbs = group("workers", "the queue's workers")
    again = task(verbs, "restart", restart_workers, "start Horizon anew; running jobs end first")
    again.add_argument("--wait", type=_count, default=60, metavar="SECONDS", help="how long to watch it (60)")

    service = task(tasks, "restart", restart_service, "restart a service of the host")
    service.add_argument("service", choices=("php", "nginx"), help="which")
    service.add_argument("--force", action="store_true", help="PHP even though it answers")

    verbs = group("jobs", "the queue's failed jobs")
    task(verbs, "failed", failed_jobs, "list them")
    retried = task(verbs, "retry", retry_jobs, "put them back into their queue")
    retried.add_argument("ids", nargs="+", metavar="ID|all", help="which")

    verbs = group("certificate", "certificates of the host's names")
    task(verbs, "status", show_certificates, "what each name has")
    renewed = task(verbs, "renew", renew_certificates, "new ones now")
    renewed.add_argument("names", nargs="+", metavar="NAME|all", help="for which names")

    sql = task(
        tasks, "psql", run_psql, "a database as the application's user; read only unless told otherwise"
    )
    database(sql)
    sql.add_argument(
        "--command", "-c", metavar="SQL", help="one statement; without it a terminal, or from input"
    )
    sql.add_argument("--write", action="store_true", help="let statements change data")
    sql.add_argument("--csv", action="store_true", help="print CSV")

    slow = task(tasks, "slow-queries", show_slow_queries, "which statements take the database longest")
    database(slow)
    slow.add_argument("--lines", "-n", type=_count, default=10, help="how many (10)")

    verbs = group("env", "the application's .env")
    task(verbs, "diff", show_env_diff, "what differs from what the last `pulumi up` wrote; no values")

    command = task(tasks, "artisan", run_artisan, "any command of the application")
    command.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND …", help="after our own options")

    verbs = group("secrets", "what the program has generated")
    export = task(verbs, "export", export_secrets, "list them; with --to or --stdout, with their values")
    where = export.add_mutually_exclusive_group()
    where.add_argument("--to", type=Path, metavar="FILE", help="a new file, readable by you only")
    where.add_argument("--stdout", action="store_true", help="print them")
    return top


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one task; its exit code."""
    options = parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except TaskError as error:
        sys.stdout.flush()
        print(error, file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return Exit.OK


if __name__ == "__main__":
    sys.exit(main())
