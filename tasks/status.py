"""`status`: what the host and a visitor say, judged: one line a subject, and whether a person is needed."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tasks.show import MINUTE, clock, duration, size

HEALTH_SECONDS = 10

# Row S17 of the requirements: what an alert would say, at the same figures.
DISK_FREE = 0.20
MEMORY_FREE = 0.10
PENDING = 1000
CONNECTIONS = 0.80
CACHE = 0.80

TICK = 3 * MINUTE
"""The scheduler runs every minute; three missed ones are no coincidence."""


@dataclass(frozen=True)
class Line:
    """One subject; ``remedy`` is what to do where it needs care."""

    subject: str
    good: bool
    text: str
    remedy: str = ""


def health(url: str) -> dict[str, Any]:
    """What a visitor gets: ``code`` (0 without an answer), ``text`` (status, or why not), ``ms``."""
    began = time.monotonic()
    request = urllib.request.Request(url, headers={"User-Agent": "berth-tasks"})  # noqa: S310 - https, by config
    try:
        with urllib.request.urlopen(request, timeout=HEALTH_SECONDS) as answer:  # noqa: S310
            code, body = answer.status, answer.read(65536)
    except urllib.error.HTTPError as error:
        code, body = error.code, error.read(65536)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return {"url": url, "code": 0, "text": str(reason), "ms": round((time.monotonic() - began) * 1000)}
    try:
        text = str(json.loads(body)["status"])
    except (ValueError, KeyError, TypeError):
        text = f"HTTP {code}"
    return {"url": url, "code": code, "text": text, "ms": round((time.monotonic() - began) * 1000)}


def judge(seen: Mapping[str, Any]) -> list[Line]:
    """Every subject of the host's answer (tasks/host/host.py, ``status``), most urgent kinds first."""
    return [line for name, judged in SUBJECTS.items() if name in seen for line in _one(name, judged, seen)]


def _one(name: str, judged: Callable[[Any, float], Iterator[Line]], seen: Mapping[str, Any]) -> list[Line]:
    found = seen[name]
    if isinstance(found, Mapping) and set(found) == {"error"}:
        problem, _, remedy = str(found["error"]).partition("\n  ")
        return [Line(name, False, problem, remedy)]
    return list(judged(found, float(seen.get("now") or time.time())))


def _health(found: Mapping[str, Any], now: float) -> Iterator[Line]:
    good = found["code"] == 200 and found["text"] == "ok"
    text = f"{found['url']}: {found['text']}, {found['ms']} ms"
    yield Line("health", good, text, "`502`, or no answer, in docs/night-shift.md")


def _releases(found: list[Mapping[str, Any]], now: float) -> Iterator[Line]:
    for one in found:
        commit = f", commit {one['commit'][:12]}" if one["commit"] else ""
        text = f"{one['app']} {one['release']}{commit}, since {clock(one['since'])}"
        if not one["whole"]:
            text += ", but it is not there"
        yield Line("release", one["whole"], text, "`pulumi up` builds it again")
    if not found:
        yield Line("release", False, "nothing is live", "`pulumi up`; `logs release` says why there is none")


def _services(found: Mapping[str, str], now: float) -> Iterator[Line]:
    bad = {name: state for name, state in found.items() if state != "active"}
    text = ", ".join(f"{name} {state}" for name, state in (bad or found).items()) or "none is installed"
    if not bad and found:
        text = ", ".join(found)
    remedy = "`restart nginx`, `restart php` or `pulumi up`; `logs system` says why"
    yield Line("services", bool(found) and not bad, text, remedy)


def _php(found: Mapping[str, str], now: float) -> Iterator[Line]:
    bad = [f"{name}: {why}" for name, why in found.items() if why]
    text = "; ".join(bad) or ", ".join(found) or "no socket: PHP does not run"
    yield Line("php", bool(found) and not bad, text, "`restart php`, then `logs php`")


def _horizon(found: Mapping[str, Any], now: float) -> Iterator[Line]:
    good = found["state"] == "RUNNING" and found["horizon"] == "running"
    process = f"pid {found['pid']}, for {found['uptime']}" if found["pid"] else "no process"
    text = f"{found['horizon']}; supervisor: {found['state']} ({process})"
    remedy = "`workers restart`, then `logs horizon`"
    if found["state"] == "ERROR":  # supervisor does not know the program
        remedy = "at rest with `workers: false` in the stack file; else `pulumi up` sets it up"
    yield Line("horizon", good, text, remedy)


def _scheduler(found: Mapping[str, Any], now: float) -> Iterator[Line]:
    remedy = "`logs scheduler`; `logs system`"
    if found["last"] is None:
        yield Line("scheduler", False, f"has not run yet (timer {found['timer']})", remedy)
        return
    ago = now - found["last"]
    failed = found["result"] not in ("success", None) and not found["at_work"]
    good = found["timer"] == "active" and (ago < TICK or found["at_work"]) and not failed
    text = f"last tick {duration(ago)} ago"
    if found["timer"] != "active":
        text += f"; timer {found['timer']}"
    if failed:
        text += f"; it ended with {found['result']} ({found['status']})"
    yield Line("scheduler", good, text, remedy)


