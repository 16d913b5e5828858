"""Block storage that survives its instance."""

from __future__ import annotations

from pulumiverse_scaleway import block

from components import cloud
from components.scaleway.base import ScalewayComponent, localized

DEFAULT_IOPS = 5000
"""The smaller of the two Scaleway sells (5000, 15000)."""


class Volume(ScalewayComponent[cloud.VolumeArgs, cloud.Volume]):
    """It can grow in place; a smaller size would be a new volume, which the protection refuses."""

    def build(self, args: cloud.VolumeArgs) -> cloud.Volume:
        volume = block.Volume(
            self.named("volume"),
            iops=args.iops or DEFAULT_IOPS,
            size_in_gb=args.size_gb,
            zone=args.scope.zone,
            project_id=args.scope.project_id,
            tags=self.tags,
            opts=self.child(data=True, adopt=localized(args.adopt, args.scope.zone)),
        )
        return cloud.Volume(id=volume.id)
