"""The two questions object storage answers, signed as Amazon's Signature Version 4 says.

Only GET, only without a body: a client library would be larger than the rest of this room, and could write.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime
from xml.etree import ElementTree

import httpx

from preflight.reader import Absent, Forbidden, Reader, Unreadable

EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Signer:
    """Signs a GET. Scaleway takes ``<access key>@<project>`` where a key's default project is not meant."""

    access_key: str
    secret_key: str = field(repr=False)
    region: str

    def headers(self, url: str, now: datetime | None = None) -> dict[str, str]:
        """The headers to send with a GET of ``url``; the secret cannot be found from them."""
        at = httpx.URL(url)
        stamp = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{stamp[:8]}/{self.region}/s3/aws4_request"
        sent = {"host": at.host, "x-amz-content-sha256": EMPTY, "x-amz-date": stamp}
        query = "&".join(
            sorted(part if "=" in part else f"{part}=" for part in at.query.decode().split("&") if part)
        )
        names = ";".join(sent)
        lines = "".join(f"{name}:{value}\n" for name, value in sent.items())
        canonical = f"GET\n{at.raw_path.decode().partition('?')[0]}\n{query}\n{lines}\n{names}\n{EMPTY}"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = f"AWS4{self.secret_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.new(key, text.encode(), "sha256").hexdigest()
        who = f"Credential={self.access_key}/{scope}"
        authorization = f"AWS4-HMAC-SHA256 {who}, SignedHeaders={names}, Signature={signature}"
        return {**{k: v for k, v in sent.items() if k != "host"}, "Authorization": authorization}


def buckets(reader: Reader, endpoint: str, signer: Signer) -> set[str]:
    """Names of the project's buckets. Raises Unreadable."""
    url = f"{endpoint}/"
    answer = reader.get(url, headers=signer.headers(url))
    try:
        tree = ElementTree.fromstring(answer.text)  # noqa: S314 - no entities from the cloud we pay
    except ElementTree.ParseError:
        raise Unreadable(f"{answer.url.host} does not answer with a list of buckets") from None
    return {str(node.text) for node in tree.iter() if node.tag.rpartition("}")[2] == "Name"}


def taken(reader: Reader, endpoint: str, bucket: str) -> bool:
    """Whether a bucket of this name exists in the region, asked without credentials: nobody's is opened."""
    try:
        reader.get(f"{endpoint}/{bucket}")
    except Absent:
        return False
    except Forbidden:
        return True
    return True