def _databases(found: Mapping[str, Any], now: float) -> Iterator[Line]:
    for name, one in found.items():
        if "error" in one:
            problem, _, remedy = str(one["error"]).partition("\n  ")
            yield Line("database", False, problem, remedy)
            continue
        used, most = one["connections"], one["most"]
        text = f"{name}: {one['database']}, {size(one['bytes'])}, {used} of {most} connections"
        yield Line(
            "database", used < CONNECTIONS * most, text, "`psql`, table pg_stat_activity: who holds them?"
        )
    failed = {n: one["failed"] for n, one in found.items() if one.get("failed") is not None}
    if failed:
        first = failed.get("production", next(iter(failed.values())))
        yield Line("failed jobs", first == 0, str(first), "`jobs failed`, then `jobs retry ID` or `all`")


def _cache(found: Mapping[str, Any], now: float) -> Iterator[Line]:
    most = f" of {size(found['most'])}" if found["most"] else ""
    good = not found["most"] or found["used"] < CACHE * found["most"]
    text = f"Redis {found['version']}, {size(found['used'])}{most}, {found['keys']} keys"
    yield Line("cache", good, text, "`Redis is full` in docs/night-shift.md")
    waiting = sum(found["queues"].values())
    queues = ", ".join(f"{name} {count}" for name, count in sorted(found["queues"].items()) if count)
    text = f"{'' if found['whole'] else 'at least '}{waiting}{f' ({queues})' if queues else ''}"
    yield Line("pending jobs", waiting <= PENDING, text, "`Jobs are stuck` in docs/night-shift.md")


def _certificates(found: list[Mapping[str, Any]], now: float) -> Iterator[Line]:
    for one in found:
        days = "no certificate" if one["ends"] is None else f"{(one['ends'] - now) / 86400:.0f} days left"
        text = f"{one['name']}: {days}{'' if one['issued'] else ', self-signed'}"
        if one["reason"]:
            text += f"; {one['reason']}"
        remedy = f"`certificate renew {one['name']}`; `logs certificates`"
        yield Line("certificate", not one["care"], text, remedy)


def _steps(found: Mapping[str, Any], now: float) -> Iterator[Line]:
    for one in found["working"]:
        yield Line("step", True, f"{one['step']} is at work since {clock(one['since'])}")
    bad = [one for one in found["results"] if one["why"]]
    for one in bad:
        text = f"{one['step']} {one['why']} at {clock(one['finished'])}"
        yield Line("step", False, text, f"`logs {one['step']}`, then `pulumi up`")
    if found["results"] and not bad:
        newest = max(found["results"], key=lambda one: float(one["finished"]))
        names = ", ".join(one["step"] for one in found["results"])
        yield Line("steps", True, f"{names}: done, the last at {clock(newest['finished'])}")


def _host(found: Mapping[str, Any], now: float) -> Iterator[Line]:
    text = f"{found['name']}, up {duration(found['uptime'])}, load {found['load']} on {found['cpus']} cores"
    text += "; an update waits for a reboot" if found["reboot"] else ""
    yield Line("host", not found["reboot"], text, "it reboots by itself at the hour of `reboot_time`")
    free, memory = found["memory_free"], found["memory"]
    text = f"{size(free)} of {size(memory)} free"
    yield Line("memory", free > MEMORY_FREE * memory, text, "`logs system` names what was killed for it")
    free, disk = found["disk_free"], found["disk"]
    text = f"{size(free)} of {size(disk)} free"
    yield Line("disk", free > DISK_FREE * disk, text, "`Disk is full` in docs/night-shift.md")
    if found["failed"]:
        units = ", ".join(found["failed"])
        yield Line("units", False, f"failed: {units}", "`logs system`")


SUBJECTS: Mapping[str, Callable[[Any, float], Iterator[Line]]] = {
    "health": _health,
    "releases": _releases,
    "services": _services,
    "php": _php,
    "horizon": _horizon,
    "scheduler": _scheduler,
    "databases": _databases,
    "cache": _cache,
    "certificates": _certificates,
    "steps": _steps,
    "host": _host,
}


def rendered(lines: list[Line]) -> Iterator[str]:
    """For a person: what needs care carries its remedy."""
    width = max(len(line.subject) for line in lines)
    for line in lines:
        yield f"{'ok  ' if line.good else 'CARE'}  {line.subject.ljust(width)}  {line.text}"
        if not line.good and line.remedy:
            yield f"{' ' * (width + 8)}-> {line.remedy}"


def report(seen: Mapping[str, Any], lines: list[Line]) -> dict[str, Any]:
    """For programs: the verdict, its lines, and what was seen."""
    told = [asdict(line) | ({"remedy": ""} if line.good else {}) for line in lines]
    return {"good": all(line.good for line in lines), "lines": told, "seen": seen}
