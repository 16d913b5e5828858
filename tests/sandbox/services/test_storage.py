"""Object storage by a real client at the real names: who gets in, what is kept, what a kill leaves."""

from __future__ import annotations

import io
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.client import Config
from botocore.exceptions import ClientError

from sandbox import services
from sandbox.twins.cloud import CloudError, Made
from tests.sandbox.services.world import Place, checkout

pytestmark = pytest.mark.sandbox
BUCKET = "scaleway:object/bucket:Bucket"
POLICY = "scaleway:object/bucketPolicy:BucketPolicy"
ITEM = "scaleway:object/item:Item"
KEY = "scaleway:iam/apiKey:ApiKey"
IAM_POLICY = "scaleway:iam/policy:Policy"
APP = ("ObjectStorageObjectsRead", "ObjectStorageObjectsWrite", "ObjectStorageObjectsDelete")
ACTIONS = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket", "s3:AbortMultipartUpload"]
MB = 2**20


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with checkout(tmp_path_factory.mktemp("storage").resolve()) as found:
        yield found


@pytest.fixture(scope="module")
def files(place: Place) -> dict[str, Made]:
    """The bucket ``files`` with a policy that lets in one application; ``other`` beside it in the project."""
    made = place.key("app", *APP)
    for name in ("files", "other"):
        made[name] = place.create(BUCKET, {"name": name})
    made["bucket_policy"] = place.create(
        POLICY, {"bucket": "files", "policy": policy("files", made["application"].id)}
    )
    owner = place.key("owner", "ObjectStorageFullAccess")
    place.create(POLICY, {"bucket": "other", "policy": policy("other", owner["application"].id)})
    return made


def policy(bucket: str, application: str, *more: dict[str, Any]) -> str:
    statement = {
        "Effect": "Allow",
        "Principal": {"SCW": f"application_id:{application}"},
        "Action": ACTIONS,
        "Resource": [bucket, f"{bucket}/*"],
    }
    return json.dumps({"Version": "2023-04-17", "Statement": [statement, *more]})


def client(
    place: Place, key: Made | None, *, region: str = "fr-par", style: str = "path", **more: Any
) -> Any:
    secret = {} if key is None else {"aws_secret_access_key": key.outputs["secretKey"]}
    access = {} if key is None else {"aws_access_key_id": key.outputs["accessKey"]}
    return boto3.session.Session().client(
        "s3",
        region_name=region,
        endpoint_url=f"https://s3.{region}.scw.cloud",
        verify=place.authority,
        config=Config(
            signature_version="s3v4",  # for presigned addresses too
            s3={"addressing_style": style},
            retries={"max_attempts": 1},
        ),
        **{**secret, **access, **more},
    )


def code(call: Callable[[], Any]) -> str:
    """The error code a call is refused with."""
    with pytest.raises(ClientError) as caught:
        call()
    return str(caught.value.response["Error"]["Code"])


