"""What is wrong with a stack file: every problem with its place, the rule and the remedy."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


def dotted(path: Sequence[str | int]) -> str:
    """A path as ``pulumi config set --path`` takes it: ``berth:admin.cidrs[0]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[A-Za-z0-9_-]+", part):
            text += f".{part}" if text else part
        else:
            text += f"[{json.dumps(part[:80])}]"  # also makes control characters visible
    return f"berth:{text}"


@dataclass(frozen=True)
class Problem:
    """One broken rule at one place; ``path`` as :func:`dotted` writes it."""

    file: str
    path: str
    rule: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}\n  {self.rule}\n  → {self.remedy}"


class ConfigError(Exception):
    """Everything wrong with one stack file, in the file's own order. Its text holds no value of a secret."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(str(self))

    def __str__(self) -> str:
        files = {problem.file: None for problem in self.problems}
        parts = []
        for file in files:
            own = [problem for problem in self.problems if problem.file == file]
            count = "1 problem" if len(own) == 1 else f"{len(own)} problems"
            parts += [f"{file}: {count}", *map(str, own)]
        return "\n\n".join(parts)
