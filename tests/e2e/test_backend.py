"""The API of Scell.io from outside: what it does, what nobody else can do, releases, accidents.

The tests build on each other and share the sandbox of the other modules here. Changes of the `.env` are made
with the MCP rate limit, which nothing else depends on: each is a release that builds nothing.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

from sandbox import paths
from sandbox.hosts import net
from sandbox.internet.layout import STRANGER
from sandbox.inventory import open_store
from sandbox.owner import APPLICATION
from sandbox.services.iam import API_KEY
from tests.e2e.api import APP, NAME, Answer, Api
from tests.e2e.checkout import Checkout, Watch, until
from tests.e2e.conftest import Site

CORS = {
    "access-control-allow-origin": "https://scell.io",
    "access-control-allow-methods": "GET, POST, PUT, DELETE, OPTIONS",
    "access-control-allow-headers": "Authorization, Content-Type, X-API-Key, X-Tenant-Key, X-Scell-API-Key, "
    "mcp-session-id",
}
SCHEDULED = {
    "fiscal:daily-closing",
    "fiscal:monthly-closing",
    "fiscal:integrity-check",
    "fiscal:check-version-change",
    "billing:generate-monthly-invoices",
    "superpdp:sync-statuses",
    "horizon:snapshot",
}
STREAM_SECONDS = 20
BACKEND = "backend.git"


@pytest.fixture
def clone(site: Site) -> Checkout:
    return site.checkout


@pytest.fixture
def api(clone: Checkout) -> Api:
    return Api(clone)


@pytest.fixture(autouse=True, scope="module")
def began(site: Site) -> float:
    """The API has its certificate; when these tests began."""
    url = f"https://{NAME}/health"
    until(lambda: site.checkout.curl(url).code == 0, 120, f"a certificate for {NAME}", pause=1)
    return time.time()


def release(clone: Checkout, tag: str) -> None:
    """Have another release of the backend in the stack file."""
    path = clone.root / "Pulumi.sandbox.yaml"
    text, count = re.subn(rf"({re.escape(BACKEND)}\n\s+release: )\S+", rf'\g<1>"{tag}"', path.read_text())
    assert count == 1, text
    path.write_text(text)


def released(clone: Checkout) -> str:
    """Which release of the backend the stack file wants."""
    text = (clone.root / "Pulumi.sandbox.yaml").read_text()
    found = re.search(rf"{re.escape(BACKEND)}\n\s+release: (\S+)", text)
    assert found
    return found[1].strip('"')


def setting(clone: Checkout, rate: int) -> None:
    """Have another value in the `.env`."""
    path = clone.root / "Pulumi.sandbox.yaml"
    text = path.read_text()
    if "rate_limit:" in text:
        text, count = re.subn(r"rate_limit: \d+", f"rate_limit: {rate}", text)
    else:
        line = re.search(rf"( +)repository: \S+{re.escape(BACKEND)}\n", text)
        assert line
        text, count = text.replace(line[0], f"{line[0]}{line[1]}mcp: {{rate_limit: {rate}}}\n"), 1
    assert count == 1
    path.write_text(text)


# ---------------------------------------------------------------- what it does


def test_it_is_well_over_verified_https(api: Api) -> None:
    answer = api.call("GET", "/health")
    found = answer.expect(200)
    assert (answer.version, found["status"], found["version"]) == ("2", "ok", "1.0.0")
    said = datetime.datetime.fromisoformat(found["timestamp"])
    assert abs((datetime.datetime.now(datetime.UTC) - said).total_seconds()) < 30
    assert "Pebble" in api.clone.certificate(NAME)["issuer"]
    facts = json.loads(api.clone.pulumi("stack", "output", "--json").good().out)["scell"]
    assert found["release"] in json.dumps(facts)


def test_every_answer_lets_the_site_call_and_nobody_else(api: Api) -> None:
    def cors(answer: Answer, status: int) -> None:
        assert answer.status == status, answer
        assert {name: answer.headers.get(name) for name in CORS} == {
            name: [value] for name, value in CORS.items()
        }

    origin = "Origin: https://scell.io"
    cors(api.call("GET", "/health", None, origin), 200)
    cors(api.call("GET", "/api/v1/nothing", None, origin), 404)
    cors(api.call("DELETE", "/health", None, origin), 405)
    cors(api.call("POST", "/api/v1/invoices", {"no": "customer"}, origin), 500)
    cors(api.call("GET", "/api/v1/session", None, "Origin: https://elsewhere.example"), 200)
    asks = "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: X-API-Key"
    cors(api.call("OPTIONS", "/api/v1/invoices", None, origin, *asks), 204)
    unit = f"{APP}-php@{api.health()['release']}"
    api.clone.on_host(f"systemctl stop {unit}")
    try:
        cors(api.call("GET", "/health", None, origin), 502)
    finally:
        api.clone.on_host(f"systemctl start {unit}")
    cors(api.call("GET", "/health", None, origin), 200)


def test_an_invoice_becomes_a_pdf_in_the_private_bucket_and_a_mail(site: Site, api: Api) -> None:
    began = time.monotonic()
    mail_to = f"lea-{time.time_ns()}@customer.example"
    given = {"customer": "Maison Léa & Fils", "amount": "1200.50", "email": mail_to}
    made = api.call("POST", "/api/v1/invoices", given).expect(202)
    number = made["number"]
    api.processed(number, 30)
    site.figures["an invoice: job, PDF, bucket, mail"] = f"{time.monotonic() - began:.1f} s"
    assert api.finished(made["job"], 10)["job"] == "App\\ProcessInvoice"
    paper = api.call("GET", f"/api/v1/files/{number}.pdf")
    assert (paper.status, paper.headers["content-type"]) == (200, ["application/pdf"])
    assert paper.body.startswith(b"%PDF-")
    assert len(paper.body) > 5000

    bucket = "/".join(api.variables("AWS_ENDPOINT", "AWS_BUCKET"))
    listed = api.bucket(f"/$AWS_BUCKET?list-type=2&prefix={number}", "--fail")
    assert f"<Key>{number}.pdf</Key>" in listed
    assert f"<Size>{len(paper.body)}</Size>" in listed
    for path in (f"/{number}.pdf", "/", "?list-type=2"):
        assert api.call("GET", path, url=bucket).status == 403, path

    told = api.clone.sandbox("mail", "list", "--json", "--wait", "10", "--to", mail_to).good()
    (mail,) = json.loads(told.out)
    assert mail["sender"] == "noreply@scell.io"
    assert mail["subject"] == f"Facture {number}"


def test_files_come_back_byte_by_byte_and_go_when_deleted(api: Api) -> None:
    content = bytes(range(256)) * 4096  # 1 MiB
    api.call("PUT", "/api/v1/files/noise.bin", content, "Content-Type: application/x-noise").expect(201)
    answer = api.call("GET", "/api/v1/files/noise.bin")
    assert (answer.headers["content-type"], answer.body) == (["application/x-noise"], content)
    assert api.call("DELETE", "/api/v1/files/noise.bin").status == 204
    assert api.call("GET", "/api/v1/files/noise.bin").status == 404


def test_sessions_pdf_mail_and_the_other_database_work(api: Api) -> None:
    first = api.call("GET", "/api/v1/session")
    assert first.expect(200)["visits"] == 1
    (cookie,) = first.headers["set-cookie"]
    assert (
        api.call("GET", "/api/v1/session", None, f"Cookie: {cookie.split(';')[0]}").expect(200)["visits"] == 2
    )
    page = api.call("POST", "/api/v1/pdf", {"number": "1", "customer": "Œuvre <b>", "amount": "1 €"})
    assert (page.status, page.body[:5]) == (200, b"%PDF-")
    api.call("POST", "/api/v1/mails", {"to": "a@b.example", "subject": "été", "text": "x"}).expect(201)
    tried = api.call("POST", "/api/v1/sandbox/invoices", {"customer": "Trial", "amount": "1"}).expect(201)
    assert (tried["database"], tried["invoices"] >= 1) == ("scell_sandbox", True)
    assert tried["user"] != api.query("SELECT current_user").strip()


def test_streams_flow_for_their_full_time_while_the_api_answers(site: Site, api: Api) -> None:
    """More of them than the API has processes, so one that took such a process would be seen."""
    count = 16
    with api.streaming(count, STREAM_SECONDS) as seen:
        time.sleep(3)
        for _ in range(20):
            began = time.monotonic()
            api.call("GET", "/health").expect(200)
            assert time.monotonic() - began < 2
            time.sleep(0.2)
    streams = seen["streams"]
    assert [stream["error"] for stream in streams] == [""] * count
    assert {(stream["status"], stream["ended"], len(stream["ticks"])) for stream in streams} == {
        (200, True, STREAM_SECONDS + 1)
    }
    latest = max(max(stream["ticks"]) for stream in streams)
    site.figures[f"a tick of {count} streams of {STREAM_SECONDS} s came late by at most"] = f"{latest:.2f} s"
    assert latest < 0.8  # buffered ones would come together, at the end


def test_workers_run_fail_and_try_again(api: Api) -> None:
    assert "Horizon is running." in api.artisan("horizon:status")
    assert "No failed jobs found." in api.artisan("queue:failed")
    job = api.work("fail")
    until(lambda: job in api.artisan("queue:failed"), 30, "the job among the failed ones", pause=1)
    api.shell(f"touch /srv/{APP}/shared/storage/app/repaired")
    assert "DONE" in api.artisan("queue:retry", job)
    api.finished(job, 20)
    assert "No failed jobs found." in api.artisan("queue:failed")
    api.shell(f"rm /srv/{APP}/shared/storage/app/repaired")


def test_the_dashboard_is_for_administrators(api: Api) -> None:
    assert api.call("GET", "/horizon").status == 403
    assert api.call("GET", "/horizon", None, "Authorization: Bearer nonsense").status == 403
    token = api.artisan("admin:token").strip()
    shown = api.call("GET", "/horizon", None, f"Authorization: Bearer {token}").expect(200)
    assert [master["release"] for master in shown["masters"]] == [api.health()["release"]]


def test_killed_workers_are_back_and_lose_no_job(api: Api) -> None:
    job = api.work("slow", seconds=6)
    until(lambda: api.job(job), 10, "the job's beginning")
    api.clone.on_host(f"kill -KILL $(supervisorctl pid {APP}-horizon)")
    api.finished(job, 20)  # the orphaned worker finishes what it began
    until(lambda: "Horizon is running." in api.artisan("horizon:status", ok=False), 30, "Horizon")
    api.finished(api.work("slow", seconds=0), 20)


def test_client_certificate_and_environment_are_the_applications_alone(api: Api) -> None:
    about = api.artisan("about")
    for fact in ("Debug Mode", "OFF", "Config", "CACHED", "MATCHES ITS KEY"):
        assert fact in about
    assert "NOT CACHED" not in about
    base, other = f"/srv/{APP}", "setpriv --reuid=nobody --regid=nogroup --clear-groups"
    said = api.clone.on_host(
        f"cd {base}; stat --dereference --format='%a %U' shared/.env current/storage/certs/insee-client.key\n"
        f"{other} find {base}/ -type f -readable -print0 2>/dev/null | xargs -0 grep --files-with-matches"
        " --fixed-strings --file=<(sed -n 's/^APP_KEY=//p' shared/.env | tr -d '\"') || true\n"
        "for user in www-data nobody ops; do setpriv --reuid=$user --clear-groups"
        f" cat {base}/current/.env {base}/current/bootstrap/cache/config.php 2>&1 || true; done\n"
    ).splitlines()
    assert said[:2] == [f"600 {APP}"] * 2
    assert len(said) == 8
    assert all("Permission denied" in line for line in said[2:])


# ---------------------------------------------------------------- what nobody else can do


def test_each_database_user_has_its_own_database_and_no_more(api: Api) -> None:
    assert api.query("SELECT 1 FROM pg_extension WHERE extname = 'pg_stat_statements'") == "1\n"
    refused = (
        "CREATE ROLE intruder LOGIN",
        "CREATE DATABASE loot",
        "ALTER SYSTEM SET log_statement = 'all'",
        "ALTER ROLE CURRENT_USER SUPERUSER",
        "SELECT * FROM pg_authid",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "CREATE EXTENSION dblink",
    )
    facts = "current_database(), rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls"
    users = set()
    for suffix, other in (("", "$DB_DATABASE_SANDBOX"), ("_SANDBOX", "$DB_DATABASE")):
        # Each statement in a connection of its own, so that none hides another.
        asked = "".join(f'psql -XAtq --command="{sql}" || true\n' for sql in refused)
        said = api.shell(
            f"export PGUSER=$DB_USERNAME{suffix} PGPASSWORD=$DB_PASSWORD{suffix}\n"
            f"export PGDATABASE=$DB_DATABASE{suffix}\n"
            f'psql -XAtq --command="SELECT rolname, {facts} FROM pg_roles WHERE rolname = current_user"\n'
            f"{asked}"
            # The other's database does not even open; without TLS, or with another authority, nobody talks.
            f'psql --dbname="{other}" --command="SELECT 1" || true\n'
            'PGSSLMODE=disable psql --command="SELECT 1" || true\n'
            'PGSSLROOTCERT=/etc/ssl/certs/ca-certificates.crt psql --command="SELECT 1" || true\n'
        )
        user, database, more = said.splitlines()[0].split("|")
        users.add((user, database))
        assert more == "f"
        lines = [line for line in said.splitlines()[1:] if re.search("ERROR|FATAL|psql: error", line)]
        assert len(lines) == len(refused) + 3, said
        refusal = "permission denied|must be superuser|Only roles with"
        assert all(re.search(refusal, line) for line in lines[: len(refused)]), said
        assert "permission denied for database" in lines[-3]
        assert re.search("no encryption|no pg_hba.conf entry", lines[-2])
        assert "certificate verify failed" in lines[-1]
    assert len({user for user, _ in users}) == len({database for _, database in users}) == 2


# What the account's owner does with a bucket; `sandbox exec` has the owner's key.
OWNER = """
import json, os, sys, boto3
what, bucket, owner = sys.argv[1:]
names = {"aws_access_key_id": "SCW_ACCESS_KEY", "aws_secret_access_key": "SCW_SECRET_KEY"}
key = {name: os.environ[variable] for name, variable in names.items()}
storage = boto3.client("s3", endpoint_url="https://s3.fr-par.scw.cloud", region_name="fr-par", **key)
getattr(storage, what)(Bucket=bucket)
if what == "create_bucket":  # closed to others as every bucket berth makes
    rule = {"Sid": "owner", "Effect": "Allow", "Principal": {"SCW": f"application_id:{owner}"}}
    rule |= {"Action": ["*"], "Resource": [bucket, f"{bucket}/*"]}
    policy = {"Version": "2023-04-17", "Statement": [rule]}
    storage.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
