"""The process behind ``s3.<region>.scw.cloud``: moto's S3, with Scaleway's rules in front and a disk behind.

``storage_server STATE DIRECTORY RUN`` (``.sandbox``, where objects are, where sockets are) serves two unix
sockets: ``storage.sock`` for the world (the gateway ends TLS), and ``storage-control.sock`` for the sandbox's
own commands, which are the cloud's side: they bring buckets to what the inventory says, and ask.
"""

from __future__ import annotations

import base64
import gc
import hashlib
import hmac
import json
import re
import sys
import threading
import traceback
import uuid
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from moto.core.request import Request as MotoRequest
from moto.s3 import models, responses
from moto.s3.exceptions import S3ClientError
from moto.s3.models import get_canned_acl
from werkzeug.datastructures import ImmutableMultiDict
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from sandbox.inventory import Store, open_store
from sandbox.owner import owner
from sandbox.services import iam
from sandbox.services import storage_rules as rules
from sandbox.services.storage_auth import UNSIGNED, Asked, S3Error, authenticate, body_hash
from sandbox.services.storage_disk import Disk, Meta, meta, new_bucket

BUCKET = "scaleway:object/bucket:Bucket"
BUCKET_ACL = "scaleway:object/bucketAcl:BucketAcl"
BUCKET_POLICY = "scaleway:object/bucketPolicy:BucketPolicy"
HOST = re.compile(r"(?:(?P<bucket>.+)\.)?s3\.(?P<region>[a-z]{2}-[a-z]{3})\.scw\.cloud")
NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
LARGE = 4 * 2**20  # bytes of a body that is not left to the garbage collector
XML = "http://s3.amazonaws.com/doc/2006-03-01/"
# So that moto takes a request for one of Amazon's with the bucket in the path, whose signature it believes.
HOME = "s3.amazonaws.com"
BELIEVED = "AWS4-HMAC-SHA256 Credential=berth/20260101/us-east-1/s3/aws4_request"


class Answer(responses.S3Response):
    """moto's answers without its own idea of who may do what: that was decided before."""

    def _key_response(self, request: Any, full_url: str) -> Any:
        query = parse_qs(request.query_string.decode(), keep_blank_values=True)
        name = self.parse_key_name()
        match request.method:
            case "GET":
                return self._key_response_get(query, name)
            case "PUT":
                return self._key_response_put(query, name)
            case "HEAD":
                return self.head_object(self.bucket_name, query, name, headers=request.headers)
            case "DELETE":
                return self._key_response_delete(self.bucket_name, query, name)
            case "POST":
                return self._key_response_post(request, self.body or b"", self.bucket_name, query, name)
            case _:
                return self._response_options(request.headers, self.bucket_name)


