"""Managed PostgreSQL, on the private network only."""

from __future__ import annotations

from collections.abc import Collection

import pulumi_random as random
from pulumi import ResourceOptions
from pulumiverse_scaleway import databases

from components import cloud
from components.base import computed
from components.scaleway.base import ScalewayComponent, localized
from components.scaleway.password import password

ADMIN = "berth"
"""Administrator of the engine; no application is given it."""
VOLUME_GB = 10


class Postgres(ScalewayComponent[cloud.PostgresArgs, cloud.Postgres]):
    """One user for each owner, with all rights on its own databases and none on others.

    ``settings`` are handed to the engine as they are and replace Scaleway's own choice of settings, so none
    are sent when there are none. Extensions (``pg_stat_statements``) are made over SQL, from a host.
    """

    def build(self, args: cloud.PostgresArgs) -> cloud.Postgres:
        scope = args.scope
        admin = password(self, ADMIN)
        # Another version is a blue/green upgrade: the provider copies the instance, loses what is written
        # meanwhile, deletes the old one itself, which no protection of the engine sees, and knows the new one
        # by another id. So it is made the replacement of something that is protected.
        version = random.RandomId(
            self.named("postgres-version"),
            byte_length=4,
            keepers={"engine": f"PostgreSQL-{args.version}"},
            opts=self.child(data=True),
        )
        instance = databases.Instance(
            self.named("instance"),
            engine=f"PostgreSQL-{args.version}",
            node_type=args.size,
            is_ha_cluster=args.high_availability,
            user_name=ADMIN,
            password=admin,
            # Not the local disk: block storage grows apart from the node and survives a change of it.
            volume_type="sbs_5k",
            volume_size_in_gb=args.volume_gb or VOLUME_GB,
            # With a private network and without `load_balancer` there is no public endpoint.
            private_network=databases.InstancePrivateNetworkArgs(pn_id=args.network.id, enable_ipam=True),
            settings=dict(args.settings) or None,
            disable_backup=False,
            backup_schedule_frequency=args.backup_every_hours,
            backup_schedule_retention=args.backup_keep_days,
            region=scope.region,
            project_id=scope.project_id,
            tags=self.tags,
            # The administrator's name is fixed when it is made: an adopted one keeps its own. And not even
            # an adopted instance of another version than was written is upgraded by the way.
            opts=self.child(
                ResourceOptions(ignore_changes=["engine", "user_name"], depends_on=[version]),
                data=True,
                adopt=localized(args.adopt, scope.region),
            ),
        )
        databases.Acl(
            self.named("acl"),
            instance_id=instance.id,
            acl_rules=[databases.AclAclRuleArgs(ip=args.network.cidr, description="private network")],
            region=scope.region,
            opts=self.child(),
        )
        users: dict[str, tuple[databases.User, cloud.DatabaseLogin]] = {}
        for owner in sorted(set(args.databases.values())):
            secret = password(self, owner)
            user = databases.User(
                self.named(f"user-{owner}"),
                instance_id=instance.id,
                name=owner,
                password=secret,
                is_admin=False,
                region=scope.region,
                # What it has made belongs to it: without its owner a database is of no use to anybody.
                opts=self.child(data=True, adopt=self._inside(args, owner, args.existing_users)),
            )
            users[owner] = user, cloud.DatabaseLogin(user=owner, password=secret)
        logins: dict[str, cloud.DatabaseLogin] = {}
        for name, owner in sorted(args.databases.items()):
            user, logins[name] = users[owner]
            database = databases.Database(
                self.named(f"database-{name}"),
                instance_id=instance.id,
                name=name,
                region=scope.region,
                opts=self.child(data=True, adopt=self._inside(args, name, args.existing_databases)),
            )
            databases.Privilege(
                self.named(f"privilege-{name}"),
                instance_id=instance.id,
                database_name=database.name,
                user_name=user.name,
                permission="all",
                region=scope.region,
                opts=self.child(),
            )
            # Scaleway's administrator makes roles and databases, and enters none without a right to it: that
            # is what extensions need. Set while the database is empty, it opens no table of the owner's.
            databases.Privilege(
                self.named(f"privilege-admin-{name}"),
                instance_id=instance.id,
                database_name=database.name,
                user_name=instance.user_name.apply(
                    lambda user: computed(user, f"administrator of {self.name}")
                ),
                permission="all",
                region=scope.region,
                opts=self.child(),
            )
        endpoint = instance.private_network
        return cloud.Postgres(
            host=endpoint.apply(lambda e: computed(e.ip if e else None, f"private address of {self.name}")),
            port=endpoint.apply(lambda e: computed(e.port if e else None, f"port of {self.name}")),
            admin=cloud.DatabaseAdmin(
                user=instance.user_name.apply(lambda user: computed(user, f"administrator of {self.name}")),
                password=admin,
            ),
            databases=logins,
            ca_certificate=instance.certificate,
        )

    @staticmethod
    def _inside(args: cloud.PostgresArgs, name: str, existing: Collection[str]) -> str | None:
        """The provider's id of a database or user of the adopted instance; None for one that is to be made.

        Rules of access and privileges need none: the provider sets them, whatever was there.
        """
        instance = localized(args.adopt, args.scope.region)
        return f"{instance}/{name}" if instance is not None and name in existing else None
