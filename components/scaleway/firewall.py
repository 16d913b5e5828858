"""A security group: what reaches the public interface of a host. It does not filter private networks."""

from __future__ import annotations

from pulumiverse_scaleway import instance

from components import cloud
from components.scaleway.base import ScalewayComponent


class Firewall(ScalewayComponent[cloud.FirewallArgs, cloud.Firewall]):
    """Stateful; inbound is dropped unless a rule accepts it."""

    def build(self, args: cloud.FirewallArgs) -> cloud.Firewall:
        group = instance.SecurityGroup(
            self.named("group"),
            # Rules have no text of their own here, so the group says what they are for.
            description="; ".join(rule.description for rule in args.inbound),
            inbound_default_policy="drop",
            outbound_default_policy="accept",
            stateful=True,
            enable_default_security=not args.smtp,
            inbound_rules=[_accept(rule, source) for rule in args.inbound for source in rule.sources],
            zone=args.scope.zone,
            project_id=args.scope.project_id,
            tags=self.tags,
            opts=self.child(),
        )
        return cloud.Firewall(id=group.id)


def _accept(rule: cloud.Rule, source: str) -> instance.SecurityGroupInboundRuleArgs:
    is_range = rule.port is not None and "-" in rule.port
    return instance.SecurityGroupInboundRuleArgs(
        action="accept",
        protocol=rule.protocol.upper(),
        ip_range=source,
        port=None if rule.port is None or is_range else int(rule.port),
        port_range=rule.port if is_range else None,
    )
