#!/usr/bin/python3
"""berth-certificates: every name of this host has a certificate, at first self-signed, soon a real one.

    berth-certificates prepare              links for all names, self-signed where nothing is issued yet
    berth-certificates forget               what is no longer configured goes: once nginx does without it
    berth-certificates issue                try each name that has none and whose turn it is (timer)
    berth-certificates status [--json]      what each name has and why; exit status 1 if one needs care
    berth-certificates renew --force NAME   a new certificate now

Reads /etc/berth/certificates.json ({"email", "directory", "webroot", "names"}); what went wrong is in
/var/lib/berth/certificates.json. nginx reads /etc/berth/tls/<name>/{fullchain,privkey}.pem, where <name> is a
link that is only ever replaced as a whole. Each name has a lineage of its own in certbot, so one that fails
delays no other; certbot.timer renews them. Standard library only, runs as root.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

FIRST_RETRY = 120  # seconds; doubled by each failure in a row
LAST_RETRY = 3600  # Let's Encrypt allows five failed validations of a name in an hour
NO_NAME_RETRY = 45  # a name that does not resolve yet costs the authority nothing
SELF_SIGNED_DAYS = 90
CARE_DAYS = 21  # certbot renews 30 days before the end: less than this means that it fails
TIMER = "berth-certificates.timer"
BUSY = "Another instance of Certbot is already running"
BUSY_SECONDS = 300  # how long certbot's own timer may keep us waiting


class Host:
    """The files of one host; ``root`` is another directory than / only in tests."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.config_path = root / "etc/berth/certificates.json"
        self.state_path = root / "var/lib/berth/certificates.json"
        self.lock_path = root / "run/berth-certificates.lock"
        self.links = root / "etc/berth/tls"
        self.self_signed = root / "var/lib/berth/self-signed"
        self.certbot = root / "etc/letsencrypt"
        self.log = root / "var/log/letsencrypt/letsencrypt.log"
        config = json.loads(self.config_path.read_text())
        self.email: str = config["email"]
        self.directory: str = config["directory"]
        self.webroot: str = config["webroot"]
        self.names: list[str] = config["names"]

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """One of us at a time; the second waits."""
        self.lock_path.parent.mkdir(parents=True, exist_ok=True)
        with self.lock_path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    # ---------------------------------------------------------------- what is there

    def lineage(self, name: str) -> Path:
        """Where certbot keeps the current certificate of ``name``."""
        return self.certbot / "live" / name

    def issued(self, name: str) -> bool:
        """Whether an authority has ever signed for ``name``."""
        return (self.lineage(name) / "fullchain.pem").exists()

    def wanted(self, name: str) -> bool:
        """Whether ``name`` has no certificate yet, or one of another authority than configured."""
        if not self.issued(name):
            return True
        with contextlib.suppress(OSError):
            settings = (self.certbot / "renewal" / f"{name}.conf").read_text()
            found = re.search(r"^server\s*=\s*(\S+)", settings, re.MULTILINE)
            return found is not None and found[1] != self.directory
        return False

    def state(self) -> dict[str, dict[str, Any]]:
        """Failures by name: {"failures", "reason", "tried", "next"} (times in seconds since the epoch)."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            state: dict[str, dict[str, Any]] = json.loads(self.state_path.read_text())
            return state
        return {}

    def save(self, state: dict[str, dict[str, Any]]) -> None:
        """Whole or not at all."""
        self.state_path.parent.mkdir(parents=True, exist_ok=True)
        new = self.state_path.with_suffix(".new")
        new.write_text(json.dumps(state, indent=1, sort_keys=True))
        new.replace(self.state_path)

    # ---------------------------------------------------------------- changing it

    def sign_ourselves(self, name: str) -> Path:
        """A certificate nobody trusts, so that nginx can start and answer; returns its directory."""
        directory = self.self_signed / name
        certificate = directory / "fullchain.pem"
        if certificate.exists() and days_left(certificate) > 7:
            return directory
        directory.mkdir(parents=True, exist_ok=True)
        key = directory / "privkey.pem"
        key.touch(0o600)
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        command += ["-nodes", "-days", str(SELF_SIGNED_DAYS), "-subj", "/CN=not issued yet"]
        command += ["-addext", f"subjectAltName=DNS:{name}", "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(command, check=True, capture_output=True)
        return directory

    def link(self, name: str) -> bool:
        """Point ``name`` at the best certificate there is; True when that changed."""
        target = self.lineage(name) if self.issued(name) else self.sign_ourselves(name)
        link = self.links / name
        if link.is_symlink() and link.readlink() == target:
            return False
        self.links.mkdir(parents=True, exist_ok=True)
        new = self.links / f".{name}.new"
        new.unlink(missing_ok=True)
        new.symlink_to(target)
        new.replace(link)
        return True

    def forget(self) -> None:
        """What is no longer configured goes, or certbot would try to renew it for ever."""
        for link in self.links.glob("[!.]*"):
            if link.name not in self.names:
                link.unlink()
                shutil.rmtree(self.self_signed / link.name, ignore_errors=True)
                if self.issued(link.name):
                    certbot("delete", "--cert-name", link.name)
        self.save({name: entry for name, entry in self.state().items() if name in self.names})

    def issue(self, name: str) -> str:
        """Ask the authority; returns why it failed, or ""."""
        options = ["--webroot", "--webroot-path", self.webroot, "--cert-name", name, "--domain", name]
        options += ["--server", self.directory, "--email", self.email, "--agree-tos", "--no-eff-email"]
        options += ["--key-type", "ecdsa"]
        if self.issued(name):  # of another authority
            options.append("--force-renewal")
        return self.ask("certonly", *options)

    def ask(self, *arguments: str) -> str:
        """certbot's verdict; of a second try with a new account where the authority has forgotten ours."""
        reason = certbot(*arguments)
        if reason and self.forgotten():
            self.register()
            reason = certbot(*arguments)
        return reason

    def forgotten(self) -> bool:
        """Whether certbot's last run was told so: RFC 8555 has a word for it, certbot 2.1 only logs it."""
        with contextlib.suppress(FileNotFoundError):
            return "urn:ietf:params:acme:error:accountDoesNotExist" in self.log.read_text(errors="replace")
        return False

    def register(self) -> None:
        """A new account at the configured authority; renewals that name the old one take the new one."""
        shutil.rmtree(self.certbot / "accounts" / urlsplit(self.directory).netloc, ignore_errors=True)
        for settings in (self.certbot / "renewal").glob("*.conf"):
            text = settings.read_text()
            if self.directory in text:
                settings.write_text(re.sub(r"(?m)^account\s*=.*\n", "", text))
        who = ["--server", self.directory, "--email", self.email, "--agree-tos", "--no-eff-email"]
        certbot("register", *who)