def fetch(place: Place, url: str, method: str = "GET", body: bytes | None = None) -> tuple[int, bytes]:
    import ssl

    context = ssl.create_default_context(cafile=place.authority)
    request = urllib.request.Request(url, data=body, method=method)
    try:
        with urllib.request.urlopen(request, context=context, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


# ---------------------------------------------------------------- who gets in


@pytest.mark.parametrize("style", ["path", "virtual"])
def test_what_is_stored_is_read_again(place, files, style):
    with place.entered():
        s3 = client(place, files["key"], style=style)
        name = f"a b/ü+{style}.txt"
        s3.put_object(
            Bucket="files", Key=name, Body=b"hello", ContentType="text/plain", Metadata={"who": "me"}
        )
        found = s3.get_object(Bucket="files", Key=name)
        assert (found["Body"].read(), found["ContentType"], found["Metadata"]) == (
            b"hello",
            "text/plain",
            {"who": "me"},
        )
        assert s3.get_object(Bucket="files", Key=name, Range="bytes=1-2")["Body"].read() == b"el"
        assert s3.head_object(Bucket="files", Key=name)["ContentLength"] == 5
        assert name in [one["Key"] for one in s3.list_objects_v2(Bucket="files")["Contents"]]
        s3.delete_object(Bucket="files", Key=name)
        assert code(lambda: s3.get_object(Bucket="files", Key=name)) == "NoSuchKey"


def test_the_names_are_the_sandboxs_own_and_verified(place, files):
    """With nothing patched: name server, certificate, both spellings."""
    for host in ("s3.fr-par.scw.cloud", "files.s3.fr-par.scw.cloud", "files.s3.nl-ams.scw.cloud"):
        done = place.run("curl", "-sS", "--noproxy", "*", "--cacert", place.authority, f"https://{host}/x")
        assert done.returncode == 0, done.stderr
        assert "<Error>" in done.stdout


def test_another_client_signs_as_well(place, files, tmp_path):
    """curl, with nothing patched; its key is not in argv."""
    key = files["key"].outputs
    body = tmp_path / "body"
    body.write_text("by curl")
    settings = f'user = "{key["accessKey"]}:{key["secretKey"]}"\naws-sigv4 = "aws:amz:fr-par:s3"\n'
    settings += 'header = "x-amz-content-sha256: UNSIGNED-PAYLOAD"\n'
    command = [
        "curl",
        "-sS",
        "--fail-with-body",
        "--noproxy",
        "*",
        "--cacert",
        place.authority,
        "--config",
        "-",
    ]
    url = "https://files.s3.fr-par.scw.cloud/by/curl.txt"
    put = place.run(*command, "-T", str(body), url, input=settings)
    assert put.returncode == 0, put.stdout + put.stderr
    assert place.run(*command, url, input=settings).stdout == "by curl"
    listed = place.run(*command, "https://s3.fr-par.scw.cloud/files?list-type=2&prefix=by%2F", input=settings)
    assert "<Key>by/curl.txt</Key>" in listed.stdout, listed.stdout
    refused = place.run(*command, "https://other.s3.fr-par.scw.cloud/by/curl.txt", input=settings)
    assert "<Code>AccessDenied</Code>" in refused.stdout


def test_a_key_opens_its_bucket_and_nothing_else(place, files):
    with place.entered():
        s3 = client(place, files["key"])
        refused = [
            lambda: s3.list_objects_v2(Bucket="other"),
            lambda: s3.put_object(Bucket="other", Key="x", Body=b""),
            lambda: s3.get_object(Bucket="other", Key="x"),
            lambda: s3.copy_object(Bucket="files", Key="x", CopySource={"Bucket": "other", "Key": "x"}),
            lambda: s3.list_buckets(),
            lambda: s3.create_bucket(Bucket="mine"),
            lambda: s3.delete_bucket(Bucket="files"),
            lambda: s3.get_bucket_policy(Bucket="files"),
            lambda: s3.put_bucket_policy(Bucket="files", Policy=policy("files", "x")),
            lambda: s3.put_bucket_versioning(Bucket="files", VersioningConfiguration={"Status": "Enabled"}),
        ]
        assert [code(call) for call in refused] == ["AccessDenied"] * len(refused)
        assert code(lambda: s3.list_objects_v2(Bucket="nowhere")) == "NoSuchBucket"


def test_a_policy_shuts_out_whom_it_does_not_name_and_can_deny(place, files):
    outsider = place.key("outsider", "ObjectStorageFullAccess")
    with place.entered():
        assert code(lambda: client(place, outsider["key"]).list_objects_v2(Bucket="files")) == "AccessDenied"
    bare = place.create(BUCKET, {"name": "bare"})
    with place.entered():
        s3 = client(place, outsider["key"])
        s3.put_object(Bucket="bare", Key="secret/x", Body=b"1")
        s3.put_object(Bucket="bare", Key="open/x", Body=b"1")
    deny = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": "bare/secret/*",
    }
    made = place.create(
        POLICY, {"bucket": "bare", "policy": policy("bare", outsider["application"].id, deny)}
    )
    with place.entered():
        assert s3.get_object(Bucket="bare", Key="open/x")["Body"].read() == b"1"
        assert code(lambda: s3.get_object(Bucket="bare", Key="secret/x")) == "AccessDenied"
        assert code(lambda: s3.get_bucket_tagging(Bucket="bare")) == "AccessDenied"
        s3.delete_objects(Bucket="bare", Delete={"Objects": [{"Key": "secret/x"}, {"Key": "open/x"}]})
    place.delete(POLICY, made)
    with place.entered():
        assert s3.list_objects_v2(Bucket="bare")["KeyCount"] == 0
    place.delete(BUCKET, bare)


def test_a_key_that_goes_is_refused_at_the_next_request(place, files):
    made = place.key("leaver", *APP)
    bucket = place.create(BUCKET, {"name": "leave"})
    with place.entered():
        s3 = client(place, made["key"])
        s3.put_object(Bucket="leave", Key="x", Body=b"1")
    place.delete(IAM_POLICY, made["policy"])
    with place.entered():
        assert code(lambda: s3.get_object(Bucket="leave", Key="x")) == "AccessDenied"
    place.delete(KEY, made["key"])
    with place.entered():
        assert code(lambda: s3.get_object(Bucket="leave", Key="x")) == "InvalidAccessKeyId"
    with pytest.raises(
        CloudError, match=r"leave.*BucketNotEmpty: The bucket you tried to delete is not empty"
    ):
        place.delete(BUCKET, bucket)
    forced = place.update(BUCKET, bucket, {"name": "leave", "forceDestroy": True})
    place.delete(BUCKET, forced)
    assert place.read(BUCKET, forced) is None


def test_wrong_signatures_have_the_codes_clients_know(place, files):
    key = files["key"]
    with place.entered():
        wrong = client(place, key, aws_secret_access_key="11111111-1111-4111-8111-111111111111")
        assert code(lambda: wrong.list_objects_v2(Bucket="files")) == "SignatureDoesNotMatch"
        unknown = client(place, key, aws_access_key_id="SCWXXXXXXXXXXXXXXXXX")
        assert code(lambda: unknown.list_objects_v2(Bucket="files")) == "InvalidAccessKeyId"
        elsewhere = client(place, key, region="nl-ams")
        assert code(lambda: elsewhere.list_objects_v2(Bucket="files")) == "NoSuchBucket"
        s3 = client(place, key)
        s3.meta.events.register("before-send.s3.PutObject", _tamper)
        assert code(lambda: s3.put_object(Bucket="files", Key="t", Body=b"12345")) == "SignatureDoesNotMatch"
    assert fetch_code(place, "https://s3.fr-par.scw.cloud/files/x") == (403, "AccessDenied")
    assert fetch_code(place, "https://s3.fr-par.scw.cloud/") == (403, "AccessDenied")
    assert fetch_code(place, "https://s3.fr-par.scw.cloud/files?AWSAccessKeyId=x&Signature=y&Expires=1") == (
        400,
        "InvalidRequest",
    )


def _tamper(request: Any, **_: Any) -> None:
    request.headers["X-Amz-Date"] = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() - 60))


def fetch_code(place: Place, url: str, **more: Any) -> tuple[int, str]:
    with place.entered():
        status, body = fetch(place, url, **more)
    return status, body.decode().partition("<Code>")[2].partition("</Code>")[0]


@pytest.mark.parametrize("style", ["path", "virtual"])
def test_presigned_addresses_work_for_what_they_are_made_and_for_their_time(place, files, style):
    with place.entered():
        s3 = client(place, files["key"], style=style)
        where = {"Bucket": "files", "Key": "signed/ä.txt"}
        put = s3.generate_presigned_url("put_object", where, ExpiresIn=60)
        assert fetch(place, put, "PUT", b"by address")[0] == 200
        get = s3.generate_presigned_url("get_object", where, ExpiresIn=60)
        assert fetch(place, get) == (200, b"by address")
        assert fetch(place, get, "PUT", b"no")[0] == 403
        short = s3.generate_presigned_url("get_object", where, ExpiresIn=1)
        time.sleep(2.1)
    assert fetch_code(place, short) == (403, "AccessDenied")
    assert fetch_code(place, get.replace("signed", "other")) == (403, "SignatureDoesNotMatch")


def test_the_public_reads_what_is_public(place, files):
    place.create(BUCKET, {"name": "shown", "acl": "public-read"})
    owner = place.key("shower", "ObjectStorageFullAccess")
    with place.entered():
        s3 = client(place, owner["key"])
        s3.put_object(Bucket="shown", Key="open", Body=b"1", ACL="public-read")
        s3.put_object(Bucket="shown", Key="closed", Body=b"1")
        url = "https://shown.s3.fr-par.scw.cloud"
        assert fetch(place, f"{url}/open") == (200, b"1")
        assert fetch(place, f"{url}/closed")[0] == 403
        assert fetch(place, f"{url}/")[0] == 200
        assert fetch(place, f"{url}/new", "PUT", b"x")[0] == 403


def test_buckets_are_made_and_listed_over_s3_with_the_permission(place, files):
    project = "99999999-2222-4333-8444-555555555555"
    owner = place.key("maker", "ObjectStorageFullAccess", project=project)
    with place.entered():
        s3 = client(place, owner["key"])
        where = {"LocationConstraint": "fr-par"}
        s3.create_bucket(Bucket="made-over-s3", CreateBucketConfiguration=where)
        assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["made-over-s3"]
        assert client(place, owner["key"], region="nl-ams").list_buckets()["Buckets"] == []
        again = lambda: s3.create_bucket(Bucket="files", CreateBucketConfiguration=where)  # noqa: E731
        assert code(again) == "BucketAlreadyExists"
    with pytest.raises(CloudError, match="BucketAlreadyExists"):
        place.create(BUCKET, {"name": "made-over-s3"})
    with place.entered():
        s3.put_object(Bucket="made-over-s3", Key="still", Body=b"here")
        assert code(lambda: s3.delete_bucket(Bucket="made-over-s3")) == "BucketNotEmpty"
        s3.delete_object(Bucket="made-over-s3", Key="still")
        s3.delete_bucket(Bucket="made-over-s3")
        assert s3.list_buckets()["Buckets"] == []


# ---------------------------------------------------------------- what is kept


def test_settings_of_the_stack_arrive_and_changes_elsewhere_are_seen(place, files):
    owner = place.key("settings", "ObjectStorageFullAccess")
    inputs = {
        "name": "set",
        "versioning": {"enabled": True},
        "tags": {"berth-system": "scell"},
        "corsRules": [
            {"allowedMethods": ["GET"], "allowedOrigins": ["https://scell.io"], "maxAgeSeconds": 60}
        ],
        "lifecycleRules": [
            {
                "id": "expire-tmp/",
                "enabled": True,
                "prefix": "tmp/",
                "expiration": {"days": 7},
                "noncurrentVersionExpiration": {"noncurrentDays": 7},
            }
        ],
    }
    bucket = place.create(BUCKET, inputs)
    with place.entered():
        s3 = client(place, owner["key"])
        assert s3.get_bucket_versioning(Bucket="set")["Status"] == "Enabled"
        assert s3.get_bucket_tagging(Bucket="set")["TagSet"] == [{"Key": "berth-system", "Value": "scell"}]
        assert s3.get_bucket_cors(Bucket="set")["CORSRules"][0]["AllowedOrigins"] == ["https://scell.io"]
        [rule] = s3.get_bucket_lifecycle_configuration(Bucket="set")["Rules"]
        assert (rule["Expiration"]["Days"], rule["Filter"]["Prefix"]) == (7, "tmp/")
        for body in (b"1", b"2"):
            s3.put_object(Bucket="set", Key="x", Body=body)
        s3.delete_object(Bucket="set", Key="x")
        versions = s3.list_object_versions(Bucket="set")
        assert len(versions["Versions"]) == 2
        assert len(versions["DeleteMarkers"]) == 1
        first = next(
            one for one in versions["Versions"] if one["ETag"] == '"c4ca4238a0b923820dcc509a6f75849b"'
        )
        old = s3.get_object(Bucket="set", Key="x", VersionId=first["VersionId"])
        assert old["Body"].read() == b"1"
        s3.put_bucket_versioning(Bucket="set", VersioningConfiguration={"Status": "Suspended"})
    found = place.read(BUCKET, bucket)
    assert found is not None
    assert found.outputs["versioning"] == {"enabled": False}
    place.ensure()
    with place.entered():
        assert s3.get_bucket_versioning(Bucket="set")["Status"] == "Suspended"
    place.update(BUCKET, bucket, {**inputs, "tags": {"a": "b"}})
    with place.entered():
        assert s3.get_bucket_versioning(Bucket="set")["Status"] == "Enabled"


def test_an_object_of_the_program(place, files):
    item = place.create(
        ITEM, {"bucket": "files", "key": "robots.txt", "content": "no", "contentType": "text/x"}
    )
    with place.entered():
        found = client(place, files["key"]).get_object(Bucket="files", Key="robots.txt")
        assert (found["Body"].read(), found["ContentType"]) == (b"no", "text/x")
    place.delete(ITEM, item)
    assert place.read(ITEM, item) is None


def test_a_big_file_goes_up_in_parts_and_at_once(place, files):
    big = os.urandom(4 * MB) * 10
    with place.entered():
        s3 = client(place, files["key"])
        s3.upload_fileobj(io.BytesIO(big), "files", "parts")
        found = s3.get_object(Bucket="files", Key="parts")
        assert found["ETag"].endswith('-5"')
        assert found["Body"].read() == big
        s3.put_object(Bucket="files", Key="once", Body=big)
        assert s3.get_object(Bucket="files", Key="once")["Body"].read() == big
        upload = s3.create_multipart_upload(Bucket="files", Key="given up")["UploadId"]
        s3.upload_part(Bucket="files", Key="given up", UploadId=upload, PartNumber=1, Body=b"x")
        s3.abort_multipart_upload(Bucket="files", Key="given up", UploadId=upload)
        bodies = [path.stat().st_size for path in _bodies(place).iterdir()]
        assert sum(size > MB for size in bodies) == 2, "parts of a finished upload are left"
        s3.delete_objects(Bucket="files", Delete={"Objects": [{"Key": "parts"}, {"Key": "once"}]})
        assert not [path for path in _bodies(place).iterdir() if path.stat().st_size > MB]


def _bodies(place: Place) -> Path:
    return place.layout.state / "storage" / "bodies"


def test_what_was_answered_survives_a_kill(place, files):
    with place.entered():
        s3 = client(place, files["key"])
        upload = s3.create_multipart_upload(Bucket="files", Key="half")["UploadId"]
        part = s3.upload_part(Bucket="files", Key="half", UploadId=upload, PartNumber=1, Body=b"half")
        s3.put_object(Bucket="files", Key="kept", Body=b"kept", Metadata={"a": "b"}, Tagging="c=d")
    (_bodies(place) / "left").write_text("by a request that was killed")
    place.kill("storage")
    place.ensure()
    assert not (_bodies(place) / "left").exists()
    with place.entered():
        found = s3.get_object(Bucket="files", Key="kept")
        assert (found["Body"].read(), found["Metadata"], found["TagCount"]) == (b"kept", {"a": "b"}, 1)
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        s3.complete_multipart_upload(Bucket="files", Key="half", UploadId=upload, MultipartUpload=parts)
        assert s3.get_object(Bucket="files", Key="half")["Body"].read() == b"half"
        assert code(lambda: s3.list_objects_v2(Bucket="other")) == "AccessDenied"


def test_a_change_of_a_bucket_starts_a_killed_server(place, files):
    place.kill("storage")
    made = place.create(BUCKET, {"name": "after-kill"})
    place.delete(BUCKET, made)


def test_down_on_purpose(place, files):
    services.take_down(place.root, frozenset({"storage"}))
    place.ensure()
    with place.entered():
        assert fetch(place, "https://s3.fr-par.scw.cloud/files/kept")[0] == 502
        with pytest.raises(CloudError, match="Object Storage does not answer"):
            place.twin.create(BUCKET, {"name": "while-down"})
    services.take_down(place.root, frozenset())
    place.ensure()
    with place.entered():
        assert client(place, files["key"]).get_object(Bucket="files", Key="kept")["Body"].read() == b"kept"


def test_it_stays_small(place, files):
    place.kill("storage")
    place.ensure()
    with place.entered():
        s3 = client(place, files["key"])
        for number in range(100):
            s3.put_object(Bucket="files", Key=f"many/{number}", Body=b"x" * 1000)
        assert len(s3.list_objects_v2(Bucket="files", Prefix="many/")["Contents"]) == 100
    assert place.memory("storage") < 80 * MB
