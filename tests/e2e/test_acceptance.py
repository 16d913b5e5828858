"""The whole thing from outside: the real commands in a fresh clone, in the order a person would meet them.

The tests build on each other: one site comes up, is looked at, changes, fails, is broken and recovers. The
same system goes on in test_backend.py and goes in test_end.py.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from sandbox import paths
from sandbox.hosts import net
from sandbox.internet.layout import STRANGER
from tests.e2e.api import Api
from tests.e2e.checkout import PYTHON, Checkout, until
from tests.e2e.conftest import Site
from tests.e2e.cutover import rehearse

# Every port of the system range, and where servers that nobody should see usually listen.
PORTS = (
    *range(1, 1025),
    2049,
    2375,
    3000,
    3306,
    4000,
    5000,
    5432,
    6379,
    6443,
    8000,
    8080,
    8443,
    9000,
    9090,
    9100,
)
ADDED = ("aliases: [www.scell.io]", "aliases: [a.scell.io, b.scell.io, www.scell.io]")
METADATA = "169.254.42.42"


@pytest.fixture
def clone(site: Site) -> Checkout:
    return site.checkout


def tracked(clone: Checkout) -> str:
    """What git has to say about the clone, the stack file aside, which is ours to edit."""
    return clone.run("git", "status", "--porcelain", "--", ".", ":!Pulumi.sandbox.yaml").good().out


def unchanged(text: str) -> bool:
    """Whether an `up` has found everything as it should be."""
    return bool(re.search(r"^Resources:\n    \d+ unchanged\n\n", text, re.MULTILINE))


def answers(clone: Checkout, name: str = "scell.io") -> bool:
    """Whether `name` is served under a certificate of the authority."""
    return clone.curl(f"https://{name}/", "--output", "/dev/null").code == 0


def certified(clone: Checkout, name: str, seconds: float) -> None:
    """Wait for the certificate of `name`, as `up` never does."""
    until(lambda: answers(clone, name), seconds, f"a certificate for {name}", pause=1)


# ---------------------------------------------------------------- what a visitor sees


def test_one_command_brings_the_built_site_over_verified_https(site: Site) -> None:
    clone = site.checkout
    began = time.monotonic()
    for name in ("scell.io", "www.scell.io"):
        certified(clone, name, 120)
        page = clone.page(f"https://{name}/")
        assert '<meta name="version" content="1.0.0">' in page
        assert "Its API answers at https://api.scell.io/api/v1." in page
        assert "%VITE_" not in page
        assert "Pebble" in clone.certificate(name)["issuer"]
    site.figures["certificates of the authority after `make up`"] = f"{time.monotonic() - began:.0f} s"
    assert clone.sandbox("curl", "https://scell.io/").good().out == page
    # The chain ends in the sandbox's authority and nowhere else.
    machine = clone.curl("https://scell.io/", "--cacert", "/etc/ssl/certs/ca-certificates.crt")
    assert machine.code == 60, machine.text


def test_http_leads_to_https_and_only_our_names_are_answered(clone: Checkout) -> None:
    status, headers = clone.head("http://www.scell.io/some/page?x=1")
    assert (status, headers["location"]) == (301, "https://www.scell.io/some/page?x=1")
    to_us = f"other.example:443:{clone.address}", f"other.example:80:{clone.address}"
    resolved = [word for entry in to_us for word in ("--resolve", entry)]
    assert clone.curl("https://other.example/", "--insecure", *resolved).code == 35  # handshake refused
    assert clone.curl("http://other.example/", *resolved).code == 52  # no answer at all
    # Elsewhere on the sandbox's internet there is nobody either, and who asked is written down.
    assert clone.curl("https://nobody.example/").code == 35
    assert "nobody.example" in {entry["name"] for entry in clone.status()["machine"]["internet"]["refused"]}


def test_pages_and_assets_are_cached_as_they_should_be(clone: Checkout) -> None:
    seen = clone.curl("https://scell.io/", "--output", "/dev/null", "--write-out", "%{http_version}")
    assert seen.good().out == "2"
    for path in ("/", "/index.html", "/about", "/deep/route?q=1"):
        status, headers = clone.head(f"https://scell.io{path}")
        assert (status, headers["cache-control"]) == (200, "no-cache"), path
        assert headers["content-type"].startswith("text/html"), path
    page = clone.page()
    assert clone.page("https://scell.io/deep/route") == page
    found = re.findall(r'"(/assets/[^"]+)"', page)
    assert {Path(asset).suffix for asset in found} >= {".js", ".css"}
    for asset in found:
        status, headers = clone.head(f"https://scell.io{asset}")
        assert (status, headers["cache-control"]) == (200, "public, max-age=31536000, immutable"), asset
    status, headers = clone.head("https://scell.io/assets/index-missing.js")
    assert status == 404
    assert "immutable" not in headers["cache-control"]
    assert clone.head("https://scell.io/.git/config")[0] == 404


# ---------------------------------------------------------------- what nobody else gets to see


def test_a_stranger_reaches_the_web_and_an_admin_ssh_as_well(clone: Checkout) -> None:
    assert clone.open_ports(PORTS, STRANGER) == {80, 443}
    assert clone.open_ports(PORTS, net.ADMIN) == {22, 80, 443}


def test_either_firewall_holds_alone(clone: Checkout) -> None:
    clone.on_host("systemd-run --quiet --collect --unit=trial python3 -m http.server 8080")
    try:
        clone.on_host("nft delete table inet berth")
        assert clone.open_ports(PORTS, STRANGER) == {80, 443}
        clone.on_host("systemctl restart nftables")
        # Each command of the sandbox sets up the outer one again, so none is given while it is away.
        rules = clone.inside("nft", "list", "table", "inet", "berth_hosts").good().out
        address = clone.address
        clone.inside("nft", "delete", "table", "inet", "berth_hosts").good()
        try:
            assert clone.open_ports(PORTS, STRANGER, address) == {80, 443}
            assert clone.open_ports([22, 8080], net.ADMIN, address) == {22}
        finally:
            clone.inside("nft", "-f", "-", given=rules).good()
    finally:
        clone.on_host("systemctl stop trial; systemctl is-active nftables")


def test_the_baseline_holds_on_the_host(clone: Checkout) -> None:
    said = clone.on_host(
        "systemctl --failed --no-legend; systemctl is-active nginx fail2ban nftables certbot.timer\n"
        "sshd -T | grep -E '^(passwordauthentication|permitrootlogin|allowusers) '\n"
        "fail2ban-client status sshd >/dev/null && echo watched\n"
        "apt-config dump | grep 'APT::Periodic::Unattended-Upgrade '\n"
        "logrotate --debug /etc/logrotate.d/berth /etc/logrotate.d/nginx 2>&1 | grep -ci '^error' || true\n"
        "stat -c %a /run/berth /var/log/berth\n"
    )
    assert said.splitlines() == [
        *["active"] * 4,
        "permitrootlogin no",
        "passwordauthentication no",
        "allowusers ops",
        "allowusers berth",
        "watched",
        'APT::Periodic::Unattended-Upgrade "1";',
        "0",
        *["700"] * 2,
    ]


def test_the_metadata_is_for_root_alone(clone: Checkout, tmp_path: Path) -> None:
    serve = [PYTHON, "-m", "http.server", "80", "--bind", METADATA, "--directory", str(tmp_path)]
    script = f"""
