"""Signatures of S3 requests, version 4, in header or query: computed again by botocore and compared."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPMessage
from urllib.parse import parse_qsl

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from sandbox.services.iam import Principal

ALGORITHM = "AWS4-HMAC-SHA256"
SKEW = timedelta(minutes=15)  # as S3
LONGEST = 7 * 24 * 3600  # seconds a presigned address may be valid
UNSIGNED = "UNSIGNED-PAYLOAD"


class S3Error(Exception):
    """An answer of S3 that is an error: ``code`` and ``message`` as clients know them, HTTP ``status``."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request as it was sent. ``path`` and ``query`` are still encoded; header names are in lower case."""

    method: str
    host: str
    path: str
    query: str
    headers: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class _Claim:
    access_key: str
    date: str
    region: str
    timestamp: datetime
    signed: list[str]
    signature: str
    query: bool


def authenticate(asked: Asked, find: Callable[[str], Principal | None], region: str) -> Principal | None:
    """Who asks; None for a request without a signature. Raises S3Error for one whose signature is no good.

    What the signature says about the body is for the caller to check (:func:`body_hash`).
    """
    claim = _claim(asked)
    if claim is None:
        return None
    if claim.region != region:
        raise S3Error(
            400,
            "AuthorizationHeaderMalformed",
            "The authorization header is malformed; "
            f"the region '{claim.region}' is wrong; expecting '{region}'",
        )
    # Scaleway takes "KEY@PROJECT" for a key that is to act in another project than its own.
    access_key, _, project = claim.access_key.partition("@")
    principal = find(access_key)
    if principal is None:
        raise S3Error(
            403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."
        )
    if not hmac.compare_digest(_signature(asked, claim, principal.secret_key), claim.signature):
        raise S3Error(
            403,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. "
            "Check your key and signing method.",
        )
    if project:
        return Principal(**{**vars(principal), "project": project})
    return principal


def body_hash(asked: Asked) -> str | None:
    """SHA-256 (hexadecimal) the body must have by its signature; None where the signature leaves it out.

    The signatures of single chunks (STREAMING-AWS4-HMAC-SHA256-PAYLOAD) are not computed again: over the
    sandbox's TLS nobody changes them.
    """
    said = asked.headers.get("x-amz-content-sha256", UNSIGNED)
    return None if said == UNSIGNED or said.startswith("STREAMING-") else said


def _claim(asked: Asked) -> _Claim | None:
    query = dict(parse_qsl(asked.query, keep_blank_values=True))
    header = asked.headers.get("authorization", "")
    if header:
        return _from_header(asked, header)
    if "X-Amz-Algorithm" in query:
        return _from_query(query)
    if "Signature" in query:
        raise _unsupported()
    return None


def _from_header(asked: Asked, header: str) -> _Claim:
    algorithm, _, rest = header.partition(" ")
    if algorithm != ALGORITHM:
        raise _unsupported()
    fields = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    if "x-amz-content-sha256" not in asked.headers:
        raise S3Error(400, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    claim = _scoped(
        fields.get("Credential", ""),
        asked.headers.get("x-amz-date", ""),
        fields.get("SignedHeaders", ""),
        fields.get("Signature", ""),
        query=False,
    )
    if abs(datetime.now(UTC) - claim.timestamp) > SKEW:
        raise S3Error(
            403,
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
        )
    return claim


def _from_query(query: Mapping[str, str]) -> _Claim:
    if query["X-Amz-Algorithm"] != ALGORITHM:
        raise _unsupported()
    claim = _scoped(
        query.get("X-Amz-Credential", ""),
        query.get("X-Amz-Date", ""),
        query.get("X-Amz-SignedHeaders", ""),
        query.get("X-Amz-Signature", ""),
        query=True,
    )
    seconds = query.get("X-Amz-Expires", "")
    if not seconds.isdigit() or not 0 < int(seconds) <= LONGEST:
        raise S3Error(
            400,
            "AuthorizationQueryParametersError",
            "X-Amz-Expires must be a number of seconds, at most a week (604800)",
        )
    now = datetime.now(UTC)
    if now > claim.timestamp + timedelta(seconds=int(seconds)):
        raise S3Error(403, "AccessDenied", "Request has expired")
    if now < claim.timestamp - SKEW:
        raise S3Error(403, "AccessDenied", "Request is not valid yet")
    return claim


def _scoped(credential: str, timestamp: str, signed: str, signature: str, *, query: bool) -> _Claim:
    parts = credential.rsplit("/", 4)
    try:
        at = datetime.strptime(timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        access_key, date, region, service, end = parts
        if (service, end, date) != ("s3", "aws4_request", timestamp[:8]):
            raise ValueError(credential)
    except ValueError:
        raise S3Error(
            400, "AuthorizationHeaderMalformed", "The authorization is malformed: credential, scope or date"
        ) from None
    names = signed.lower().split(";")
    if "host" not in names:
        raise S3Error(403, "AccessDenied", "There were headers present which were not signed: host")
    return _Claim(
        access_key=access_key,
        date=date,
        region=region,
        timestamp=at,
        signed=names,
        signature=signature,
        query=query,
    )


def _signature(asked: Asked, claim: _Claim, secret_key: str) -> str:
    query = "&".join(part for part in asked.query.split("&") if not part.startswith("X-Amz-Signature="))
    headers = {name: asked.headers.get(name, "") for name in claim.signed}
    request = AWSRequest(
        method=asked.method, url=f"https://{asked.host}{asked.path}?{query}", headers=headers
    )
    request.context["timestamp"] = claim.timestamp.strftime("%Y%m%dT%H%M%SZ")
    kind = _ByQuery if claim.query else _ByHeader
    signer = kind(Credentials(claim.access_key, secret_key), "s3", claim.region)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    return str(signer.signature(text, request))


class _ByHeader(S3SigV4Auth):  # type: ignore[misc]
    def headers_to_sign(self, request: AWSRequest) -> HTTPMessage:
        """Those the client says it signed, whichever botocore itself would have chosen."""
        chosen = HTTPMessage()
        for name, value in request.headers.items():
            chosen[name.lower()] = value
        return chosen


class _ByQuery(S3SigV4QueryAuth):  # type: ignore[misc]
    headers_to_sign = _ByHeader.headers_to_sign


def _unsupported() -> S3Error:
    return S3Error(
        400,
        "InvalidRequest",
        f"The authorization mechanism you have provided is not supported. Please use {ALGORITHM}.",
    )
