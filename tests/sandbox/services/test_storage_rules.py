"""What Scaleway's tables say of a request, without a server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from components.scaleway.bucket import ACTIONS, PERMISSIONS
from sandbox.services import storage_rules as rules
from sandbox.services.storage_server import _unchunked


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return rules.parse(json.dumps({"Version": "2023-04-17", "Statement": statements}))


def statement(**changes: Any) -> dict[str, Any]:
    mine = {"SCW": ["application_id:a", "user_id:u"]}
    return {"Effect": "Allow", "Principal": mine, "Action": "s3:GetObject", "Resource": "b/*", **changes}


@pytest.mark.parametrize(
    ("method", "key", "query", "expected"),
    [
        ("GET", False, ["list-type", "prefix"], "ListObjects"),
        ("GET", False, ["versions"], "ListObjectVersions"),
        ("PUT", True, ["partNumber", "uploadId"], "UploadPart"),
        ("POST", True, ["uploads"], "CreateMultipartUpload"),
        ("POST", False, ["delete"], "DeleteObjects"),
        ("GET", False, ["encryption"], None),
        ("PUT", False, ["publicAccessBlock"], None),
        ("POST", True, [], None),
        ("PATCH", True, [], None),
    ],
)
def test_operations(method, key, query, expected):
    assert rules.operation(method, bucket=True, key=key, query=query, copies=False) == expected


def test_what_the_program_asks_for_is_known_and_is_enough():
    """Every permission set and action a bucket's key is made with means something here."""
    assert set(PERMISSIONS) <= rules.PERMISSION_SETS.keys()
    allowed = {
        name for name in rules.PERMISSION_SETS["AllProductsFullAccess"] if rules.granted(PERMISSIONS, name)
    }
    used = {rules.action(name, version=False) for name in allowed}
    assert set(ACTIONS) <= used
    assert not allowed & {"ListBuckets", "CreateBucket", "DeleteBucket", "PutBucketPolicy", "GetBucketPolicy"}


@pytest.mark.parametrize(
    ("changes", "principal", "resource", "expected"),
    [
        ({}, "application_id:a", "b/x/y", True),
        ({}, "user_id:u", "b/x", True),
        ({}, "application_id:b", "b/x", False),
        ({}, None, "b/x", False),
        ({}, "application_id:a", "b", False),
        ({}, "application_id:a", "bb/x", False),
        ({"Principal": "*"}, None, "b/x", True),
        ({"Principal": {"SCW": "*"}}, "application_id:z", "b/x", True),
        ({"Action": "s3:*"}, "application_id:a", "b/x", True),
        ({"Action": ["*"]}, "application_id:a", "b/x", True),
        ({"Action": "s3:PutObject"}, "application_id:a", "b/x", False),
        ({"Resource": ["b/in/*"]}, "application_id:a", "b/out/x", False),
        ({"Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}}, "application_id:a", "b/x", False),
    ],
)
def test_a_statement(changes, principal, resource, expected):
    assert rules.allows(policy(statement(**changes)), principal, "s3:GetObject", resource) is expected


def test_a_denial_wins():
    deny = statement(Effect="Deny", Principal="*", Resource="b/secret*")
    both = policy(statement(), deny)
    assert rules.allows(both, "user_id:u", "s3:GetObject", "b/open")
    assert not rules.allows(both, "user_id:u", "s3:GetObject", "b/secret/x")


@pytest.mark.parametrize(
    "text", ["", "[]", '{"Statement": []}', '{"Version": "2023-04-17", "Statement": [{}]}']
)
def test_a_malformed_policy(text):
    with pytest.raises(ValueError, match=r"policy|statement"):
        rules.parse(text)


def test_a_body_in_chunks():
    pieces = (b"a" * 70_000, b"\r\n0\r\n", b"c")
    signed = b"".join(b"%x;chunk-signature=ab\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    assert _unchunked(signed + b"0\r\nx-amz-checksum-crc32:AAAA\r\n\r\n") == b"".join(pieces)
    with pytest.raises(ValueError, match=r"."):
        _unchunked(b"no chunks")
