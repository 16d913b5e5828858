"""Outputs of Scaleway resources: plausible, fixed for the life of a resource, addresses unique."""

from __future__ import annotations

import base64
import functools
import hashlib
import ipaddress
import json
import secrets
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sandbox.twins.outputs import GATEWAY, Call, Compute, Context, Function, Refusal, new_uuid
from sandbox.twins.tables import DIRECTORY

PROJECT = "11111111-2222-4333-8444-555555555555"
ORGANIZATION = "00000000-1111-4222-8333-444444444444"
SIZES: Path = DIRECTORY / "data" / "scaleway-servers.json"
# Images a marketplace label names; anything else is refused, as by the API.
IMAGES = (
    *("debian_bookworm", "debian_trixie", "debian_bullseye", "ubuntu_jammy", "ubuntu_noble"),
    *("rockylinux_9", "almalinux_9", "fedora_40", "docker"),
)
LONG_AGO = "2026-01-01T00:00:00Z"
NAME_SERVERS = ["ns0.dom.scw.cloud", "ns1.dom.scw.cloud"]


# ---------------------------------------------------------------- where things are


def region(context: Context) -> str:
    """Region of a resource: its own, that of what it belongs to, the provider's, Scaleway's default."""
    given = context.inputs.get("region")
    if isinstance(given, str) and given:
        return given
    zone = context.inputs.get("zone")
    if isinstance(zone, str) and zone:
        return zone.rpartition("-")[0]
    for name in ("instanceId", "pipelineId", "secretId", "lbId", "clusterId", "bucket", "sourceId"):
        where, slash, _ = str(context.inputs.get(name) or "").partition("/")
        if slash:
            return where.rpartition("-")[0] if where.count("-") == 2 else where
    return str(context.settings.get("region") or "fr-par")


def zone(context: Context) -> str:
    """Zone of a resource: its own, that of what it belongs to, the provider's, Scaleway's default."""
    given = context.inputs.get("zone")
    if isinstance(given, str) and given:
        return given
    for name in (
        "serverId",
        "ipId",
        "securityGroupId",
        "gatewayId",
        "volumeId",
        "backendId",
        "frontendId",
        "lbId",
    ):
        where, slash, _ = str(context.inputs.get(name) or "").partition("/")
        if slash and where.count("-") == 2:
            return where
    return str(context.settings.get("zone") or f"{region(context)}-1")


def plain(id: Any) -> str:
    """An identifier without its locality."""
    return str(id or "").rpartition("/")[2]


def identify(context: Context) -> str:
    """The id of a new resource, in the form the provider gives this type."""
    build = IDS.get(context.token)
    if build is not None:
        return build(context)
    if "zone" in context.resource.inputs and "region" not in context.resource.inputs:
        return f"{zone(context)}/{new_uuid()}"
    if "region" in context.resource.inputs:
        return f"{region(context)}/{new_uuid()}"
    return new_uuid()


def _of_instance(*names: str) -> Callable[[Context], str]:
    def build(context: Context) -> str:
        parts = [region(context), plain(context.inputs["instanceId"])]
        return "/".join([*parts, *(str(context.inputs[name]) for name in names)])

    return build


def _bucket_name(context: Context) -> str:
    return plain(context.inputs["bucket"])


# Resources that are part of a bucket and carry its id.
BUCKET_PARTS = (
    *("Acl", "LockConfiguration", "Policy", "WebsiteConfiguration"),
    "ServerSideEncryptionConfiguration",
)
IDS: dict[str, Callable[[Context], str]] = {
    "scaleway:databases/acl:Acl": _of_instance(),
    "scaleway:databases/database:Database": _of_instance("name"),
    "scaleway:databases/user:User": _of_instance("name"),
    "scaleway:databases/privilege:Privilege": _of_instance("databaseName", "userName"),
    "scaleway:domain/record:Record": lambda c: f"{c.inputs['dnsZone']}/{new_uuid()}",
    "scaleway:domain/zone:Zone": lambda c: _zone_name(c.inputs),
    "scaleway:iam/apiKey:ApiKey": lambda c: "SCW" + secrets.token_hex(9).upper()[:17],
    "scaleway:instance/ipReverseDns:IpReverseDns": lambda c: f"{zone(c)}/{plain(c.inputs['ipId'])}",
    "scaleway:instance/privateNic:PrivateNic": lambda c: (
        f"{zone(c)}/{plain(c.inputs['serverId'])}/{new_uuid()}"
    ),
    "scaleway:instance/securityGroupRules:SecurityGroupRules": lambda c: (
        f"{zone(c)}/{plain(c.inputs['securityGroupId'])}"
    ),
    "scaleway:instance/userData:UserData": lambda c: (
        f"{zone(c)}/{plain(c.inputs['serverId'])}/{c.inputs['key']}"
    ),
    "scaleway:object/bucket:Bucket": lambda c: f"{region(c)}/{c.inputs['name']}",
    "scaleway:object/item:Item": lambda c: f"{region(c)}/{_bucket_name(c)}/{c.inputs['key']}",
    "scaleway:secrets/version:Version": lambda c: (
        f"{region(c)}/{plain(c.inputs['secretId'])}/{_next_revision(c)}"
    ),
    **{
        f"scaleway:object/bucket{kind}:Bucket{kind}": lambda c: f"{region(c)}/{_bucket_name(c)}"
        for kind in BUCKET_PARTS
    },
}