"""


@pytest.fixture
def other(api: Api) -> Iterator[str]:
    """Another bucket of the same project; the path of it."""
    (name,) = api.variables("AWS_BUCKET")
    for what in ("create_bucket", "delete_bucket"):
        api.clone.sandbox("exec", "--", "python", "-c", OWNER, what, f"{name}-other", APPLICATION).good()
        if what == "create_bucket":
            yield f"/{name}-other"


def test_the_buckets_key_opens_that_bucket_only(api: Api, other: str) -> None:
    asked = {
        "/$AWS_BUCKET?list-type=2": "",
        "/": "",
        f"{other}?list-type=2": "",
        "/loot": "--request PUT",
        "/$AWS_BUCKET?acl": "--request PUT",
        "/$AWS_BUCKET": "--request DELETE",
    }
    options = "--output", "/dev/null", "--write-out", "'%{http_code}\\n'"
    said = api.shell("".join(api.signed(path, *options, more) for path, more in asked.items()))
    assert dict(zip(asked, said.split(), strict=True)) == {
        path: "200" if path == "/$AWS_BUCKET?list-type=2" else "403" for path in asked
    }


def test_database_and_cache_answer_the_application_only(api: Api) -> None:
    """Not the internet, not the operators' address, and on the host not who serves or builds."""
    found = api.variables("DB_HOST", "DB_PORT", "REDIS_HOST", "REDIS_PORT")
    services = ((found[0], int(found[1])), (found[2], int(found[3])))
    assert services[0] != services[1]
    # As the application; as who serves the site; from the public address, where a container would come from.
    script = f"""
knock() {{
  setpriv --reuid="$1" --clear-groups python3 - {" ".join(found)} "$2" <<'END'
import socket, sys
for host, port in (sys.argv[1:3], sys.argv[3:5]):
    try:
        socket.create_connection((host, int(port)), 3, (sys.argv[5], 0)).close()
        print("open")
    except OSError:
        print("closed")
END
}}
knock {APP} ""
knock www-data ""
knock berth-build ""
knock {APP} {api.clone.address}
"""
    assert api.clone.on_host(script).split() == ["open"] * 2 + ["closed"] * 6
    ports = [port for _, port in services]
    for source in (STRANGER, net.ADMIN):
        assert api.clone.open_ports(ports, source) == set()  # the host passes nothing on
        for host, port in services:
            assert api.clone.open_ports([port], source, host) == set()


