"""Expected failures of the sandbox."""

from __future__ import annotations


class SandboxError(Exception):
    """What went wrong and what to do about it, in a sentence or two; shown without a traceback."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code
