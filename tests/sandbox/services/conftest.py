"""One cloud a module."""

import pytest

from sandbox import real
from sandbox.hosts import net
from tests.sandbox.services.cloud import Cloud


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkout")
    try:
        yield Cloud(root)
    finally:
        real.reset(root)
        net.leave()
