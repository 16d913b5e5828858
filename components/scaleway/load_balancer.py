"""A balancer that ends TLS and sends plain HTTP to private addresses."""

from __future__ import annotations

from pulumi import ResourceOptions
from pulumiverse_scaleway import domain
from pulumiverse_scaleway import loadbalancers as lb

from components import cloud
from components.scaleway.base import ScalewayComponent
from components.scaleway.dns import relative

TTL = 300


class LoadBalancer(ScalewayComponent[cloud.LoadBalancerArgs, cloud.LoadBalancer]):
    """Address → records → certificate: Let's Encrypt asks the balancer under the names it is to be for."""

    def build(self, args: cloud.LoadBalancerArgs) -> cloud.LoadBalancer:
        scope = args.scope
        ip = lb.Ip(
            self.named("ip"),
            zone=scope.zone,
            project_id=scope.project_id,
            tags=self.tags,
            opts=self.child(data=True),
        )
        balancer = lb.LoadBalancer(
            self.named("balancer"),
            type=args.size,
            ip_ids=[ip.id],
            private_networks=[lb.LoadBalancerPrivateNetworkArgs(private_network_id=args.network.id)],
            zone=scope.zone,
            project_id=scope.project_id,
            tags=self.tags,
            opts=self.child(),
        )
        records = [
            domain.Record(
                self.named(f"record-{name}"),
                dns_zone=args.zone,
                name=relative(name, args.zone),
                type="A",
                data=ip.ip_address,
                ttl=TTL,
                project_id=scope.project_id,
                opts=self.child(),
            )
            for name in args.names
        ]
        certificate = lb.Certificate(
            self.named("certificate"),
            lb_id=balancer.id,
            letsencrypt=lb.CertificateLetsencryptArgs(
                common_name=args.names[0], subject_alternative_names=list(args.names[1:]) or None
            ),
            opts=self.child(ResourceOptions(depends_on=records)),
        )
        backend = lb.Backend(
            self.named("backend"),
            lb_id=balancer.id,
            forward_protocol="http",
            forward_port=args.target_port,
            server_ips=list(args.targets),
            health_check_http=lb.BackendHealthCheckHttpArgs(uri=args.health.path),
            health_check_port=args.health.port,
            health_check_delay=f"{args.health.interval_seconds}s",
            health_check_timeout=f"{args.health.timeout_seconds}s",
            health_check_max_retries=args.health.retries,
            opts=self.child(),
        )
        lb.Frontend(
            self.named("https"),
            lb_id=balancer.id,
            backend_id=backend.id,
            inbound_port=443,
            certificate_ids=[certificate.id],
            opts=self.child(),
        )
        http = lb.Frontend(
            self.named("http"),
            lb_id=balancer.id,
            backend_id=backend.id,
            inbound_port=80,
            external_acls=True,
            opts=self.child(),
        )
        lb.Acl(
            self.named("redirect"),
            frontend_id=http.id,
            index=0,
            match=lb.AclMatchArgs(http_filter="path_begin", http_filter_values=["/"]),
            action=lb.AclActionArgs(
                type="redirect",
                redirects=[lb.AclActionRedirectArgs(type="scheme", target="https", code=301)],
            ),
            opts=self.child(),
        )
        return cloud.LoadBalancer(address=ip.ip_address)
