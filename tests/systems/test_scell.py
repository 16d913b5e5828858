"""Scell.io, composed from its stack file: what there is, what hangs together, what is protected."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from config import stackfile
from systems import REGISTRY, build
from systems.scell.variables import VARIABLES
from tests import mocks, stand_ins

SANDBOX = Path("Pulumi.sandbox.yaml").read_text()
SITE_ALONE = (SANDBOX[SANDBOX.index("      postgres:") :], "")
"""A stack file of the first half: the site and nothing behind it."""


def run(tmp_path: Path, *changes: tuple[str, str], secrets: dict[str, str] | None = None) -> mocks.Run:
    text = SANDBOX
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    file = tmp_path / "Pulumi.sandbox.yaml"
    file.write_text(text)

    def program() -> Any:
        stack = stackfile.check(file, REGISTRY, None)
        return build(stack.with_secrets(stand_ins.secrets(**(secrets or {}))))

    return mocks.run(program)


STEPS = ("bootstrap", "web", "release", "postgresql-client", "database", "api-runtime", "api-release")


def command(recorded: mocks.Run, step: str) -> mocks.Recorded:
    return recorded.one("command:remote:Command", f"scell-{step}-command")


def document(recorded: mocks.Run, step: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(command(recorded, step).inputs["stdin"])
    return found


def after(recorded: mocks.Run, urn: str) -> set[str]:
    """Names of everything that a resource waits for, however far away."""
    found: set[str] = set()
    reach = list(recorded.urn(urn).dependencies)
    while reach:
        one = recorded.urn(reach.pop())
        if one.name not in found:
            found.add(one.name)
            reach += one.dependencies
    return found


def dotenv(recorded: mocks.Run) -> dict[str, str]:
    lines = document(recorded, "api-release")["files"]["dotenv"].splitlines()
    return {name: value.strip('"') for name, _, value in (line.partition("=") for line in lines)}


def test_the_site_alone_is_these_resources_and_no_others(tmp_path: Path) -> None:
    made = sorted((r.type, r.name) for r in run(tmp_path, SITE_ALONE).resources if r.custom)
    assert made == [
        ("command:remote:Command", "scell-bootstrap-command"),
        ("command:remote:Command", "scell-release-command"),
        ("command:remote:Command", "scell-web-command"),
        ("random:index/randomId:RandomId", "scell-seal"),
        ("scaleway:domain/record:Record", "scell-apex-a"),
        ("scaleway:domain/record:Record", "scell-www-a"),
        ("scaleway:domain/zone:Zone", "scell-zone"),
        ("scaleway:instance/ip:Ip", "scell-ip"),
        ("scaleway:instance/ipReverseDns:IpReverseDns", "scell-reverse"),
        ("scaleway:instance/privateNic:PrivateNic", "scell-private-nic"),
        ("scaleway:instance/securityGroup:SecurityGroup", "scell-group"),
        ("scaleway:instance/server:Server", "scell-server"),
        ("scaleway:network/privateNetwork:PrivateNetwork", "scell-private"),
        ("scaleway:network/vpc:Vpc", "scell-vpc"),
        ("tls:index/privateKey:PrivateKey", "scell-deploy-key"),
        ("tls:index/privateKey:PrivateKey", "scell-host-key"),
    ]


def test_outside_only_http_and_ssh_of_the_admins(tmp_path: Path) -> None:
    group = run(tmp_path).one("SecurityGroup")
    assert group.inputs["inboundDefaultPolicy"] == "drop"
    rules = {
        (rule["protocol"], rule.get("port"), rule.get("portRange"), rule.get("ipRange"))
        for rule in group.inputs["inboundRules"]
    }
    assert {rule[3] for rule in rules if rule[1] == 22} == {"198.18.1.0/24"}
    assert {rule[1] for rule in rules if rule[3] == "0.0.0.0/0"} == {80, 443, None}
    assert {rule[0] for rule in rules if rule[1] is None} == {"ICMP"}


def test_names_point_at_the_reserved_address(tmp_path: Path) -> None:
    recorded = run(tmp_path)
    address = recorded.value["scell"]["address"]
    records = {r.inputs["name"]: r.inputs["data"] for r in recorded.of("Record")}
    assert {name: records[name] for name in ("www", "api")} == {"www": address, "api": address}
    assert recorded.one("Record", "scell-apex-a").inputs["data"] == address
    reverse = recorded.one("IpReverseDns")
    assert reverse.inputs["reverse"] == "scell.io"
    # Scaleway refuses a reverse name that does not resolve to the address yet.
    assert recorded.one("Record", "scell-apex-a").urn in reverse.dependencies


def test_names_that_are_live_elsewhere_are_not_pointed(tmp_path: Path) -> None:
    recorded = run(tmp_path, ("zone: scell.io, manage: true", "zone: scell.io, manage: true, point: false"))
    assert [r.name for r in recorded.of("Record") if r.inputs["type"] == "A"] == []
    assert recorded.of("IpReverseDns") == []
    assert recorded.of("scaleway:domain/zone:Zone")
    assert recorded.of("Record"), "those of the mail domain stay"


def test_a_zone_is_looked_up_unless_managed(tmp_path: Path) -> None:
    recorded = run(tmp_path, ("manage: true", "manage: false"))
    assert recorded.of("Zone") == []
    assert {r.inputs["dnsZone"] for r in recorded.of("Record")} == {"scell.io"}


def test_the_release_builds_beside_the_web_server_after_the_baseline(tmp_path: Path) -> None:
    recorded = run(tmp_path)
    first = recorded.one("Command", "scell-bootstrap-command").urn
    web, release = (recorded.one("Command", f"scell-{step}-command") for step in ("web", "release"))
    assert first in web.dependencies
    assert first in release.dependencies
    assert web.urn not in release.dependencies
    locks = {step: document(recorded, step)["lock"] for step in ("bootstrap", "web", "release")}
    assert locks == {"bootstrap": "host", "web": "host", "release": "app-scell"}


def test_every_command_goes_and_comes_with_the_server(tmp_path: Path) -> None:
    recorded = run(tmp_path)
    server = recorded.one("Server").urn
    for command in recorded.of("Command"):
        assert command.deleted_with == server
        assert command.replace_with == (server,)
        assert {"stdin", "connection"} <= command.secrets


def test_the_stack_file_reaches_the_host(tmp_path: Path) -> None:
    host = "      host: {timezone: Europe/Paris, swap_gb: 0, logs: {keep_days: 3}}\n      frontend:"
    recorded = run(tmp_path, ("      frontend:", host), ('node: "20"', 'node: "22"'))
    baseline, web, release = (document(recorded, step) for step in ("bootstrap", "web", "release"))
    assert baseline["environment"]["TIMEZONE"] == "Europe/Paris"
    assert baseline["environment"]["SWAP_GB"] == "0"
    assert "rotate 3" in baseline["files"]["logrotate.conf"]
    assert "rotate 3" in web["files"]["logrotate.conf"]
    assert json.loads(web["files"]["certificates.json"])["names"] == [
        "scell.io",
        "www.scell.io",
        "api.scell.io",
    ]
    assert "==22." in release["files"]["node.txt"]
    assert release["environment"]["VITE_API_URL"] == "https://api.scell.io/api/v1"
    assert release["environment"]["RELEASE"] == "v1.0.0"


def test_the_root_of_the_site_is_where_releases_go(tmp_path: Path) -> None:
    recorded = run(tmp_path)
    app = document(recorded, "release")["environment"]["APP"]
    assert f"root /srv/{app}/current/dist;" in document(recorded, "web")["files"]["nginx/scell.io.conf"]


def test_debian_13_gets_its_image_and_its_http2(tmp_path: Path) -> None:
    recorded = run(tmp_path, SITE_ALONE, ("image: debian-12", "image: debian-13"))
    assert "http2 on;" in document(recorded, "web")["files"]["nginx/scell.io.conf"]


def test_a_deploy_key_is_a_secret_file_of_the_release_only(tmp_path: Path) -> None:
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\nline-of-the-key\n-----END OPENSSH PRIVATE KEY-----"
    ssh = ("https://github.com/scell-io/frontend.git", "git@github.com:scell-io/frontend.git")
    recorded = run(tmp_path, ssh, secrets={"deploy_key": key})
    release = document(recorded, "release")
    assert release["files"]["deploy_key"] == key + "\n"
    assert "line-of-the-key" in release["mask"]
    for step in ("bootstrap", "web"):
        assert "line-of-the-key" not in json.dumps(document(recorded, step))
    assert "line-of-the-key" not in json.dumps(recorded.value)


def test_kept_data_is_protected_and_sealed(tmp_path: Path) -> None:
    recorded = run(tmp_path, ("berth:data: delete", "berth:data: keep"))
    protected = {r.name for r in recorded.resources if r.protect}
    assert protected == {
        "scell-api-key",
        "scell-bucket",
        "scell-cluster",
        "scell-database-scell_production",
        "scell-database-scell_sandbox",
        "scell-deploy-key",
        "scell-host-key",
        "scell-instance",
        "scell-ip",
        "scell-mail-domain",
        "scell-password-berth",
        "scell-password-scell",
        "scell-password-scell_sandbox",
        "scell-postgres-version",
        "scell-user-scell",
        "scell-user-scell_sandbox",
        "scell-seal",
        "scell-zone",
    }
    seal = recorded.one("random:index/randomId:RandomId", "scell-seal")
    assert {r.urn for r in recorded.resources if r.protect and r is not seal} <= set(seal.dependencies)


def test_nothing_is_protected_where_data_may_go(tmp_path: Path) -> None:
    assert not [r.name for r in run(tmp_path).resources if r.protect]


def test_exports_are_complete_and_plain(tmp_path: Path) -> None:
    outputs = run(tmp_path).value["scell"]
    assert outputs["urls"] == ["https://scell.io/", "https://www.scell.io/"]
    assert outputs.keys() == {
        *("urls", "address", "host", "name_servers", "release", "operator"),
        *("api", "bucket", "database_host"),
    }
    assert outputs["api"]["url"] == "https://api.scell.io/"
    assert outputs["api"]["health"] == "https://api.scell.io/health"
    assert outputs["bucket"] == "scell-storage"
    assert outputs["database_host"].startswith("10.20.0.")
    assert run(tmp_path, SITE_ALONE).value["scell"].keys() == {
        *("urls", "address", "host", "name_servers", "release", "operator")
    }


def test_two_runs_send_the_same_to_the_byte(tmp_path: Path) -> None:
    first, second = run(tmp_path), run(tmp_path)
    for step in STEPS:
        assert document(first, step) == document(second, step)


def test_a_change_reaches_only_the_step_it_concerns(tmp_path: Path) -> None:
    def changed(old: str, new: str) -> set[str]:
        before, after = run(tmp_path), run(tmp_path, (old, new))
        return {step for step in STEPS if document(before, step) != document(after, step)}

    assert changed("release: v1.0.0", "release: v1.1.0") == {"release"}
    assert changed(
        "keys: []",
        "keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEcyvj6gxRMyEGAE8QnAz5+zHre1iGgMk/+GNkQ5E+TK a]",
    ) == {"bootstrap"}
    assert changed("ops@scell.io", "admin@scell.io") == {"web"}
    assert changed("user: ops", "user: root2") == {"bootstrap"}
    assert changed('release: "v1.0.0"', 'release: "v1.1.0"') == {"api-release"}
    assert changed("locale: fr", "locale: en") == {"api-release"}
    assert changed("size: DB-DEV-S", "size: DB-DEV-M") == set()


@pytest.mark.parametrize("stack", ["prod", "staging"])
def test_the_committed_stacks_build(stack: str) -> None:
    def program() -> Any:
        parsed = stackfile.check(Path(f"Pulumi.{stack}.yaml"), REGISTRY, None)
        return build(parsed.with_secrets(stand_ins.secrets()))

    recorded = mocks.run(program)
    assert len(recorded.of("Command")) == 7


# ---------------------------------------------------------------- the API and what it stands on


SOURCE = """
APP_NAME APP_ENV APP_KEY APP_DEBUG APP_TIMEZONE APP_URL APP_LOCALE
DB_CONNECTION DB_HOST DB_PORT DB_DATABASE DB_USERNAME DB_PASSWORD DB_HOST_SANDBOX DB_DATABASE_SANDBOX
CACHE_STORE CACHE_PREFIX QUEUE_CONNECTION SESSION_DRIVER REDIS_HOST REDIS_PORT REDIS_PASSWORD HORIZON_PREFIX
MAIL_MAILER MAIL_HOST MAIL_PORT MAIL_USERNAME MAIL_PASSWORD MAIL_ENCRYPTION MAIL_FROM_ADDRESS
GOOGLE_CLIENT_ID GOOGLE_CLIENT_SECRET OPENAPI_BASE_URL OPENAPI_SANDBOX_URL OPENAPI_BEARER_TOKEN
SUPERPDP_API_URL SUPERPDP_API_KEY SUPERPDP_WEBHOOK_SECRET SUPERPDP_SANDBOX
BULKGATE_APPLICATION_ID BULKGATE_APPLICATION_TOKEN
INSEE_API_URL INSEE_CLIENT_ID INSEE_CERT_PATH INSEE_KEY_PATH
AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_DEFAULT_REGION AWS_BUCKET AWS_ENDPOINT AWS_USE_PATH_STYLE_ENDPOINT
MCP_ENABLED MCP_SESSION_TTL MCP_SESSION_DRIVER MCP_RATE_LIMIT
FISCAL_COMPLIANCE_ENABLED FISCAL_EDITOR_NAME FISCAL_EDITOR_SIRET FISCAL_LICENSE_NUMBER FISCAL_ANCHOR_PROVIDER
FISCAL_TSA_URL FISCAL_RETENTION_YEARS
SNAPPY_PDF_BINARY SNAPPY_IMAGE_BINARY
""".split()
"""Every variable in the tables of Scell.io's own deployment document."""

