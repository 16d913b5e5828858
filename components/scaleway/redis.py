"""Managed Redis with TLS, on the private network only."""

from __future__ import annotations

from pulumiverse_scaleway import redis

from components import cloud
from components.base import computed, ipv4
from components.scaleway.base import ScalewayComponent, localized
from components.scaleway.password import password

USER = "berth"


class Redis(ScalewayComponent[cloud.RedisArgs, cloud.Redis]):
    """1 node stands alone, 2 are a pair, 3 and more a cluster; going from 1 to more would replace it."""

    def build(self, args: cloud.RedisArgs) -> cloud.Redis:
        secret = password(self, USER)
        cluster = redis.Cluster(
            self.named("cluster"),
            version=args.version,
            node_type=args.size,
            cluster_size=args.nodes,
            user_name=USER,
            password=secret,
            tls_enabled=True,
            # With a private network there is no public endpoint.
            private_networks=[redis.ClusterPrivateNetworkArgs(id=args.network.id)],
            settings=dict(args.settings) or None,
            zone=args.scope.zone,
            project_id=args.scope.project_id,
            tags=self.tags,
            opts=self.child(data=True, adopt=localized(args.adopt, args.scope.zone)),
        )
        networks = cluster.private_networks
        return cloud.Redis(
            host=networks.apply(
                lambda all_: computed(
                    ipv4(ip for n in all_ or () for ip in n.ips or ()), f"address of {self.name}"
                )
            ),
            port=networks.apply(
                lambda all_: computed(next((n.port for n in all_ or ()), None), f"port of {self.name}")
            ),
            user=USER,
            password=secret,
            tls=True,
            ca_certificate=cluster.certificate,
        )