# ---------------------------------------------------------------- releases


def secrets_of(api: Api) -> list[str]:
    """Every secret the application is given, the database's administrator's, and lines of the client key."""
    found = set(
        api.clone.on_host(
            f"sed -nE 's/^[A-Z_]*(PASSWORD|SECRET|TOKEN|KEY)[A-Z_]*=//p' /srv/{APP}/shared/.env\n"
            f"grep -v -- ----- /srv/{APP}/current/storage/certs/insee-client.key\n"
        ).splitlines()
    )
    for resource in api.clone.resources(secrets=True).values():
        if resource["type"] == "random:index/randomPassword:RandomPassword":
            found.add(json.loads(resource["outputs"]["result"]["plaintext"]))
    (access_key,) = api.variables("AWS_ACCESS_KEY_ID")  # a name, no secret
    found = {text.strip('"').replace("\\$", "$") for text in found} - {access_key}
    return sorted(text for text in found if len(text) > 8 and not text.startswith("storage/"))


def test_a_release_under_load_fails_no_request_and_shows_no_secret(site: Site, api: Api) -> None:
    clone = api.clone
    secrets = secrets_of(api)
    assert len(secrets) > 10
    before = api.health()["release"]
    old = api.call("POST", "/api/v1/invoices", {"customer": "Before", "amount": "1"}).expect(202)["number"]
    slow = api.work("slow", seconds=15)
    until(lambda: api.job(slow), 10, "the slow job's beginning")
    watch = Watch(os.getpid())
    try:
        with api.streaming(4, 40) as streamed, api.called() as seen:
            time.sleep(1)
            release(clone, "v1.1.0")
            done = clone.sandbox("up").good()
            time.sleep(1)
    finally:
        watch.stop()
    site.figures["release of the API, a job of 15 s running"] = f"{done.seconds:.1f} s"
    site.figures["calls meanwhile"] = (
        f"{seen['calls']}, {len(seen['failures'])} failed, the slowest {seen['slowest']} s"
    )
    assert seen["failures"] == []
    assert seen["calls"] > 50
    assert seen["versions"] == ["1.0.0", "1.1.0"]
    # What had begun on the old release ended there, whole.
    assert {(one["error"], one["ended"], len(one["ticks"])) for one in streamed["streams"]} == {
        ("", True, 41)
    }
    assert api.finished(slow, 20)["release"] == before
    # And the new one is all there: migrated, with workers of its own, nothing left of the old one's.
    assert api.health()["release"] != before
    assert api.call("GET", f"/api/v1/invoices/{old}").expect(200)["currency"] == "EUR"
    assert "Pending" not in api.artisan("migrate:status")
    assert api.finished(api.work("slow", seconds=0), 30)["release"] == api.health()["release"]
    assert all(api.processed(number, 60) for number in seen["invoices"])
    units = f"systemctl list-units --plain --no-legend --state=active '{APP}-php@*' | wc -l"
    until(lambda: clone.on_host(units) == "1\n", 30, "the end of the old release's PHP", pause=1)

    assert len(watch.lines) > 100
    seen_by = {
        "a command line": b"\n".join(watch.lines).decode(errors="replace"),
        "what `up` says": done.text,
        "the state": clone.pulumi("stack", "export").good().out,
        "the plan": clone.pulumi("preview", "--diff").good().text
        + clone.pulumi("preview", "--json").good().out,
        "the outputs": clone.pulumi("stack", "output", "--json").good().out,
    }
    for directory in ("log", "state", "home"):
        for path in (clone.root / ".sandbox" / directory).rglob("*"):
            if path.is_file() and not path.is_symlink():
                seen_by[str(path)] = path.read_text(errors="replace")
    assert [place for place, text in seen_by.items() if any(secret in text for secret in secrets)] == []
    listed = "\n".join(secrets)
    script = f"""
umask 077; trap 'rm /run/needles' EXIT
cat >/run/needles <<'END'
{listed}
END
grep --text --count --fixed-strings --file=/run/needles /srv/{APP}/shared/.env | grep -qv '^0$' && echo found
grep --recursive --text --files-with-matches --fixed-strings --file=/run/needles \
  /var/log /tmp /run/berth /srv/{APP}/shared/storage/logs
journalctl --quiet --all --output=export | grep --text --count --fixed-strings --file=/run/needles
setpriv --reuid=nobody --regid=nogroup --clear-groups \
  find /srv /etc /opt /var/lib/berth -type f -readable -print0 2>/dev/null \
  | xargs -0 grep --text --files-with-matches --fixed-strings --file=/run/needles
true
"""
    assert clone.on_host(script).splitlines() == ["found", "0"]