OURS = """
DB_USERNAME_SANDBOX DB_PASSWORD_SANDBOX DB_SSLMODE DB_SSLROOTCERT
REDIS_USERNAME REDIS_SCHEME REDIS_CA LOG_CHANNEL LOG_LEVEL
""".split()
"""What least privilege and TLS add to them."""


@pytest.mark.parametrize("stack", ["prod", "staging", "sandbox"])
def test_the_env_holds_every_variable_of_the_source(stack: str) -> None:
    def program() -> Any:
        parsed = stackfile.check(Path(f"Pulumi.{stack}.yaml"), REGISTRY, None)
        return build(parsed.with_secrets(stand_ins.secrets()))

    values = dotenv(mocks.run(program))
    assert set(values) == {*SOURCE, *OURS} == VARIABLES
    assert [name for name, value in values.items() if not value or value == "None"] == []


def test_what_the_env_says(tmp_path: Path) -> None:
    recorded = run(tmp_path)
    values = dotenv(recorded)
    instance, cluster = recorded.one("scaleway:databases/instance:Instance"), recorded.one("Cluster")
    users = {u.inputs["name"]: u.inputs["password"] for u in recorded.of("scaleway:databases/user:User")}
    key = recorded.one("RandomBytes")
    expected = {
        "APP_NAME": "Scell.io",
        "APP_ENV": "production",
        "APP_DEBUG": "false",
        "APP_URL": "https://api.scell.io",
        "DB_HOST": f"10.20.0.{mocks.number(instance.name)}",
        "DB_HOST_SANDBOX": f"10.20.0.{mocks.number(instance.name)}",
        "DB_PORT": "5432",
        "DB_DATABASE": "scell_production",
        "DB_DATABASE_SANDBOX": "scell_sandbox",
        "DB_USERNAME": "scell",
        "DB_PASSWORD": users["scell"],
        "DB_USERNAME_SANDBOX": "scell_sandbox",
        "DB_PASSWORD_SANDBOX": users["scell_sandbox"],
        "DB_SSLMODE": "verify-ca",
        "DB_SSLROOTCERT": "/etc/berth/ca/scell-postgres.pem",
        "REDIS_HOST": f"10.20.0.{mocks.number(cluster.name)}",
        "REDIS_PASSWORD": cluster.inputs["password"],
        "REDIS_SCHEME": "tls",
        "REDIS_CA": "/etc/berth/ca/scell-redis.pem",
        "AWS_BUCKET": "scell-storage",
        "AWS_ENDPOINT": "https://s3.fr-par.scw.cloud",
        "MAIL_PORT": "587",
        "MAIL_FROM_ADDRESS": "noreply@scell.io",
        "GOOGLE_CLIENT_SECRET": "stand-in-of-google_client_secret",
        "SUPERPDP_SANDBOX": "true",
        "INSEE_CERT_PATH": "storage/certs/insee-client.pem",
        "LOG_LEVEL": "info",
    }
    assert {name: values[name] for name in expected} == expected
    assert values["APP_KEY"] == "base64:" + base64.b64encode(key.name.ljust(32, "-").encode()).decode()
    assert len(set(users.values()) | {instance.inputs["password"]}) == 3  # the administrator is a third


