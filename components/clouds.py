"""The clouds by the name a stack file gives them, and what each of them sells."""

from __future__ import annotations

from collections.abc import Mapping

from components.cloud import Cloud
from components.scaleway.cloud import Scaleway

CLOUDS: Mapping[str, Cloud] = {cloud.name: cloud for cloud in (Scaleway(),)}
