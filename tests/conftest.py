"""What every test shares: no resource outside a recorded run, no event loop missing or left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pulumi
import pytest

from tests import mocks


@pytest.fixture(autouse=True)
def _engine_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resources can only be made inside ``mocks.run``; ``str()`` of an Output is an error, not a text."""
    monkeypatch.setenv("PULUMI_ERROR_OUTPUT_STRING", "1")
    monkeypatch.setattr(pulumi.Resource, "__init__", mocks.only_inside_run(pulumi.Resource.__init__))


@pytest.fixture(autouse=True)
def _event_loop() -> Iterator[None]:
    """A loop of its own for each test: Python no longer makes one, and a closed one must not be found."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.run_until_complete(loop.shutdown_default_executor())
    asyncio.set_event_loop(None)
    loop.close()