def test_a_release_that_fails_leaves_the_old_one_serving(site: Site, api: Api) -> None:
    clone = api.clone
    with api.called() as seen:
        release(clone, "v1.2.0-broken")
        failed = clone.sandbox("up").bad()
        for words in (
            f"Step 'release-{APP}' failed on host 'scell'",
            'relation "bills" does not exist',
            "the migrations of v1.2.0-broken failed",
            f"The whole log is /var/log/berth/release-{APP}.log on that host.",
        ):
            assert words in failed.text, failed.text
        assert "Horizon is running." in api.artisan("horizon:status")

        release(clone, "v1.3.0-unhealthy")
        failed = clone.sandbox("up").bad()
        for words in ("v1.3.0-unhealthy is not well", '"status":"degraded"'):
            assert words in failed.text, failed.text
        assert "Horizon is running." in api.artisan("horizon:status")

        release(clone, "v1.1.0")
        back = clone.sandbox("up").good()
    assert "installing its packages" not in back.text
    assert seen["failures"] == []
    assert seen["versions"] == ["1.1.0"]
    clone.pulumi("preview", "--expect-no-changes").good()
    assert all(api.processed(number, 60) for number in seen["invoices"])


def test_the_release_before_is_back_without_building(site: Site, api: Api) -> None:
    with api.called() as seen:
        release(api.clone, "v1.0.0")
        done = api.clone.sandbox("up").good()
    assert "installing its packages" not in done.text
    site.figures["the API back to the release before"] = f"{done.seconds:.1f} s"
    assert seen["failures"] == []
    assert seen["versions"] == ["1.1.0", "1.0.0"]
    release(api.clone, "v1.1.0")
    api.clone.sandbox("up").good()