ask="curl --silent --output /dev/null --max-time 3 http://{METADATA}/"
$ask --retry 20 --retry-delay 1 --retry-connrefused; echo root $?
for user in ops www-data nobody; do
  setpriv --reuid=$user --clear-groups $ask; echo $user $?
done
"""
    server = net.nsenter(paths.netns(clone.root), serve)
    with subprocess.Popen(server, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            said = clone.on_host(script)
        finally:
            process.kill()
    assert said.splitlines() == ["root 0", "ops 7", "www-data 7", "nobody 7"]


# ---------------------------------------------------------------- nothing changed


def logins(clone: Checkout) -> int:
    """How many SSH connections the host has seen, this question's own included."""
    return int(clone.on_host("journalctl --quiet --unit ssh | grep --count 'Accepted publickey'"))


def test_what_is_up_is_up_to_date(site: Site) -> None:
    clone = site.checkout
    before = logins(clone)
    done = clone.run(*clone.make("up")).good()
    assert unchanged(done.out)
    assert logins(clone) == before + 1
    site.figures["make up, nothing changed"] = f"{done.seconds:.1f} s"
    clone.pulumi("preview", "--expect-no-changes").good()
    clone.pulumi("refresh", "--yes", "--expect-no-changes").good()
    preview = clone.run(*clone.make("preview")).good()
    site.figures["make preview"] = f"{preview.seconds:.1f} s"


