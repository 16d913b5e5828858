"""What the cloud's API refuses and no table says."""

import pytest

from sandbox.twins.cloud import CloudError

SERVER = "scaleway:instance/server:Server"
IP = "scaleway:instance/ip:Ip"
GROUP = "scaleway:instance/securityGroup:SecurityGroup"
NETWORK = "scaleway:network/privateNetwork:PrivateNetwork"
NIC = "scaleway:instance/privateNic:PrivateNic"
REVERSE = "scaleway:instance/ipReverseDns:IpReverseDns"
RECORD = "scaleway:domain/record:Record"
ZONE = "scaleway:domain/zone:Zone"
BUCKET = "scaleway:object/bucket:Bucket"
VOLUME = "scaleway:block/volume:Volume"
VM = {"type": "DEV1-S", "image": "debian_bookworm"}


def refused(text):
    return pytest.raises(CloudError, match=text)


def test_what_is_named_must_exist(twin):
    nobody = "fr-par-1/99999999-9999-4999-8999-999999999999"
    with refused("resource security_group with ID 99999999-.* is not found"):
        twin.create(SERVER, {**VM, "securityGroupId": nobody})
    with refused("resource server with ID"):
        twin.create(NIC, {"serverId": nobody, "privateNetworkId": nobody})
    with refused("commercial_type DEV9-XXL does not exist"):
        twin.create(SERVER, {**VM, "type": "DEV9-XXL"})
    assert twin.store.every() == []


def test_what_is_in_use_cannot_go(twin):
    net, group = twin.create(NETWORK, {}), twin.create(GROUP, {})
    vm = twin.create(SERVER, {**VM, "securityGroupId": group.id})
    nic = twin.create(NIC, {"serverId": vm.id, "privateNetworkId": net.id})
    with refused("still in use, private_network"):
        twin.delete(NETWORK, net)
    with refused("still in use, security_group"):
        twin.delete(GROUP, group)
    for token, made in ((NIC, nic), (SERVER, vm), (NETWORK, net), (GROUP, group)):
        twin.delete(token, made)
    twin.delete(GROUP, group)  # what is gone already is no error
    assert twin.store.every() == []


def test_an_address_is_on_one_server_only(twin):
    ip = twin.create(IP, {})
    first = twin.create(SERVER, {**VM, "ipIds": [ip.id]}, "one")
    second = twin.create(SERVER, VM, "two")
    with refused("already attached to server"):
        twin.create(SERVER, {**VM, "ipIds": [ip.id]}, "three")
    with refused("already attached to server"):
        twin.update(SERVER, second, {**VM, "ipId": ip.id.partition("/")[2]}, "two")
    twin.update(SERVER, first, {**VM, "ipIds": [ip.id], "tags": ["x"]}, "one")


def test_a_volume_is_on_one_server_of_its_zone_and_does_not_go_while_it_is(twin):
    volume = twin.create(VOLUME, {"iops": 5000, "sizeInGb": 5})
    away = twin.create(VOLUME, {"iops": 5000, "sizeInGb": 5, "zone": "fr-par-2"}, "away")
    first = twin.create(SERVER, {**VM, "additionalVolumeIds": [volume.id]}, "one")
    second = twin.create(SERVER, VM, "two")
    with refused(f"volume {volume.id} is already attached to server {first.id}"):
        twin.update(SERVER, second, {**VM, "additionalVolumeIds": [volume.id]}, "two")
    with refused("resource volume with ID .* is not found in fr-par-1"):
        twin.update(SERVER, second, {**VM, "additionalVolumeIds": [away.id]}, "two")
    with refused(f"volume {volume.id} is attached to server {first.id}"):
        twin.delete(VOLUME, volume)
    twin.update(SERVER, first, VM, "one")
    twin.update(SERVER, second, {**VM, "additionalVolumeIds": [volume.id]}, "two")
    twin.delete(SERVER, second)
    twin.delete(VOLUME, volume)


def test_a_reverse_needs_its_record(twin):
    ip = twin.create(IP, {})
    news = {"ipId": ip.id, "reverse": "www.scell.io"}
    with refused(f"must resolve.*'dig .short www.scell.io' matches.*'{ip.outputs['address']}'"):
        twin.create(REVERSE, news)
    record = {"dnsZone": "scell.io", "type": "A", "name": "www", "data": ip.outputs["address"]}
    twin.create(RECORD, record)  # the zone is nobody's here: another stack's
    reverse = twin.create(REVERSE, news)
    with refused("still has a reverse"):
        twin.delete(IP, ip)
    twin.delete(REVERSE, reverse)
    twin.delete(IP, ip)


def test_names_that_are_unique(twin):
    twin.create(BUCKET, {"name": "files"})
    with refused("BucketAlreadyExists"):
        twin.create(BUCKET, {"name": "files", "region": "nl-ams"}, "other")
    twin.create(ZONE, {"domain": "scell.io", "subdomain": ""})
    with refused("dns_zone already exists: scell.io"):
        twin.create(ZONE, {"domain": "scell.io", "subdomain": ""}, "other")
    for _ in "12":  # everything else may carry the same name, as at the provider
        twin.create(GROUP, {"name": "same"})


def test_a_bucket_with_objects_is_not_deleted(twin):
    bucket = twin.create(BUCKET, {"name": "files"})
    item = twin.create("scaleway:object/item:Item", {"bucket": bucket.id, "key": "a", "content": "x"})
    with refused("BucketNotEmpty"):
        twin.delete(BUCKET, bucket)
    twin.delete("scaleway:object/item:Item", item)
    twin.delete(BUCKET, bucket)
    with refused("NoSuchBucket"):
        twin.create("scaleway:object/bucketPolicy:BucketPolicy", {"bucket": "files", "policy": "{}"})