# ---------------------------------------------------------------- accidents


Processes = tuple[str, str]


def processes(api: Api) -> Processes:
    """What has to keep running, whatever fails around it: PHP and Horizon, by their process ids."""
    unit = f"$(readlink /srv/{APP}/current | cut -d/ -f2)"
    php = api.clone.on_host(f"systemctl show --property=MainPID --value {APP}-php@{unit}")
    return php, api.clone.on_host(f"supervisorctl pid {APP}-horizon")


@contextmanager
def accident(api: Api, rate: int, *reasons: str) -> Iterator[None]:
    """A release with another `.env` fails for these reasons, harms nothing, and goes through at the end.

    The accident has happened before; the block mends it.
    """
    clone, before = api.clone, processes(api)
    setting(clone, rate)
    failed = clone.sandbox("up").bad()
    for words in (f"Step 'release-{APP}' failed on host 'scell'", *reasons):
        assert words in failed.text, failed.text
    assert clone.page()  # the site has nothing to do with it
    assert processes(api) == before
    yield
    done = clone.sandbox("up").good()
    assert "installing its packages" not in done.text
    until(api.well, 30, "its health", pause=1)
    until(lambda: "Horizon is running." in api.artisan("horizon:status", ok=False), 30, "Horizon", pause=1)
    assert api.variables("MCP_RATE_LIMIT") == [str(rate)]
    api.finished(api.work("slow", seconds=0), 40)


