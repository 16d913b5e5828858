"""Whether a domain may send: its four records, asked of the name server as Transactional Email asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dns.exception
import dns.resolver

PATIENCE = 3.0  # seconds for one answer


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """``status`` as the provider has it: checked, invalid, or pending where no name server answered.

    ``error``: what is wrong, record by record.
    """

    status: str
    error: str = ""


def check(domain: Mapping[str, Any], server: str) -> Verdict:
    """Look up what a domain's outputs (``name``, ``spfConfig``, ``dkimName`` …) say has to be there."""
    name = str(domain["name"])
    try:
        wrong = [
            reason
            for reason in (
                _spf(server, name, str(domain["spfConfig"])),
                _dkim(server, str(domain["dkimName"]), str(domain["dkimConfig"])),
                _dmarc(server, str(domain["dmarcName"])),
                _mx(server, name),
            )
            if reason
        ]
    except dns.exception.DNSException as error:
        return Verdict(status="pending", error=f"{name}: no name server answers: {error}")
    return Verdict(status="invalid" if wrong else "checked", error="; ".join(wrong))


def _spf(server: str, name: str, wanted: str) -> str | None:
    found = [text for text in _ask(server, name, "TXT") if text.lower().startswith("v=spf1")]
    if len(found) > 1:
        return f"SPF: {name} has {len(found)} records, and only one may be"
    if not found or wanted not in found[0].split():
        there = repr(found[0]) if found else "none"
        return f"SPF: {name} has to have a TXT record 'v=spf1 …' that contains {wanted!r}, found {there}"
    return None


def _dkim(server: str, name: str, wanted: str) -> str | None:
    found = _ask(server, name, "TXT")
    key = _tags(wanted).get("p")
    if any(_tags(text).get("p") == key for text in found):
        return None
    return (
        f"DKIM: {name} has to have a TXT record with the domain's key, found {'another' if found else 'none'}"
    )


def _dmarc(server: str, name: str) -> str | None:
    if any(text.lower().startswith("v=dmarc1") for text in _ask(server, name, "TXT")):
        return None
    return f"DMARC: {name} has to have a TXT record that begins with 'v=DMARC1'"


def _mx(server: str, name: str) -> str | None:
    return None if _ask(server, name, "MX") else f"MX: {name} has no MX record"


def _tags(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.split(";"))
    return {key.strip(): value.strip().replace(" ", "") for key, _, value in pairs}


def _ask(server: str, name: str, kind: str) -> list[str]:
    """Data of the records, a TXT's pieces joined; [] where there are none. Raises DNSException."""
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = [server]
    resolver.lifetime = PATIENCE
    try:
        answer = resolver.resolve(f"{name.rstrip('.')}.", kind)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
    if kind == "TXT":
        return [b"".join(record.strings).decode(errors="replace") for record in answer]
    return [record.to_text() for record in answer]