def test_the_status_tells_a_person_what_runs(site: Site) -> None:
    clone = site.checkout
    text = clone.sandbox("status").good().out
    assert re.search(r"scell-server .*started", text), text
    assert "{" not in text
    machine = clone.status()["machine"]
    servers = [*machine["internet"]["services"], *(s for s in machine["services"] if not s["database"])]
    used = sum(server["memory"] for server in servers)
    site.figures["memory of services, and of `make up` with engine and program"] = (
        f"{used / 1e6:.0f} + {site.memory / 1e6:.0f} MB"
    )
    assert used + site.memory < 600e6


def secrets_of(clone: Checkout) -> list[str]:
    """Lines that are secret: of every private key in the state, and the sandbox's passphrase."""
    found = {(clone.root / ".sandbox/passphrase").read_text().strip()}
    for name in ("scell-host-key", "scell-deploy-key"):
        outputs = clone.resources(secrets=True)[name]["outputs"]
        for form in ("privateKeyPem", "privateKeyOpenssh", "privateKeyPemPkcs8"):
            key = outputs[form]
            text = json.loads(key["plaintext"]) if isinstance(key, dict) else key
            lines = [line for line in text.splitlines() if not line.startswith("-----")]
            # The first line of OpenSSH's form is the same for every key of this kind.
            found.update(lines[1:] if len(lines) > 1 else lines)
    assert len(found) > 4
    return sorted(line for line in found if len(line) > 8)


def test_preflight_reads_the_account_and_misses_nothing(clone: Checkout) -> None:
    """As on a real account: names, API and certificates are the sandbox's, and the key is a fictional one."""
    # Secrets are in the file the engine reads: the committed one has none.
    derived = ("--config-file", ".sandbox/stacks/Pulumi.sandbox.yaml")
    command = ("exec", "--", "python", "-m", "preflight", "--stack", "sandbox", *derived, "--json")
    done = clone.sandbox(*command)
    report = json.loads(done.out)
    rows = {row["what"]: row for row in report["checks"]}
    bad = [row for row in report["checks"] if row["status"] in ("missing", "unknown")]
    assert (done.code, bad) == (0, []), done.text
    assert rows["scell: name scell.io"]["found"] == "points at this account"
    assert rows["quota of DEV1-M in fr-par-1"]["found"] == "1 of 10 used, 0 more needed"
    assert rows["delegation of scell.io"]["status"] == "ok"
    refused = clone.status()["machine"]["internet"]["refused"]
    assert [entry for entry in refused if "scaleway.com" in entry["name"]] == []
    # A real account in the caller's environment is neither used nor shown.
    seen = clone.run("env", "SCW_SECRET_KEY=real-one", PYTHON, "-m", "sandbox", "exec", "--", "env").good()
    assert "real-one" not in seen.out
    assert "SCW_SECRET_KEY=" in seen.out


def test_no_secret_is_where_others_can_read_it(site: Site) -> None:
    clone = site.checkout
    secrets = secrets_of(clone)
    seen = {
        "a command line while it came up": b"\n".join(site.lines).decode(errors="replace"),
        "the output of `make up`": site.first.out,
        "the state": clone.pulumi("stack", "export").good().out,
        "the plan": clone.pulumi("preview", "--json").good().out,
        "the outputs": clone.pulumi("stack", "output", "--json").good().out,
    }
    # What is looked for can be found: where it is meant to be.
    shown = clone.pulumi("stack", "export", "--show-secrets").good().out
    assert sum(secret in shown for secret in secrets) == len(secrets) - 1  # all but the passphrase
    assert len(site.lines) > 100
    for directory in ("log", "state", "internet", "home", "git", "stacks"):
        for path in (clone.root / ".sandbox" / directory).rglob("*"):
            if path.is_file() and not path.is_symlink():
                seen[str(path)] = path.read_text(errors="replace")
    assert [place for place, text in seen.items() if any(secret in text for secret in secrets)] == []
    listed = "\n".join(secrets)
    script = f"""
umask 077; trap 'rm /run/needles' EXIT
cat >/run/needles <<'END'
{listed}
END
grep --recursive --text --quiet --fixed-strings --file=/run/needles /var/lib/cloud && echo found
grep --recursive --text --files-with-matches --fixed-strings --file=/run/needles /var/log /tmp /srv /run/berth
journalctl --quiet --all --output=export | grep --text --count --fixed-strings --file=/run/needles
stat --format='%a %U' /run/berth /var/log/berth
"""
    assert clone.on_host(script).splitlines() == ["found", "0", "700 root", "700 root"]