def test_a_database_that_is_down_is_named_and_back_without_a_hand(api: Api) -> None:
    api.clone.sandbox("fault", "down", "postgres").good()
    try:
        with accident(api, 101, "database scell_production at", "does not answer"):
            answer = api.call("GET", "/health")
            assert (answer.status, answer.json["failed"]) == (503, ["database"])
            assert api.call("GET", "/api/v1/session").status == 200
            api.clone.sandbox("fault", "up", "postgres").good()
    finally:
        api.clone.sandbox("fault", "up", "postgres").good()


def test_a_cache_that_is_down_is_named_and_back_without_a_hand(api: Api) -> None:
    api.clone.sandbox("fault", "down", "redis").good()
    try:
        with accident(api, 102, "cache (Redis) at", "does not answer"):
            answer = api.call("GET", "/health")
            assert (answer.status, answer.json["failed"]) == (503, ["cache"])
            api.clone.sandbox("fault", "up", "redis").good()
    finally:
        api.clone.sandbox("fault", "up", "redis").good()


def test_bucket_and_mail_relay_that_are_down_are_both_named(api: Api) -> None:
    for service in ("storage", "mail"):
        api.clone.sandbox("fault", "down", service).good()
    try:
        with accident(api, 103, "bucket ", "mail relay smtp.tem.scw.cloud:587"):
            assert api.well()
            number = api.call("POST", "/api/v1/invoices", {"customer": "Late", "amount": "1"}).expect(202)[
                "job"
            ]
            until(lambda: number in api.artisan("queue:failed"), 60, "the job among the failed ones", pause=1)
            for service in ("storage", "mail"):
                api.clone.sandbox("fault", "up", service).good()
    finally:
        for service in ("storage", "mail"):
            api.clone.sandbox("fault", "up", service).good()
    api.artisan("queue:retry", "all")
    api.finished(number, 40)


