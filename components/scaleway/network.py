"""A VPC with one private network in it."""

from __future__ import annotations

import pulumi
from pulumiverse_scaleway import network

from components import cloud
from components.scaleway.base import ScalewayComponent


class Network(ScalewayComponent[cloud.NetworkArgs, cloud.Network]):
    """Its own VPC, so that nothing else in the project is routed to it."""

    def build(self, args: cloud.NetworkArgs) -> cloud.Network:
        scope = args.scope
        vpc = network.Vpc(
            self.named("vpc"),
            region=scope.region,
            project_id=scope.project_id,
            tags=self.tags,
            opts=self.child(),
        )
        private = network.PrivateNetwork(
            self.named("private"),
            vpc_id=vpc.id,
            ipv4_subnet=network.PrivateNetworkIpv4SubnetArgs(subnet=args.cidr),
            region=scope.region,
            project_id=scope.project_id,
            tags=self.tags,
            opts=self.child(),
        )
        return cloud.Network(id=private.id, cidr=pulumi.Output.from_input(args.cidr))
