"""Rules of Scaleway's API.

A DNS zone that nobody here manages is taken to exist (another stack's, or bought by hand), so records in it
are accepted. Default security groups, default VPCs and images are nobody's resources either.
"""

from __future__ import annotations

from sandbox.inventory import Record, Store
from sandbox.twins.outputs import Refusal
from sandbox.twins.outputs.scaleway import fqdn
from sandbox.twins.rules import Reference, Rule, find, plain, same, values

SERVER = "scaleway:instance/server:Server"
IP = "scaleway:instance/ip:Ip"
GROUP = "scaleway:instance/securityGroup:SecurityGroup"
NETWORK = "scaleway:network/privateNetwork:PrivateNetwork"
DATABASES = "scaleway:databases/instance:Instance"
BUCKET = "scaleway:object/bucket:Bucket"
BALANCER = "scaleway:loadbalancers/loadBalancer:LoadBalancer"
RECORD = "scaleway:domain/record:Record"
ZONE = "scaleway:domain/zone:Zone"
NIC = "scaleway:instance/privateNic:PrivateNic"
GATEWAY = "scaleway:network/publicGateway:PublicGateway"
VOLUMES = ("scaleway:block/volume:Volume", "scaleway:instance/volume:Volume")

_server = Reference(SERVER, "server")
_network = Reference(NETWORK, "private_network", strict=True)
_databases = Reference(DATABASES, "instance")
_balancer = Reference(BALANCER, "lb")
REFERENCES: dict[tuple[str, str], Reference] = {
    (SERVER, "securityGroupId"): Reference(GROUP, "security_group", strict=True),
    (SERVER, "placementGroupId"): Reference(
        "scaleway:instance/placementGroup:PlacementGroup", "placement_group"
    ),
    (SERVER, "ipIds"): Reference(IP, "ip"),
    (SERVER, "ipId"): Reference(IP, "ip"),
    (SERVER, "privateNetworks.pnId"): _network,
    (NIC, "serverId"): _server,
    (NIC, "privateNetworkId"): _network,
    ("scaleway:instance/ipReverseDns:IpReverseDns", "ipId"): Reference(IP, "ip"),
    ("scaleway:instance/securityGroupRules:SecurityGroupRules", "securityGroupId"): Reference(
        GROUP, "security_group"
    ),
    ("scaleway:instance/userData:UserData", "serverId"): _server,
    (DATABASES, "privateNetwork.pnId"): _network,
    ("scaleway:databases/acl:Acl", "instanceId"): _databases,
    ("scaleway:databases/database:Database", "instanceId"): _databases,
    ("scaleway:databases/user:User", "instanceId"): _databases,
    ("scaleway:databases/privilege:Privilege", "instanceId"): _databases,
    ("scaleway:databases/readReplica:ReadReplica", "instanceId"): _databases,
    ("scaleway:redis/cluster:Cluster", "privateNetworks.id"): _network,
    ("scaleway:loadbalancers/backend:Backend", "lbId"): _balancer,
    ("scaleway:loadbalancers/frontend:Frontend", "lbId"): _balancer,
    ("scaleway:loadbalancers/certificate:Certificate", "lbId"): _balancer,
    ("scaleway:loadbalancers/frontend:Frontend", "backendId"): Reference(
        "scaleway:loadbalancers/backend:Backend", "backend", strict=True
    ),
    (BALANCER, "privateNetworks.privateNetworkId"): _network,
    (BALANCER, "ipIds"): Reference("scaleway:loadbalancers/ip:Ip", "ip"),
    ("scaleway:network/gatewayNetwork:GatewayNetwork", "gatewayId"): Reference(
        GATEWAY, "gateway", strict=True
    ),
    ("scaleway:network/gatewayNetwork:GatewayNetwork", "privateNetworkId"): _network,
    ("scaleway:ipam/ip:Ip", "sources.privateNetworkId"): _network,
    ("scaleway:iam/apiKey:ApiKey", "applicationId"): Reference(
        "scaleway:iam/application:Application", "application"
    ),
    ("scaleway:iam/policy:Policy", "applicationId"): Reference(
        "scaleway:iam/application:Application", "application"
    ),
    ("scaleway:secrets/version:Version", "secretId"): Reference("scaleway:secrets/secret:Secret", "secret"),
    ("scaleway:tem/domainValidation:DomainValidation", "domainId"): Reference(
        "scaleway:tem/domain:Domain", "domain"
    ),
}


def _others(store: Store, row: Record) -> list[Record]:
    return [other for other in store.all(row.token) if other.id != row.id]


def _bucket(store: Store, row: Record) -> None:
    """Bucket names are one name space; a second one is refused, even to its owner."""
    if any(other.inputs["name"] == row.inputs["name"] for other in store.all(BUCKET)):
        raise Refusal(
            f"creating S3 bucket ({row.inputs['name']}): BucketAlreadyExists: The requested bucket name is "
            "not available. The bucket namespace is shared by all users of the system."
        )


