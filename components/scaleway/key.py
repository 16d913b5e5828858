"""A key of its own for one purpose, with no more rights than that takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pulumi
from pulumiverse_scaleway import iam

from components.scaleway.base import ScalewayComponent


def limited_key(
    component: ScalewayComponent[Any, Any],
    purpose: str,
    project_id: pulumi.Output[str],
    permissions: Sequence[str],
) -> tuple[iam.Application, iam.ApiKey]:
    """An IAM application with ``permissions`` in one project, and its key."""
    application = iam.Application(
        component.named("application"), description=purpose, tags=component.tags, opts=component.child()
    )
    iam.Policy(
        component.named("policy"),
        application_id=application.id,
        rules=[iam.PolicyRuleArgs(permission_set_names=list(permissions), project_ids=[project_id])],
        tags=component.tags,
        opts=component.child(),
    )
    key = iam.ApiKey(
        component.named("key"),
        application_id=application.id,
        default_project_id=project_id,
        description=purpose,
        opts=component.child(),
    )
    return application, key
