"""What runs on a host: reading its files, speaking to its cache, refusing what cannot be done."""

from __future__ import annotations

import json
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.app.dotenv import dotenv as written
from tasks.host import host
from tasks.host.host import App, Cache, Refused
from tasks.ssh import FROM_STDIN, SOURCE

ENVIRONMENT = {
    "DB_HOST": "10.0.0.2",
    "DB_PORT": "5433",
    "DB_DATABASE": "scell_production",
    "DB_USERNAME": "scell",
    "DB_PASSWORD": "of the first",
    "DB_HOST_SANDBOX": "10.0.0.3",
    "DB_DATABASE_SANDBOX": "scell_sandbox",
    "DB_USERNAME_SANDBOX": "trial",
    "DB_PASSWORD_SANDBOX": "of the second",
    "DB_SSLMODE": "verify-ca",
    "DB_SSLROOTCERT": "/etc/berth/ca/x.pem",
}


# ---------------------------------------------------------------- .env


def test_an_env_file_is_read_as_it_was_written() -> None:
    values = {
        "PLAIN": "https://api.scell.io",
        "EMPTY": "",
        "SPACES": "  Scell dot io ",
        "HASH": "a#b # c",
        "QUOTES": """it's "so" \\ $HOME ${X}""",
        "LINES": "one\ntwo\r\n\tthree",
        "EQUALS": "base64:ab+/cd==",
    }
    assert host.dotenv(written(values)) == values


def test_other_ways_of_writing_an_env_file() -> None:
    text = '# a comment\n\nexport A=1\nB = \'x # y\' # why\nC=x#y # z\n D="a\\"b" \nnot a pair\nE=\n'
    assert host.dotenv(text) == {"A": "1", "B": "x # y", "C": "x#y", "D": 'a"b', "E": ""}


# ---------------------------------------------------------------- database


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("production", ("10.0.0.2", "scell_production", "scell", "of the first")),
        ("scell_production", ("10.0.0.2", "scell_production", "scell", "of the first")),
        ("sandbox", ("10.0.0.3", "scell_sandbox", "trial", "of the second")),
        ("scell_sandbox", ("10.0.0.3", "scell_sandbox", "trial", "of the second")),
    ],
)
def test_each_database_by_its_own_user(name: str, expected: tuple[str, ...]) -> None:
    found = host.libpq(ENVIRONMENT, name, write=False, who="ann@desk")
    assert tuple(found[key] for key in ("PGHOST", "PGDATABASE", "PGUSER", "PGPASSWORD")) == expected
    assert found["PGSSLMODE"] == "verify-ca"
    assert found["PGPORT"] == "5433"
    assert "read_only=on" in found["PGOPTIONS"]
    assert "PGOPTIONS" not in host.libpq(ENVIRONMENT, name, write=True, who="ann@desk")


def test_a_database_that_is_not_there() -> None:
    with pytest.raises(Refused, match=r"(?s)no database 'nope'.*production, sandbox"):
        host.libpq(ENVIRONMENT, "nope", write=False, who="")
    with pytest.raises(Refused, match="DB_DATABASE is not in its"):
        host.libpq({}, "production", write=False, who="")


# ---------------------------------------------------------------- cache


class Redis(socketserver.BaseRequestHandler):
    """As much of Redis as it takes: recorded answers by command."""

    ANSWERS: dict[str, bytes] = {}  # noqa: RUF012 - the test's
    ASKED: list[list[str]] = []  # noqa: RUF012

    def handle(self) -> None:
        file = self.request.makefile("rb")
        while line := file.readline():
            words = []
            for _ in range(int(line[1:])):
                size = int(file.readline()[1:])
                words.append(file.read(size + 2)[:-2].decode())
            self.ASKED.append(words)
            key = " ".join(words)
            self.request.sendall(self.ANSWERS.get(key) or self.ANSWERS.get(words[0]) or b"-ERR unknown\r\n")


