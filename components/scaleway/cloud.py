"""Scaleway as :class:`components.cloud.Cloud`: one method a noun."""

from __future__ import annotations

from pulumi import ResourceOptions

from components import cloud
from components.scaleway.bucket import Bucket
from components.scaleway.dns import Dns
from components.scaleway.email import Email
from components.scaleway.firewall import Firewall
from components.scaleway.instance import Instance
from components.scaleway.load_balancer import LoadBalancer
from components.scaleway.network import Network
from components.scaleway.postgres import Postgres
from components.scaleway.redis import Redis
from components.scaleway.reserved_ip import ReservedIp, ReverseDns
from components.scaleway.volume import Volume


class Scaleway:
    """Everything berth buys at Scaleway."""

    name = "scaleway"

    def network(
        self, name: str, args: cloud.NetworkArgs, opts: ResourceOptions | None = None
    ) -> cloud.Network:
        return Network(name, args, opts).outputs

    def firewall(
        self, name: str, args: cloud.FirewallArgs, opts: ResourceOptions | None = None
    ) -> cloud.Firewall:
        return Firewall(name, args, opts).outputs

    def reserved_ip(
        self, name: str, args: cloud.ReservedIpArgs, opts: ResourceOptions | None = None
    ) -> cloud.ReservedIp:
        return ReservedIp(name, args, opts).outputs

    def reverse_dns(self, name: str, args: cloud.ReverseDnsArgs, opts: ResourceOptions | None = None) -> None:
        ReverseDns(name, args, opts)

    def instance(
        self, name: str, args: cloud.InstanceArgs, opts: ResourceOptions | None = None
    ) -> cloud.Instance:
        return Instance(name, args, opts).outputs

    def volume(self, name: str, args: cloud.VolumeArgs, opts: ResourceOptions | None = None) -> cloud.Volume:
        return Volume(name, args, opts).outputs

    def postgres(
        self, name: str, args: cloud.PostgresArgs, opts: ResourceOptions | None = None
    ) -> cloud.Postgres:
        return Postgres(name, args, opts).outputs

    def redis(self, name: str, args: cloud.RedisArgs, opts: ResourceOptions | None = None) -> cloud.Redis:
        return Redis(name, args, opts).outputs

    def bucket(self, name: str, args: cloud.BucketArgs, opts: ResourceOptions | None = None) -> cloud.Bucket:
        return Bucket(name, args, opts).outputs

    def dns(self, name: str, args: cloud.DnsArgs, opts: ResourceOptions | None = None) -> cloud.Dns:
        return Dns(name, args, opts).outputs

    def load_balancer(
        self, name: str, args: cloud.LoadBalancerArgs, opts: ResourceOptions | None = None
    ) -> cloud.LoadBalancer:
        return LoadBalancer(name, args, opts).outputs

    def email(self, name: str, args: cloud.EmailArgs, opts: ResourceOptions | None = None) -> cloud.Email:
        return Email(name, args, opts).outputs