def test_a_password_changed_behind_its_back_is_refused_and_named(api: Api) -> None:
    said = "\\set wanted `printenv WANTED`\nALTER ROLE CURRENT_USER PASSWORD :'wanted';"
    api.query(said.replace("printenv WANTED", "echo -n somebody-elses"))
    try:
        with accident(api, 104, "database scell_production at", "refuses", "password authentication failed"):
            assert api.call("GET", "/health").json["failed"] == ["database"]
            mend(api, said)
    finally:
        mend(api, said)


def mend(api: Api, sql: str) -> None:
    """The password of the `.env` again, set with the one that somebody has given it."""
    api.shell(f"WANTED=$DB_PASSWORD PGPASSWORD=somebody-elses psql --quiet <<'SQL'\n{sql}\nSQL\ntrue\n")


def test_a_revoked_bucket_key_is_named_and_made_anew_after_a_refresh(api: Api) -> None:
    store = open_store(paths.state(api.clone.root))
    (access_key,) = api.variables("AWS_ACCESS_KEY_ID")
    (row,) = (row for row in store.all(API_KEY) if row.outputs.get("accessKey") == access_key)
    store.remove(row.token, row.id, "revoked")
    store.close()
    with accident(api, 105, "bucket scell-storage", "the key is unknown (revoked?)"):
        assert api.call("PUT", "/api/v1/files/a", b"a").status == 500
        api.clone.pulumi("refresh", "--yes").good()
    assert api.variables("AWS_ACCESS_KEY_ID") != [access_key]
    api.call("PUT", "/api/v1/files/a", b"a").expect(201)


