"""Records of a zone, and the zone itself where this stack owns it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pulumi
from pulumi import ResourceOptions
from pulumiverse_scaleway import domain

from components import cloud
from components.scaleway.base import ScalewayComponent

NAME_SERVERS = ("ns0.dom.scw.cloud", "ns1.dom.scw.cloud")
"""The name servers of every zone at Scaleway."""


class Dns(ScalewayComponent[cloud.DnsArgs, cloud.Dns]):
    """A zone that is not managed needs no look-up: records name it, and without it the first one fails."""

    def build(self, args: cloud.DnsArgs) -> cloud.Dns:
        scope = args.scope
        name_servers: pulumi.Output[Sequence[str]] = pulumi.Output.from_input(list(NAME_SERVERS))
        after: list[pulumi.Resource] = []
        if args.manage:
            zone = domain.Zone(
                self.named("zone"),
                domain=args.zone,
                subdomain="",
                project_id=scope.project_id,
                opts=self.child(data=True, adopt=args.adopt),
            )
            name_servers = zone.ns
            after = [zone]
        seen: Counter[str] = Counter()
        for record in args.records:
            part = f"{record.name or 'apex'}-{record.type}".lower()
            seen[part] += 1
            domain.Record(
                self.named(part if seen[part] == 1 else f"{part}-{seen[part]}"),
                dns_zone=args.zone,
                # Always given: without a name the provider would make one up, the apex included.
                name=record.name,
                type=record.type,
                data=record.value,
                ttl=record.ttl,
                priority=record.priority,
                project_id=scope.project_id,
                opts=self.child(ResourceOptions(depends_on=after)),
            )
        owned = after[0] if after else None
        return cloud.Dns(zone=args.zone, name_servers=name_servers, resource=self, owned=owned)


def relative(name: str, zone: str) -> str:
    """What ``name`` is called within ``zone``: "" for the zone itself. ValueError for a name outside it."""
    bare = name.rstrip(".")
    if bare == zone:
        return ""
    if not bare.endswith(f".{zone}"):
        raise ValueError(f"{bare} is not in the zone {zone}")
    return bare.removesuffix(f".{zone}")
