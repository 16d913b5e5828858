from __future__ import annotations

from typing import Any

import pytest

from components.cloud import EmailArgs
from components.scaleway.email import Email
from tests import mocks
from tests.contracts.samples import PROJECT, scope

RECORD = "scaleway:domain/record:Record"


def run(domain: str = "scell.io", *, keep: bool = True, fakes: Any = None) -> mocks.Run:
    args = EmailArgs(scope=scope("scaleway", keep_data=keep), domain=domain, zone="scell.io")
    return mocks.run(lambda: Email("mail", args).outputs, fakes=fakes)


@pytest.mark.parametrize("keep", [True, False])
def test_the_domain_is_in_the_one_region_there_is_and_kept(keep: bool) -> None:
    domain = run(keep=keep).one("scaleway:tem/domain:Domain")
    assert domain.inputs["name"] == "scell.io"
    assert domain.inputs["region"] == "fr-par"
    assert domain.inputs["acceptTos"] is True
    assert domain.protect is keep


def test_spf_dkim_dmarc_and_mx_of_the_zones_own_name() -> None:
    found = {
        r.name: (r.inputs["name"], r.inputs["type"], r.inputs["data"], r.inputs.get("priority"))
        for r in run().of(RECORD)
    }
    assert found == {
        "mail-spf": ("", "TXT", "v=spf1 include:_spf.tem.scaleway.com -all", None),
        "mail-dkim": (f"{PROJECT}._domainkey", "TXT", "v=DKIM1; h=sha256; k=rsa; p=MIIB", None),
        "mail-dmarc": ("_dmarc", "TXT", "v=DMARC1; p=none", None),
        "mail-mx": ("", "MX", "blackhole.tem.scaleway.com.", 10),
    }


def test_one_that_sends_already_is_taken_over_with_its_records_as_they_are() -> None:
    where = scope("scaleway", keep_data=False)
    args = EmailArgs(scope=where, domain="scell.io", zone="scell.io", adopt="some-id")
    recorded = mocks.run(lambda: Email("mail", args).outputs)
    domain = recorded.one("scaleway:tem/domain:Domain")
    assert domain.import_id == "fr-par/some-id"
    assert domain.protect is True
    assert recorded.of(RECORD) == []
    assert recorded.of("scaleway:tem/domainValidation:DomainValidation") == []


def test_records_of_a_name_below_the_zone() -> None:
    names = {r.name: r.inputs["name"] for r in run("news.scell.io").of(RECORD)}
    assert names == {
        "mail-spf": "news",
        "mail-dkim": f"{PROJECT}._domainkey.news",
        "mail-dmarc": "_dmarc.news",
        "mail-mx": "news",
    }


def test_names_the_provider_prints_without_the_domain_are_taken_as_they_are() -> None:
    whole = mocks.FAKES["scaleway:tem/domain:Domain"]
    bare = {"scaleway:tem/domain:Domain": lambda *a: {**whole(*a), "dmarcName": "_dmarc"}}
    assert run(fakes=bare).one(RECORD, "mail-dmarc").inputs["name"] == "_dmarc"


def test_it_is_validated_when_the_records_are_there() -> None:
    made = run()
    validation = made.one("DomainValidation")
    assert validation.inputs["domainId"] == mocks.identifier("mail-domain", "fr-par")
    assert {r.urn for r in made.of(RECORD)} <= set(validation.dependencies)


def test_the_key_may_send_and_nothing_else() -> None:
    made = run()
    (rule,) = made.one("scaleway:iam/policy:Policy").inputs["rules"]
    assert rule == {"permissionSetNames": ["TransactionalEmailEmailSmtpCreate"], "projectIds": [PROJECT]}
    assert made.one("ApiKey").inputs["applicationId"] == mocks.identifier("mail-application")


def test_outputs_with_a_secret_password() -> None:
    made = run()
    assert (made.value.host, made.value.port, made.value.user) == ("smtp.tem.scaleway.com", 587, PROJECT)
    assert made.value.password == mocks.identifier("mail-key-secret")
    assert "password" in made.secret_outputs[made.components[0].urn]


def test_a_domain_outside_the_zone_is_refused() -> None:
    with pytest.raises(ValueError, match=r"example\.org is not in the zone"):
        run("example.org")
