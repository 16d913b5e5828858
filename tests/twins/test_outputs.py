"""What the twins return: complete, unique, fixed; keys, certificates and passwords are real."""

import ipaddress
import subprocess

import bcrypt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.twins import tables
from sandbox.twins.cloud import CloudError
from sandbox.twins.outputs.random import SPECIAL
from sandbox.twins.wire import UNKNOWN, has_unknown

SERVER = "scaleway:instance/server:Server"
IP = "scaleway:instance/ip:Ip"
NETWORK = "scaleway:network/privateNetwork:PrivateNetwork"
NIC = "scaleway:instance/privateNic:PrivateNic"
DATABASES = "scaleway:databases/instance:Instance"
REDIS = "scaleway:redis/cluster:Cluster"
BUCKET = "scaleway:object/bucket:Bucket"
PASSWORD = "random:index/randomPassword:RandomPassword"
KEY = "tls:index/privateKey:PrivateKey"
VM = {"type": "DEV1-S", "image": "debian_bookworm"}


def network(twin, cidr="10.9.0.0/24", name="net"):
    return twin.create(NETWORK, {"ipv4Subnet": {"subnet": cidr}}, name)


def test_every_type_of_every_table_can_be_made_and_is_complete(twin):
    """With the least a type asks for: made-up values of the right form for what it requires."""
    made, refused = 0, {}
    for provider in tables.available():
        for token, entry in tables.load(provider).resources.items():
            resource = twin.resource(token)
            inputs = {
                n: example(resource.table, f, n) for n, f in resource.inputs.items() if f.get("required")
            }
            try:
                inputs = twin.check(token, inputs).inputs
                found = twin.cloud.create(resource, twin.urn(token, "it"), inputs, (), twin.settings, False)
            except CloudError as error:
                refused[token] = str(error)
                continue
            made += 1
            required = {name for name, fact in entry["outputs"].items() if fact.get("required")}
            assert required <= found.outputs.keys(), token
            assert found.outputs.keys() <= entry["outputs"].keys(), token
            assert not has_unknown(found.outputs), token
            assert found.id, token
    assert made > 50
    # Those that ask for something that is not there; anything else would be a fault of ours.
    for token, reason in refused.items():
        assert any(
            word in reason for word in ("not found", "does not exist", "PEM", "required", "must be")
        ), (token, reason)


def example(table, fact, name=""):
    """A value that the facts allow."""
    shape, inner = tables.parse(fact["type"])
    if "enum" in fact:
        return [fact["enum"][0]] if shape == "array" else fact["enum"][0]
    if shape == "array":
        return [example(table, {"type": inner})]
    if shape == "map":
        return {}
    if shape == "object":
        return {n: example(table, f, n) for n, f in table.types[inner].items() if f.get("required")}
    if "range" in fact:
        return fact["range"][0] or 1
    if shape != "string":
        return {"integer": 4, "number": 4, "boolean": True}.get(shape)
    if "uuid" in fact.get("format", ""):
        return "11111111-1111-1111-1111-111111111111"
    return {"type": "DEV1-S", "publicKey": "ssh-ed25519 AAAA"}.get(name, "x")


def test_ids_carry_the_place(twin):
    assert twin.create(IP, {}).id.startswith("fr-par-1/")
    assert twin.create(IP, {"zone": "nl-ams-2"}).id.startswith("nl-ams-2/")
    assert network(twin).id.startswith("fr-par/")
    assert "/" not in twin.create("scaleway:iam/application:Application", {}).id
    bucket = twin.create(BUCKET, {"name": "files"})
    assert bucket.id == "fr-par/files"
    assert bucket.outputs["endpoint"] == "https://files.s3.fr-par.scw.cloud"


def test_public_addresses_are_unique_and_given_back(twin):
    made = [twin.create(IP, {}, f"ip{n}") for n in range(30)]
    addresses = [found.outputs["address"] for found in made]
    assert len(set(addresses)) == 30
    assert all(ipaddress.ip_address(text) in ipaddress.ip_network("198.18.16.0/20") for text in addresses)
    twin.delete(IP, made[3])
    assert twin.create(IP, {}, "new").outputs["address"] == addresses[3]


def test_a_server_shows_its_addresses(twin):
    net, ip = network(twin), twin.create(IP, {})
    vm = twin.create(SERVER, {**VM, "ipIds": [ip.id], "privateNetworks": [{"pnId": net.id}]})
    (public,) = vm.outputs["publicIps"]
    assert (public["id"], public["address"]) == (ip.id, ip.outputs["address"])
    assert vm.outputs["privateIps"][0]["address"] == "10.9.0.2"
    nic = twin.create(NIC, {"serverId": vm.id, "privateNetworkId": net.id})
    assert nic.outputs["privateIps"][0]["address"] == "10.9.0.3"
    assert nic.outputs["macAddress"] == "02:00:0a:09:00:03"
    assert nic.id.split("/")[1] == vm.id.split("/")[1]
    # What it has does not move on an update.
    again = twin.update(
        SERVER, vm, {**VM, "ipIds": [ip.id], "privateNetworks": [{"pnId": net.id}], "tags": ["x"]}
    )
    assert {**again.outputs, "tags": None} == {**vm.outputs, "name": again.outputs["name"], "tags": None} | {
        "rootVolume": again.outputs["rootVolume"]
    }
    assert again.outputs["rootVolume"]["volumeId"] == vm.outputs["rootVolume"]["volumeId"]


