"""One clone, one `make up`, shared by all tests of this room; it is reset at the end, whatever happened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from sandbox import real
from tests.e2e.checkout import REPOSITORY, Checkout, Done, Watch

FIGURES: dict[str, str] = {}


@dataclass
class Site:
    """The checkout, and what was seen while it came up.

    ``lines`` are the machine's command lines, ``memory`` the most bytes that `make up` and all below it used.
    """

    checkout: Checkout
    first: Done
    lines: set[bytes]
    memory: int
    figures: dict[str, str] = field(default_factory=lambda: FIGURES)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with all reasons, where no host can run."""
    mine = [item for item in items if "tests/e2e/" in item.nodeid]
    reasons = real.capable() if mine else []
    if mine and not (REPOSITORY / ".git").exists():
        reasons.append("this is no Git checkout, so there is nothing to clone")
    for item in mine:
        item.add_marker(pytest.mark.e2e)
        item.add_marker(pytest.mark.xdist_group("e2e"))
        if reasons:
            item.add_marker(pytest.mark.skip(reason=f"no host runs here: {'; '.join(reasons)}"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How long each step of the story took, and what was measured on the way."""
    reports = [r for key in ("passed", "failed") for r in terminalreporter.stats.get(key, [])]
    mine = [r for r in reports if "tests/e2e/" in r.nodeid and r.when == "call"]
    for report in sorted(mine, key=lambda report: report.start):
        terminalreporter.write_line(f"{report.duration:6.1f} s  {report.nodeid.rpartition('::')[2]}")
    for name, value in FIGURES.items():
        terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    checkout = Checkout(tmp_path_factory.mktemp("e2e") / "clone")
    try:
        started = checkout.start(*checkout.make("up"))
        watch = Watch(started.process.pid)
        try:
            done = started.end(600)
        finally:
            watch.stop()
        FIGURES["make up, caches warm"] = f"{done.seconds:.0f} s"
        yield Site(checkout, done.good(), watch.lines, watch.peak)
    finally:
        checkout.sandbox("reset")
