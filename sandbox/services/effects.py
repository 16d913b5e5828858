"""What the modules of managed services make real, merged."""

from __future__ import annotations

from sandbox.effects.protocol import Effect
from sandbox.services import modules

EFFECTS: dict[str, Effect] = {}

for module in modules():
    if twice := sorted(EFFECTS.keys() & module.EFFECTS.keys()):
        raise ValueError(f"{module.__name__} claims {twice}, which another module has")
    EFFECTS |= module.EFFECTS
