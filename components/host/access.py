"""How a new host is entered: its host key and the deploy key, handed over through cloud-init."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi_tls as tls
from pulumi import Output

from components.base import Component
from components.cloud import Access, Scope

LOGIN = "berth"
"""The program's own login, apart from the people's: their user may get another name on a host that stands.
It is made on the first boot and never again, so another name here would lock berth out of every host."""


@dataclass(frozen=True, kw_only=True)
class HostAccessArgs:
    """``user`` is the people's login, ``keys`` their public keys."""

    scope: Scope
    user: str
    keys: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class HostAccess:
    """``access`` is for the instance, ``deploy_key`` the public key of :data:`LOGIN`."""

    access: Access
    deploy_key: Output[str]


class HostKeys(Component[HostAccessArgs, HostAccess]):
    """The keys of a system's hosts. They outlive the hosts: a replaced host proves itself by the same key."""

    def build(self, args: HostAccessArgs) -> HostAccess:
        host_key = tls.PrivateKey(self.named("host-key"), algorithm="ED25519", opts=self.child(data=True))
        deploy_key = tls.PrivateKey(self.named("deploy-key"), algorithm="ED25519", opts=self.child(data=True))
        own = deploy_key.public_key_openssh.apply(lambda text: f"{text.strip()} {LOGIN}")
        public = host_key.public_key_openssh.apply(str.strip)
        cloud_init = Output.all(own, host_key.private_key_openssh, public).apply(
            lambda v: user_data({LOGIN: [v[0]], args.user: args.keys}, v[1], v[2])
        )
        return HostAccess(
            access=Access(
                user=LOGIN,
                cloud_init=Output.secret(cloud_init),
                private_key=Output.secret(deploy_key.private_key_openssh),
                host_key=public,
            ),
            deploy_key=own,
        )


def user_data(logins: Mapping[str, Sequence[str]], host_key: str, host_key_public: str) -> str:
    """cloud-init's user-data: the least that lets us in, and lets the host prove who it is.

    ``logins``: public keys by user. JSON is YAML, and needs no thought about quoting.
    """
    return "#cloud-config\n" + json.dumps(
        {
            "users": [
                {
                    "name": user,
                    "shell": "/bin/bash",
                    "sudo": "ALL=(ALL) NOPASSWD:ALL",
                    "lock_passwd": True,
                    "ssh_authorized_keys": list(keys),
                }
                for user, keys in logins.items()
            ],
            "disable_root": True,
            "ssh_pwauth": False,
            "ssh_deletekeys": True,
            "ssh_keys": {"ed25519_private": host_key, "ed25519_public": host_key_public},
        },
        indent=1,
    )
