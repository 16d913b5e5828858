"""The committed program and stack file on a real Debian host: what a visitor, a stranger and an operator see.

The tests of this file build on each other in order: one stack goes up, changes, fails, recovers and goes.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox import paths, real
from sandbox.hosts import net
from sandbox.internet.layout import STRANGER

REPOSITORY = Path(__file__).resolve().parents[2]
TOOLS = REPOSITORY / ".sandbox/toolchain.json"
WHY_NOT = real.capable() or ([] if TOOLS.exists() else ["no Pulumi here: run `make preview` once"])
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(WHY_NOT), reason=f"this machine runs no hosts: {'; '.join(WHY_NOT)}"),
    pytest.mark.xdist_group("scell"),
]
STACK = "Pulumi.sandbox.yaml"


class Checkout:
    """A copy of this work tree, with a sandbox of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in filter(None, listed.stdout.split("\0")):
            source, target = REPOSITORY / name, root / name
            if source.is_file():  # a file deleted but not yet committed is still listed
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
        (root / ".venv").symlink_to(REPOSITORY / ".venv")
        shutil.copy(TOOLS, paths.state(root) / "toolchain.json")
        self.stack = (root / STACK).read_text()

    def sandbox(self, *words: str, ok: bool = True) -> str:
        """One command; its output, standard error included."""
        done = subprocess.run(
            [sys.executable, "-m", "sandbox", *words],
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=580,
            check=False,
        )
        self.output = done.stdout + done.stderr
        assert (done.returncode == 0) is ok, self.output
        return self.output

    def up(self, *changes: tuple[str, str], ok: bool = True) -> str:
        """`up` with the committed stack file, changed so."""
        text = self.stack
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (self.root / STACK).write_text(text)
        return self.sandbox("up", ok=ok)

    def curl(self, url: str, *options: str) -> str:
        """As a stranger, certificates verified."""
        return self.sandbox("curl", "--", "--silent", "--show-error", "--fail", *options, url)

    def exported(self) -> dict[str, Any]:
        line = [sys.executable, "-m", "sandbox", "exec", "--", "pulumi", "stack", "export", "--show-secrets"]
        line += ["--stack", "sandbox"]
        done = subprocess.run(line, cwd=self.root, capture_output=True, text=True, check=True)
        state: dict[str, Any] = json.loads(done.stdout)
        return {r["urn"].rpartition("::")[2]: r for r in state["deployment"].get("resources", [])}

    def on_host(self, script: str, ok: bool = True) -> str:
        """Run by root on the host, over SSH with the program's own key and the pinned host key."""
        connection = self.exported()["scell-web-command"]["inputs"]["connection"]
        connection = json.loads(connection["plaintext"]) if "plaintext" in connection else connection
        key, known = self.root / ".sandbox/test-key", self.root / ".sandbox/test-known"
        key.touch(0o600)
        key.write_text(connection["privateKey"])
        known.write_text(f"host {connection['hostKey']}\n")
        line = ["ssh", "-F", "none", "-b", net.ADMIN, "-i", str(key), "-o", f"UserKnownHostsFile={known}"]
        line += ["-o", "HostKeyAlias=host", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
        line += [f"{connection['user']}@{connection['host']}", "sudo bash -s"]
        done = subprocess.run(
            net.nsenter(paths.netns(self.root), line),
            input=script,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode == 0) is ok, done.stdout + done.stderr
        return done.stdout

    def open_from(self, source: str, port: int, address: str = "") -> bool:
        """Whether the public address answers on ``port`` to somebody at ``source``."""
        probe = (
            "import socket, sys; s = socket.socket(); s.settimeout(2); s.bind((sys.argv[1], 0)); "
            "s.connect((sys.argv[2], int(sys.argv[3])))"
        )
        line = [sys.executable, "-c", probe, source, address or self.address, str(port)]
        done = subprocess.run(net.nsenter(paths.netns(self.root), line), capture_output=True, check=False)
        return done.returncode == 0

    @property
    def address(self) -> str:
        return str(self.exported()["scell-ip"]["outputs"]["address"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    checkout = Checkout(tmp_path_factory.mktemp("checkout"))
    try:
        checkout.up()
        yield checkout
    finally:
        checkout.sandbox("reset")


def issued(site: Checkout) -> None:
    """Certificates come a moment after `up`, which does not wait for them."""
    deadline = time.monotonic() + 150
    while "self-signed" in site.on_host("berth-certificates status || true"):
        assert time.monotonic() < deadline, "no certificate was issued"
        time.sleep(3)


def test_the_built_page_over_verified_https_at_every_name(site: Checkout) -> None:
    issued(site)
    for name in ("scell.io", "www.scell.io"):
        page = site.curl(f"https://{name}/some/route")
        assert "<title>Scell.io</title>" in page
        assert 'content="1.0.0"' in page
        assert "https://api.scell.io/api/v1" in page  # a variable of the stack file
    headers = site.curl("https://scell.io/", "--head").lower()
    assert headers.startswith("http/2 200")
    assert "cache-control: no-cache" in headers
    asset = page.partition('src="')[2].partition('"')[0]
    assert "max-age=31536000, immutable" in site.curl(f"https://scell.io{asset}", "--head")
    assert "location: https://scell.io/x" in site.curl("http://scell.io/x", "--head").lower()


def test_from_outside_only_the_web_answers_and_ssh_only_to_admins(site: Checkout) -> None:
    assert {port for port in (22, 25, 80, 443, 3000, 8080) if site.open_from(STRANGER, port)} == {80, 443}
    assert site.open_from(net.ADMIN, 22)


def test_a_second_run_changes_nothing(site: Checkout) -> None:
    site.sandbox("exec", "--", "pulumi", "preview", "--stack", "sandbox", "--expect-no-changes")


def test_the_baseline_holds_on_the_host(site: Checkout) -> None:
    said = site.on_host(
        "systemctl --failed --no-legend; systemctl is-active nginx fail2ban nftables certbot.timer\n"
        "sshd -T | grep -E '^(passwordauthentication|permitrootlogin|allowusers) '\n"
        "nft list chain inet berth input | grep -c 'policy drop'\n"
        "fail2ban-client status sshd >/dev/null && echo watched\n"
        "apt-config dump | grep 'APT::Periodic::Unattended-Upgrade '\n"
        "logrotate --debug /etc/logrotate.d/berth /etc/logrotate.d/nginx 2>&1 | grep -ci '^error' || true\n"
    )
    assert said.splitlines() == [
        *["active"] * 4,
        "permitrootlogin no",
        "passwordauthentication no",
        "allowusers ops",
        "allowusers berth",
        "1",
        "watched",
        'APT::Periodic::Unattended-Upgrade "1";',
        "0",
    ]


def test_the_metadata_is_for_root_only(site: Checkout) -> None:
    look = "curl --silent --max-time 3 --output /dev/null http://169.254.42.42/; echo $?"
    before = "nft -j list chain inet berth output | grep -c 'metadata is for root only'"
    assert site.on_host(f"{before}; su ops -c '{look}'").split() == ["1", "7"]


def test_no_secret_is_in_a_log_or_in_a_place_others_read(site: Checkout) -> None:
    key = site.exported()["scell-deploy-key"]["outputs"]["privateKeyOpenssh"]
    text = json.loads(key["plaintext"]) if isinstance(key, dict) else key
    line = text.splitlines()[2]
    assert (
        site.on_host(f"grep -rlF '{line}' /var/log /run/berth /etc /srv 2>/dev/null || echo none") == "none\n"
    )
    assert site.on_host("stat -c %a /run/berth /var/log/berth") == "700\n700\n"


def test_services_come_back_after_a_crash_and_after_an_update_of_what_they_run(site: Checkout) -> None:
    main = "systemctl show --property MainPID --value nginx"
    first = site.on_host(main)
    site.on_host("kill -KILL $(systemctl show --property MainPID --value nginx)")
    deadline = time.monotonic() + 20
    while site.on_host("systemctl is-active nginx || true") != "active\n":
        assert time.monotonic() < deadline
        time.sleep(0.5)
    second = site.on_host(main)
    assert second != first
    site.on_host(
        "cp -a /usr/sbin/nginx /usr/sbin/nginx.new; mv /usr/sbin/nginx.new /usr/sbin/nginx\n"
        "DEBIAN_FRONTEND=noninteractive apt-get install -qq --reinstall libsort-naturally-perl"
    )
    assert site.on_host(main) != second


def test_a_renewal_can_be_forced_and_nginx_serves_it(site: Checkout) -> None:
    look = "openssl s_client -connect localhost:443 -servername www.scell.io </dev/null 2>/dev/null"
    serial = f"{look} | openssl x509 -noout -serial"
    before = site.on_host(serial)
    assert "renewed" in site.on_host("berth-certificates renew --force www.scell.io")
    assert site.on_host(serial) != before
    site.curl("https://www.scell.io/")


def test_a_new_release_goes_live_a_failing_one_does_not_and_back_needs_no_build(site: Checkout) -> None:
    site.up(("release: v1.0.0", "release: v1.1.0"))
    assert 'content="1.1.0"' in site.curl("https://scell.io/")
    said = site.up(("release: v1.0.0", "release: v9.9.9"), ok=False)
    assert "Step 'release-scell' failed on host 'scell': it ended with exit status 1." in said
    assert "v9.9.9 cannot be fetched" in said
    assert "The whole log is /var/log/berth/release-scell.log on that host." in said
    assert 'content="1.1.0"' in site.curl("https://scell.io/")
    site.up()
    assert 'content="1.0.0"' in site.curl("https://scell.io/")
    assert "building" not in site.on_host("tail -n 4 /var/log/berth/release-scell.log")


def test_a_leavers_key_goes_with_its_line_and_another_name_for_the_admins_locks_nobody_out(
    site: Checkout,
) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEcyvj6gxRMyEGAE8QnAz5+zHre1iGgMk/+GNkQ5E+TK nobody@scell.io"
    site.up(("keys: []", f"keys: [{key}]"))
    assert key in site.on_host("cat /home/ops/.ssh/authorized_keys")
    site.on_host("nft add rule inet berth input tcp dport 3000 accept")  # as if an older one were loaded
    site.up(("user: ops", "user: sre"))
    said = site.on_host(
        "wc -c </home/sre/.ssh/authorized_keys; sudo -l -U ops | grep -c NOPASSWD; sshd -T | grep allowusers"
    )
    assert said == "0\n0\nallowusers sre\nallowusers berth\n"
    assert "dport 3000" not in site.on_host("nft list table inet berth")
    site.up()
    assert site.on_host("wc -c </home/ops/.ssh/authorized_keys") == "0\n"


def test_a_replaced_host_is_the_same_site_on_another_debian(site: Checkout) -> None:
    site.up(("image: debian-12", "image: debian-13"))
    assert site.on_host(". /etc/os-release; echo $VERSION_ID") == "13\n"
    issued(site)
    assert 'content="1.0.0"' in site.curl("https://scell.io/")


def test_destroy_leaves_nothing(site: Checkout) -> None:
    address = site.address
    assert site.open_from(STRANGER, 443, address)
    site.sandbox("destroy")
    assert site.exported() == {}
    assert not site.open_from(STRANGER, 443, address)
    assert list((paths.state(site.root) / "hosts").glob("*/rootfs")) == []