def test_a_full_disk_is_named_before_anything_is_begun(api: Api) -> None:
    """The application's directory moves to a small disk, which is filled to the last byte."""
    api.clone.on_host(
        f"""
used=$(du --summarize --block-size=1M /srv/{APP} | cut -f1)
mkdir /run/small
mount -t tmpfs -o size=$((used + 40))M tmpfs /run/small
cp --archive /srv/{APP}/. /run/small
mount --move /run/small /srv/{APP} 2>/dev/null || mount --bind /run/small /srv/{APP}
dd if=/dev/zero of=/srv/{APP}/filler bs=1M 2>/dev/null || true
df --output=avail /srv/{APP} | tail -n 1
"""
    )
    try:
        with accident(api, 106, f"the disk of {APP} is full: 0 MB free"):
            assert api.well()
            api.clone.on_host(f"rm /srv/{APP}/filler")
            unmount(api)
    finally:
        unmount(api)


def unmount(api: Api) -> None:
    api.clone.on_host(
        f"while mountpoint --quiet /srv/{APP}; do umount --lazy /srv/{APP}; done\n"
        "! mountpoint --quiet /run/small || umount /run/small\n"
        "rmdir /run/small 2>/dev/null || true\n"
    )


# ---------------------------------------------------------------- afterwards


def test_the_scheduler_has_ticked_every_minute_and_run_what_was_due(api: Api, began: float) -> None:
    listed = api.artisan("schedule:list")
    assert {name for name in SCHEDULED if f"artisan {name} " in listed} == SCHEDULED
    fifth = 300
    due = (int(began) // fifth + 1) * fifth
    until(lambda: time.time() > due + 20, fifth + 60, "five past", pause=1)
    log = api.clone.on_host(f"cat /srv/{APP}/shared/storage/logs/scheduler.log")
    ran = set(re.findall(r"^.*?(\d{4}-\d\d-\d\d \d\d:\d\d):\d\d (?:No scheduled|Running)", log, re.MULTILINE))
    minutes = [
        datetime.datetime.fromtimestamp(second, datetime.UTC).strftime("%Y-%m-%d %H:%M")
        for second in range(int(began) // 60 * 60 + 60, int(time.time()) // 60 * 60, 60)
    ]
    assert minutes
    # While the database was away, minutes ticked as well; what they ran failed.
    assert [minute for minute in minutes if minute not in ran] == []
    runs = api.query("SELECT command, extract(epoch FROM ran_at)::bigint FROM scheduled_runs ORDER BY id")
    at = [(line.split("|")[0], int(line.split("|")[1])) for line in runs.splitlines()]
    for command in ("superpdp:sync-statuses", "horizon:snapshot"):
        times = [second for name, second in at if name == command]
        assert any(due <= second < due + 60 for second in times), (due, times)
        assert all(second % fifth < 60 for second in times)
        assert all(later - earlier >= fifth - 60 for earlier, later in pairwise(times))
    for command in sorted(SCHEDULED - {name for name, _ in at}):
        assert f"{command}: " in api.artisan(command)


def test_nothing_changed_is_quick_and_the_memory_is_bounded(site: Site, api: Api) -> None:
    done = api.clone.sandbox("up").good()
    site.figures["up, nothing changed, whole system"] = f"{done.seconds:.1f} s"
    assert re.search(r"^Resources:\n    \d+ unchanged\n\n", done.out, re.MULTILINE)
    api.clone.pulumi("preview", "--expect-no-changes").good()
    machine = api.clone.status()["machine"]
    services = [*machine["internet"]["services"], *machine["services"]]
    used = sum(one["memory"] for one in services if not one.get("database"))
    site.figures["memory of the sandbox without hosts and databases"] = f"{(used + site.memory) / 1e6:.0f} MB"
    assert used + site.memory < 600e6
