"""Transactional Email by a real SMTP client: who may send as whom, and what became of it."""

from __future__ import annotations

import contextlib
import json
import os
import smtplib
import ssl
import subprocess
import sys
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any

import pytest

from sandbox import process, services
from sandbox.hosts import firewall
from sandbox.hosts.desired import Group, Host
from sandbox.internet import acme
from sandbox.internet.layout import Layout as Internet
from sandbox.services import mail
from sandbox.twins.cloud import CloudError, Made
from tests.sandbox.services.world import PROJECT, Place, checkout

pytestmark = pytest.mark.sandbox
DOMAIN = "scaleway:tem/domain:Domain"
VALIDATION = "scaleway:tem/domainValidation:DomainValidation"
RECORD = "scaleway:domain/record:Record"
IAM_POLICY = "scaleway:iam/policy:Policy"
KEY = "scaleway:iam/apiKey:ApiKey"
SMTP = "TransactionalEmailEmailSmtpCreate"
HOST = "198.18.16.7"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with checkout(tmp_path_factory.mktemp("mail").resolve()) as found:
        yield found


@pytest.fixture(scope="module")
def sender(place: Place) -> dict[str, Made]:
    """scell.io with all its records, and a key that sends for its project."""
    made = place.key("mailer", SMTP)
    made["domain"] = place.create(DOMAIN, {"name": "scell.io", "acceptTos": True})
    for name, record in records(made["domain"], "scell.io").items():
        made[name] = place.create(RECORD, record, name)
    return made


def records(domain: Made, zone: str) -> dict[str, dict[str, Any]]:
    """The records a domain's outputs ask for."""
    out = domain.outputs

    def record(name: str, kind: str, data: str, **more: Any) -> dict[str, Any]:
        inside = name.removesuffix(f".{zone}.")
        return {"dnsZone": zone, "name": inside, "type": kind, "data": data, "ttl": 60, **more}

    return {
        "spf": record("", "TXT", out["spfValue"]),
        "dkim": record(out["dkimName"], "TXT", out["dkimConfig"]),
        "dmarc": record(out["dmarcName"], "TXT", out["dmarcConfig"]),
        "mx": record("", "MX", out["mxConfig"], priority=out["mxPriority"]),
    }


def trust(place: Place) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=place.authority)


@contextlib.contextmanager
def login(place: Place, key: Made | None, user: str = PROJECT, port: int = 587) -> Iterator[smtplib.SMTP]:
    with place.entered(), smtplib.SMTP("smtp.tem.scw.cloud", port, timeout=20) as client:
        client.starttls(context=trust(place))
        if key is not None:
            client.login(user, key.outputs["secretKey"])
        yield client


def message(
    sender: str = "Scell <noreply@scell.io>", subject: str = "Votre facture", size: int = 0
) -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = sender, "client@example.org", subject
    made.set_content("Bonjour, ci-joint votre reçu.\n")
    if size:
        made.add_attachment(b"x" * size, maintype="application", subtype="pdf", filename="reçu.pdf")
    return made


# ---------------------------------------------------------------- domains


def test_a_domain_is_checked_when_its_four_records_stand(place, sender):
    validation = place.create(VALIDATION, {"domainId": sender["domain"].id})
    assert validation.outputs["validated"] is True
    found = place.read(DOMAIN, sender["domain"])
    assert found is not None
    assert (found.outputs["status"], found.outputs["lastError"]) == ("checked", "")
    assert sender["domain"].outputs["status"] == "unchecked"
    assert sender["domain"].outputs["spfValue"].startswith("v=spf1 include:")


def test_a_domain_fails_with_the_reason_of_each_record_and_then_passes(place):
    key = place.key("later", SMTP)
    domain = place.create(DOMAIN, {"name": "later.example", "acceptTos": True}, "later")
    validation = place.create(VALIDATION, {"domainId": domain.id}, "later")
    assert validation.outputs["validated"] is False

    def reasons() -> str:
        found = place.read(DOMAIN, domain)
        assert found is not None
        assert found.outputs["status"] == "invalid"
        return str(found.outputs["lastError"])

    assert [part.partition(":")[0] for part in reasons().split("; ")] == ["SPF", "DKIM", "DMARC", "MX"]
    wanted = records(domain, "later.example")
    spf = place.create(RECORD, {**wanted["spf"], "data": "v=spf1 -all"}, "later-spf")
    place.create(RECORD, {**wanted["dkim"], "data": "v=DKIM1; k=rsa; p=AAAA"}, "later-dkim")
    assert "found 'v=spf1 -all'" in reasons()
    assert "found another" in reasons()
    with login(place, key["key"]) as client, pytest.raises(smtplib.SMTPSenderRefused) as refused:
        client.send_message(message("noreply@later.example"))
    assert refused.value.smtp_code == 550
    assert b"invalid: SPF" in refused.value.smtp_error
    place.delete(RECORD, spf)
    for name, record in wanted.items():
        place.create(RECORD, record, f"later-{name}-right")
    found = place.read(VALIDATION, validation)
    assert found is not None
    assert found.outputs["validated"] is True
    with login(place, key["key"]) as client:
        client.send_message(message("noreply@later.example", subject="later"))
    place.delete(DOMAIN, domain)