def test_further_variables_and_services_that_are_off(tmp_path: Path) -> None:
    off = "        bulkgate: {enabled: false}\n        extra: {APP_FEATURE_X: beta}\n        fiscal:"
    recorded = run(tmp_path, ("        fiscal:", off))
    values = dotenv(recorded)
    assert values["APP_FEATURE_X"] == "beta"
    assert not [name for name in values if name.startswith("BULKGATE_")]


def test_outside_secrets_reach_the_host_masked_and_stand_nowhere_else(tmp_path: Path) -> None:
    recorded = run(tmp_path)
    release = document(recorded, "api-release")
    assert release["files"]["storage/certs/insee-client.pem"].startswith("-----BEGIN insee_certificate-----")
    assert release["files"]["storage/certs/insee-client.key"].startswith("-----BEGIN insee_key-----")
    for name in stand_ins.usual():
        assert f"stand-in-of-{name}" in release["mask"]
        for step in set(STEPS) - {"api-release"}:
            assert f"stand-in-of-{name}" not in json.dumps(document(recorded, step))
    (system,) = (urn for urn in recorded.outputs if "berth:web" in urn or ("Step" in urn and "web" in urn))
    assert "stand-in-of" not in json.dumps(recorded.outputs[system])
    plain = {k: v for k, v in recorded.value["scell"].items() if k != "operator"}
    assert "stand-in-of" not in json.dumps(plain)


