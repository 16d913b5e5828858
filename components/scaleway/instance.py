"""A host with one public and one private interface."""

from __future__ import annotations

from pulumi import ResourceOptions
from pulumiverse_scaleway import instance

from components import cloud
from components.base import computed, ipv4
from components.scaleway.base import ScalewayComponent
from components.scaleway.catalogue import catalogue

ROOT_GB = 40
"""Not tied to the size: block storage cannot shrink, and a change of size must not ask it to."""


class Instance(ScalewayComponent[cloud.InstanceArgs, cloud.Instance]):
    """Replaced freely unless ``stateful``: its name is made by the provider, its hostname by cloud-init."""

    def build(self, args: cloud.InstanceArgs) -> cloud.Instance:
        scope = args.scope
        # cloud-init runs on the first boot only, so a change of it is nothing to a host that stands; and a
        # new image would replace a host that holds data.
        ignored = ["cloud_init", "image"] if args.stateful else ["cloud_init"]
        # Two servers cannot hold one address or one volume: the old one must be gone before the new one takes
        # them. Without either, the new one is there first.
        exclusive = args.reserved_ip is not None or bool(args.volumes)
        server = instance.Server(
            self.named("server"),
            type=args.size,
            image=catalogue().image(args.image),
            # Block storage: every size takes it, it grows in place and it follows a change of size.
            root_volume=instance.ServerRootVolumeArgs(
                volume_type="sbs_volume", size_in_gb=args.disk_gb or ROOT_GB
            ),
            additional_volume_ids=[volume.id for volume in args.volumes] or None,
            ip_ids=[args.reserved_ip.id] if args.reserved_ip else None,
            enable_dynamic_ip=args.reserved_ip is None,
            security_group_id=args.firewall.id,
            cloud_init=args.access.cloud_init,
            protected=args.stateful and scope.keep_data,
            zone=scope.zone,
            project_id=scope.project_id,
            tags=self.tags,
            opts=self.child(
                ResourceOptions(
                    ignore_changes=ignored,
                    delete_before_replace=True if exclusive else None,
                    # The provider reads all user data back, cloud-init's with the host's private key too.
                    additional_secret_outputs=["cloud_init", "user_data"],
                ),
                data=args.stateful,
            ),
        )
        nic = instance.PrivateNic(
            self.named("private-nic"),
            server_id=server.id,
            private_network_id=args.network.id,
            zone=scope.zone,
            tags=self.tags,
            opts=self.child(),
        )
        public = server.public_ips.apply(
            lambda ips: computed(ipv4(ip.address for ip in ips or ()), f"public IPv4 of {self.name}")
        )
        private = nic.private_ips.apply(
            lambda ips: computed(ipv4(ip.address for ip in ips or ()), f"private IPv4 of {self.name}")
        )
        return cloud.Instance(
            id=server.id,
            public_ip=public,
            private_ip=private,
            connection=cloud.Connection(
                host=public,
                user=args.access.user,
                private_key=args.access.private_key,
                host_key=args.access.host_key,
            ),
            resource=server,
        )