def common(context: Context) -> None:
    """Outputs that many types share, by their names."""
    has = context.resource.outputs
    if "zone" in has and not context.outputs.get("zone"):
        context.outputs["zone"] = zone(context)
    if "region" in has and not context.outputs.get("region"):
        context.outputs["region"] = region(context)
    project = str(context.settings.get("projectId") or PROJECT)
    organization = str(context.settings.get("organizationId") or ORGANIZATION)
    for name, value in (("projectId", project), ("organizationId", organization)):
        if name in has and not context.outputs.get(name):
            context.outputs[name] = value
    if "createdAt" in has:
        context.give(createdAt=context.now)
    if "updatedAt" in has:
        context.outputs["updatedAt"] = context.now
    if "srn" in has:
        service, _, noun = context.token.split(":")[1].partition("/")
        context.give(srn=f"srn://{service}/{context.outputs.get('region', 'global')}/{noun}/{context.uuid}")


# ---------------------------------------------------------------- instances


def mac(address: str) -> str:
    """The hardware address that goes with a private IPv4 address."""
    return "02:00:" + ":".join(f"{byte:02x}" for byte in ipaddress.IPv4Address(address).packed)


@functools.cache
def sizes() -> Mapping[str, Mapping[str, Any]]:
    """Instance types by name: vcpu, memory_gb, disk_gb, arch, price_hour."""
    found: Mapping[str, Mapping[str, Any]] = json.loads(SIZES.read_text())
    return found


def size(name: str) -> Mapping[str, Any]:
    """One instance type; any case. Raises Refusal."""
    found = sizes().get(name.upper())
    if found is None:
        raise Refusal(f"scaleway-sdk-go: invalid argument(s): commercial_type {name} does not exist")
    return found


def _ip(context: Context) -> None:
    if context.outputs.get("type", "routed_ipv4") == "routed_ipv6":
        tail = int(hashlib.sha256(context.uuid.encode()).hexdigest()[:8], 16)
        prefix = f"2001:db8:{tail >> 16:x}:{tail & 0xFFFF:x}::"
        context.give(type="routed_ipv6", address=prefix, prefix=f"{prefix}/64")
    else:
        address = context.public_address()
        context.give(type="routed_ipv4", address=address, prefix="")
    context.give(reverse="", serverId="")


def private_network(context: Context, id: Any) -> tuple[str, str]:
    """(scope, range) of a private network for :meth:`Store.address`; Refusal when there is none."""
    row = context.find("scaleway:network/privateNetwork:PrivateNetwork", str(id))
    if row is None:
        raise Refusal(f"scaleway-sdk-go: resource private_network with ID {plain(id)} is not found")
    return f"private/{plain(row.id)}", row.outputs["ipv4Subnet"]["subnet"]


def private_address(context: Context, network: Any, use: str, wanted: str | None = None) -> str:
    """An address in a private network; the first two of the range are the network's own."""
    scope, cidr = private_network(context, network)
    if wanted is not None and ipaddress.ip_address(wanted) not in ipaddress.ip_network(cidr):
        raise Refusal(f"scaleway-sdk-go: invalid argument(s): address {wanted} is not in {cidr}")
    found = context.store.address(scope, cidr, context.token, context.id, use, wanted)
    if found is None:
        taken = f"conflict: address {wanted} is already in use"
        raise Refusal(f"scaleway-sdk-go: {taken if wanted else f'no address is left in {cidr}'}")
    return found


