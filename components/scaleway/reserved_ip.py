"""A public address of one's own, and the name it resolves back to."""

from __future__ import annotations

from pulumiverse_scaleway import instance

from components import cloud
from components.scaleway.base import ScalewayComponent, localized


class ReservedIp(ScalewayComponent[cloud.ReservedIpArgs, cloud.ReservedIp]):
    """A routed IPv4 address; names and allow-lists elsewhere point at it, so it is kept like data."""

    def build(self, args: cloud.ReservedIpArgs) -> cloud.ReservedIp:
        ip = instance.Ip(
            self.named("ip"),
            type="routed_ipv4",
            zone=args.scope.zone,
            project_id=args.scope.project_id,
            tags=self.tags,
            opts=self.child(data=True, adopt=localized(args.adopt, args.scope.zone)),
        )
        return cloud.ReservedIp(id=ip.id, address=ip.address)


class ReverseDns(ScalewayComponent[cloud.ReverseDnsArgs, None]):
    """Scaleway refuses a name that does not resolve to the address yet: give ``depends_on`` its record."""

    def build(self, args: cloud.ReverseDnsArgs) -> None:
        instance.IpReverseDns(
            self.named("reverse"),
            ip_id=args.ip.id,
            reverse=args.hostname,
            zone=args.scope.zone,
            opts=self.child(),
        )
