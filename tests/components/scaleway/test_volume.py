from __future__ import annotations

import pytest

from components.cloud import VolumeArgs
from components.scaleway.volume import Volume
from tests import mocks
from tests.contracts.samples import scope


@pytest.mark.parametrize(("asked", "sent"), [(None, 5000), (15000, 15000)])
def test_size_and_speed(asked: int | None, sent: int) -> None:
    args = VolumeArgs(scope=scope("scaleway"), size_gb=25, iops=asked)
    run = mocks.run(lambda: Volume("data", args).outputs)
    volume = run.one("scaleway:block/volume:Volume")
    assert (volume.inputs["sizeInGb"], volume.inputs["iops"], volume.inputs["zone"]) == (25, sent, "fr-par-1")
    assert run.value.id == mocks.identifier("data-volume", "fr-par-1")


@pytest.mark.parametrize("keep", [True, False])
def test_protected_as_the_scope_says(keep: bool) -> None:
    args = VolumeArgs(scope=scope("scaleway", keep_data=keep), size_gb=25)
    assert mocks.run(lambda: Volume("data", args)).one("scaleway:block/volume:Volume").protect is keep


def test_an_existing_one_is_taken_over() -> None:
    args = VolumeArgs(scope=scope("scaleway"), size_gb=25, adopt="some-uuid")
    volume = mocks.run(lambda: Volume("data", args)).one("scaleway:block/volume:Volume")
    assert volume.import_id == "fr-par-1/some-uuid"