def test_an_operator_is_told_where_and_what_and_only_in_secret(tmp_path: Path) -> None:
    recorded = run(tmp_path)
    operator = recorded.value["scell"]["operator"]
    assert operator["app"] == "scell-api"
    assert operator["health"] == "https://api.scell.io/health"
    assert operator["environment"] == dotenv(recorded)
    assert operator["host_key"].startswith("ssh-ed25519 ")
    assert "environment" not in run(tmp_path, SITE_ALONE).value["scell"]["operator"]


def test_only_the_release_of_the_api_waits_for_the_data_services(tmp_path: Path) -> None:
    recorded = run(tmp_path)
    slow = {"scell-instance", "scell-cluster", "scell-bucket", "scell-mail-domain"}
    waits = {step: after(recorded, command(recorded, step).urn) & slow for step in STEPS}
    assert waits.pop("database") == {"scell-instance"}
    assert waits.pop("api-release") == slow
    assert set().union(*waits.values()) == set()


def test_the_api_comes_after_its_runtime_the_web_server_and_the_databases_rights(tmp_path: Path) -> None:
    recorded = run(tmp_path)
    before = after(recorded, command(recorded, "api-release").urn)
    names = {f"scell-{step}-command" for step in ("bootstrap", "web", "database", "api-runtime")}
    assert names <= before
    assert "scell-release-command" not in before  # the site is no part of it
    client = after(recorded, command(recorded, "database").urn)
    assert "scell-postgresql-client-command" in client
    assert {"scell-privilege-scell_production", "scell-database-scell_production"} <= after(
        recorded, recorded.one("RandomId", "scell-seal").urn
    )


