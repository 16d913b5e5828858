"""An account as Scaleway's API would show it, and a transport that answers with it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import httpx

ORGANIZATION = "22222222-2222-4222-8222-222222222222"
PROJECT = "11111111-2222-4333-8444-555555555555"
APPLICATION = "33333333-3333-4333-8333-333333333333"
ACCESS = "SCWTESTTESTTESTTEST0"
SECRET = "99999999-9999-4999-8999-999999999999"
POLICY = "44444444-4444-4444-8444-444444444444"
SETS = [
    *("VPCFullAccess", "PrivateNetworksFullAccess", "IPAMReadOnly", "InstancesFullAccess"),
    *(
        "BlockStorageFullAccess",
        "RelationalDatabasesFullAccess",
        "RedisFullAccess",
        "ObjectStorageFullAccess",
        "ObjectStorageBucketPolicyFullAccess",
    ),
    *("DomainsDNSFullAccess", "TransactionalEmailFullAccess"),
]
ZONE, REGION = "fr-par-1", "fr-par"
TYPES = f"/instance/v1/zones/{ZONE}/products/servers"
BUCKETS = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<ListAllMyBucketsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Buckets>'
    "<Bucket><Name>other</Name></Bucket></Buckets></ListAllMyBucketsResult>"
)


def volume(kind: str) -> dict[str, Any]:
    return {
        "type": kind,
        "min_size": 5_000_000_000,
        "max_size": 10_000_000_000_000,
        "chunk_size": 5_000_000_000,
    }


ANSWERS: Mapping[str, Any] = {
    f"/iam/v1alpha1/api-keys/{ACCESS}": {
        "access_key": ACCESS,
        "secret_key": None,
        "application_id": APPLICATION,
        "expires_at": None,
        "default_project_id": PROJECT,
    },
    f"/account/v3/projects/{PROJECT}": {
        "id": PROJECT,
        "name": "scell",
        "organization_id": ORGANIZATION,
        "status": "active",
    },
    "/iam/v1alpha1/policies": {"policies": [{"id": POLICY, "application_id": APPLICATION}], "total_count": 1},
    "/iam/v1alpha1/groups": {"groups": [], "total_count": 0},
    "/iam/v1alpha1/rules": {
        "rules": [
            {"permission_set_names": SETS, "project_ids": [PROJECT], "condition": ""},
            {"permission_set_names": ["IAMManager"], "organization_id": ORGANIZATION, "condition": ""},
        ],
        "total_count": 2,
    },
    "/iam/v1alpha1/quota": {
        "quota": [
            {
                "name": "cp_servers_type_DEV1_M",
                "pretty_name": "DEV1-M",
                "locality_type": "zone",
                "limits": [{"zone": "nl-ams-1", "limit": 0}, {"zone": ZONE, "limit": 10}],
            },
            {"name": "cp_ips", "pretty_name": "Instances IPs", "limits": [{"zone": ZONE, "limit": 20}]},
            {"name": "vpcs", "pretty_name": "VPCs", "limits": [{"region": REGION, "limit": 20}]},
            {
                "name": "pns",
                "pretty_name": "Private Networks",
                "limits": [{"region": REGION, "unlimited": True}],
            },
            {
                "name": "iam_applications",
                "pretty_name": "Applications",
                "limits": [{"global": True, "limit": 50}],
            },
        ],
        "total_count": 5,
    },
    "/iam/v1alpha1/applications": {"applications": [{"id": APPLICATION, "tags": []}], "total_count": 1},
    f"/instance/v1/zones/{ZONE}/dashboard": {
        "dashboard": {"servers_by_types": {"DEV1-M": 2}, "ips_count": 3}
    },
    f"/instance/v1/zones/{ZONE}/servers": {"servers": []},
    f"/instance/v1/zones/{ZONE}/ips": {"ips": [{"address": "51.15.0.9", "tags": []}]},
    f"/vpc/v2/regions/{REGION}/vpcs": {"vpcs": [{"tags": []}], "total_count": 1},
    f"/vpc/v2/regions/{REGION}/private-networks": {"private_networks": [], "total_count": 0},
    TYPES: {
        "servers": {
            "DEV1-M": {"arch": "x86_64", "end_of_service": False},
            "DEV1-S": {"arch": "x86_64", "end_of_service": False},
        }
    },
    f"{TYPES}/availability": {"servers": {"DEV1-M": {"availability": "available"}}},
    "/marketplace/v2/local-images": {
        "local_images": [
            {"arch": "x86_64", "type": "instance_local", "compatible_commercial_types": ["DEV1-M"]},
            {"arch": "x86_64", "type": "instance_sbs", "compatible_commercial_types": ["DEV1-M", "PRO2-S"]},
        ],
        "total_count": 2,
    },
    f"/rdb/v1/regions/{REGION}/database-engines": {
        "engines": [
            {
                "name": "PostgreSQL",
                "versions": [
                    {"version": "17", "name": "PostgreSQL-17", "disabled": False, "available_settings": []},
                    {"version": "15", "name": "PostgreSQL-15", "disabled": False, "available_settings": []},
                ],
            }
        ],
        "total_count": 1,
    },
    f"/rdb/v1/regions/{REGION}/node-types": {
        "node_types": [
            {
                "name": "db-dev-s",
                "stock_status": "available",
                "disabled": False,
                "beta": False,
                "available_volume_types": [volume("lssd"), volume("sbs_5k")],
            }
        ],
        "total_count": 1,
    },
    f"/redis/v1/zones/{ZONE}/cluster-versions": {"versions": [{"version": "7.2.11"}], "total_count": 1},
    f"/redis/v1/zones/{ZONE}/node-types": {
        "node_types": [{"name": "RED1-micro", "stock_status": "low_stock", "disabled": False, "beta": False}],
        "total_count": 1,
    },
    "/domain/v2beta1/dns-zones": {
        "dns_zones": [
            {
                "domain": "scell.io",
                "subdomain": "",
                "ns": ["ns0.dom.scw.cloud", "ns1.dom.scw.cloud"],
                "status": "active",
                "message": None,
                "project_id": PROJECT,
            }
        ],
        "total_count": 1,
    },
    "/domain/v2beta1/dns-zones/scell.io/records": {"records": [], "total_count": 0},
    f"/transactional-email/v1alpha1/regions/{REGION}/domains": {"domains": [], "total_count": 0},
    "/": BUCKETS,
}


class Account:
    """Answers every GET from ``answers``; a value may be a whole Response or an exception. Keeps requests."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = copy.deepcopy(dict(ANSWERS))
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.get(request.url.path)
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return answer
        if isinstance(answer, str):
            return httpx.Response(200, text=answer)
        if answer is None:
            return httpx.Response(404, json={"type": "not_found", "message": "resource is not found"})
        return httpx.Response(200, json=answer)

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self)