def _bucket_part(store: Store, row: Record) -> None:
    name = str(row.inputs["bucket"])
    if not any(same(bucket.id, name) for bucket in store.all(BUCKET)):
        raise Refusal(f"NoSuchBucket: The specified bucket does not exist: {name}")


def _bucket_empty(store: Store, row: Record) -> None:
    items = [
        item for item in store.all("scaleway:object/item:Item") if same(str(item.inputs["bucket"]), row.id)
    ]
    if items and not row.inputs.get("forceDestroy"):
        raise Refusal(f"deleting S3 bucket ({row.inputs['name']}): BucketNotEmpty: The bucket is not empty")


def _twice(*names: str, what: str) -> Rule:
    """Refuse a second one with the same values of ``names``."""

    def rule(store: Store, row: Record) -> None:
        key = [row.inputs.get(name) or "" for name in names]
        if any([other.inputs.get(name) or "" for name in names] == key for other in store.all(row.token)):
            raise Refusal(f"scaleway-sdk-go: resource {what} already exists: {'/'.join(map(str, key))}")

    return rule


def _server_rule(store: Store, row: Record) -> None:
    wanted = [*values(row.inputs, "ipIds"), *values(row.inputs, "ipId")]
    for other in _others(store, row) if wanted else ():
        held = [*values(other.inputs, "ipIds"), *values(other.inputs, "ipId")]
        for id in wanted:
            if any(same(id, taken) for taken in held):
                raise Refusal(
                    f"scaleway-sdk-go: precondition failed: resource is still in use, ip {id} is already "
                    f"attached to server {other.id}"
                )
    _volumes(store, row)


def _volumes(store: Store, row: Record) -> None:
    """Volumes of a server: of its own zone, and nobody else's."""
    for id in values(row.inputs, "additionalVolumeIds"):
        volume = next(filter(None, (find(store, token, id) for token in VOLUMES)), None)
        zone = row.id.partition("/")[0]
        if volume is None or volume.id.partition("/")[0] != zone:
            raise Refusal(f"scaleway-sdk-go: resource volume with ID {plain(id)} is not found in {zone}")
        for other in _others(store, row):
            if any(same(id, taken) for taken in values(other.inputs, "additionalVolumeIds")):
                raise Refusal(
                    f"scaleway-sdk-go: precondition failed: resource is still in use, volume {id} is already "
                    f"attached to server {other.id}"
                )


def _detached(store: Store, row: Record) -> None:
    for server in store.all(SERVER):
        if any(same(row.id, id) for id in values(server.inputs, "additionalVolumeIds")):
            raise Refusal(
                f"scaleway-sdk-go: precondition failed: resource is still in use, volume {row.id} is "
                f"attached to server {server.id}"
            )


def _reverse(store: Store, row: Record) -> None:
    """Scaleway asks the DNS before it takes a reverse; so do we, of the zones of the inventory."""
    ip = find(store, IP, str(row.inputs["ipId"]))
    name, address = str(row.inputs["reverse"]).removesuffix("."), ip.outputs["address"] if ip else ""
    if name.endswith((".pub.instances.scw.cloud", ".instances.scw.cloud")):
        return
    for record in store.all(RECORD):
        if fqdn(record.inputs) == name and record.inputs["data"] == address:
            return
    raise Refusal(
        "scaleway-sdk-go: invalid argument(s): reverse does not respect constraint, Your reverse "
        f"must resolve. Ensure the command 'dig +short {name}' matches your IP address '{address}'. "
        "If it does, please contact our support."
    )


def _attached(store: Store, row: Record) -> None:
    for reverse in store.all("scaleway:instance/ipReverseDns:IpReverseDns"):
        if same(str(reverse.inputs["ipId"]), row.id):
            raise Refusal(f"scaleway-sdk-go: precondition failed: ip {row.id} still has a reverse")


CREATE: dict[str, Rule] = {
    SERVER: _server_rule,
    BUCKET: _bucket,
    ZONE: _twice("domain", "subdomain", what="dns_zone"),
    "scaleway:instance/ipReverseDns:IpReverseDns": _reverse,
    "scaleway:databases/database:Database": _twice("instanceId", "name", what="database"),
    "scaleway:databases/user:User": _twice("instanceId", "name", what="user"),
    "scaleway:registry/namespace:Namespace": _twice("name", what="namespace"),
    "scaleway:tem/domain:Domain": _twice("name", what="domain"),
    NIC: _twice("serverId", "privateNetworkId", what="private_nic"),
    **{
        f"scaleway:object/bucket{kind}:Bucket{kind}": _bucket_part
        for kind in ("Acl", "LockConfiguration", "Policy", "WebsiteConfiguration")
    },
    "scaleway:object/item:Item": _bucket_part,
}
UPDATE: dict[str, Rule] = {
    SERVER: _server_rule,
    "scaleway:instance/ipReverseDns:IpReverseDns": _reverse,
}
DELETE: dict[str, Rule] = {BUCKET: _bucket_empty, IP: _attached, **dict.fromkeys(VOLUMES, _detached)}
