"""The key an application encrypts with."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_random as random
from pulumi import Input, Output, ResourceOptions

from components.base import Component
from components.cloud import Scope

BYTES = 32
"""What AES-256 takes, Laravel's cipher."""


@dataclass(frozen=True, kw_only=True)
class ApplicationKeyArgs:
    """``given``: the key (`base64:…`, secret) of an application that moves here; None to have one made."""

    scope: Scope
    given: Input[str] | None = None


@dataclass(frozen=True, kw_only=True)
class ApplicationKeyOutputs:
    """``key``: `base64:` and 32 bytes; secret."""

    key: Output[str]


class ApplicationKey(Component[ApplicationKeyArgs, ApplicationKeyOutputs]):
    """Decided once, protected like data: what was encrypted with it can be read with nothing else.

    The keepers remember the key that was given at the beginning; they are never changed afterwards, so a
    secret that is altered or goes from the stack file leaves the application with the key it has.
    """

    def build(self, args: ApplicationKeyArgs) -> ApplicationKeyOutputs:
        given = Output.from_input(args.given if args.given is not None else "").apply(_checked)
        keepers: Output[Mapping[str, str]] = Output.secret(given.apply(lambda key: {"given": key}))
        made = random.RandomBytes(
            self.named("key"),
            length=BYTES,
            keepers=keepers,
            opts=self.child(
                ResourceOptions(ignore_changes=["keepers"], additional_secret_outputs=["keepers"]), data=True
            ),
        )
        key = Output.all(made.keepers, made.base64, given).apply(self._kept)
        return ApplicationKeyOutputs(key=Output.secret(key))

    def _kept(self, values: list[object]) -> str:
        keepers, generated, given = values
        first = keepers.get("given", "") if isinstance(keepers, dict) else ""
        key = str(first or f"base64:{generated}")
        if given and given != key:
            pulumi.log.warn(
                "the key that is given is not the one this application has had from the beginning, which "
                "stays: nothing encrypted so far could be read with another",
                self,
            )
        return key


def _checked(key: str) -> str:
    """The key itself; ValueError, which does not show it, where the application could not use it."""
    if not key:
        return key
    try:
        size = len(base64.b64decode(key.removeprefix("base64:"), validate=True))
    except binascii.Error:
        size = 0
    if not key.startswith("base64:") or size != BYTES:
        raise ValueError(f"the key given to the application is not `base64:` and {BYTES} bytes in base64")
    return key
