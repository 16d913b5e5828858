"""Transactional Email: a sending domain, its records and the key of its SMTP service."""

from __future__ import annotations

import pulumi
from pulumi import Input, ResourceOptions
from pulumiverse_scaleway import domain, tem

from components import cloud
from components.scaleway.base import ScalewayComponent, localized
from components.scaleway.dns import relative
from components.scaleway.key import limited_key

REGION = "fr-par"
"""The only region the service is sold in; it sends for hosts anywhere."""
TTL = 300


def _warn(domain: str) -> None:
    """The provider takes a domain that failed its check for made, and says nothing."""
    pulumi.log.warn(
        f"{domain} is not checked: its mail is refused until its records are as the domain's page in the "
        "console asks. Scaleway looks again by itself; `pulumi refresh` shows what it found"
    )


class Email(ScalewayComponent[cloud.EmailArgs, cloud.Email]):
    """Scaleway closes port 587 outbound to hosts unless their firewall says ``smtp`` (see FirewallArgs)."""

    def build(self, args: cloud.EmailArgs) -> cloud.Email:
        scope = args.scope
        sender = tem.Domain(
            self.named("domain"),
            name=args.domain,
            accept_tos=True,
            region=REGION,
            project_id=scope.project_id,
            opts=self.child(
                # How one made by hand writes its records, and who accepted the terms, stays as it is.
                ResourceOptions(ignore_changes=["accept_tos", "autoconfig"]) if args.adopt else None,
                data=True,
                adopt=localized(args.adopt, REGION),
            ),
        )
        if args.adopt is None:
            self._checked(args, sender)
        _, key = limited_key(
            self, f"Sends mail as {args.domain}", sender.project_id, ["TransactionalEmailEmailSmtpCreate"]
        )
        return cloud.Email(
            host=sender.smtp_host,
            port=sender.smtp_port,
            user=sender.smtps_auth_user,
            password=key.secret_key,
        )

    def _checked(self, args: cloud.EmailArgs, sender: tem.Domain) -> None:
        """Its records, and Scaleway's look at them."""
        apex = relative(args.domain, args.zone)
        records = [
            self._record(args, "spf", "TXT", apex, sender.spf_value),
            self._record(args, "dkim", "TXT", self._inside(args, sender.dkim_name), sender.dkim_config),
            self._record(args, "dmarc", "TXT", self._inside(args, sender.dmarc_name), sender.dmarc_config),
            self._record(args, "mx", "MX", apex, sender.mx_config, sender.mx_priority),
        ]
        validation = tem.DomainValidation(
            self.named("validation"),
            domain_id=sender.id,
            region=REGION,
            opts=self.child(ResourceOptions(depends_on=records)),
        )
        validation.validated.apply(lambda checked: _warn(args.domain) if checked is False else None)

    @staticmethod
    def _inside(args: cloud.EmailArgs, name: pulumi.Output[str]) -> pulumi.Output[str]:
        """The provider prints some names with the domain behind them and some without."""
        return name.apply(lambda n: n.rstrip(".").removesuffix(f".{args.zone}"))

    def _record(
        self,
        args: cloud.EmailArgs,
        part: str,
        kind: str,
        name: Input[str],
        value: Input[str],
        priority: Input[int] | None = None,
    ) -> domain.Record:
        return domain.Record(
            self.named(part),
            dns_zone=args.zone,
            name=name,
            type=kind,
            data=value,
            ttl=TTL,
            priority=priority,
            project_id=args.scope.project_id,
            opts=self.child(),
        )
