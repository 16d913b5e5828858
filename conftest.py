"""Ends every test session by naming what did not run here, and why."""

import os
from collections import Counter

import pytest


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The reason of a skip: pytest keeps it as (file, line, "Skipped: reason")."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """List skipped and deselected tests by reason; pytest's own last line stays the last line.

    BERTH_NOT_RUN may hold further lines: checks outside pytest, left out by the caller.
    """
    skipped = Counter(_reason(report) for report in terminalreporter.stats.get("skipped", []))
    deselected = len(terminalreporter.stats.get("deselected", []))
    if deselected:
        chosen = config.getoption("markexpr") or config.getoption("keyword") or "--deselect"
        skipped[f"not chosen by: {chosen}"] += deselected
    skipped.update(os.environ.get("BERTH_NOT_RUN", "").splitlines())
    terminalreporter.write_line("")
    if not skipped:
        terminalreporter.write_line("Not run here: nothing; all collected tests ran.")
        return
    terminalreporter.write_line("Not run here:")
    for reason, count in sorted(skipped.items()):
        terminalreporter.write_line(f"{count:4} × {reason}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick tests first: a mistake shows in seconds, and hosts are started only for what passed so far."""
    items.sort(key=lambda item: ("e2e" in item.keywords) * 2 + ("sandbox" in item.keywords))