def test_a_reserved_private_address_is_the_one_asked_for(twin):
    net = network(twin)
    held = twin.create(
        "scaleway:ipam/ip:Ip", {"sources": [{"privateNetworkId": net.id}], "address": "10.9.0.77"}
    )
    assert held.outputs["addressCidr"] == "10.9.0.77/24"
    with pytest.raises(CloudError, match=r"10\.9\.0\.77 is already in use"):
        twin.create(
            "scaleway:ipam/ip:Ip", {"sources": [{"privateNetworkId": net.id}], "address": "10.9.0.77"}
        )
    vm = twin.create(SERVER, VM)
    nic = twin.create(NIC, {"serverId": vm.id, "privateNetworkId": net.id, "ipamIpIds": [held.id]})
    assert nic.outputs["privateIps"][0]["address"] == "10.9.0.77"


def test_databases_and_redis_are_reached_on_the_private_network(twin):
    net = network(twin)
    db = twin.create(
        DATABASES, {"nodeType": "db-dev-s", "privateNetwork": {"pnId": net.id, "enableIpam": True}}
    )
    place = db.outputs["privateNetwork"]
    assert (place["ip"], place["port"]) == ("10.9.0.2", 5432)
    assert place["hostname"].endswith(".internal")
    authority = x509.load_pem_x509_certificate(db.outputs["certificate"].encode())
    authority.verify_directly_issued_by(authority)
    red = twin.create(
        REDIS,
        {
            "nodeType": "RED1-MICRO",
            "version": "7.2.5",
            "userName": "app",
            "password": "pw",
            "tlsEnabled": True,
            "privateNetworks": [{"id": net.id}],
        },
    )
    assert red.outputs["connectionString"] == "rediss://app:pw@10.9.0.3:6379"
    assert "connectionString" in red.secrets
    public = twin.create(DATABASES, {"nodeType": "db-dev-s"})
    assert public.outputs["loadBalancer"]["ip"].startswith("198.18.")


def test_a_preview_knows_what_it_was_given_and_nothing_else(twin):
    seen = twin.create(DATABASES, {"nodeType": "db-dev-s", "privateNetwork": {"pnId": UNKNOWN}}, preview=True)
    assert seen.outputs["nodeType"] == "db-dev-s"
    assert seen.outputs["volumeType"] == "lssd"
    assert seen.outputs["privateNetwork"]["ip"] is UNKNOWN
    assert seen.outputs["certificate"] is UNKNOWN
    assert "password" in seen.secrets
    assert twin.store.every() == []


def test_a_write_only_value_is_not_returned(twin):
    made = twin.create(DATABASES, {"nodeType": "db-dev-s", "passwordWo": "x", "passwordWoVersion": 1})
    assert "passwordWo" not in made.outputs
    assert made.outputs["passwordWoVersion"] == 1


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    least=st.fixed_dictionaries(
        {key: st.integers(0, 3) for key in ("minLower", "minUpper", "minNumeric", "minSpecial")}
    ),
    extra=st.integers(1, 20),
    special=st.booleans(),
)
def test_a_random_password_keeps_its_promises(twin, least, extra, special):
    news = {"length": sum(least.values()) + extra, "special": special, **least}
    text = twin.create("random:index/randomString:RandomString", news).outputs["result"]
    assert len(text) == news["length"]
    assert sum(c.islower() for c in text) >= least["minLower"]
    assert sum(c.isupper() for c in text) >= least["minUpper"]
    assert sum(c.isdigit() for c in text) >= least["minNumeric"]
    marks = sum(c in SPECIAL for c in text)
    assert marks >= least["minSpecial"]
    if not special:
        assert marks == least["minSpecial"]


def test_random_values(twin):
    made = twin.create(PASSWORD, {"length": 24, "overrideSpecial": "_"})
    assert bcrypt.checkpw(made.outputs["result"].encode(), made.outputs["bcryptHash"].encode())
    assert made.secrets >= {"result", "bcryptHash"}
    assert made.id == "none"
    assert set(made.outputs["result"]) - {"_"} <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    )
    id_ = twin.create("random:index/randomId:RandomId", {"byteLength": 4, "prefix": "a-"}).outputs
    assert int(id_["hex"].removeprefix("a-"), 16) == int(id_["dec"].removeprefix("a-"))
    assert (
        len(bytes.fromhex(twin.create("random:index/randomBytes:RandomBytes", {"length": 16}).outputs["hex"]))
        == 16
    )
    number = {"min": 3, "max": 5, "seed": "s"}
    one, two = (
        twin.create("random:index/randomInteger:RandomInteger", number).outputs["result"] for _ in "12"
    )
    assert one == two
    assert 3 <= one <= 5
    shuffled = twin.create("random:index/randomShuffle:RandomShuffle", {"inputs": ["a", "b", "c"]}).outputs[
        "results"
    ]
    assert sorted(shuffled) == ["a", "b", "c"]
    assert twin.create("random:index/randomPet:RandomPet", {"length": 3, "prefix": "x"}).id.count("-") == 3
    assert twin.create("random:index/randomUuid7:RandomUuid7", {}).outputs["result"][14] == "7"


