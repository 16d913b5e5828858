"""A private bucket, and a key that opens it and no other."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pulumi
from pulumiverse_scaleway import object as storage

from components import cloud
from components.scaleway.base import ScalewayComponent, localized
from components.scaleway.key import limited_key

# Not ObjectStorageBucketsRead: it would list the names of all buckets of the project, and no object needs it.
PERMISSIONS = (
    "ObjectStorageObjectsDelete",
    "ObjectStorageObjectsRead",
    "ObjectStorageObjectsWrite",
)
ACTIONS = (
    "s3:AbortMultipartUpload",
    "s3:DeleteObject",
    "s3:GetObject",
    "s3:ListBucket",
    "s3:ListBucketMultipartUploads",
    "s3:ListMultipartUploadParts",
    "s3:PutObject",
)


class Bucket(ScalewayComponent[cloud.BucketArgs, cloud.Bucket]):
    """Two doors, and both must open: IAM, which knows projects but no buckets, and the bucket's own policy.

    The policy lets in the application's key and the managers; whoever else has rights in the project stays
    out, as the application's key stays out of every other bucket made here.
    """

    def build(self, args: cloud.BucketArgs) -> cloud.Bucket:
        if not args.managers:
            raise cloud.Unsupported(
                f"bucket {args.bucket}: Scaleway's bucket policy shuts out everyone it does not name, this "
                "program too; put whom it runs as into `managers`: application_id:<uuid> or user_id:<uuid>"
            )
        scope = args.scope
        bucket = storage.Bucket(
            self.named("bucket"),
            name=args.bucket,
            versioning=storage.BucketVersioningArgs(enabled=args.versioning),
            lifecycle_rules=[_expire(rule, args.versioning) for rule in args.expire] or None,
            # Where data need not be kept, objects left in it must not hold up the end of the stack; what
            # was not made here is never emptied.
            force_destroy=not scope.keep_data and args.adopt is None,
            region=scope.region,
            project_id=scope.project_id,
            tags=scope.tags,
            opts=self.child(data=True, adopt=localized(args.adopt, scope.region)),
        )
        application, key = limited_key(
            self, f"Opens the bucket {args.bucket}", bucket.project_id, PERMISSIONS
        )
        storage.BucketPolicy(
            self.named("bucket-policy"),
            bucket=bucket.name,
            policy=pulumi.Output.all(bucket.name, application.id).apply(
                lambda v: _policy(v[0], f"application_id:{v[1]}", args.managers)
            ),
            region=scope.region,
            project_id=scope.project_id,
            opts=self.child(),
        )
        return cloud.Bucket(
            name=bucket.name,
            endpoint=bucket.api_endpoint,
            region=scope.region,
            access_key=key.access_key,
            secret_key=key.secret_key,
        )


def _expire(rule: cloud.Expiry, versioned: bool) -> storage.BucketLifecycleRuleArgs:
    old = storage.BucketLifecycleRuleNoncurrentVersionExpirationArgs(noncurrent_days=rule.days)
    return storage.BucketLifecycleRuleArgs(
        id=f"expire-{rule.prefix}",
        enabled=True,
        prefix=rule.prefix,
        expiration=storage.BucketLifecycleRuleExpirationArgs(days=rule.days),
        # In a versioned bucket the first deletion only hides an object.
        noncurrent_version_expiration=old if versioned else None,
    )


def _policy(bucket: str, application: str, managers: Sequence[str]) -> str:
    resources = [bucket, f"{bucket}/*"]
    statements = [
        {
            "Sid": "managers",
            "Effect": "Allow",
            "Principal": {"SCW": list(managers)},
            "Action": ["*"],
            "Resource": resources,
        },
        {
            "Sid": "application",
            "Effect": "Allow",
            "Principal": {"SCW": application},
            "Action": list(ACTIONS),
            "Resource": resources,
        },
    ]
    return json.dumps({"Version": "2023-04-17", "Id": bucket, "Statement": statements}, sort_keys=True)
