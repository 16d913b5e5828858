"""The small internet as a host and a stranger meet it: real servers, real protocols."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography import x509

from sandbox import internet, process
from sandbox.effects.protocol import Row
from sandbox.internet import acme, certs, effects, git, names, out
from tests.sandbox.internet.conftest import HOST

pytestmark = pytest.mark.sandbox
REPOSITORY = "https://github.com/scell-io/frontend.git"


def verified(net, chain: Path) -> bool:
    """Whether what a server would send chains up to the sandbox's authority."""
    command = ["openssl", "verify", "-CAfile", net.authority, "-untrusted", str(chain), str(chain)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def kill(net, name: str) -> None:
    """End a server's main process the hard way, and see it gone."""
    found = process.running(name, net.layout.run)
    assert found
    os.kill(found.pid, signal.SIGKILL)
    _until(lambda: process.running(name, net.layout.run) is None)


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "type", "expected"),
    [
        ("scell.io", "A", ("NOERROR", [f"A {HOST}"])),
        ("www.scell.io", "A", ("NOERROR", [f"A {HOST}", "CNAME scell.io."])),
        # The other end of an alias lies outside: a resolver would go and ask, so does this server.
        ("docs.scell.io", "A", ("NOERROR", ["A 198.18.0.1", "CNAME pages.elsewhere.example."])),
        ("scell.io", "MX", ("NOERROR", ["MX 10 blackhole.tem.example."])),
        ("scell.io", "TXT", ("NOERROR", ['TXT "v=spf1 include:_spf.tem.example -all"'])),
        ("scell.io", "CAA", ("NOERROR", ['CAA 0 issue "letsencrypt.org"'])),
        ("_sip._tcp.scell.io", "SRV", ("NOERROR", ["SRV 3 5 5060 www.scell.io."])),
        ("scell.io", "NS", ("NOERROR", ["NS ns0.dom.scw.cloud.", "NS ns1.dom.scw.cloud."])),
        ("scell.io", "AAAA", ("NOERROR", [])),
        ("nothing.scell.io", "A", ("NXDOMAIN", [])),
        ("5.16.18.198.in-addr.arpa", "PTR", ("NOERROR", ["PTR scell.io."])),
        ("6.16.18.198.in-addr.arpa", "PTR", ("NXDOMAIN", [])),
        ("anything.at.all.example", "A", ("NOERROR", ["A 198.18.0.1"])),
        ("beside-scell.io", "A", ("NOERROR", ["A 198.18.0.1"])),
        ("anything.at.all.example", "AAAA", ("NOERROR", [])),
    ],
)
def test_the_name_server_answers(net, name, type, expected):
    assert net.ask(name, type) == expected


def test_a_record_is_served_the_moment_its_effect_returns_and_gone_the_moment_it_is_deleted(net):
    effect = effects.EFFECTS[names.RECORD]
    row = net.inventory.record("new", "A", "198.18.16.9")
    assert net.ask("new.scell.io")[0] == "NXDOMAIN"
    assert effect.create(net.world, row) == {}
    assert net.ask("new.scell.io") == ("NOERROR", ["A 198.18.16.9"])
    moved = Row(
        id=row.id, token=row.token, name=row.name, inputs={**row.inputs, "data": "198.18.16.8"}, outputs={}
    )
    effect.update(net.world, row, moved)
    assert net.ask("new.scell.io") == ("NOERROR", ["A 198.18.16.8"])
    effect.delete(net.world, moved)  # the twin removes the row only after this
    assert net.ask("new.scell.io")[0] == "NXDOMAIN"
    del net.inventory.rows[row.token, row.id]


def test_a_host_finds_names_by_its_resolver(net):
    done = net.run("getent", "ahostsv4", "www.scell.io", at_host=True)
    assert done.stdout.split()[0] == HOST


# ---------------------------------------------------------------- the gateway and the wall


def test_a_name_nobody_stands_in_for_is_refused_and_listed(net):
    assert net.curl("-sS", "https://example.org/").returncode == 35  # a TLS alert: unrecognized name
    answer = net.curl("-sS", "-w", " %{http_code}", "http://example.org/path?query")
    assert answer.stdout == "The sandbox has no example.org.\n 403"
    assert {
        ("tls", "example.org", "198.18.2.10"),
        ("http", "example.org/path", "198.18.2.10"),
    } <= set(net.refused())


def test_curl_keeps_its_exit_code_and_trusts_only_the_sandbox(net):
    assert net.curl("-sS", f"https://{acme.NAMES[0]}/directory").returncode == 0
    assert net.curl("-sS", "--fail", "http://example.org/").returncode == 22
    name = net.found.passed[0] if net.found.passed else pytest.skip("this machine has no registry configured")
    assert net.curl("-sS", f"https://{name}/").returncode in (60, 35)  # a real certificate, or no network