class Storage:
    """All buckets of the checkout whose ``.sandbox`` is ``state``."""

    def __init__(self, state: Path, directory: Path) -> None:
        self.inventory: Store = open_store(state)
        self.holder = iam.holder(owner(state))
        self.disk = Disk(directory)
        self.backend = self.disk.backend
        self.lock = threading.RLock()  # moto knows one request at a time

    # ------------------------------------------------------------ the world

    def world(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        """WSGI application of the public names."""
        try:
            response = self._serve(environ)
        except S3Error as error:
            response = refusal(error, environ)
        except Exception:  # noqa: BLE001 - whatever moto stumbles over is one failed request
            traceback.print_exc()
            response = refusal(S3Error(500, "InternalError", "We encountered an internal error."), environ)
        response.headers["x-amz-request-id"] = uuid.uuid4().hex
        response.headers["Server"] = "berth sandbox"
        return response(environ, start)

    def _serve(self, environ: dict[str, Any]) -> Response:
        host = str(environ.get("HTTP_HOST", "")).lower()
        place = HOST.fullmatch(host.partition(":")[0])
        if place is None:
            raise S3Error(404, "NoSuchBucket", f"{host} is no endpoint of Object Storage")
        raw, _, query_text = str(environ["RAW_URI"]).partition("?")
        asked = Asked(
            method=str(environ["REQUEST_METHOD"]),
            host=host,
            path=raw,
            query=query_text,
            headers=_headers(environ),
        )
        path = raw.lstrip("/") if place["bucket"] is None else f"{place['bucket']}/{raw.removeprefix('/')}"
        bucket, _, key = path.partition("/")
        region = place["region"]
        query = parse_qs(query_text, keep_blank_values=True)
        if asked.method == "OPTIONS":  # a browser asks before it signs
            with self.lock:
                self._existing(bucket, region)
                return self._moto(environ, bucket, key, asked.query, b"")
        copies = "x-amz-copy-source" in asked.headers
        operation = rules.operation(
            asked.method, bucket=bool(bucket), key=bool(key), query=query, copies=copies
        )
        principal = authenticate(asked, self._principal, region)
        if operation is None:
            raise S3Error(501, "NotImplemented", "A parameter you provided implies what is not implemented.")
        body = _body(environ)
        said = body_hash(asked) if principal else None
        if said is not None and not hmac.compare_digest(said, hashlib.sha256(body).hexdigest()):
            raise S3Error(
                400,
                "XAmzContentSHA256Mismatch",
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
            )
        if "x-amz-decoded-content-length" in asked.headers:
            try:
                body = _unchunked(body)
            except ValueError as error:
                raise S3Error(400, "IncompleteBody", "The chunks of the body are malformed.") from error
        try:
            return self._answer(environ, asked, operation, principal, (region, bucket, key), body)
        finally:
            if len(body) > LARGE:  # moto's objects know each other: it would stay until much later
                del body
                gc.collect()

    def _answer(
        self,
        environ: dict[str, Any],
        asked: Asked,
        operation: str,
        principal: iam.Principal | None,
        where: tuple[str, str, str],
        body: bytes,
    ) -> Response:
        region, bucket, key = where
        query = parse_qs(asked.query, keep_blank_values=True)
        source = unquote(asked.headers.get("x-amz-copy-source", "")).lstrip("/")
        with self.lock:
            if operation == "ListBuckets":
                return self._list(principal, region)
            if operation == "CreateBucket":
                return self._create(principal, bucket, region, body)
            found = self._existing(bucket, region)
            version = "versionId" in query
            for name in _touched(operation, unquote(key), body):
                self._check(principal, found, operation, name, version=version)
            if source:
                from_bucket, _, from_key = source.partition("?")[0].partition("/")
                self._check(
                    principal,
                    self._existing(from_bucket, region),
                    "GetObject",
                    from_key,
                    version="?" in source,
                )
            if operation.endswith("BucketPolicy"):
                return self._policy(found, operation, body)
            response = self._moto(environ, bucket, key, asked.query, body)
            if response.status_code < 400 and asked.method not in ("GET", "HEAD"):
                self._keep(found, operation, key)
            return response

    def _principal(self, access_key: str) -> iam.Principal | None:
        if access_key == self.holder.access_key:
            return self.holder
        return iam.by_access_key(self.inventory, access_key)

    def _existing(self, bucket: str, region: str) -> models.FakeBucket:
        found = self.backend.buckets.get(bucket)
        if found is None or found.region_name != region:
            raise S3Error(404, "NoSuchBucket", "The specified bucket does not exist")
        return found

    def _check(
        self,
        principal: iam.Principal | None,
        bucket: models.FakeBucket,
        operation: str,
        key: str,
        *,
        version: bool,
    ) -> None:
        """Both doors, or for somebody without a key what is public. Raises S3Error."""
        about = meta(bucket)
        action = rules.action(operation, version=version)
        policy = rules.parse(about.policy) if about.policy else None
        resource = f"{bucket.name}/{key}" if key else bucket.name
        named = policy is not None and rules.allows(
            policy, principal.name if principal else None, action, resource
        )
        if principal is None:
            public = named if policy is not None else _public(bucket, operation, key)
        else:
            sets = iam.permission_sets(self.inventory, principal, about.project)
            public = rules.granted(sets, operation) and (policy is None or named)
        if not public:
            raise S3Error(403, "AccessDenied", "Access Denied.")

    def _list(self, principal: iam.Principal | None, region: str) -> Response:
        """All buckets of the key's project: IAM decides, policies of buckets do not hide a name."""
        if principal is None or not rules.granted(
            iam.permission_sets(self.inventory, principal, principal.project), "ListBuckets"
        ):
            raise S3Error(403, "AccessDenied", "Access Denied.")
        owner = (
            f"<ID>{principal.project}:{principal.project}</ID><DisplayName>{principal.project}</DisplayName>"
        )
        found = "".join(
            f"<Bucket><Name>{escape(bucket.name)}</Name>"
            f"<CreationDate>{bucket.creation_date_ISO8601}</CreationDate></Bucket>"
            for bucket in self.backend.buckets.values()
            if meta(bucket).project == principal.project and bucket.region_name == region
        )
        return _xml(
            f'<ListAllMyBucketsResult xmlns="{XML}"><Owner>{owner}</Owner><Buckets>{found}</Buckets>'
            "</ListAllMyBucketsResult>"
        )

    def _create(self, principal: iam.Principal | None, name: str, region: str, body: bytes) -> Response:
        if principal is None or not rules.granted(
            iam.permission_sets(self.inventory, principal, principal.project), "CreateBucket"
        ):
            raise S3Error(403, "AccessDenied", "Access Denied.")
        wanted = re.search(rb"<LocationConstraint[^>]*>([^<]+)<", body)
        if wanted and wanted[1].decode() != region:
            raise S3Error(
                400, "InvalidLocationConstraint", "The specified location-constraint is not valid here."
            )
        if not NAME.fullmatch(name):
            raise S3Error(400, "InvalidBucketName", "The specified bucket is not valid.")
        taken = self.backend.buckets.get(name)
        if taken is not None and meta(taken).project == principal.project:
            raise S3Error(
                409, "BucketAlreadyOwnedByYou", "Your previous request to create the named bucket succeeded."
            )
        if taken is not None:
            raise S3Error(409, "BucketAlreadyExists", "The requested bucket name is not available.")
        self._make(name, region, Meta(project=principal.project))
        self.disk.save(self.backend.buckets[name])
        return Response(status=200, headers={"Location": f"/{name}"})

    def _make(self, name: str, region: str, about: Meta) -> models.FakeBucket:
        bucket = new_bucket(name, region)
        vars(bucket)["berth"] = about
        self.backend.buckets[name] = bucket
        return bucket

    def _policy(self, bucket: models.FakeBucket, operation: str, body: bytes) -> Response:
        about = meta(bucket)
        if operation == "GetBucketPolicy":
            if about.policy is None:
                raise S3Error(404, "NoSuchBucketPolicy", "The bucket policy does not exist")
            return Response(about.policy, content_type="application/json")
        if operation == "PutBucketPolicy":
            try:
                rules.parse(body.decode())
            except (ValueError, UnicodeDecodeError) as error:
                raise S3Error(400, "MalformedPolicy", str(error)) from error
        about.policy = body.decode() if operation == "PutBucketPolicy" else None
        self.disk.save(bucket, ())
        return Response(status=204)

    def _keep(self, bucket: models.FakeBucket, operation: str, key: str) -> None:
        if operation == "DeleteBucket":
            self.disk.forget(bucket.name)
            return
        about = meta(bucket)
        about.tags = self.backend.tagger.get_tag_dict_for_resource(bucket.arn)
        self.disk.save(bucket, [unquote(key)] if key else None if operation == "DeleteObjects" else ())

    def _moto(self, environ: dict[str, Any], bucket: str, key: str, query: str, body: bytes) -> Response:
        """moto's answer to a request that is allowed. Path and query are as they were sent."""
        kept = "&".join(part for part in query.split("&") if not part.lower().startswith("x-amz-"))
        path = f"/{bucket}/{key}" if key else f"/{bucket}"
        lists = any(name.startswith(("HTTP_X_AMZ_ACL", "HTTP_X_AMZ_GRANT")) for name in environ)
        if key and not lists and not kept.startswith("acl"):
            # An object is private unless somebody says otherwise; moto would give it its bucket's list.
            environ = {**environ, "HTTP_X_AMZ_ACL": "private"}
        request = MotoRequest(
            {
                **environ,
                "HTTP_HOST": HOME,
                "HTTP_AUTHORIZATION": BELIEVED,
                "wsgi.url_scheme": "https",
                "SCRIPT_NAME": "",
                "PATH_INFO": unquote(path, encoding="latin-1"),
                "QUERY_STRING": kept,
                "RAW_URI": f"{path}?{kept}" if kept else path,
                "REQUEST_URI": f"{path}?{kept}" if kept else path,
                "wsgi.input": BytesIO(),
                "HTTP_X_AMZ_CONTENT_SHA256": UNSIGNED,  # it has been looked at, and is no longer in chunks
            }
        )
        request.from_wsgi_server = True
        # A body is a body, whatever its type says: nothing in it is taken for a form.
        vars(request).update(data=body, form=ImmutableMultiDict(), files=ImmutableMultiDict())
        answer = Answer()
        call = answer.key_response if key else answer.bucket_response
        status, headers, content = call(request, request.raw_url, dict(request.headers))
        response = Response(b"" if request.method == "HEAD" else content, status=status)
        for name, value in headers.items():
            if name.lower() != "content-length" or request.method == "HEAD":
                response.headers[name] = str(value)
        return response

    # ------------------------------------------------------------ the cloud's own side

    def control(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        """WSGI application of the sandbox's commands: JSON in and out, an error as status 409."""
        request = Request(environ)
        try:
            asked = json.loads(request.get_data() or b"{}")
            with self.lock:
                done = getattr(self, f"do_{request.path.strip('/')}")(**asked)
            response = Response(json.dumps(done), status=200)
        except (S3Error, S3ClientError) as error:
            response = Response(json.dumps({"error": str(error)}), status=409)
        except Exception as error:  # noqa: BLE001 - the command says it
            traceback.print_exc()
            response = Response(json.dumps({"error": repr(error)}), status=409)
        return response(environ, start)

    def do_converge(self) -> dict[str, str]:
        """Make and set buckets as the inventory says; what went wrong, by id of the bucket's row.

        Nothing is deleted here. Settings are written when the inventory's changed, so that what somebody
        changed over S3 stays until then, as at a cloud.
        """
        failed: dict[str, str] = {}
        policies = {
            iam.plain(row.inputs["bucket"]): row for row in iam.standing(self.inventory, BUCKET_POLICY)
        }
        acls = {iam.plain(row.inputs["bucket"]): row for row in iam.standing(self.inventory, BUCKET_ACL)}
        for row in iam.standing(self.inventory, BUCKET):
            name, about = str(row.inputs["name"]), Meta(project=str(row.outputs["projectId"]), row=row.id)
            bucket = self.backend.buckets.get(name)
            if bucket is not None and meta(bucket).row != row.id:
                failed[row.id] = (
                    f"creating S3 bucket ({name}): BucketAlreadyExists: The requested bucket name is not "
                    "available. The bucket namespace is shared by all users of the system."
                )
                continue
            wanted = {
                **{
                    setting: row.inputs.get(setting)
                    for setting in ("versioning", "lifecycleRules", "corsRules", "tags", "acl")
                },
                "policy": policies[name].inputs["policy"] if name in policies else None,
            }
            if name in acls:
                wanted["acl"] = acls[name].inputs.get("acl")
            digest = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()
            try:
                if bucket is None:
                    bucket = self._make(name, str(row.outputs["region"]), about)
                if meta(bucket).applied != digest:
                    self._apply(bucket, wanted)
                    meta(bucket).applied = digest
                    self.disk.save(bucket, ())
            except (S3ClientError, ValueError) as error:
                failed[row.id] = f"bucket {name}: {error}"
        return failed

    def _apply(self, bucket: models.FakeBucket, wanted: Mapping[str, Any]) -> None:
        about = meta(bucket)
        if wanted["policy"] is not None:
            rules.parse(wanted["policy"])
        enabled = bool((wanted["versioning"] or {}).get("enabled"))
        if enabled or bucket.versioning_status:
            bucket.versioning_status = "Enabled" if enabled else "Suspended"
        bucket.set_lifecycle([_lifecycle(rule) for rule in wanted["lifecycleRules"] or ()])
        bucket.set_cors([_cors(rule) for rule in wanted["corsRules"] or ()])
        about.tags = dict(wanted["tags"] or {})
        self._tag(bucket)
        bucket.set_acl(get_canned_acl(wanted["acl"] or "private"))
        about.policy = wanted["policy"]

    def _tag(self, bucket: models.FakeBucket) -> None:
        self.backend.put_bucket_tagging(bucket.name, meta(bucket).tags)

    def do_bucket(self, name: str) -> dict[str, Any] | None:
        """Settings of a bucket as they are, None when there is none."""
        bucket = self.backend.buckets.get(name)
        if bucket is None:
            return None
        about = meta(bucket)
        return {
            "versioning": bucket.is_versioned,
            "tags": about.tags,
            "policy": about.policy,
            "objects": len(bucket.keys),
        }

    def do_remove(self, name: str, row: str, force: bool) -> None:
        """Delete a bucket this row made; one with objects only with ``force``."""
        bucket = self.backend.buckets.get(name)
        if bucket is None or meta(bucket).row != row:
            return
        if bucket.keys and not force:
            raise S3Error(409, "BucketNotEmpty", "The bucket you tried to delete is not empty")
        self.disk.forget(name)

    def do_put(self, bucket: str, key: str, content: str, **options: Any) -> None:
        """Store an object; ``content`` in Base64. Options: type, metadata, tags, acl."""
        found = self.backend.put_object(bucket, key, base64.b64decode(content), disable_notification=True)
        found.set_metadata(dict(options["metadata"], **{"Content-Type": options["type"]}))
        found.set_acl(get_canned_acl(options["acl"]))
        self.backend.put_object_tagging(found, options["tags"])
        self.disk.save(self.backend.buckets[bucket], [key])

    def do_get(self, bucket: str, key: str) -> bool:
        """Whether there is such an object."""
        found = self.backend.buckets.get(bucket)
        return found is not None and isinstance(found.keys.get(key), models.FakeKey)

    def do_drop(self, bucket: str, key: str) -> None:
        """Delete an object; none is no error."""
        found = self.backend.buckets.get(bucket)
        if found is not None and key in found.keys:
            self.backend.delete_object(bucket, key)
            self.disk.save(found, [key])


# ---------------------------------------------------------------- pieces


def _headers(environ: Mapping[str, Any]) -> dict[str, str]:
    found = {
        name.removeprefix("HTTP_").replace("_", "-").lower(): str(value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            found[name.replace("_", "-").lower()] = str(environ[name])
    return found


def _body(environ: Mapping[str, Any]) -> bytes:
    body: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    return body


def _unchunked(body: bytes) -> bytes:
    """What is in a body sent as ``aws-chunked``: sizes (hexadecimal) with signatures, pieces, trailers."""
    found, at = bytearray(), 0
    while at < len(body):
        end = body.index(b"\r\n", at)
        size = int(body[at:end].partition(b";")[0], 16)
        if size == 0:
            break
        found += memoryview(body)[end + 2 : end + 2 + size]
        at = end + 2 + size + 2
    return bytes(found)


def _touched(operation: str, key: str, body: bytes) -> list[str]:
    """Keys a request is about; "" is the bucket itself."""
    if operation != "DeleteObjects":
        return [key]
    try:
        tree = ElementTree.fromstring(body)  # noqa: S314 - expat resolves nothing external
    except ElementTree.ParseError as error:
        raise S3Error(400, "MalformedXML", "The XML you provided was not well-formed.") from error
    return [element.text or "" for element in tree.iter() if element.tag.rpartition("}")[2] == "Key"]


def _public(bucket: models.FakeBucket, operation: str, key: str) -> bool:
    """What an access list opens to everybody: of a bucket its listing, of an object its content."""
    if operation in ("ListObjects", "HeadBucket"):
        return bool(bucket.acl and bucket.acl.public_read)
    if operation in ("GetObject", "HeadObject"):
        found = bucket.keys.get(key)
        return isinstance(found, models.FakeKey) and bool(found.acl and found.acl.public_read)
    return False


def _lifecycle(rule: Mapping[str, Any]) -> dict[str, Any]:
    """A rule of the provider as S3 writes it."""
    kinds = {"days": "Days", "date": "Date", "expiredObjectDeleteMarker": "ExpiredObjectDeleteMarker"}
    found: dict[str, Any] = {
        "ID": rule.get("id"),
        "Status": "Enabled" if rule["enabled"] else "Disabled",
        "Filter": {"Prefix": rule.get("prefix", "")},
    }
    tags = [{"Key": key, "Value": value} for key, value in (rule.get("tags") or {}).items()]
    if tags:
        found["Filter"] = {"And": {"Prefix": rule.get("prefix", ""), "Tag": tags}}
    if expiration := rule.get("expiration"):
        found["Expiration"] = {kinds[name]: str(value) for name, value in expiration.items() if value}
    if days := rule.get("abortIncompleteMultipartUploadDays"):
        found["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": str(days)}
    if old := rule.get("noncurrentVersionExpiration"):
        found["NoncurrentVersionExpiration"] = {"NoncurrentDays": str(old["noncurrentDays"])}
    if transitions := rule.get("transitions"):
        found["Transition"] = [
            {"Days": str(one.get("days", 0)), "StorageClass": one["storageClass"]} for one in transitions
        ]
    return found


def _cors(rule: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"AllowedMethod": rule["allowedMethods"], "AllowedOrigin": rule["allowedOrigins"]}
    found |= {
        name: rule[key]
        for name, key in (("AllowedHeader", "allowedHeaders"), ("ExposeHeader", "exposeHeaders"))
        if rule.get(key)
    }
    if rule.get("maxAgeSeconds"):
        found["MaxAgeSeconds"] = str(rule["maxAgeSeconds"])
    return found


def _xml(text: str, status: int = 200) -> Response:
    return Response(f'<?xml version="1.0" encoding="UTF-8"?>\n{text}', status, content_type="application/xml")


def refusal(error: S3Error, environ: Mapping[str, Any]) -> Response:
    """An error as S3 writes it."""
    if environ["REQUEST_METHOD"] == "HEAD":
        return Response(status=error.status, content_type="application/xml")
    where = escape(quote(unquote(str(environ["RAW_URI"]).partition("?")[0])))
    return _xml(
        f"<Error><Code>{error.code}</Code><Message>{escape(error.message)}</Message>"
        f"<Resource>{where}</Resource></Error>",
        error.status,
    )


class Quiet(WSGIRequestHandler):
    """Writes down no request: addresses of presigned requests are as good as a key."""

    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing."""


def main() -> None:
    """Serve until killed."""
    state, directory, run = (Path(argument) for argument in sys.argv[1:])
    storage = Storage(state, directory)
    storage.do_converge()
    servers = [
        make_server(f"unix://{run / name}", 0, application, threaded=True, request_handler=Quiet)
        for name, application in (("storage.sock", storage.world), ("storage-control.sock", storage.control))
    ]
    threading.Thread(target=servers[1].serve_forever, daemon=True).start()
    servers[0].serve_forever()


if __name__ == "__main__":
    main()
