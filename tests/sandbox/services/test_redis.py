"""Managed Redis, real servers. Tests of this file build on each other in order."""

import os
import signal
import time
from types import SimpleNamespace

import pytest

from sandbox import process, real, services
from sandbox.effects.protocol import EffectError
from sandbox.hosts import desired as want
from sandbox.hosts import images
from sandbox.services import certificate, roots
from sandbox.services.layout import Layout
from tests.sandbox.services.cloud import ELSEWHERE, NETWORK, knock

WHY_NOT = real.capable()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(WHY_NOT), reason=f"this machine runs no hosts: {'; '.join(WHY_NOT)}"),
    pytest.mark.xdist_group("services"),
]
ID, ADDRESS, PORT = "fr-par-1/rd", "10.20.0.10", 6379
SECRET = "Red1s!'\" pass"
NAME = f"redis-{want.key(ID)}"


def outputs(address=ADDRESS, size=1):
    return {"privateNetworks": [{"id": NETWORK, "ips": [address], "port": PORT}], "clusterSize": size}


@pytest.fixture(scope="module")
def site(cloud):
    inputs: dict[str, object] = {
        "version": "7.2.11",
        "nodeType": "RED1-MICRO",
        "userName": "berth",
        "password": SECRET,
    }
    inputs |= {"tlsEnabled": True}
    images.ready(roots.REDIS, print)  # built before the clock runs
    began = time.monotonic()
    row = cloud.create(want.REDIS, ID, inputs, outputs())
    return SimpleNamespace(
        cloud=cloud,
        seconds=time.monotonic() - began,
        ca=cloud.trust("redis", "redis.pem", row.outputs["certificate"]),
        host=cloud.visitor("host", NETWORK, "10.20.0.50"),
        away=cloud.visitor("away", ELSEWHERE, "10.30.0.50"),
    )


def ask(site, *words, user="berth", secret=SECRET, tls=True):
    """redis-cli on a host of the network: what it printed."""
    line = ["/usr/bin/redis-cli", "-h", ADDRESS, "-p", str(PORT), "--no-auth-warning"]
    line += ["--tls", "--cacert", site.ca] if tls else []
    line += ["--user", user] if user else []
    environment = {"REDISCLI_AUTH": secret} if secret else {}
    done = site.cloud.call(roots.REDIS, site.host, [*line, *words], **environment)
    return (done.stdout + done.stderr).strip()


def test_it_serves_soon_after_it_is_asked_for(site):
    assert site.seconds < 3  # 0.15 s on two idle cores
    assert ask(site, "ping") == "PONG"
    assert "redis_version:7." in ask(site, "info", "server")


def test_tls_is_verified_and_nothing_goes_without(site):
    assert "PONG" not in ask(site, "ping", tls=False)
    foreign = certificate.make("other", [ADDRESS])[0]
    other = SimpleNamespace(**{**vars(site), "ca": site.cloud.trust("redis", "other.pem", foreign)})
    assert "certificate verify failed" in ask(other, "ping")


def test_the_user_it_is_made_with_is_the_only_one(site):
    assert "WRONGPASS" in ask(site, "ping", secret="wrong")
    assert "WRONGPASS" in ask(site, "ping", user="default")
    assert "NOAUTH" in ask(site, "ping", user="", secret="")
    assert "NOPERM" in ask(site, "acl", "list")
    assert "NOPERM" in ask(site, "config", "set", "maxmemory", "1")
    for allowed in (("flushdb",), ("info", "memory"), ("client", "setname", "x"), ("eval", "return 1", "0")):
        assert "NOPERM" not in ask(site, *allowed)


def test_only_its_network_gets_an_answer(site):
    assert knock(site.host, ADDRESS, PORT) == "open"
    assert knock(site.away, ADDRESS, PORT) == "silent"
    assert knock(None, ADDRESS, PORT) == "silent"


def test_settings_and_password_change_in_place_and_keep_the_data(site):
    assert ask(site, "set", "kept", "42") == "OK"
    site.cloud.update(want.REDIS, ID, settings={"maxmemory-policy": "allkeys-lru"}, nodeType="RED1-S")
    assert ask(site, "config", "get", "maxmemory-policy").split() == ["maxmemory-policy", "allkeys-lru"]
    assert ask(site, "get", "kept") == "42"
    site.cloud.update(want.REDIS, ID, password="Second1!")
    assert "WRONGPASS" in ask(site, "ping")
    assert ask(site, "get", "kept", secret="Second1!") == "42"
    site.cloud.update(want.REDIS, ID, password=SECRET)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"maxmemory-policy": "whatever"}, "argument.* must be one of"),
        ({"user": "default on nopass"}, "not a setting of Redis one may set"),
        ({"hz": "10\nport 1"}, "not a setting of Redis one may set"),
    ],
)
def test_a_setting_the_server_refuses_leaves_it_running_as_it_was(site, settings, expected):
    with pytest.raises(EffectError, match=expected):
        site.cloud.update(want.REDIS, ID, settings=settings)
    assert ask(site, "get", "kept") == "42"


def test_a_killed_server_is_back_at_the_next_command_with_its_data(site):
    ask(site, "set", "late", "7")
    time.sleep(1.2)  # written every second
    before = process.running(NAME, Layout(site.cloud.root).run)
    assert before is not None
    os.kill(before.pid, signal.SIGKILL)
    real.prepare(site.cloud.root)
    assert ask(site, "mget", "kept", "late").split() == ["42", "7"]


def test_down_refuses_everybody_until_it_is_up(site):
    services.take_down(site.cloud.root, frozenset({"redis"}))
    real.prepare(site.cloud.root)
    assert knock(site.host, ADDRESS, PORT) == "refused"
    services.take_down(site.cloud.root, frozenset())
    real.prepare(site.cloud.root)
    assert ask(site, "get", "kept") == "42"


def test_no_password_is_on_disk_or_in_a_log(site):
    layout = Layout(site.cloud.root)
    for path in (*layout.state.rglob("*"), *layout.logs.rglob("*")):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("inputs", "given", "expected"),
    [
        ({"version": "6.2.7"}, outputs("10.20.0.12"), "cannot run Redis 6.2.7; it runs Redis 7"),
        ({"version": "7.2.11"}, outputs("10.20.0.12", 3), "runs no Redis Cluster"),
        ({"version": "7.2.11"}, {}, "on a private network only"),
    ],
)
def test_what_the_sandbox_cannot_run_is_refused_in_words(site, inputs, given, expected):
    inputs = {**inputs, "userName": "berth", "password": "x"}
    with pytest.raises(EffectError, match=expected):
        site.cloud.create(want.REDIS, "fr-par-1/no", inputs, given)
    site.cloud.delete(want.REDIS, "fr-par-1/no")


def test_a_deleted_cluster_leaves_nothing(site):
    layout = Layout(site.cloud.root)
    site.cloud.delete(want.REDIS, ID)
    assert process.running(NAME, layout.run) is None
    assert not list(layout.state.glob("redis-*/"))
    assert not list(layout.run.glob("redis-*"))
    assert not layout.namespace(want.key(ID)).exists()