def certbot(*arguments: str) -> str:
    """Run certbot, after another that runs; returns "" or, in its words, why it failed."""
    command = ["certbot", *arguments, "--non-interactive"]
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if BUSY not in done.stdout + done.stderr or time.monotonic() > deadline:
            break
        time.sleep(1)
    if done.returncode == 0:
        return ""
    said = (done.stdout + done.stderr).splitlines()
    details = [line.split(":", 1)[1].strip() for line in said if line.strip().startswith("Detail:")]
    rest = [
        line.strip() for line in said if line.strip() and not line.startswith(("Saving debug", "Ask for"))
    ]
    return "; ".join(details) or (rest[-1] if rest else f"certbot ended with {done.returncode}")


def resolves(name: str) -> str:
    """Why ``name`` has no address, or "": asking first saves the authority's patience."""
    try:
        socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)
    except OSError as error:
        return f"the name does not resolve ({error.strerror or error})"
    return ""


def reload_nginx() -> None:
    """Let nginx read its certificates again, if it runs; it keeps the old ones if it cannot."""
    subprocess.run(["systemctl", "reload", "nginx.service"], check=False, capture_output=True)


def ends(certificate: Path) -> float:
    """When the certificate ends, in seconds since the epoch."""
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-enddate", "-in", str(certificate)],
        capture_output=True,
        text=True,
        check=True,
    )
    text = shown.stdout.strip().removeprefix("notAfter=")
    return datetime.strptime(text, "%b %d %H:%M:%S %Y %Z").replace(tzinfo=UTC).timestamp()