def test_one_package_transaction_for_all_roles(tmp_path: Path) -> None:
    recorded = run(tmp_path)
    packages = document(recorded, "bootstrap")["environment"]["PACKAGES"].split()
    assert {"nginx", "php8.2-fpm", "supervisor", "wkhtmltopdf", "composer"} <= set(packages)
    assert len(packages) == len(set(packages))
    alone = document(run(tmp_path, SITE_ALONE), "bootstrap")["environment"]["PACKAGES"].split()
    assert not [name for name in alone if name.startswith("php")]


def test_mail_is_let_out_only_where_mail_is_sent(tmp_path: Path) -> None:
    assert run(tmp_path).one("SecurityGroup").inputs["enableDefaultSecurity"] is False
    assert run(tmp_path, SITE_ALONE).one("SecurityGroup").inputs["enableDefaultSecurity"] is True


def test_the_records_of_mail_come_after_the_zone(tmp_path: Path) -> None:
    recorded = run(tmp_path)
    spf = recorded.one("Record", "scell-mail-spf")
    assert "scell-zone" in after(recorded, spf.urn)


def test_least_privilege(tmp_path: Path) -> None:
    recorded = run(tmp_path)
    rights = {
        (p.inputs["userName"], p.inputs["databaseName"])
        for p in recorded.of("scaleway:databases/privilege:Privilege")
    }
    assert {right for right in rights if right[0] != "berth"} == {
        ("scell", "scell_production"),
        ("scell_sandbox", "scell_sandbox"),
    }
    assert [r["ip"] for r in recorded.one("Acl").inputs["aclRules"]] == ["10.20.0.0/24"]
    permissions = {
        p.name: {name for rule in p.inputs["rules"] for name in rule["permissionSetNames"]}
        for p in recorded.of("scaleway:iam/policy:Policy")
    }
    assert permissions["scell-mail-policy"] == {"TransactionalEmailEmailSmtpCreate"}
    assert all(name.startswith("ObjectStorage") for name in permissions["scell-policy"])
    databases = json.loads(document(recorded, "database")["files"]["databases.json"])
    assert databases == {
        "scell_production": {"owner": "scell", "extensions": ["pg_stat_statements"]},
        "scell_sandbox": {"owner": "scell_sandbox", "extensions": ["pg_stat_statements"]},
    }