def test_a_password_too_short_for_its_minima_is_refused(twin):
    with pytest.raises(CloudError, match="must be at least the sum"):
        twin.create(PASSWORD, {"length": 2, "minLower": 2, "minUpper": 2})


@pytest.mark.parametrize("algorithm", ["ED25519", "ECDSA", "RSA"])
def test_keys_are_real(twin, tmp_path, algorithm):
    made = twin.create(KEY, {"algorithm": algorithm, "ecdsaCurve": "P256"}).outputs
    path = tmp_path / "key"
    path.write_text(made["privateKeyOpenssh"])
    path.chmod(0o600)
    said = subprocess.run(
        ["ssh-keygen", "-y", "-f", str(path)], capture_output=True, text=True, check=True
    ).stdout
    assert said.split()[:2] == made["publicKeyOpenssh"].split()
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(path)], capture_output=True, text=True, check=True
    ).stdout
    assert made["publicKeyFingerprintSha256"] in shown
    loaded = serialization.load_pem_private_key(made["privateKeyPem"].encode(), None).public_key()
    assert isinstance(loaded, (ed25519.Ed25519PublicKey, ec.EllipticCurvePublicKey, rsa.RSAPublicKey))
    pem, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    assert loaded.public_bytes(pem, form).decode() == made["publicKeyPem"]


def test_certificates_are_real(twin):
    authority_key = twin.create(KEY, {"algorithm": "RSA"}).outputs
    authority = twin.create(
        "tls:index/selfSignedCert:SelfSignedCert",
        {
            "privateKeyPem": authority_key["privateKeyPem"],
            "subject": {"commonName": "CA"},
            "isCaCertificate": True,
            "allowedUses": ["cert_signing"],
            "validityPeriodHours": 24,
        },
    ).outputs
    key = twin.create(KEY, {"algorithm": "ECDSA", "ecdsaCurve": "P384"}).outputs
    request = twin.create(
        "tls:index/certRequest:CertRequest",
        {"privateKeyPem": key["privateKeyPem"], "dnsNames": ["db.example"], "ipAddresses": ["10.0.0.1"]},
    ).outputs
    made = twin.create(
        "tls:index/locallySignedCert:LocallySignedCert",
        {
            "certRequestPem": request["certRequestPem"],
            "caPrivateKeyPem": authority_key["privateKeyPem"],
            "caCertPem": authority["certPem"],
            "allowedUses": ["server_auth", "digital_signature"],
            "validityPeriodHours": 1,
        },
    ).outputs
    certificate = x509.load_pem_x509_certificate(made["certPem"].encode())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority["certPem"].encode()))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["db.example"]
    assert made["caKeyAlgorithm"] == "RSA"
    with pytest.raises(CloudError, match="no PEM block found"):
        twin.create("tls:index/certRequest:CertRequest", {"privateKeyPem": "nonsense"})


def test_functions(twin):
    def call(token, **args):
        return twin.cloud.call(token.partition(":")[0], token, args, twin.settings)

    image = call("scaleway:index/getMarketplaceImage:getMarketplaceImage", label="debian_bookworm")
    assert image["id"].startswith("fr-par-1/")
    assert image == call("scaleway:index/getMarketplaceImage:getMarketplaceImage", label="debian_bookworm")
    with pytest.raises(CloudError, match=r"given label \(windows\)"):
        call("scaleway:index/getMarketplaceImage:getMarketplaceImage", label="windows")
    kind = call("scaleway:instance/getServerType:getServerType", name="DEV1-M")
    assert (kind["cpu"], kind["ram"]) == (3, 4 * 2**30)
    assert call("scaleway:domain/getZone:getZone", domain="scell.io")["status"] == "active"
    twin.create(
        "scaleway:domain/record:Record",
        {"dnsZone": "scell.io", "type": "A", "name": "www", "data": "1.1.1.1"},
    )
    found = call("scaleway:domain/getRecord:getRecord", dnsZone="scell.io", name="www", type="A")
    assert (found["data"], found["fqdn"]) == ("1.1.1.1", "www.scell.io")
    assert call("scaleway:account/getProject:getProject")["id"] == twin.settings["projectId"]
    assert call("scaleway:instance/getImage:getImage", name="Debian Bookworm")["state"] == "available"
    key = twin.create(KEY, {"algorithm": "ED25519"}).outputs
    public = call("tls:index/getPublicKey:getPublicKey", privateKeyOpenssh=key["privateKeyOpenssh"])
    assert public["publicKeyPem"] == key["publicKeyPem"]
