"""Bucket, keys and mail through the real engine, and what `up`, `preview` and `destroy` say of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from sandbox import internet
from sandbox.internet import certs
from sandbox.services import mail
from tests.sandbox.conftest import Lab, checkout
from tests.sandbox.services.world import missing

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("services")]
PROGRAM = """
from pulumiverse_scaleway import iam, tem
import json

project = "11111111-2222-4333-8444-555555555555"

def key(name, *sets):
    application = iam.Application(name)
    iam.Policy(name, application_id=application.id,
        rules=[iam.PolicyRuleArgs(permission_set_names=list(sets), project_ids=[project])])
    return application, iam.ApiKey(name, application_id=application.id, default_project_id=project)

bucket = s3.Bucket("files", name="lab-files", versioning={"enabled": False})
application, made = key("files", "ObjectStorageObjectsRead", "ObjectStorageObjectsWrite",
    "ObjectStorageObjectsDelete")
s3.BucketPolicy("files", bucket=bucket.name, policy=application.id.apply(lambda id: json.dumps({
    "Version": "2023-04-17", "Statement": [{"Effect": "Allow", "Action": ["*"],
    "Principal": {"SCW": f"application_id:{id}"}, "Resource": ["lab-files", "lab-files/*"]}]})))
pulumi.export("access", made.access_key)
pulumi.export("secret", made.secret_key)
pulumi.export("endpoint", bucket.api_endpoint)

sender = tem.Domain("mail", name="lab.example", accept_tos=True, region="fr-par")
inside = lambda name: name.apply(lambda n: n.removesuffix(".lab.example."))
records = [domain.Record(f"mail{n}", dns_zone="lab.example", name=name, type=kind, data=data, ttl=60)
    for n, (name, kind, data) in enumerate([
        ("", "TXT", sender.spf_value), (inside(sender.dkim_name), "TXT", sender.dkim_config),
        (inside(sender.dmarc_name), "TXT", sender.dmarc_config), ("", "MX", sender.mx_config)])]
validation = tem.DomainValidation("mail", domain_id=sender.id, region="fr-par", opts=O(depends_on=records))
_, sending = key("mail", "TransactionalEmailEmailSmtpCreate")
pulumi.export("validated", validation.validated)
pulumi.export("smtp", pulumi.Output.all(sender.smtp_host, sender.smtp_port, sender.smtps_auth_user))
pulumi.export("password", sending.secret_key)
"""
# Run among the sandbox's names, with what the stack gave.
STORE = """
import boto3, json, smtplib, ssl, sys
out, authority = json.loads(sys.stdin.read()), sys.argv[1]
s3 = boto3.client("s3", endpoint_url=out["endpoint"], region_name="fr-par", verify=authority,
    aws_access_key_id=out["access"], aws_secret_access_key=out["secret"])
s3.put_object(Bucket="lab-files", Key="receipt.pdf", Body=b"%PDF")
print(s3.get_object(Bucket="lab-files", Key="receipt.pdf")["Body"].read().decode())
host, port, user = out["smtp"]
with smtplib.SMTP(host, int(port)) as client:
    client.starttls(context=ssl.create_default_context(cafile=authority))
    client.login(user, out["password"])
    client.sendmail("a@lab.example", ["b@c.example"], "From: a@lab.example\\nSubject: hello\\n\\nhello\\n")
"""


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    if reason := missing():
        pytest.skip(reason)
    from sandbox import real

    if reasons := real.capable():
        pytest.skip(reasons[0])
    found = checkout(tmp_path_factory.mktemp("lab").resolve())
    found.program(PROGRAM)
    yield found
    found.sandbox("reset").good()


def client(lab: Lab, out: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    authority = str(certs.ca_certificate(lab.root))
    return internet.run(
        lab.root,
        [sys.executable, "-c", STORE, authority],
        input=json.dumps(out),
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_file_is_stored_and_a_mail_is_sent_with_what_a_stack_gives(lab):
    lab.sandbox("up", "--stack", "dev").good()
    out = outputs(lab)
    assert out["validated"] is True
    done = client(lab, out)
    assert done.stdout == "%PDF\n", done.stderr
    assert [one.subject for one in mail.received(lab.root)] == ["hello"]
    lab.sandbox("exec", "--", *"pulumi preview --stack dev --expect-no-changes".split()).good()
    lab.sandbox("exec", "--", *"pulumi refresh --yes --stack dev".split()).good()
    lab.sandbox("exec", "--", *"pulumi refresh --yes --expect-no-changes --stack dev".split()).good()
    status = lab.sandbox("status").good().text
    assert "storage  up" in status
    assert "mail  up" in status
    lab.sandbox("destroy", "--stack", "dev").bad(
        "BucketNotEmpty: The bucket you tried to delete is not empty"
    )
    lab.sandbox("up", "--stack", "dev").good()
    assert client(lab, {**out, **outputs(lab)}).stdout == "%PDF\n"
    lab.program(PROGRAM.replace('name="lab-files",', 'name="lab-files", force_destroy=True,'))
    lab.sandbox("up", "--stack", "dev").good()
    lab.sandbox("destroy", "--stack", "dev").good()


def outputs(lab: Lab) -> dict[str, Any]:
    command = "pulumi stack output --json --show-secrets --stack dev".split()
    text = lab.sandbox("exec", "--", *command).good().text
    found: dict[str, Any] = json.loads(text[text.index("{") : text.rindex("}") + 1])
    return found