def test_a_validation_gives_up_when_no_name_server_answers(place, sender):
    with place.entered():
        process.stop("pdns", Internet(place.root).run)
    try:
        with pytest.raises(CloudError, match="domain validation did not complete in 2 seconds"):
            place.create(VALIDATION, {"domainId": sender["domain"].id, "timeout": 2})
    finally:
        place.ensure()


# ---------------------------------------------------------------- the relay


@pytest.mark.parametrize("port", [587, 2587])
def test_a_mail_is_taken_and_kept_as_it_was_sent(place, sender, port):
    mail.clear(place.root)
    sent = message(size=100_000)
    sent.set_boundary("=====berth=====")
    with login(place, sender["key"], port=port) as client:
        client.send_message(sent, to_addrs=["client@example.org", "copy@example.org"])
    [found] = mail.received(place.root)
    assert (found.number, found.subject, found.sender) == (1, "Votre facture", "noreply@scell.io")
    assert found.recipients == ["client@example.org", "copy@example.org"]
    assert found.path.read_bytes().replace(b"\r\n", b"\n") == sent.as_bytes()
    assert found.path.stat().st_size == found.size


@pytest.mark.parametrize("port", [465, 2465])
def test_tls_from_the_first_byte(place, sender, port):
    with place.entered(), smtplib.SMTP_SSL("smtp.tem.scw.cloud", port, context=trust(place)) as client:
        client.login(PROJECT, sender["key"].outputs["secretKey"])
        client.send_message(message(subject=f"port {port}"))
    assert mail.received(place.root)[-1].subject == f"port {port}"


def test_the_name_and_its_certificate_are_the_sandboxs_own(place, sender):
    """With nothing patched: name server, STARTTLS, verification."""
    command = "QUIT\n"
    done = place.run(
        *("openssl", "s_client", "-connect", "smtp.tem.scw.cloud:587", "-starttls", "smtp", "-quiet"),
        *("-verify_return_error", "-verify_hostname", "smtp.tem.scw.cloud", "-CAfile", place.authority),
        input=command,
    )
    assert "221" in done.stdout, done.stderr


def test_no_password_without_tls(place, sender):
    with place.entered(), smtplib.SMTP("smtp.tem.scw.cloud", 587, timeout=20) as client:
        client.ehlo()
        assert not client.has_extn("auth")
        assert client.docmd("AUTH", "PLAIN AAAA")[0] in (530, 538)
        assert client.mail("noreply@scell.io")[0] == 530
    with login(place, None) as client:
        client.ehlo()
        assert client.mail("noreply@scell.io")[0] == 530


def test_who_may_not_log_in(place, sender):
    other = place.key("files only", "ObjectStorageFullAccess")
    elsewhere = "99999999-2222-4333-8444-555555555555"
    wrong = Made("", {"secretKey": "11111111-1111-4111-8111-111111111111"}, set())
    for key, user in ((wrong, PROJECT), (other["key"], PROJECT), (sender["key"], elsewhere)):
        with pytest.raises(smtplib.SMTPAuthenticationError) as refused, login(place, key, user):
            pass
        assert refused.value.smtp_code == 535


def test_a_key_that_goes_sends_no_more(place, sender):
    made = place.key("leaving", SMTP)
    with login(place, made["key"]) as client:
        client.send_message(message())
        place.twin.delete(IAM_POLICY, made["policy"])
        with pytest.raises(smtplib.SMTPSenderRefused) as refused:
            client.send_message(message())
        assert refused.value.smtp_code == 535
    with pytest.raises(smtplib.SMTPAuthenticationError), login(place, made["key"]):
        pass


