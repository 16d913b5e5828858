"""What Scaleway's Object Storage asks of a request: a permission set in the project, and the bucket's policy.

The tables are those of Scaleway's page "Amazon S3 and IAM permissions equivalence" (read in 2026). Both doors
must open: IAM, which knows projects, and, where the bucket has a policy, a statement that names the caller.
Everyone whom a policy does not name is shut out, whatever IAM says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

# Sub-resource in the query -> operation, by method; "" where none is named.
BUCKET: dict[str, dict[str, str]] = {
    "GET": {
        "uploads": "ListMultipartUploads", "location": "GetBucketLocation",
        "lifecycle": "GetBucketLifecycleConfiguration", "versioning": "GetBucketVersioning",
        "policy": "GetBucketPolicy", "website": "GetBucketWebsite", "acl": "GetBucketAcl",
        "tagging": "GetBucketTagging", "cors": "GetBucketCors", "object-lock": "GetObjectLockConfiguration",
        "versions": "ListObjectVersions", "": "ListObjects",
    },
    "HEAD": {"": "HeadBucket"},
    "PUT": {
        "lifecycle": "PutBucketLifecycleConfiguration", "versioning": "PutBucketVersioning",
        "policy": "PutBucketPolicy", "website": "PutBucketWebsite", "acl": "PutBucketAcl",
        "tagging": "PutBucketTagging", "cors": "PutBucketCors", "object-lock": "PutObjectLockConfiguration",
        "": "CreateBucket",
    },
    "DELETE": {
        "lifecycle": "DeleteBucketLifecycleConfiguration", "policy": "DeleteBucketPolicy",
        "website": "DeleteBucketWebsite", "tagging": "DeleteBucketTagging", "cors": "DeleteBucketCors",
        "": "DeleteBucket",
    },
    "POST": {"delete": "DeleteObjects"},
}  # fmt: skip
OBJECT: dict[str, dict[str, str]] = {
    "GET": {
        "uploadId": "ListParts", "acl": "GetObjectAcl", "tagging": "GetObjectTagging",
        "legal-hold": "GetObjectLegalHold", "retention": "GetObjectRetention",
        "attributes": "GetObjectAttributes", "": "GetObject",
    },
    "HEAD": {"": "HeadObject"},
    "PUT": {
        "uploadId": "UploadPart", "acl": "PutObjectAcl", "tagging": "PutObjectTagging",
        "legal-hold": "PutObjectLegalHold", "retention": "PutObjectRetention", "": "PutObject",
    },
    "POST": {
        "uploads": "CreateMultipartUpload", "uploadId": "CompleteMultipartUpload", "restore": "RestoreObject",
    },
    "DELETE": {"uploadId": "AbortMultipartUpload", "tagging": "DeleteObjectTagging", "": "DeleteObject"},
}  # fmt: skip
# Of Amazon's S3, and not served here: they must not be taken for the operation without a sub-resource.
FOREIGN = frozenset(
    "accelerate analytics encryption intelligent-tiering inventory logging metrics notification"
    " ownershipControls policyStatus publicAccessBlock replication requestPayment select torrent".split()
)
# Operation -> what a bucket policy calls it, where that is not "s3:" and the operation's name.
ACTIONS = {
    "CompleteMultipartUpload": "s3:PutObject", "CopyObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject", "UploadPart": "s3:PutObject", "UploadPartCopy": "s3:PutObject",
    "DeleteBucketCors": "s3:PutBucketCORS", "PutBucketCors": "s3:PutBucketCORS",
    "GetBucketCors": "s3:GetBucketCORS",
    "DeleteBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "DeleteBucketTagging": "s3:PutBucketTagging", "DeleteObjects": "s3:DeleteObject",
    "GetObjectLockConfiguration": "s3:GetBucketObjectLockConfiguration",
    "PutObjectLockConfiguration": "s3:PutBucketObjectLockConfiguration",
    "HeadBucket": "s3:ListBucket", "HeadObject": "s3:GetObject", "ListObjects": "s3:ListBucket",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads", "ListObjectVersions": "s3:ListBucketVersions",
    "ListParts": "s3:ListMultipartUploadParts",
}  # fmt: skip
# With a version asked for by its id.
OF_VERSION = {
    "s3:DeleteObject": "s3:DeleteObjectVersion", "s3:GetObject": "s3:GetObjectVersion",
    "s3:DeleteObjectTagging": "s3:DeleteObjectVersionTagging",
    "s3:GetObjectTagging": "s3:GetObjectVersionTagging", "s3:PutObjectTagging": "s3:PutObjectVersionTagging",
    "s3:GetObjectAttributes": "s3:GetObjectVersionAttributes",
}  # fmt: skip

_BUCKETS_READ = frozenset(
    "GetBucketAcl GetBucketCors GetBucketLifecycleConfiguration GetBucketLocation GetBucketTagging"
    " GetBucketVersioning GetBucketWebsite HeadBucket ListBuckets".split()
)
_OBJECTS_READ = frozenset(
    "GetObject GetObjectAcl GetObjectAttributes GetObjectLegalHold GetObjectLockConfiguration"
    " GetObjectRetention GetObjectTagging HeadObject ListMultipartUploads ListObjects ListObjectVersions"
    " ListParts".split()
)
_POLICIES = frozenset({"GetBucketPolicy", "PutBucketPolicy", "DeleteBucketPolicy"})
_ALL = frozenset(
    {
        *("ListBuckets", "CopyObject", "UploadPartCopy"),
        *(name for table in (BUCKET, OBJECT) for names in table.values() for name in names.values()),
    }
)
# Policies of buckets are a permission of their own: FullAccess does not hold it.
PERMISSION_SETS: dict[str, frozenset[str]] = {
    "AllProductsFullAccess": _ALL,
    "AllProductsReadOnly": _BUCKETS_READ | _OBJECTS_READ,
    "ObjectStorageFullAccess": _ALL - _POLICIES,
    "ObjectStorageReadOnly": _BUCKETS_READ | _OBJECTS_READ | {"GetBucketPolicy"},
    "ObjectStorageBucketPolicyFullAccess": _POLICIES,
    "ObjectStorageBucketsRead": _BUCKETS_READ,
    "ObjectStorageBucketsWrite": frozenset(
        "CreateBucket DeleteBucketCors DeleteBucketLifecycleConfiguration DeleteBucketTagging"
        " DeleteBucketWebsite PutBucketAcl PutBucketCors PutBucketLifecycleConfiguration PutBucketTagging"
        " PutBucketVersioning PutBucketWebsite".split()
    ),
    "ObjectStorageBucketsDelete": frozenset({"DeleteBucket"}),
    "ObjectStorageObjectsRead": _OBJECTS_READ,
    "ObjectStorageObjectsWrite": frozenset(
        "CompleteMultipartUpload CopyObject CreateMultipartUpload DeleteObjectTagging PutObject PutObjectAcl"
        " PutObjectLegalHold PutObjectLockConfiguration PutObjectRetention PutObjectTagging RestoreObject"
        " UploadPart UploadPartCopy".split()
    ),
    "ObjectStorageObjectsDelete": frozenset({"AbortMultipartUpload", "DeleteObject", "DeleteObjects"}),
}  # fmt: skip


def operation(method: str, *, bucket: bool, key: bool, query: Collection[str], copies: bool) -> str | None:
    """The name S3 gives to a request, None for what is not served. ``query``: names in the query string."""
    if not bucket:
        return "ListBuckets" if method == "GET" else None
    if FOREIGN.intersection(query):
        return None
    table = (OBJECT if key else BUCKET).get(method, {})
    named = next((table[name] for name in table if name and name in query), table.get(""))
    if copies and named in ("PutObject", "UploadPart"):
        return "CopyObject" if named == "PutObject" else "UploadPartCopy"
    return named


def action(operation: str, *, version: bool) -> str:
    """What a bucket policy has to allow for an operation."""
    name = ACTIONS.get(operation, f"s3:{operation}")
    return OF_VERSION.get(name, name) if version else name


def granted(permission_sets: Collection[str], operation: str) -> bool:
    """Whether IAM lets the holder of these permission sets do it."""
    return any(operation in PERMISSION_SETS.get(name, ()) for name in permission_sets)


def parse(text: str) -> dict[str, Any]:
    """A bucket policy. Raises ValueError that says what is wrong with it."""
    try:
        policy = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"the policy is not JSON: {error}") from error
    statements = policy.get("Statement") if isinstance(policy, dict) else None
    if not isinstance(statements, list) or policy.get("Version") not in ("2023-04-17", "2012-10-17"):
        raise ValueError("the policy needs a Version (2023-04-17) and a list Statement")
    for statement in statements:
        missing = {"Effect", "Principal", "Action", "Resource"} - statement.keys()
        if missing or statement["Effect"] not in ("Allow", "Deny"):
            raise ValueError(
                f"statement {statement.get('Sid', '?')}: {', '.join(sorted(missing)) or 'Effect'}"
            )
    return dict(policy)


def allows(policy: Mapping[str, Any], principal: str | None, action: str, resource: str) -> bool:
    """Whether a bucket policy lets ``principal`` (None: anybody) do ``action`` on ``resource``.

    ``resource`` is ``bucket`` or ``bucket/key``. Conditions are not evaluated: with one, an Allow does not
    help and a Deny does deny.
    """
    effects = set()
    for statement in policy["Statement"]:
        if (
            _names(statement["Principal"], principal)
            and any(_matches(pattern, action) for pattern in _list(statement["Action"]))
            and any(_matches(_resource(pattern), resource) for pattern in _list(statement["Resource"]))
            and (statement["Effect"] == "Deny" or not statement.get("Condition"))
        ):
            effects.add(statement["Effect"])
    return effects == {"Allow"}


def _names(principals: Any, principal: str | None) -> bool:
    named = _list(principals.get("SCW", ()) if isinstance(principals, dict) else principals)
    return "*" in named or (principal is not None and principal in named)


def _resource(pattern: str) -> str:
    return pattern.removeprefix("arn:aws:s3:::").removeprefix("arn:scw:s3:::")


def _matches(pattern: str, value: str) -> bool:
    expression = "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern)
    return re.fullmatch(expression, value, re.DOTALL) is not None


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