def test_packets_to_anywhere_else_are_refused_at_once_and_listed(net):
    begin = time.monotonic()
    done = net.run("curl", "-sS", "--max-time", "5", "http://203.0.113.7:5432/", at_host=True)
    assert done.returncode == 7
    assert time.monotonic() - begin < 3
    done = net.run("curl", "-sS", "--max-time", "5", "http://198.18.0.1:8080/", at_host=True)
    assert done.returncode == 7
    assert {("tcp", "203.0.113.7:5432", HOST), ("tcp", "198.18.0.1:8080", HOST)} <= set(net.refused())


def test_pebbles_keys_are_out_of_a_hosts_reach(net):
    url = f"https://198.18.2.20:{acme.MANAGEMENT}/intermediate-keys/0"
    assert net.run("curl", "-sSk", "--max-time", "5", url, at_host=True).returncode == 7
    assert "PRIVATE KEY" in acme._management(net.layout, "/intermediate-keys/0")


# ---------------------------------------------------------------- registries and mirrors


def test_every_registry_of_this_machine_answers_with_its_own_certificate(net, online):
    bundle = certs.machine_bundle()
    assert net.found.passed
    for host in net.found.passed:
        answer = net.run(
            *("curl", "-sS", "--cacert", str(bundle), "-o", "/dev/null", "-w", "%{http_code}"),
            f"https://{host}/",
            at_host=True,
        )
        assert answer.returncode == 0, answer.stderr
        assert 200 <= int(answer.stdout) < 500


