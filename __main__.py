"""The program Pulumi runs: read the stack file, build its systems, export what they answer."""

from __future__ import annotations

import pulumi

from config.loader import load
from systems import REGISTRY, build

for system, outputs in build(load(REGISTRY)).items():
    pulumi.export(system, outputs)
