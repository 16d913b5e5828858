"""How a new host is entered: its host key and the deploy key, handed over through cloud-init."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi_tls as tls
from pulumi import Output

from components.base import Component
from components.cloud import Access, Scope


@dataclass(frozen=True, kw_only=True)
class HostAccessArgs:
    """``user`` is the admin's login, ``keys`` the public keys of the people behind it."""

    scope: Scope
    user: str
    keys: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class HostAccess:
    """``access`` is for the instance, ``keys`` all public keys the admin's login has to have."""

    access: Access
    keys: Output[Sequence[str]]


class HostKeys(Component[HostAccessArgs, HostAccess]):
    """The keys of a system's hosts. They outlive the hosts: a replaced host proves itself by the same key."""

    def build(self, args: HostAccessArgs) -> HostAccess:
        host_key = tls.PrivateKey(self.named("host-key"), algorithm="ED25519", opts=self.child(data=True))
        deploy_key = tls.PrivateKey(self.named("deploy-key"), algorithm="ED25519", opts=self.child(data=True))
        keys = deploy_key.public_key_openssh.apply(lambda own: [*args.keys, f"{own.strip()} berth"])
        public = host_key.public_key_openssh.apply(str.strip)
        cloud_init = Output.all(keys, host_key.private_key_openssh, public).apply(
            lambda v: user_data(args.user, v[0], v[1], v[2])
        )
        return HostAccess(
            access=Access(
                user=args.user,
                cloud_init=Output.secret(cloud_init),
                private_key=Output.secret(deploy_key.private_key_openssh),
                host_key=public,
            ),
            keys=keys,
        )


def user_data(user: str, keys: Sequence[str], host_key: str, host_key_public: str) -> str:
    """cloud-init's user-data: the least that lets us in, and lets the host prove who it is.

    JSON is YAML, and needs no thought about quoting.
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
            ],
            "disable_root": True,
            "ssh_pwauth": False,
            "ssh_deletekeys": True,
            "ssh_keys": {"ed25519_private": host_key, "ed25519_public": host_key_public},
        },
        indent=1,
    )