def _reserved(context: Context, ids: Any) -> str | None:
    """The address of the first reserved private IP (ipam.Ip) named."""
    for id in ids or ():
        row = context.find("scaleway:ipam/ip:Ip", str(id))
        if row is None:
            raise Refusal(f"scaleway-sdk-go: resource ipam_ip with ID {plain(id)} is not found")
        return str(row.outputs["address"])
    return None


def _server(context: Context) -> None:
    out, want = context.outputs, context.inputs
    kind = size(str(want["type"]))
    if want.get("cloudInit"):  # the provider reads all user data back, this key included
        out["userData"] = {**(want.get("userData") or {}), "cloud-init": want["cloudInit"]}
    context.give(
        cloudInit="", userData={}, filesystems=[], bootscriptId="", state="started",
        placementGroupPolicyRespected=bool(want.get("placementGroupId")),
    )  # fmt: skip
    if not want.get("securityGroupId"):
        # The default group of the project: there is always one, and it is nobody's resource.
        context.give(securityGroupId=f"{zone(context)}/{uuid.uuid5(uuid.NAMESPACE_DNS, out['projectId'])}")
    root = dict(out.get("rootVolume") or {})
    local = bool(kind["disk_gb"])
    root.setdefault("volumeType", "l_ssd" if local else "sbs_volume")
    root.setdefault("sizeInGb", kind["disk_gb"] if root["volumeType"] == "l_ssd" else 10)
    root.setdefault("volumeId", f"{zone(context)}/{new_uuid()}")
    root.setdefault("name", f"{out['name']}-root")
    for name, value in (("boot", False), ("deleteOnTermination", True)):
        root.setdefault(name, value)
    root.setdefault("sbsIops", 5000 if root["volumeType"] == "sbs_volume" else 0)
    out["rootVolume"] = root
    ids = want.get("ipIds") or ([want["ipId"]] if want.get("ipId") else [])
    public = [_attached(context, id) for id in ids]
    if not public and want.get("enableDynamicIp"):
        address = context.public_address("dynamic")
        public = [_public(str(uuid.uuid5(uuid.NAMESPACE_DNS, context.id)), address, dynamic=True)]
    out["publicIps"] = public
    out["privateNetworks"] = [
        {
            **network,
            "pnicId": held.get("pnicId") or new_uuid(),
            "macAddress": mac(private_address(context, network["pnId"], plain(network["pnId"]))),
            "status": "available",
            "zone": zone(context),
        }
        for network, held in zip(
            want.get("privateNetworks") or (), out.get("privateNetworks") or (), strict=True
        )
    ]
    out["privateIps"] = [
        _private(context, private_address(context, network["pnId"], plain(network["pnId"])))
        for network in out["privateNetworks"]
    ]
    if not out["privateNetworks"]:
        del out["privateNetworks"]


def _attached(context: Context, id: str) -> dict[str, Any]:
    row = context.find("scaleway:instance/ip:Ip", id)
    if row is None:
        raise Refusal(f"scaleway-sdk-go: resource ip with ID {plain(id)} is not found")
    return _public(row.id, str(row.outputs["address"]), dynamic=False)


def _public(id: str, address: str, *, dynamic: bool) -> dict[str, Any]:
    six = ":" in address
    return {
        "id": id,
        "address": address,
        "family": "inet6" if six else "inet",
        "gateway": "fe80::1" if six else GATEWAY,
        "netmask": "64" if six else "32",
        "dynamic": dynamic,
        "provisioningMode": "slaac" if six else "dhcp",
    }