def bulk(text: str) -> bytes:
    return f"${len(text.encode())}\r\n{text}\r\n".encode()


def array(*parts: bytes) -> bytes:
    return b"*%d\r\n" % len(parts) + b"".join(parts)


@pytest.fixture
def redis() -> Iterator[dict[str, str]]:
    Redis.ASKED = []
    Redis.ANSWERS = {
        "AUTH": b"+OK\r\n",
        "DBSIZE": b":42\r\n",
        "INFO memory": bulk("# Memory\r\nused_memory:1000\r\nmaxmemory:2000\r\n"),
        "INFO server": bulk("# Server\r\nredis_version:7.2.4\r\n"),
        "SCAN 0 MATCH *queues:* COUNT 1000": array(
            bulk("7"), array(bulk("p_queues:default"), bulk("p_queues:default:reserved"))
        ),
        "SCAN 7 MATCH *queues:* COUNT 1000": array(
            bulk("0"),
            array(bulk("p_queues:default:delayed"), bulk("p_queues:mail"), bulk("p_queues:default:notify")),
        ),
        "TYPE": b"+list\r\n",
        "TYPE p_queues:default:delayed": b"+zset\r\n",
        "LLEN p_queues:default": b":3\r\n",
        "LLEN p_queues:mail": b":4\r\n",
        "ZCARD p_queues:default:delayed": b":5\r\n",
    }
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Redis) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = str(server.server_address[1])
        yield {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": port, "REDIS_USERNAME": "u", "REDIS_PASSWORD": "p w"}
        server.shutdown()


def test_waiting_jobs_are_counted_in_all_queues(redis: dict[str, str]) -> None:
    with Cache(redis) as link:
        assert link.queues() == ({"default": 8, "mail": 4}, True)
    assert Redis.ASKED[0] == ["AUTH", "u", "p w"]


def test_what_the_cache_says_of_itself(redis: dict[str, str], tmp_path: Path) -> None:
    app = App("scell-api", tmp_path)
    app.env_file.parent.mkdir(parents=True)
    app.env_file.write_text(written(redis))
    seen = host.cache(app)
    assert (seen["used"], seen["most"], seen["keys"], seen["version"]) == (1000, 2000, 42, "7.2.4")


def test_a_cache_that_refuses(redis: dict[str, str]) -> None:
    Redis.ANSWERS["AUTH"] = b"-WRONGPASS invalid username-password pair\r\n"
    with pytest.raises(Refused, match=r"WRONGPASS") as caught:
        Cache(redis).__enter__()
    assert "p w" not in str(caught.value)


# ---------------------------------------------------------------- files of a host


@pytest.fixture
def root(tmp_path: Path) -> Path:
    results = tmp_path / "run/berth/results"
    results.mkdir(parents=True)
    (results / "web.json").write_text(json.dumps({"why": "", "finished": 5.0, "facts": {}, "tail": []}))
    (results / "release-x.json").write_text(
        json.dumps({"why": "ended with 1", "finished": 6.0, "tail": ["x"]})
    )
    for path in ("srv/site/releases/v1/dist", "srv/api/releases/v2/.berth", "srv/gone/releases"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "srv/site/releases/v1/commit").write_text("abc\n")
    (tmp_path / "srv/api/releases/v2/.berth/commit").write_text("def\n")
    (tmp_path / "srv/site/current").symlink_to("releases/v1")
    (tmp_path / "srv/api/current").symlink_to("releases/v2")
    (tmp_path / "srv/gone/current").symlink_to("releases/v3")
    return tmp_path


def test_what_is_live(root: Path) -> None:
    found = {one["app"]: (one["release"], one["commit"], one["whole"]) for one in host.releases(root)}
    assert found == {"site": ("v1", "abc", True), "api": ("v2", "def", True), "gone": ("v3", None, False)}
    assert App("api", root).php() == "api-php@v2.service"
    assert App("none", root).php() == ""


def test_how_the_steps_ended(root: Path) -> None:
    found = host.steps(root)
    assert [(one["step"], one["why"]) for one in found["results"]] == [
        ("release-x", "ended with 1"),
        ("web", ""),
    ]
    assert found["working"] == []


def test_the_logs_there_are(tmp_path: Path) -> None:
    for path in ("var/log/berth/web.log", "var/log/php/api-slow.log", "var/log/nginx/scell.io.access.log"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    found = host.log_files({"app": "api"}, tmp_path)
    assert {"laravel", "horizon", "scheduler", "web", "api-slow", "scell.io", "nginx", "access"} <= set(found)
    assert found["laravel"] == tmp_path / "srv/api/shared/storage/logs/laravel.log"
    assert "laravel" not in host.log_files({}, tmp_path)


def test_php_sockets_that_nobody_listens_at(root: Path) -> None:
    assert host.pools(App("api", root)) == {
        "api": "No such file or directory",
        "stream": "No such file or directory",
    }


def test_systemd_s_times() -> None:
    assert host.epoch("Fri 2026-11-20 17:49:00 UTC") == 1795196940
    assert host.epoch("n/a") is host.epoch("") is None


def test_a_probe_that_fails_takes_nothing_from_the_others() -> None:
    def broken() -> None:
        raise Refused("it is down", "start it")

    assert host.answer(broken) == {"error": "it is down\n  start it"}
    assert host.answer(lambda: 1 / 0)["error"] == "division by zero"
    assert host.answer(len, "abc") == 3


# ---------------------------------------------------------------- as it comes to a host


def sent(document: dict[str, Any], **more: Any) -> subprocess.CompletedProcess[str]:
    """The document to a Python of its own, as over SSH; what follows it is the task's input."""
    line = json.dumps({"source": SOURCE.read_text(), "app": None, "who": "ann@desk", **document})
    return subprocess.run(
        [sys.executable, "-I", "-c", FROM_STDIN], input=line + "\n" + more.pop("given", ""),
        capture_output=True, text=True, check=False, **more,
    )  # fmt: skip


def test_status_of_any_machine_is_one_json_document() -> None:
    done = sent({"task": "status"})
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["host"]["memory"] > seen["host"]["memory_free"] > 0
    assert "horizon" not in seen


@pytest.mark.parametrize("task", ["jobs", "workers", "psql", "env", "artisan", "slow-queries"])
def test_a_task_for_an_application_says_that_there_is_none(task: str) -> None:
    done = sent({"task": task, "database": "production", "most": 1, "words": []})
    assert (done.returncode, done.stdout) == (host.REFUSED, "")
    assert "no application" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_log_names_those_there_are() -> None:
    done = sent({"task": "logs", "log": "nope", "lines": 1, "follow": False, "grep": ""})
    assert done.returncode == host.REFUSED
    assert "nginx" in done.stderr


def test_following_a_log_ends_with_whoever_listens(tmp_path: Path) -> None:
    document = {"task": "logs", "log": "system", "lines": 1, "follow": True, "grep": ""}
    if sent({**document, "follow": False}).returncode:
        pytest.skip("no journal on this machine")
    assert sent(document).returncode in (0, 128 + 15)  # its input has ended before it began


@pytest.mark.parametrize("command", sorted(host.DESTRUCTIVE))
def test_what_would_destroy_data_is_refused(command: str) -> None:
    done = sent({"task": "artisan", "app": "nope", "words": [command, "--force"]})
    assert done.returncode == host.REFUSED
    assert "not run on a live host" in done.stderr


def test_last_lines_with_a_text(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    log = tmp_path / "x.log"
    log.write_text("".join(f"{number} {'SuperPDP' if number % 2 else 'other'}\n" for number in range(100)))
    assert host.searched(["tail", "--lines=3", "--", str(log)], "superpdp", 2, {}) == 0
    assert capfdbinary.readouterr().out == b"97 SuperPDP\n99 SuperPDP\n"