@pytest.mark.parametrize(
    ("envelope", "header"),
    [
        ("a@elsewhere.example", "a@elsewhere.example"),
        ("noreply@scell.io", "boss@bank.example"),
        ("a@elsewhere.example", "noreply@scell.io"),
        ("", "noreply@scell.io"),
    ],
)
def test_only_the_projects_own_domains_send(place, sender, envelope, header):
    before = len(mail.received(place.root))
    with login(place, sender["key"]) as client:
        with pytest.raises((smtplib.SMTPSenderRefused, smtplib.SMTPDataError)) as refused:
            client.send_message(message(header), from_addr=envelope)
        assert refused.value.smtp_code == 550
        assert b"is not one of project" in refused.value.smtp_error
    assert len(mail.received(place.root)) == before


def test_a_message_has_a_size_limit(place, sender):
    with login(place, sender["key"]) as client:
        with pytest.raises(smtplib.SMTPSenderRefused) as refused:
            client.send_message(message(size=3_000_000))
        assert refused.value.smtp_code == 552


def test_it_is_back_after_a_kill_with_all_it_had(place, sender):
    before = mail.received(place.root)
    assert before
    place.kill("mail")
    place.ensure()
    with login(place, sender["key"]) as client:
        client.send_message(message(subject="after"))
    after = mail.received(place.root)
    assert after[:-1] == before
    assert (after[-1].number, after[-1].subject) == (before[-1].number + 1, "after")


def test_down_on_purpose(place, sender):
    services.take_down(place.root, frozenset({"mail"}))
    place.ensure()
    with place.entered(), pytest.raises(ConnectionRefusedError):
        smtplib.SMTP("smtp.tem.scw.cloud", 587, timeout=5)
    services.take_down(place.root, frozenset())
    place.ensure()
    with login(place, sender["key"]):
        pass


def test_a_host_sends_only_where_its_security_group_lets_it(place, sender):
    """Port 587 is closed to hosts, as at the provider, unless `enableDefaultSecurity` is false."""
    host = subprocess.Popen(["unshare", "--net", "sleep", "600"])
    try:
        cable = Host(
            key="cab1e000", id="h", addresses=(HOST,), nics=(), hostname="h", image="", cpus=1, memory=0,
            started=True, user_data="", group=Group(),
        )  # fmt: skip

        def reaches(port: int, *, block: bool) -> bool:
            with place.entered():
                group = Group(block_smtp=block)
                firewall.apply([Host(**{**vars(cable), "group": group})])
            connect = f"import socket; socket.create_connection(('198.18.0.1', {port}), 2)"
            inside = ["nsenter", f"--net=/proc/{host.pid}/ns/net", "--", sys.executable, "-c", connect]
            return subprocess.run(inside, capture_output=True, check=False).returncode == 0

        with place.entered():
            acme.plumb(host.pid, cable.cable, HOST)
        assert not reaches(587, block=True)
        assert not reaches(465, block=True)
        assert reaches(2587, block=True)
        assert reaches(587, block=False)
    finally:
        host.kill()
        host.wait()
        with place.entered():
            firewall.apply([])


# ---------------------------------------------------------------- the command


def command(place: Place, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sandbox", "mail", *words],
        env={**os.environ, "BERTH_ROOT": str(place.root), "COLUMNS": "200", "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_what_came_is_listed_shown_waited_for_and_cleared(place, sender):
    mail.clear(place.root)
    assert "no mail" in command(place, "list").stdout
    nothing = command(place, "list", "--wait", "0.5", "--subject", "never")
    assert nothing.returncode == 1
    assert "no such mail within 0.5 s" in nothing.stderr
    with login(place, sender["key"]) as client:
        client.send_message(message(subject="Première [facture]", size=10))
    listed = command(place, "list").stdout
    assert "Première [facture]" in listed
    assert "client@example.org" in listed
    [found] = json.loads(command(place, "list", "--json", "--wait", "5", "--subject", "facture").stdout)
    assert (found["number"], found["project"], found["client"]) == (1, PROJECT, "198.18.0.1")
    shown = command(place, "show", "1").stdout
    assert "Bonjour, ci-joint votre reçu." in shown
    assert "attached: reçu.pdf" in shown
    about = json.loads(command(place, "show", "1", "--json").stdout)
    assert about["headers"]["From"] == "Scell <noreply@scell.io>"
    assert about["attachments"] == ["reçu.pdf"]
    missing = command(place, "show", "7")
    assert (missing.returncode, "there is no mail 7" in missing.stderr) == (1, True)
    assert "1 deleted" in command(place, "clear").stdout
    assert json.loads(command(place, "list", "--json").stdout) == []


def test_it_stays_small(place, sender):
    assert place.memory("mail") < 40 * 2**20