def _private(context: Context, address: str) -> dict[str, Any]:
    return {"id": str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{context.id} {address}")), "address": address}


def _private_nic(context: Context) -> None:
    reserved = _reserved(context, context.inputs.get("ipamIpIds"))
    if reserved is not None:
        private_network(context, context.inputs["privateNetworkId"])  # must exist all the same
        address = reserved
    else:
        address = private_address(context, context.inputs["privateNetworkId"], "nic")
    context.outputs["privateIps"] = [_private(context, address)]
    context.outputs["macAddress"] = mac(address)


def _private_network(context: Context) -> None:
    subnet = dict(context.outputs.get("ipv4Subnet") or {})
    if not subnet.get("subnet"):
        used = {
            row.outputs["ipv4Subnet"]["subnet"]
            for row in context.store.all(context.token)
            if row.id != context.id
        }
        pool = ipaddress.ip_network("172.16.0.0/12").subnets(new_prefix=22)
        subnet["subnet"] = next(text for network in pool if (text := str(network)) not in used)
    network = ipaddress.ip_network(subnet["subnet"], strict=False)
    subnet["subnet"] = str(network)
    # The provider returns the network's own address here, not a gateway's.
    subnet.update(
        address=str(network.network_address), prefixLength=network.prefixlen, subnetMask=str(network.netmask)
    )
    subnet.setdefault("id", new_uuid())
    subnet.setdefault("createdAt", context.now)
    subnet.setdefault("updatedAt", context.now)
    subnet.setdefault("srn", "")
    context.outputs["ipv4Subnet"] = subnet
    context.give(ipv6Subnets=[], isRegional=True, enableDefaultRoutePropagation=False)
    context.give(vpcId=f"{region(context)}/{uuid.uuid5(uuid.NAMESPACE_DNS, region(context))}")
    context.give(zone=f"{region(context)}-1")


def _ipam_ip(context: Context) -> None:
    source: Mapping[str, Any] = next(iter(context.inputs.get("sources") or ()), {})
    network = source.get("privateNetworkId")
    if not network:
        raise Refusal("scaleway-sdk-go: invalid argument(s): source.private_network_id is required")
    wanted = context.inputs.get("address")
    address = private_address(context, network, "ipam", str(wanted).partition("/")[0] if wanted else None)
    _, cidr = private_network(context, network)
    context.outputs["address"] = address
    context.give(
        addressCidr=f"{address}/{ipaddress.ip_network(cidr).prefixlen}", resources=[], reverses=[], zone=""
    )


def _volume(context: Context) -> None:
    context.give(sizeInGb=0, instanceVolumeId="", serverId="")


def _public_gateway_ip(context: Context) -> None:
    context.give(address=context.public_address(), reverse="")


def _public_gateway(context: Context) -> None:
    context.give(
        ipId=f"{zone(context)}/{new_uuid()}", bandwidth=75, status="running", upstreamDnsServers=[],
        bastionPort=61000, enableSmtp=False, allowedIpRanges=["0.0.0.0/0"],
    )  # fmt: skip


def _gateway_network(context: Context) -> None:
    address = private_address(context, context.inputs["privateNetworkId"], "gateway")
    context.give(status="ready", macAddress=mac(address), staticAddress="", cleanupDhcp=False, ipamConfigs=[])
    context.outputs["privateIps"] = [_private(context, address)]


# ---------------------------------------------------------------- data


def certificate(common_name: str) -> str:
    """A self-signed CA certificate (PEM) with a key nobody keeps, as a managed database shows one."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])
    start = datetime.now(UTC).replace(microsecond=0)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM).decode()


def _database_instance(context: Context) -> None:
    out, want = context.outputs, context.inputs
    context.give(
        engine="PostgreSQL-15", settings={}, userName="", backupSameRegion=False,
        backupScheduleFrequency=24, backupScheduleRetention=7, volumeSizeInGb=5,
        logsPolicy={"maxAgeRetention": 30, "totalDiskRetention": 0},
        maintenances=[], readReplicas=[], upgradableVersions=[], endpointIp="", endpointPort=0,
    )  # fmt: skip
    if context.old is None:
        context.give(certificate=certificate(context.uuid))
    network = want.get("privateNetwork")
    private = []
    if network:
        merged = dict(out["privateNetwork"])
        static = network.get("ipNet")
        address = (
            static.partition("/")[0] if static else private_address(context, network["pnId"], "database")
        )
        host = f"{context.uuid}.{plain(network['pnId'])}.internal"
        merged |= {"ip": address, "hostname": host, "name": "", "zone": f"{region(context)}-1"}
        merged.setdefault("port", 5432)
        merged.setdefault("enableIpam", not static)
        if not static:
            merged.setdefault(
                "ipNet", f"{address}/{private_network(context, network['pnId'])[1].partition('/')[2]}"
            )
        merged.setdefault("endpointId", new_uuid())
        out["privateNetwork"] = merged
        private = [_private(context, address)]
    out["privateIps"] = private
    balancer = dict(out.get("loadBalancer") or {})
    if "loadBalancer" in want or not network:
        balancer.setdefault("endpointId", new_uuid())
        balancer |= {
            "ip": context.public_address("database"),
            "name": "",
            "port": balancer.get("port") or 5432,
        }
        balancer["hostname"] = f"rw-{context.uuid}.rdb.{region(context)}.scw.cloud"
        out["endpointIp"], out["endpointPort"] = balancer["ip"], balancer["port"]
    out["loadBalancer"] = balancer


def _database(context: Context) -> None:
    context.give(managed=True, owner="", size="0 GB")


def _privilege(context: Context) -> None:
    context.outputs.update(effectivePermission=context.inputs["permission"], permissionStatus="applied")


def _read_replica(context: Context) -> None:
    out = context.outputs
    network = context.inputs.get("privateNetwork")
    if network:
        address = private_address(context, network["privateNetworkId"], "replica")
        merged = {"port": 5432, "hostname": "", "name": "", "endpointId": new_uuid(), **out["privateNetwork"]}
        out["privateNetwork"] = merged | {"ip": address, "zone": f"{region(context)}-1"}
    if "directAccess" in context.inputs:
        address = context.public_address("replica")
        merged = {"port": 5432, "hostname": "", "name": "", "endpointId": new_uuid(), **out["directAccess"]}
        out["directAccess"] = merged | {"ip": address}


def _redis(context: Context) -> None:
    out, want = context.outputs, context.inputs
    tls = bool(want.get("tlsEnabled"))
    context.give(clusterSize=1, certificate=certificate(context.uuid) if tls else "")
    scheme = "rediss" if tls else "redis"
    login = f"{want['userName']}:{want['password']}" if want.get("password") else str(want["userName"])
    addresses: list[str] = []
    networks = []
    for network in want.get("privateNetworks") or ():
        wanted = [str(text).partition("/")[0] for text in network.get("serviceIps") or ()]
        count = max(1, len(wanted))
        ips = [
            private_address(
                context, network["id"], f"{plain(network['id'])}-{index}", wanted[index] if wanted else None
            )
            for index in range(count)
        ]
        length = private_network(context, network["id"])[1].partition("/")[2]
        held: Mapping[str, Any] = next(
            (old for old in out.get("privateNetworks") or () if old["id"] == network["id"]), {}
        )
        networks.append(
            {
                "endpointId": new_uuid(),
                "port": 6379,
                "zone": zone(context),
                "serviceIps": [f"{ip}/{length}" for ip in ips],
                **{name: value for name, value in held.items() if name in ("endpointId", "serviceIps")},
                **network,
                "ips": ips,
            }
        )
        addresses += ips
    if networks:
        out["privateNetworks"] = networks
        out["publicNetwork"] = {}
    else:
        public = dict(out.get("publicNetwork") or {})
        public.setdefault("id", new_uuid())
        out["publicNetwork"] = {**public, "ips": [context.public_address("redis")], "port": 6379}
    out["privateIps"] = [_private(context, address) for address in addresses]
    first = addresses[0] if addresses else out["publicNetwork"]["ips"][0]
    out["connectionString"] = f"{scheme}://{login}@{first}:6379"


def _bucket(context: Context) -> None:
    name, where = context.outputs["name"], region(context)
    context.give(versioning={"enabled": False}, corsRules=[])
    context.give(endpoint=f"https://{name}.s3.{where}.scw.cloud", apiEndpoint=f"https://s3.{where}.scw.cloud")


def _website(context: Context) -> None:
    name, where = _bucket_name(context), region(context)
    context.give(
        websiteDomain=f"s3-website.{where}.scw.cloud", websiteEndpoint=f"{name}.s3-website.{where}.scw.cloud"
    )


def _object(context: Context) -> None:
    context.give(contentType="application/octet-stream", visibility="private")


# ---------------------------------------------------------------- identities and secrets


def _api_key(context: Context) -> None:
    context.give(accessKey=context.id, creationIp=GATEWAY, editable=True)
    context.give(secretKey="" if context.inputs.get("secretId") else new_uuid())
    context.give(defaultProjectId=context.settings.get("projectId") or PROJECT)


def _editable(context: Context) -> None:
    context.give(editable=True)


def _ssh_key(context: Context) -> None:
    parts = str(context.inputs["publicKey"]).split()
    try:
        blob = base64.b64decode(parts[1], validate=True)
    except (IndexError, ValueError):
        raise Refusal(
            "scaleway-sdk-go: invalid argument(s): public_key does not respect constraint"
        ) from None
    context.give(
        fingerprint=":".join(f"{byte:02x}" for byte in hashlib.md5(blob, usedforsecurity=False).digest())
    )


def _next_revision(context: Context) -> int:
    secret = plain(context.inputs["secretId"])
    return 1 + sum(plain(row.inputs.get("secretId")) == secret for row in context.store.all(context.token))


def _secret(context: Context) -> None:
    context.give(status="ready", versionCount=0, versions=[])


def _secret_version(context: Context) -> None:
    context.give(revision=context.id.rpartition("/")[2], status="enabled")


# ---------------------------------------------------------------- names, mail, balancer


def _zone_name(inputs: Mapping[str, Any]) -> str:
    subdomain = inputs.get("subdomain") or ""
    return f"{subdomain}.{inputs['domain']}" if subdomain else str(inputs["domain"])


def _zone(context: Context) -> None:
    context.give(ns=NAME_SERVERS, nsDefaults=NAME_SERVERS, nsMasters=[], status="active", message="")


def fqdn(inputs: Mapping[str, Any]) -> str:
    """The full name of a record, without a trailing dot."""
    name, zone_ = str(inputs.get("name") or ""), str(inputs["dnsZone"])
    name = name.removesuffix(".").removesuffix(zone_).removesuffix(".")
    return zone_ if name in ("", "@") else f"{name}.{zone_}"


def _record(context: Context) -> None:
    context.give(priority=0)
    full = fqdn(context.inputs)
    context.outputs.update(fqdn=full, rootZone=full == context.inputs["dnsZone"])


def _lb_ip(context: Context) -> None:
    context.give(ipAddress=context.public_address(), lbId="", reverse="")


def _lb(context: Context) -> None:
    out, want = context.outputs, context.inputs
    ids = want.get("ipIds") or ([want["ipId"]] if want.get("ipId") else [])
    addresses = []
    for id in ids:
        row = context.find("scaleway:loadbalancers/ip:Ip", str(id))
        if row is None:
            raise Refusal(f"scaleway-sdk-go: resource ip with ID {plain(id)} is not found")
        addresses.append(str(row.outputs["ipAddress"]))
    if not ids and want.get("assignFlexibleIp", True):
        addresses = [context.public_address("balancer")]
        context.give(ipIds=[f"{zone(context)}/{new_uuid()}"])
    context.give(ipIds=list(ids), ipv6Address="")
    context.give(ipId=out["ipIds"][0] if out["ipIds"] else "")
    out["ipAddress"] = addresses[0] if addresses else ""
    private = [
        private_address(context, network["privateNetworkId"], plain(network["privateNetworkId"]))
        for network in want.get("privateNetworks") or ()
    ]
    for network in out.get("privateNetworks") or ():
        network.update(status="ready", zone=zone(context))
        network.setdefault("ipamIds", "")
    context.give(privateNetworks=[])
    out["privateIps"] = [_private(context, address) for address in private]


def _lb_backend(context: Context) -> None:
    context.give(healthCheckPort=context.inputs["forwardPort"], healthCheckTcp={}, sendProxyV2=False)


def _lb_certificate(context: Context) -> None:
    asked = context.inputs.get("letsencrypt") or {}
    start = datetime.now(UTC)
    context.give(
        commonName=asked.get("commonName", ""),
        subjectAlternativeNames=asked.get("subjectAlternativeNames", []),
        fingerprint=hashlib.sha256(context.id.encode()).hexdigest(),
        notValidBefore=context.now,
        notValidAfter=(start + timedelta(days=90)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        status="ready",
    )


def _mail_domain(context: Context) -> None:
    name = str(context.outputs["name"])
    selector = context.outputs.get("projectId", PROJECT)
    context.give(
        status="unchecked", smtpHost="smtp.tem.scw.cloud", smtpPort=587, smtpPortAlternative=2587,
        smtpPortUnsecure=25, smtpsPort=465, smtpsPortAlternative=2465, smtpsAuthUser=selector,
        # The snippet to put into a record there may be, and the whole record.
        spfConfig="include:_spf.tem.scaleway.com", spfValue="v=spf1 include:_spf.tem.scaleway.com -all",
        dkimName=f"{selector}._domainkey.{name}.",
        dmarcName=f"_dmarc.{name}.", dmarcConfig="v=DMARC1; p=none",
        mxConfig="blackhole.tem.scaleway.com.", mxBlackhole="blackhole.scw-tem.cloud.", mxPriority=10,
        lastError="", lastValidAt="", nextCheckAt=context.now, revokedAt="", reputations=[],
    )  # fmt: skip
    if not context.outputs.get("dkimConfig"):
        context.outputs["dkimConfig"] = f"v=DKIM1; h=sha256; k=rsa; p={_public_key()}"


def _public_key() -> str:
    """A new RSA key's public half as DKIM writes it; nobody signs with the other."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    public = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return base64.b64encode(public.public_bytes(serialization.Encoding.DER, form)).decode()


def _registry(context: Context) -> None:
    context.give(endpoint=f"rg.{region(context)}.scw.cloud/{context.outputs['name']}", description="")


def _token(context: Context) -> None:
    context.give(secretKey=new_uuid(), scopes={})


def _source(context: Context) -> None:
    kind = context.inputs.get("type", "metrics")
    base = f"https://{context.uuid}.{kind}.cockpit.{region(context)}.scw.cloud"
    context.give(url=base, pushUrl=f"{base}/push", origin="custom", synchronizedWithGrafana=True)


def _validation(context: Context) -> None:
    context.give(validated=True)


def _pipeline(context: Context) -> None:
    context.give(status="ready")


def _dns_stage(context: Context) -> None:
    name = f"{context.uuid}.svc.edge.scw.cloud"
    context.give(defaultFqdn=name, type="auto", fqdns=[name], wildcardDomain=False)


COMPUTE: dict[str, Compute] = {
    "scaleway:block/volume:Volume": _volume,
    "scaleway:databases/database:Database": _database,
    "scaleway:databases/instance:Instance": _database_instance,
    "scaleway:databases/privilege:Privilege": _privilege,
    "scaleway:databases/readReplica:ReadReplica": _read_replica,
    "scaleway:domain/record:Record": _record,
    "scaleway:domain/zone:Zone": _zone,
    "scaleway:edgeservices/dnsStage:DnsStage": _dns_stage,
    "scaleway:edgeservices/pipeline:Pipeline": _pipeline,
    "scaleway:iam/apiKey:ApiKey": _api_key,
    "scaleway:iam/application:Application": _editable,
    "scaleway:iam/policy:Policy": _editable,
    "scaleway:iam/sshKey:SshKey": _ssh_key,
    "scaleway:instance/ip:Ip": _ip,
    "scaleway:instance/privateNic:PrivateNic": _private_nic,
    "scaleway:instance/server:Server": _server,
    "scaleway:instance/volume:Volume": _volume,
    "scaleway:ipam/ip:Ip": _ipam_ip,
    "scaleway:loadbalancers/backend:Backend": _lb_backend,
    "scaleway:loadbalancers/certificate:Certificate": _lb_certificate,
    "scaleway:loadbalancers/ip:Ip": _lb_ip,
    "scaleway:loadbalancers/loadBalancer:LoadBalancer": _lb,
    "scaleway:network/gatewayNetwork:GatewayNetwork": _gateway_network,
    "scaleway:network/privateNetwork:PrivateNetwork": _private_network,
    "scaleway:network/publicGateway:PublicGateway": _public_gateway,
    "scaleway:network/publicGatewayIp:PublicGatewayIp": _public_gateway_ip,
    "scaleway:object/bucket:Bucket": _bucket,
    "scaleway:object/bucketWebsiteConfiguration:BucketWebsiteConfiguration": _website,
    "scaleway:object/item:Item": _object,
    "scaleway:observability/source:Source": _source,
    "scaleway:observability/token:Token": _token,
    "scaleway:redis/cluster:Cluster": _redis,
    "scaleway:registry/namespace:Namespace": _registry,
    "scaleway:secrets/secret:Secret": _secret,
    "scaleway:secrets/version:Version": _secret_version,
    "scaleway:tem/domain:Domain": _mail_domain,
    "scaleway:tem/domainValidation:DomainValidation": _validation,
}


# ---------------------------------------------------------------- functions


def _where(call: Call, kind: str) -> str:
    default = "fr-par-1" if kind == "zone" else "fr-par"
    return str(call.args.get(kind) or call.settings.get(kind) or default)


def _image_id(label: str, zone_: str, arch: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{label} {zone_} {arch}"))


def _marketplace_image(call: Call) -> Mapping[str, Any]:
    label, where = str(call.args["label"]), _where(call, "zone")
    if label not in IMAGES:
        raise Refusal(f"scaleway-sdk-go: couldn't find a matching image for the given label ({label})")
    kind = str(call.args.get("instanceType") or "DEV1-S")
    id = _image_id(label, where, str(size(kind)["arch"]))
    return {
        "imageType": "instance_sbs",
        **call.args,
        "zone": where,
        "instanceType": kind,
        "id": f"{where}/{id}",
    }


def _image(call: Call) -> Mapping[str, Any]:
    where, arch = _where(call, "zone"), str(call.args.get("architecture") or "x86_64")
    name = str(call.args.get("name") or "")
    label = name.lower().replace(" ", "_")
    if not call.args.get("imageId") and not any(label.startswith(known.split("_")[0]) for known in IMAGES):
        raise Refusal(
            f'scaleway-sdk-go: no image found with the name "{name}" and architecture {arch} in {where}'
        )
    id = plain(call.args.get("imageId") or _image_id(label, where, arch))
    return {
        **call.args,
        "id": f"{where}/{id}", "imageId": f"{where}/{id}", "architecture": arch, "name": name, "zone": where,
        "additionalVolumeIds": [], "creationDate": LONG_AGO, "modificationDate": LONG_AGO,
        "defaultBootscriptId": "", "fromServerId": "", "latest": True, "public": True, "state": "available",
        "organizationId": ORGANIZATION, "projectId": PROJECT, "rootVolumeId": _image_id("root", where, id),
    }  # fmt: skip


def _server_type(call: Call) -> Mapping[str, Any]:
    where, name = _where(call, "zone"), str(call.args["name"])
    kind = size(name)
    disk = int(kind["disk_gb"])
    return {
        "name": name, "zone": where, "id": f"{where}/{name}", "arch": kind["arch"],
        "cpu": kind["vcpu"], "ram": int(kind["memory_gb"] * 2**30), "gpu": 0,
        "hourlyPrice": kind["price_hour"], "availability": "available",
        "endOfService": False, "capabilities": [{"bootTypes": ["local", "rescue"], "maxFileSystems": 0}],
        "networks": [{"internalBandwidth": 0, "publicBandwidth": 0, "blockBandwidth": 0}],
        "volumes": [{
            "blockStorage": True, "minSizeTotal": 0, "maxSizeTotal": disk, "scratchStorageMaxSize": 0,
            "minSizePerLocalVolume": 1 if disk else 0, "maxSizePerLocalVolume": disk,
        }],
    }  # fmt: skip


def _get_zone(call: Call) -> Mapping[str, Any]:
    """A zone nobody here manages is taken to exist: it is somebody else's stack, or was bought by hand."""
    name = _zone_name(call.args)
    row = call.store.get("scaleway:domain/zone:Zone", name)
    if row is not None:
        return {**row.outputs, "id": name}
    return {
        "subdomain": "",
        "projectId": call.settings.get("projectId") or PROJECT,
        **call.args,
        "id": name, "ns": NAME_SERVERS, "nsDefaults": NAME_SERVERS, "nsMasters": [], "status": "active",
        "message": "", "updatedAt": LONG_AGO,
    }  # fmt: skip


def _get_record(call: Call) -> Mapping[str, Any]:
    zone_, wanted = call.args.get("dnsZone"), call.args.get("recordId")
    for row in call.store.all("scaleway:domain/record:Record"):
        if zone_ and row.inputs["dnsZone"] != zone_:
            continue
        asked = {key: call.args[key] for key in ("name", "type", "data") if call.args.get(key) is not None}
        if (
            plain(row.id) == plain(wanted)
            if wanted
            else all(row.outputs.get(k) == v for k, v in asked.items())
        ):
            return {
                "geoIps": [],
                "httpServices": [],
                "views": [],
                "weighteds": [],
                **row.outputs,
                "id": row.id,
            }
    raise Refusal(f"scaleway-sdk-go: no record found with the type {call.args.get('type')} in {zone_}")


def _get_project(call: Call) -> Mapping[str, Any]:
    id = str(call.args.get("projectId") or call.settings.get("projectId") or PROJECT)
    for row in call.store.all("scaleway:account/project:Project"):
        if row.id == id or row.outputs.get("name") == call.args.get("name"):
            return {**row.outputs, "id": row.id, "projectId": row.id}
    name = str(call.args.get("name") or "default")
    if call.args.get("name") not in (None, "default"):
        raise Refusal(f"scaleway-sdk-go: no project found with the name {name}")
    return {
        "organizationId": ORGANIZATION, **call.args, "id": id, "projectId": id, "name": name,
        "createdAt": LONG_AGO, "updatedAt": LONG_AGO, "srn": f"srn://project/{id}", "description": "",
    }  # fmt: skip


FUNCTIONS: dict[str, Function] = {
    "scaleway:account/getProject:getProject": _get_project,
    "scaleway:domain/getRecord:getRecord": _get_record,
    "scaleway:domain/getZone:getZone": _get_zone,
    "scaleway:index/getMarketplaceImage:getMarketplaceImage": _marketplace_image,
    "scaleway:instance/getImage:getImage": _image,
    "scaleway:instance/getServerType:getServerType": _server_type,
}
