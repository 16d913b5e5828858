"""What a task answers when it cannot be done, with the exit code scripts may rely on."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every task but `psql` and `artisan`, which end as the program they run on the host."""

    OK = 0
    CARE = 1  # the task was done, and found something that needs a person
    USAGE = 2  # called wrongly
    NO_STACK = 3  # no such stack, or it does not say how its host is reached
    UNREACHABLE = 4  # the host was not reached, or is not the one that was made
    REFUSED = 5  # the host was reached, and the task cannot be done there


class TaskError(Exception):
    """Ends a task: what is wrong, and what to do about it."""

    def __init__(self, problem: str, remedy: str, code: Exit) -> None:
        super().__init__(f"{problem}\n  {remedy}" if remedy else problem)
        self.code = code
