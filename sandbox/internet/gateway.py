"""The gateway: one nginx at the address every public name resolves to."""

from __future__ import annotations

import dataclasses

from sandbox import paths, process
from sandbox.internet import acme, api, certs, git
from sandbox.internet.layout import GATEWAY, LETS_ENCRYPT, Layout
from sandbox.internet.out import accepts, nginx
from sandbox.internet.registries import Registries
from sandbox.internet.render import render

# Object Storage is a managed service (sandbox/services); its names are public ones.
STORAGE = tuple(f"s3.{region}.scw.cloud" for region in ("fr-par", "it-mil", "nl-ams", "pl-waw"))


def service(layout: Layout, found: Registries, authority: acme.Authority) -> process.Service:
    """Ports 80 and 443 of the gateway. Stand-ins have certificates of the sandbox's own authority."""
    git_names = git.names()
    secure = sorted(host for host, scheme in found.mirrors.items() if scheme == "https")
    acme_certificate, acme_key = certs.leaf(layout.root, "acme", [*acme.NAMES, *acme.STAGING])
    git_certificate, git_key = certs.leaf(layout.root, "git", git_names)
    api_certificate, api_key = certs.leaf(layout.root, "api", api.NAMES)
    mirror_certificate, mirror_key = certs.leaf(layout.root, "mirrors", secure) if secure else (None, None)
    storage_names = [*STORAGE, *(f"*.{name}" for name in STORAGE)]
    storage_certificate, storage_key = certs.leaf(layout.root, "storage", storage_names)
    temporary = layout.state / "tmp"
    temporary.mkdir(mode=0o700, exist_ok=True)
    text = render(
        "gateway.conf",
        run=layout.run,
        address=GATEWAY,
        temporary=temporary,
        refusals=layout.refusals,
        authority=certs.ca_certificate(layout.root),
        passed=found.passed,
        standins=[*acme.NAMES, *acme.STAGING, *api.NAMES, *git_names, *storage_names, *secure],
        acme={
            "names": acme.NAMES,
            "staging": acme.STAGING,
            "certificate": acme_certificate,
            "key": acme_key,
            "address": f"{LETS_ENCRYPT}:{acme.PORT}",
            "intermediate": authority.intermediate,
            "cross_signed": authority.cross_signed,
        },
        git={
            "names": git_names,
            "certificate": git_certificate,
            "key": git_key,
            "root": layout.git,
            "backend": git.backend(),
        },
        storage={
            "names": storage_names,
            "certificate": storage_certificate,
            "key": storage_key,
            "socket": paths.runtime(layout.root) / "services" / "storage.sock",
        },
        api={
            "names": api.NAMES,
            "certificate": api_certificate,
            "key": api_key,
            "socket": api.socket_path(layout),
        },
        mirrors={
            "names": sorted(found.mirrors),
            "secure": secure,
            "certificate": mirror_certificate,
            "key": mirror_key,
        }
        if found.mirrors
        else None,
    )
    service = nginx(layout, "gateway", text, [layout.run / "https.sock"])
    # Port 443 would write this visit down; nginx opens all its ports or none.
    return dataclasses.replace(service, ready=lambda: accepts((GATEWAY, 80)))