def test_existing_things_are_taken_over(tmp_path: Path) -> None:
    uuid = "3b6b1f3e-52d0-4f0a-9d0e-6a1f2c7d8e90"
    recorded = run(
        tmp_path,
        ("        size: DB-DEV-S", f"        size: DB-DEV-S\n        adopt: {uuid}"),
        ("size: RED1-MICRO}", f"size: RED1-MICRO, adopt: {uuid}}}"),
        (
            "        name: scell-storage",
            "        name: scell-storage\n        adopt: scell-storage",
        ),
        ("zone: scell.io, manage: true", "zone: scell.io, manage: true, adopt: scell.io"),
        ("mail: {domain: scell.io,", f"mail: {{adopt: {uuid}, domain: scell.io,"),
    )
    assert {r.name: r.import_id for r in recorded.resources if r.import_id} == {
        "scell-instance": f"fr-par/{uuid}",
        "scell-database-scell_production": f"fr-par/{uuid}/scell_production",
        "scell-database-scell_sandbox": f"fr-par/{uuid}/scell_sandbox",
        "scell-user-scell": f"fr-par/{uuid}/scell",
        "scell-user-scell_sandbox": f"fr-par/{uuid}/scell_sandbox",
        "scell-cluster": f"fr-par-1/{uuid}",
        "scell-bucket": "fr-par/scell-storage",
        "scell-mail-domain": f"fr-par/{uuid}",
        "scell-zone": "scell.io",
    }
    assert {r.name for r in recorded.resources if r.import_id and not r.protect} == set()  # data: delete
    assert recorded.one("scaleway:object/bucket:Bucket").inputs["forceDestroy"] is False


def test_of_an_adopted_server_only_what_exists_is_taken_over(tmp_path: Path) -> None:
    uuid = "3b6b1f3e-52d0-4f0a-9d0e-6a1f2c7d8e90"
    existing = f"        adopt: {uuid}\n        existing: {{databases: [scell_production]}}"
    recorded = run(tmp_path, ("        size: DB-DEV-S", f"        size: DB-DEV-S\n{existing}"))
    assert {r.name for r in recorded.resources if r.import_id} == {
        "scell-instance",
        "scell-database-scell_production",
    }


def test_the_data_may_come_before_the_api(tmp_path: Path) -> None:
    text = SANDBOX[SANDBOX.index("      backend:") :]
    recorded = run(tmp_path, (text, ""))
    assert len(recorded.of("scaleway:databases/database:Database")) == 2
    assert [c.name for c in recorded.of("Command") if "api" in c.name] == []
    assert command(recorded, "database").name == "scell-database-command"


def test_no_step_runs_as_a_unit_that_it_installs(tmp_path: Path) -> None:
    recorded = run(tmp_path)
    steps = {f"berth-{document(recorded, step)['step']}.service" for step in STEPS}
    files = {path for step in STEPS for path in document(recorded, step)["files"]}
    assert len(steps) == len(STEPS)
    assert not steps & files
