"""What does not depend on the cloud: this machine, the stack's secrets, sources, certificates, delegation."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import dns.exception
import dns.resolver

from config.checks import remarks
from config.model import Stack
from config.report import Problem, dotted
from config.types import is_ssh
from preflight.needs import Needs, Source
from preflight.reader import Absent, Reader, Unreadable
from preflight.report import Check, Row, missing, ok, unknown

GIT_SECONDS = 30
COMMIT = re.compile(r"[0-9a-f]{40}")
# What git says where the host answered, and would not show such a repository.
NOT_SHOWN = re.compile(r"not found|could not read Username|[Aa]uthentication failed|denied|403|404")


def checks(
    stack: Stack, name: str, absent: Sequence[Problem], needs: Sequence[Needs], reader: Reader
) -> list[Check]:
    """``absent``: secrets the stack file lacks; ``name``: the stack's."""
    found = [
        Check(title="pulumi", ask=_pulumi),
        Check(title="stack file", ask=lambda: _stack_file(stack, name, absent)),
    ]
    for need in needs:
        found += [
            Check(title=f"git {source.repository}", ask=partial(_source, source)) for source in need.sources
        ]
        if need.directory:
            found.append(Check(title="certificates", ask=partial(_directory, need.directory, reader)))
    return found


def _pulumi() -> Iterator[Row]:
    path = shutil.which("pulumi")
    if path is None:
        yield missing(
            "pulumi",
            "not on PATH",
            "install it (https://www.pulumi.com/docs/install/); the sandbox brings its own",
        )
        return
    try:
        done = subprocess.run([path, "version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        yield unknown(
            "pulumi", f"{path} does not answer ({type(error).__name__})", "run `pulumi version` yourself"
        )
        return
    if done.returncode:
        yield missing("pulumi", f"`pulumi version` fails with {done.returncode}", "install it again")
    else:
        yield ok("pulumi", done.stdout.strip())


def _stack_file(stack: Stack, name: str, absent: Sequence[Problem]) -> Iterator[Row]:
    for problem in absent:
        yield missing(problem.path, problem.rule, problem.remedy)
    if not absent:
        yield ok(
            f"Pulumi.{name}.yaml", f"{stack.environment}: {', '.join(stack.systems)}; every secret is set"
        )
    for path, advice in remarks(stack):
        yield missing(dotted(path), "allowed, but it cannot work", advice)


def _source(source: Source) -> Iterable[Row]:
    what = f"{source.repository} {source.release}"
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("SCW_")},
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o ConnectTimeout=10",
    }
    try:
        done = subprocess.run(
            ["git", "ls-remote", "--", source.repository],
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            env=environment,
            cwd="/",
            check=False,
        )
    except FileNotFoundError:
        return [unknown(what, "git is not installed here", "install git, or look at the repository yourself")]
    except subprocess.TimeoutExpired:
        return [
            unknown(
                what, f"no answer within {GIT_SECONDS} s", "see whether the host can be reached from here"
            )
        ]
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        if is_ssh(source.repository):
            remedy = (
                "the deploy key is encrypted, so this was tried with your own; give yours access to see more"
            )
            return [unknown(what, said, remedy)]
        if not NOT_SHOWN.search(done.stderr):
            return [unknown(what, said, "hosts fetch it from elsewhere; see that this machine may go out")]
        return [
            missing(what, said, "correct `repository:`; a private one takes its ssh form and `deploy_key`")
        ]
    refs = {ref: commit for commit, _, ref in (line.partition("\t") for line in done.stdout.splitlines())}
    whose = " (read with your own key, not the deploy key)" if is_ssh(source.repository) else ""
    if f"refs/tags/{source.release}" in refs:
        return [ok(what, f"the tag is there{whose}")]
    if not COMMIT.fullmatch(source.release):
        return [missing(what, "no such tag", "push the tag, or name another in `release:`")]
    if source.release in refs.values():
        return [ok(what, f"the commit is there{whose}")]
    return [
        unknown(
            what, "no branch or tag ends at this commit", "a commit inside a branch cannot be seen from here"
        )
    ]


def _directory(url: str, reader: Reader) -> Iterator[Row]:
    what = f"certificates from {url}"
    try:
        body = reader.json(url)
    except Absent:
        yield missing(what, "there is no directory at this address", "correct `certificates.directory`")
        return
    except Unreadable as error:
        yield unknown(
            what, error.why, "the host asks there too, from elsewhere; see that this machine may go out"
        )
        return
    if isinstance(body, dict) and "newOrder" in body:
        yield ok(what, "the directory answers")
    else:
        yield missing(what, "not an ACME directory", "correct `certificates.directory`")


def delegation(zone: str, expected: Iterable[str]) -> Iterator[Row]:
    """Whether the world asks ``expected`` name servers about ``zone``, as this machine's resolver sees it."""
    what = f"delegation of {zone}"
    wanted = sorted(name.rstrip(".").lower() for name in expected)
    servers = " and ".join(wanted)
    remedy = f"at the registrar of {zone} set its name servers to {servers}; it takes hours to be seen"
    try:
        answer = dns.resolver.resolve(zone, "NS", lifetime=10)
    except dns.resolver.NXDOMAIN:
        yield missing(what, "the name does not exist in the DNS", f"register it, then {remedy}")
        return
    except dns.resolver.NoAnswer:
        yield missing(what, "not a zone of its own: no NS record", remedy)
        return
    except (dns.exception.DNSException, OSError) as error:
        yield unknown(
            what, f"the resolver does not tell ({type(error).__name__})", f"ask for it: dig NS {zone}"
        )
        return
    seen = sorted(str(record.target).rstrip(".").lower() for record in answer)
    if set(seen) == set(wanted):
        yield ok(what, " ".join(seen))
    else:
        yield missing(what, f"the world asks {' '.join(seen)}", remedy)