def test_pip_downloads_a_package_on_a_host(net, online, tmp_path):
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--no-cache-dir",
        "--dest",
        str(tmp_path),
    ]
    environment = {"PATH": os.environ["PATH"], **internet.environment(net.root)}
    done = net.run(*command, "iniconfig==2.0.0", at_host=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert [path.suffix for path in tmp_path.iterdir()] == [".whl"]


def test_a_package_is_fetched_once_and_then_without_any_way_out(net, online):
    printed = subprocess.run(
        ["apt-get", "download", "--print-uris", "hello"], capture_output=True, text=True, check=False
    )
    if printed.returncode or not printed.stdout:
        pytest.skip("apt knows no package here: apt-get update was never run")
    url = printed.stdout.split()[0].strip("'")
    base = url.partition("/pool/")[0]
    fetch = ("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{size_download}")
    trust = ("--cacert", net.authority)
    release = f"{base}/dists/{_suite()}/InRelease"
    assert net.run(*fetch, *trust, release, at_host=True).stdout.startswith("200 ")
    first = net.run(*fetch, *trust, url, at_host=True).stdout
    assert first.startswith("200 ")

    def stored() -> list[str]:
        return [f"200 {path.stat().st_size}" for path in net.layout.cache.rglob("hello_*") if path.is_file()]

    _until(stored)  # it gets its place once the last byte is sent
    assert stored() == [first]
    try:
        with net.entered():  # name servers that do not exist: every name outside is out of reach
            cut = out.service(net.layout, net.found, resolvers=["127.0.0.1:9"])
            process.ensure(cut, net.layout.run, net.layout.logs)
        _until(lambda: net.run(*fetch, *trust, release, at_host=True).stdout.startswith("502 "))
        assert net.run(*fetch, *trust, url, at_host=True).stdout == first
    finally:
        net.ensure()


def _suite() -> str:
    lines = Path("/etc/os-release").read_text().splitlines()
    return next(line.partition("=")[2] for line in lines if line.startswith("VERSION_CODENAME="))


def _until(true, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


# ---------------------------------------------------------------- Git


def test_a_tag_is_cloned_over_verified_https_and_tags_differ(net, tmp_path):
    for tag in ("v1.0.0", "v1.1.0"):
        done = net.run(
            *("git", "-c", "advice.detachedHead=false", "clone", "--quiet", "--depth=1", f"--branch={tag}"),
            REPOSITORY,
            str(tmp_path / tag),
            at_host=True,
            env={
                "PATH": os.environ["PATH"],
                "GIT_SSL_CAINFO": net.authority,
                "GIT_CONFIG_GLOBAL": "/dev/null",
            },
        )
        assert done.returncode == 0, done.stderr
    pages = [(tmp_path / tag / "index.html").read_text() for tag in ("v1.0.0", "v1.1.0")]
    assert pages[0] != pages[1]
    assert (tmp_path / "v1.1.0" / "package-lock.json").exists()


def test_a_tag_has_the_same_hash_wherever_it_is_made(net, tmp_path):
    (tmp_path / ".sandbox").mkdir()
    other = type(net.layout)(tmp_path)
    git.publish(other)
    heads = [
        subprocess.run(["git", "--git-dir", str(place.git / path), "rev-parse", "v1.0.0^{}", "v1.1.0^{}"],
                       capture_output=True, text=True, check=True).stdout
        for place in (net.layout, other)
        for path in [git.repositories()[0].path]
    ]  # fmt: skip
    assert heads[0] == heads[1]


def test_a_repository_is_made_anew_when_its_fixture_changes_and_only_then(net, tmp_path):
    fixtures = tmp_path / "fixtures"
    (fixtures / "site").mkdir(parents=True)
    (fixtures / "site" / "a").write_text("1")
    (fixtures / "repositories.toml").write_text(
        '[[repository]]\nurl = "https://codeberg.org/o/r.git"\nfiles = "site"\n'
        '[[repository.release]]\ntag = "v1"\ndate = "2026-01-01T00:00:00Z"\n'
    )
    (tmp_path / ".sandbox").mkdir()
    layout = type(net.layout)(tmp_path)

    def head() -> tuple[str, float]:
        git.publish(layout, fixtures)
        made = layout.git / "codeberg.org/o/r.git"
        done = subprocess.run(
            ["git", "--git-dir", str(made), "rev-parse", "v1^{}"], capture_output=True, text=True, check=True
        )
        return done.stdout, made.stat().st_ctime

    first = head()
    assert head() == first
    (fixtures / "site" / "a").write_text("2")
    assert head()[0] != first[0]


def test_a_repository_nobody_has_is_not_found_and_listed(net):
    assert net.curl("-sS", "--fail", "https://gitlab.com/a/b.git/info/refs").returncode == 22
    assert ("https", "gitlab.com/a/b.git/info/refs", "198.18.2.10") in net.refused()


def test_an_overlay_keeps_the_dependencies_of_what_it_overlays():
    import json

    first, second = (
        json.loads((git.FIXTURES / name / "package.json").read_text())
        for name in ("scell-frontend", "scell-frontend-v1.1.0")
    )
    assert (first.pop("version"), second.pop("version")) == ("1.0.0", "1.1.0")
    assert first == second


# ---------------------------------------------------------------- Let's Encrypt


def test_a_certificate_is_issued_validated_from_outside_and_outlives_pebble(net, tmp_path):
    place = tmp_path / "certbot"
    lost = net.certbot(place, "--domain", "unknown.scell.io")
    assert lost.returncode == 1
    assert "could not resolve" in lost.stdout + lost.stderr
    done = net.certbot(place, "--domain", "scell.io", "--domain", "www.scell.io")
    assert done.returncode == 0, done.stdout + done.stderr
    chain = place / "config/live/scell.io/fullchain.pem"
    assert len(x509.load_pem_x509_certificates(chain.read_bytes())) == 2
    assert verified(net, chain)
    issued = internet.status(net.root)["certificates"]
    assert ["scell.io", "www.scell.io"] in [certificate["names"] for certificate in issued]

    kill(net, "pebble")
    net.ensure()
    again = tmp_path / "again"
    assert net.certbot(again, "--domain", "scell.io").returncode == 0
    assert verified(net, again / "config/live/scell.io/fullchain.pem")
    assert verified(net, chain)


def test_what_staging_issues_is_trusted_by_nobody(net, tmp_path):
    done = net.certbot(
        tmp_path, "--server", f"https://{acme.STAGING[0]}/directory", "--domain", "www.scell.io"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not verified(net, tmp_path / "config/live/www.scell.io/fullchain.pem")


def test_validation_meets_the_hosts_firewall(net, tmp_path):
    rules = "table inet t { chain input { type filter hook input priority 0; tcp dport 80 reject; }; }"
    wall = ["nsenter", f"--net=/proc/{net.host}/ns/net", "--", "nft"]
    subprocess.run([*wall, "-f", "-"], input=rules, text=True, check=True)
    try:
        done = net.certbot(tmp_path, "--domain", "scell.io")
    finally:
        subprocess.run([*wall, "delete", "table", "inet", "t"], check=True)
    assert done.returncode == 1
    assert "Type:   connection" in done.stdout


# ---------------------------------------------------------------- the servers themselves


def test_everything_is_up_small_and_quick_to_find(net):
    net.ensure()
    begin = time.monotonic()
    net.ensure()
    assert time.monotonic() - begin < 0.3
    services = internet.status(net.root)["services"]
    assert [service["name"] for service in services] == ["gateway", "git", "out", "pdns", "pebble"]
    assert sum(service["memory"] for service in services) < 150_000_000


@pytest.mark.parametrize("name", ["gateway", "git", "out", "pdns", "pebble"])
def test_a_killed_server_is_back_after_ensure(net, name):
    before = process.running(name, net.layout.run)
    assert before
    kill(net, name)
    net.ensure()
    after = process.running(name, net.layout.run)
    assert after
    assert after.pid != before.pid
    assert net.curl("-sS", f"https://{acme.NAMES[0]}/directory").returncode == 0


def test_a_new_namespace_gets_new_servers(net):
    """After a machine's start the records of processes may be there and name others, or none."""
    record = net.layout.run / "pdns.json"
    record.write_text(record.read_text().replace('"network": ', '"network": 1'))
    before = process.running("pdns", net.layout.run)
    net.ensure()
    after = process.running("pdns", net.layout.run)
    assert before
    assert after
    assert after.pid != before.pid
    assert net.ask("scell.io")[0] == "NOERROR"


def test_stop_leaves_no_process(net):
    def mine() -> list[str]:
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                command = entry.read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(net.root) in command or str(net.layout.run) in command:
                found.append(command)
        return found

    assert len(mine()) >= 5
    internet.stop(net.root)
    assert mine() == []
    assert internet.status(net.root)["services"] == []
    internet.stop(net.root)
    net.ensure()