# ---------------------------------------------------------------- other stacks


def test_other_stacks_are_planned_beside_it_and_production_is_sealed(clone: Checkout, tmp_path: Path) -> None:
    for stack in ("prod", "staging"):
        plan = clone.sandbox("preview", "--stack", stack).good()
        assert re.search(r"\+ \d\d to create", plan.out), plan.text
    assert tracked(clone) == ""
    # Bucket and mail domain are one each in an account: production is recorded in a checkout of its own.
    other = Checkout(tmp_path / "prod")
    other.run(*other.make("preview")).good()
    made = other.sandbox("up", "--stack", "prod", "--record-only").good()
    assert "Recorded only: no host was run" in made.text
    assert unchanged(other.sandbox("up", "--stack", "prod", "--record-only").good().out)
    refused = other.sandbox("destroy", "--stack", "prod").bad()
    assert "scell-seal" in refused.text
    assert "cannot be deleted" in refused.text
    assert other.status()["stacks"]["prod"]["types"]["scaleway:instance/server:Server"] == 1
    assert tracked(other) == ""
    other.sandbox("reset").good()


# ---------------------------------------------------------------- names, keys, releases


@pytest.fixture(scope="module")
def leaver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The private key of an admin who will leave; the public half is beside it."""
    key = tmp_path_factory.mktemp("leaver") / "key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "leaver", "-f", str(key)], check=True
    )
    return key


def admitted(clone: Checkout, key: Path) -> bool:
    """Whether the holder of a key gets in."""
    options = ["-F", "none", "-b", net.ADMIN, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
    options += [
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "ConnectTimeout=10",
    ]
    done = clone.inside("ssh", *options, "-i", str(key), f"ops@{clone.address}", "id -un")
    assert done.code == 0 or "Permission denied (publickey)" in done.err, done.text
    return done.out == "ops\n"


def test_a_name_that_fails_delays_neither_the_run_nor_the_others(site: Site, leaver: Path) -> None:
    clone = site.checkout
    public = leaver.with_suffix(".pub").read_text().strip()
    clone.edit(ADDED, ("keys: []", f"keys: [{public}]"))
    clone.sandbox("fault", "add", "--token", "*:Record").good()  # one of the two new names
    done = clone.sandbox("up").bad()
    assert "2 created" not in done.out
    site.figures["make up, two new names and a new admin, one name failing"] = f"{done.seconds:.1f} s"
    assert done.seconds < 60
    names = {name for name in ("a", "b") if f"scell-{name}-a" in clone.resources()}
    assert len(names) == 1
    (good,) = names
    (late,) = {"a", "b"} - names
    certified(clone, f"{good}.scell.io", 100)
    report = {
        row["name"]: row for row in json.loads(clone.on_host("berth-certificates status --json || true"))
    }
    assert [name for name, row in report.items() if not row["issued"]] == [f"{late}.scell.io"]
    assert "does not resolve" in report[f"{late}.scell.io"]["reason"]
    assert answers(clone)
    assert admitted(clone, leaver)


def test_releases_go_live_fail_and_go_back_under_load(site: Site, leaver: Path) -> None:
    clone = site.checkout
    before = clone.resources()["scell-server"]["id"]
    public = leaver.with_suffix(".pub").read_text().strip()
    with clone.visited() as seen:
        time.sleep(1)
        # With it the late name's record is made, and the leaver goes.
        clone.edit(("release: v1.0.0", "release: v1.1.0"), (f"keys: [{public}]", "keys: []"))
        done = clone.sandbox("up").good()
        assert 'content="1.1.0"' in clone.page()
        site.figures["release"] = f"{done.seconds:.1f} s"

        clone.edit(("release: v1.1.0", "release: v9.9.9"))
        failed = clone.sandbox("up").bad()
        for words in (
            "Step 'release-scell' failed on host 'scell': it ended with exit status",
            "lines of its log:",
            "v9.9.9 cannot be fetched from https://github.com/scell-io/frontend.git",
            "The whole log is /var/log/berth/release-scell.log on that host.",
        ):
            assert words in failed.text, failed.text
        assert 'content="1.1.0"' in clone.page()

        clone.edit(("release: v9.9.9", "release: v1.0.0"))
        back = clone.sandbox("up").good()
        assert 'content="1.0.0"' in clone.page()
        site.figures["back to the release before"] = f"{back.seconds:.1f} s"
    assert "building" in done.text
    assert "building" not in back.text
    assert "npm" not in clone.on_host("tail --lines=3 /var/log/berth/release-scell.log")
    site.figures["visits meanwhile"] = (
        f"{seen['visits']}, {len(seen['failures'])} failed, {seen['crossed']} crossed"
    )
    assert seen["failures"] == []
    assert seen["visits"] > 100
    assert seen["versions"] == ["1.0.0", "1.1.0", "1.0.0"]
    assert not admitted(clone, leaver)
    assert clone.resources()["scell-server"]["id"] == before


def test_another_name_for_the_admins_locks_nobody_out(clone: Checkout) -> None:
    clone.on_host("nft add rule inet berth input tcp dport 3000 accept")  # as if an older one were loaded
    clone.edit(("user: ops", "user: sre"))
    clone.sandbox("up").good()
    said = clone.on_host(
        "wc -c </home/sre/.ssh/authorized_keys; sudo -l -U ops | grep -c NOPASSWD; sshd -T | grep allowusers"
    )
    assert said == "0\n0\nallowusers sre\nallowusers berth\n"
    assert "dport 3000" not in clone.on_host("nft list table inet berth")
    clone.edit(("user: sre", "user: ops"))
    clone.sandbox("up").good()


def test_another_stack_stands_beside_it_as_its_file_is_and_shares_the_zone(clone: Checkout) -> None:
    done = clone.sandbox("up", "--stack", "staging", seconds=420).good()
    assert "on real hosts" in done.text
    certified(clone, "staging.scell.io", 100)
    assert answers(clone)
    assert "Scell.io (staging)" in clone.page("https://staging.scell.io/")
    clone.sandbox("destroy", "--stack", "staging").good()
    assert answers(clone)
    assert not answers(clone, "staging.scell.io")


def test_a_live_application_moves_here_as_the_page_says(site: Site, tmp_path: Path) -> None:
    rehearse(site.checkout, site.figures, tmp_path)


def test_a_forced_renewal_is_served_without_a_restart(clone: Checkout) -> None:
    since = "systemctl show --property=MainPID,ActiveEnterTimestampMonotonic nginx"
    before, began = clone.certificate("www.scell.io"), clone.on_host(since)
    assert "renewed" in clone.on_host("berth-certificates renew --force www.scell.io")
    until(lambda: clone.certificate("www.scell.io")["serial"] != before["serial"], 10, "another serial")
    assert answers(clone, "www.scell.io")
    # The same by the timer that does it for real: certbot's own, with its hook.
    before = clone.certificate("scell.io")
    # Two of them do not run at once, and ours still asks for the late name now and then.
    renew = "certbot renew --quiet --cert-name scell.io --force-renewal --no-random-sleep-on-renew"
    clone.on_host(f"flock --timeout 60 /run/berth-certificates.lock {renew}")
    until(lambda: clone.certificate("scell.io")["serial"] != before["serial"], 10, "another serial")
    assert clone.on_host(since) == began


# ---------------------------------------------------------------- accidents


def test_nginx_is_back_after_a_crash_and_new_after_an_update_of_itself(clone: Checkout) -> None:
    main = "systemctl show --property MainPID --value nginx"
    first = clone.on_host(main)
    clone.on_host(f"kill -KILL $({main})")
    until(lambda: clone.on_host("systemctl is-active nginx || true") == "active\n", 20, "nginx")
    second = clone.on_host(main)
    assert second != first
    clone.on_host(
        "cp -a /usr/sbin/nginx /usr/sbin/nginx.new; mv /usr/sbin/nginx.new /usr/sbin/nginx\n"
        "DEBIAN_FRONTEND=noninteractive apt-get install -qq --reinstall libsort-naturally-perl"
    )
    assert clone.on_host(main) != second


def test_every_killed_service_is_back_with_the_next_command(clone: Checkout) -> None:
    def running() -> dict[str, int]:
        machine = clone.status()["machine"]
        found = [*machine["internet"]["services"], *machine["services"]]
        return {service["name"]: service["pid"] for service in found}

    services = running()
    assert set(services) > {"gateway", "git", "out", "pdns", "pebble", "storage"}
    assert len(services) >= 9  # database, cache and mail relay as well
    for pid in services.values():
        os.kill(pid, signal.SIGKILL)
    clone.sandbox("up").good()
    again = running()
    assert set(again) == set(services)
    assert not set(again.values()) & set(services.values())
    assert 'content="1.0.0"' in clone.page()
    until(Api(clone).well, 30, "the API, its database and cache killed", pause=1)
    # Also with an authority that has forgotten everybody's account.
    assert "renewed" in clone.on_host("berth-certificates renew --force scell.io")


def test_the_late_name_gets_its_certificate_by_the_timer(clone: Checkout) -> None:
    for name in ("a.scell.io", "b.scell.io"):
        certified(clone, name, 150)
    clone.on_host("berth-certificates status")
    clone.edit(ADDED[::-1])
    clone.sandbox("up").good()
    assert clone.curl("https://a.scell.io/", "--insecure").code != 0
    assert (
        clone.on_host("ls /etc/letsencrypt/live /etc/berth/tls | grep --count '^[ab]\\.scell' || true")
        == "0\n"
    )
    clone.pulumi("preview", "--expect-no-changes").good()


def first_process(clone: Checkout) -> int:
    """The host's init as the machine sees it."""
    hosts = clone.root / ".sandbox/hosts"
    (name,) = (path.name for path in hosts.glob(f"{paths.netns(clone.root)}-*/"))
    asked = ("lxc-info", "-P", str(hosts), "-n", name, "-pH")
    return int(clone.inside(*asked).good().out)