def days_left(certificate: Path) -> float:
    """Days until it ends; negative afterwards."""
    return (ends(certificate) - time.time()) / 86400


def issue(host: Host) -> int:
    """Try every name whose turn it is; the timer rests when nothing is missing."""
    state = host.state()
    for name in host.names:
        entry = state.get(name, {"failures": 0, "next": 0})
        if not host.wanted(name) or entry["next"] > time.time():
            continue
        reason = resolves(name)
        waits = NO_NAME_RETRY
        if not reason:
            reason = host.issue(name)
            waits = min(FIRST_RETRY * 2 ** entry["failures"], LAST_RETRY)
            entry["failures"] += 1
        if reason:
            now = time.time()
            state[name] = entry | {"reason": reason, "tried": now, "next": now + waits}
            print(f"{name}: {reason}; next try in {waits} s")
        else:
            state.pop(name, None)
            print(f"{name}: issued")
        host.save(state)
        host.link(name)
        if not reason:
            reload_nginx()  # at once: the next name may take its time
    if not any(host.wanted(name) for name in host.names):
        subprocess.run(["systemctl", "stop", TIMER], check=False, capture_output=True)
    return 0


def prepare(host: Host) -> int:
    """Links for all names; nothing waits, nothing asks the network."""
    for name in host.names:
        host.link(name)
    return 0


def clock(seconds: float) -> str:
    """Seconds since the epoch as a person reads them."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def status(host: Host, as_json: bool) -> int:
    """What each name has. Exit status 1 when one is missing, fails, or ends soon."""
    state = host.state()
    rows: list[dict[str, Any]] = []
    for name in host.names:
        certificate = host.links / name / "fullchain.pem"
        entry = state.get(name, {})
        days = days_left(certificate) if certificate.exists() else None
        wanted = host.wanted(name)
        rows.append(
            {
                "name": name,
                "issued": host.issued(name),
                "ends": ends(certificate) if days is not None else None,
                "reason": entry.get("reason", "not tried yet") if wanted else None,
                "next_try": entry.get("next") if wanted else None,
                "care": wanted or days is None or days < CARE_DAYS,
            }
        )
    if as_json:
        print(json.dumps(rows, indent=1))
    for row in [] if as_json else rows:
        kind = "issued" if row["issued"] else "self-signed"
        line = f"{row['name']}: {kind}, ends {clock(row['ends']) if row['ends'] else 'unknown'}"
        if row["reason"]:
            line += f"; {row['reason']}"
        if row["next_try"]:
            line += f"; next try {clock(row['next_try'])}"
        print(line)
    return 1 if any(row["care"] for row in rows) else 0


def renew(host: Host, name: str) -> int:
    """A new certificate now, though the old one is good. Exit status 1 with the reason on standard error."""
    if name not in host.names:
        print(f"{name} is no name of this host: {', '.join(host.names)}", file=sys.stderr)
        return 2
    if host.issued(name):
        reason = host.ask("renew", "--cert-name", name, "--force-renewal", "--no-random-sleep-on-renew")
    else:
        reason = host.issue(name)
    if reason:
        print(f"{name}: {reason}", file=sys.stderr)
        return 1
    host.link(name)
    reload_nginx()
    print(f"{name}: renewed, ends {clock(ends(host.lineage(name) / 'fullchain.pem'))}")
    return 0


def main(arguments: list[str], root: Path = Path("/")) -> int:
    """The command line; see the top of this file."""
    parser = argparse.ArgumentParser(prog="berth-certificates")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("prepare")
    verbs.add_parser("forget")
    verbs.add_parser("issue")
    verbs.add_parser("status").add_argument("--json", action="store_true")
    forced = verbs.add_parser("renew")
    forced.add_argument("--force", action="store_true", required=True)
    forced.add_argument("name")
    chosen = parser.parse_args(arguments)
    host = Host(root)
    if chosen.verb == "status":
        return status(host, chosen.json)
    with host.alone():
        if chosen.verb == "renew":
            return renew(host, chosen.name)
        if chosen.verb == "forget":
            host.forget()
            return 0
        return prepare(host) if chosen.verb == "prepare" else issue(host)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
