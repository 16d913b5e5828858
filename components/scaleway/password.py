"""Passwords of managed services."""

from __future__ import annotations

from typing import Any

import pulumi
import pulumi_random as random

from components.base import Component

SPECIAL = "!*+-.:=?@_~"
"""None of them means anything to a shell's double quotes, to YAML in quotes, or to an .env file."""


def password(component: Component[Any, Any], whose: str) -> pulumi.Output[str]:
    """A password Scaleway takes (8–128 characters, lower, upper, digit, special), protected like data."""
    generated = random.RandomPassword(
        component.named(f"password-{whose}"),
        length=32,
        min_lower=2,
        min_upper=2,
        min_numeric=2,
        min_special=2,
        override_special=SPECIAL,
        opts=component.child(data=True),
    )
    return generated.result