def test_a_host_that_died_is_up_with_the_next_command(clone: Checkout) -> None:
    os.kill(first_process(clone), signal.SIGKILL)
    until(lambda: not answers(clone), 20, "its end")
    clone.sandbox("up").good()
    until(lambda: answers(clone), 30, "its site")
    assert clone.on_host("systemctl is-system-running --wait || systemctl --failed") == "running\n"
    assert clone.open_ports(PORTS, STRANGER) == {80, 443}


def test_a_reboot_brings_the_site_back_by_itself(clone: Checkout) -> None:
    identity = "cat /proc/sys/kernel/random/boot_id; systemctl show --property=UserspaceTimestampMonotonic"
    before = clone.on_host(identity)
    clone.sandbox("ssh", "scell", "sudo", "systemctl", "reboot")
    until(lambda: not answers(clone), 30, "its end", pause=0.05)
    until(lambda: answers(clone), 60, "its site")
    assert clone.on_host(identity) != before
    assert clone.open_ports(PORTS, STRANGER) == {80, 443}
    assert unchanged(clone.sandbox("up").good().out)


def test_a_replaced_host_is_the_same_site_whatever_is_killed_meanwhile(site: Site) -> None:
    clone = site.checkout
    before, address = clone.resources(), clone.address
    # As an operator replaces a host that locked them out; it stays to be done until it is done.
    clone.pulumi("state", "taint", "--yes", str(before["scell-server"]["urn"])).good()

    run = clone.start(".venv/bin/python", "-m", "sandbox", "up")
    run.says("==> installing", 150)
    os.kill(run.below("pulumi"), signal.SIGKILL)
    run.end(60).bad()

    run = clone.start(".venv/bin/python", "-m", "sandbox", "up")
    run.says("==> building", 150)
    engine = run.below("pulumi")
    os.kill(run.process.pid, signal.SIGKILL)
    assert run.end(30).code == -signal.SIGKILL
    until(lambda: not Path(f"/proc/{engine}").exists(), 60, "the end of the engine without its twins")

    done = clone.sandbox("up", seconds=420).good()
    site.figures["up after two kills, on a new host"] = f"{done.seconds:.0f} s"
    after = clone.resources()
    assert after["scell-server"]["id"] != before["scell-server"]["id"]
    assert after["scell-ip"]["id"] == before["scell-ip"]["id"]
    assert (
        after["scell-host-key"]["outputs"]["publicKeyOpenssh"]
        == before["scell-host-key"]["outputs"]["publicKeyOpenssh"]
    )
    assert clone.address == address
    assert clone.on_host("ls /srv/scell/releases /srv/scell-api/releases | grep -c ^v") == "2\n"
    certified(clone, "scell.io", 120)
    assert 'content="1.0.0"' in clone.page()
    certified(clone, "api.scell.io", 120)
    assert Api(clone).well()
    assert clone.open_ports(PORTS, STRANGER) == {80, 443}
    report = clone.status()
    assert report["orphans"] == []
    assert [host["state"] for host in report["machine"]["hosts"]] == ["started"]
    clone.pulumi("preview", "--expect-no-changes").good()
