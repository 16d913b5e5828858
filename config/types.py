"""Annotated types of the stack file; every refusal names the rule and the remedy.

A refusal never quotes what was written: a secret pasted into the wrong field must not reach a log. A message
may quote a value only after the value has proved to be what its type says (an address range, a time …).
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import zoneinfo
from collections.abc import Callable
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, Strict, WithJsonSchema
from pydantic_core import PydanticCustomError


def refuse(rule: str, remedy: str) -> PydanticCustomError:
    """The error a validator raises: what must hold, and what to write instead."""
    return PydanticCustomError("berth", "{rule}", {"rule": rule, "remedy": remedy})


def closest(word: str, known: list[str]) -> str | None:
    """The known word a person most likely meant (a slip, or an abbreviation), or None."""
    begun = [each for each in known if word and each.startswith(word)]
    if len(begun) == 1:
        return begun[0]
    found = get_close_matches(word, known, n=1, cutoff=0.6)
    return found[0] if found else None


def _text(
    title: str, check: Callable[[str], str], pattern: str, example: str
) -> tuple[AfterValidator, WithJsonSchema]:
    """A checked text; ``pattern`` takes in all that ``check`` accepts, and is what editors complain by."""
    return AfterValidator(check), WithJsonSchema(
        {"type": "string", "title": title, "pattern": pattern, "examples": [example]}
    )


# ---------------------------------------------------------------- names

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_FQDN = rf"({_LABEL}\.)+[a-z]([a-z0-9-]{{0,61}}[a-z0-9])"
_RESERVED = (
    *("example", "invalid", "test", "localhost", "local", "internal", "home.arpa"),
    *("example.com", "example.net", "example.org"),
)


def _fqdn(value: str) -> str:
    if "://" in value or "/" in value:
        raise refuse("a name is not an address of a page", "write only the host name, such as www.scell.io")
    if value != value.lower() or not value.isascii():
        raise refuse(
            "a domain name is written in lower case ASCII",
            "write it in lower case, international names in their xn-- form",
        )
    if value.startswith("*."):
        raise refuse("a wildcard cannot be certified over HTTP", "list every name on its own")
    if value.endswith("."):
        raise refuse("a domain name ends without a dot", "drop the last dot")
    if len(value) > 253 or not re.fullmatch(_FQDN, value):
        raise refuse(
            "not a full domain name (labels of a-z, 0-9 and -, at most 63 each and 253 together)",
            "write a name with its domain, such as scell.io or www.scell.io",
        )
    for reserved in _RESERVED:
        if value == reserved or value.endswith("." + reserved):
            raise refuse(
                f".{reserved} is reserved: nobody can register or certify a name in it",
                "write a domain you own",
            )
    return value


Fqdn = Annotated[str, *_text("domain name", _fqdn, rf"^{_FQDN}$", "www.scell.io")]
"""A full domain name in lower case, at least two labels, no dot at the end, no wildcard."""


LONGEST_CERTIFIED = 64
"""Characters of the longest name a certificate can carry as its common name (RFC 5280)."""


def _certified(value: str) -> str:
    _fqdn(value)
    if len(value) > LONGEST_CERTIFIED:
        raise refuse(
            f"a name with a certificate has at most {LONGEST_CERTIFIED} characters", "shorten the name"
        )
    return value


CertifiedName = Annotated[str, *_text("domain name", _certified, rf"^{_FQDN}$", "www.scell.io")]
"""A :data:`Fqdn` short enough for a certificate."""


def _email(value: str) -> str:
    local, at, domain = value.partition("@")
    if not at or not re.fullmatch(r"[A-Za-z0-9._%+-]{1,64}", local):
        raise refuse("not an e-mail address", "write one such as ops@scell.io")
    _fqdn(domain)
    return value


EmailAddress = Annotated[
    str, *_text("e-mail address", _email, r"^[A-Za-z0-9._%+-]{1,64}@[a-z0-9.-]+$", "ops@scell.io")
]
"""One plain e-mail address, without a display name."""


def _user(value: str) -> str:
    if value == "root":
        raise refuse("root does not log in to hosts", "name another user, such as ops; it may use sudo")
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", value):
        raise refuse(
            "not a user name (a-z first, then a-z, 0-9, - and _, at most 32)",
            "write one such as ops",
        )
    if value in _SYSTEM_USERS:
        raise refuse("this user belongs to Debian or to berth itself", "name another user, such as ops")
    return value


_SYSTEM_USERS = frozenset(
    [
        *("daemon", "bin", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp", "proxy", "www-data"),
        *("backup", "list", "irc", "nobody", "messagebus", "sshd", "systemd-network", "systemd-timesync"),
        *("berth", "berth-build"),  # the program's own login, and who builds sites
    ]
)

UserName = Annotated[str, *_text("user name", _user, r"^[a-z][a-z0-9_-]{0,31}$", "ops")]
"""The login of a person on Debian; not root, not a user of the system."""


# ---------------------------------------------------------------- addresses


def _network(value: str) -> ipaddress.IPv4Network:
    if "/" not in value:
        try:
            address = ipaddress.IPv4Address(value)
        except ValueError:
            pass
        else:
            raise refuse("a range needs its prefix length", f"write {address}/32 for one address")
    if ":" in value:
        raise refuse("hosts are reached over IPv4 only so far", "write an IPv4 range, such as 203.0.113.0/29")
    try:
        return ipaddress.IPv4Network(value)
    except ValueError:
        pass
    try:
        meant = ipaddress.IPv4Network(value, strict=False)
    except ValueError:
        raise refuse(
            "not an IPv4 range in CIDR form", "write address/prefix, such as 203.0.113.0/29"
        ) from None
    raise refuse("the address has bits set outside the prefix", f"write {meant}, or a longer prefix")


_CIDR_PATTERN = r"^\d{1,3}(\.\d{1,3}){3}/\d{1,2}$"

ADMIN_WIDEST = 16
"""The widest admin range, as a prefix length: 65 536 addresses, a large office or provider."""


def _admin_cidr(value: str) -> str:
    network = _network(value)
    if network.prefixlen == 0:
        raise refuse(
            "the whole world may not try to log in",
            "write the ranges of your office or VPN, such as 203.0.113.0/29",
        )
    if network.prefixlen < ADMIN_WIDEST:
        raise refuse(
            f"an admin range is at most a /{ADMIN_WIDEST}",
            "write the ranges of your office or VPN, such as 203.0.113.0/29",
        )
    return str(network)


AdminCidr = Annotated[str, *_text("IPv4 range", _admin_cidr, _CIDR_PATTERN, "203.0.113.0/29")]
"""A range administrators connect from: not the world, not wider than :data:`ADMIN_WIDEST`."""

PRIVATE = tuple(ipaddress.IPv4Network(n) for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
PRIVATE_WIDEST, PRIVATE_NARROWEST = 20, 28
"""What every cloud we know accepts for one private network: 4 096 down to 16 addresses."""


def _private_cidr(value: str) -> str:
    network = _network(value)
    if not any(network.subnet_of(private) for private in PRIVATE):
        raise refuse(
            "not a private range",
            "write a range inside 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16, such as 10.20.0.0/24",
        )
    if not PRIVATE_WIDEST <= network.prefixlen <= PRIVATE_NARROWEST:
        raise refuse(
            f"a private network has a prefix between /{PRIVATE_WIDEST} and /{PRIVATE_NARROWEST}",
            f"write {network.network_address}/24",
        )
    return str(network)


PrivateCidr = Annotated[str, *_text("private IPv4 range", _private_cidr, _CIDR_PATTERN, "10.20.0.0/24")]
"""The range of a private network (RFC 1918)."""


# ---------------------------------------------------------------- places and ids

_PLACE = r"[a-z]{2}-[a-z]{3}"


def _region(value: str) -> str:
    if re.fullmatch(rf"{_PLACE}-\d", value):
        raise refuse("this is a zone, not a region", f"write {value[:-2]}")
    if not re.fullmatch(_PLACE, value):
        raise refuse("not a region", "write one such as fr-par")
    return value


def _zone(value: str) -> str:
    if re.fullmatch(_PLACE, value):
        raise refuse("this is a region, not a zone", f"write {value}-1")
    if not re.fullmatch(rf"{_PLACE}-\d", value):
        raise refuse("not a zone", "write one such as fr-par-1")
    return value


Region = Annotated[str, *_text("region", _region, rf"^{_PLACE}$", "fr-par")]
Zone = Annotated[str, *_text("zone", _zone, rf"^{_PLACE}-\d$", "fr-par-1")]


def _adopt(value: str) -> str:
    if not re.fullmatch(r"([a-z]{2}-[a-z]{3}(-\d)?/)?[A-Za-z0-9][A-Za-z0-9._-]{2,127}", value):
        raise refuse(
            "not the id of an existing thing",
            "write the id the cloud shows, such as fr-par-1/11111111-2222-4333-8444-555555555555",
        )
    return value


AdoptId = Annotated[
    str,
    *_text(
        "id",
        _adopt,
        r"^([a-z]{2}-[a-z]{3}(-\d)?/)?[A-Za-z0-9][A-Za-z0-9._-]{2,127}$",
        "fr-par-1/11111111-2222-4333-8444-555555555555",
    ),
]
"""The cloud's id of something that exists already and is taken over instead of made."""


# ---------------------------------------------------------------- keys

_MIN_RSA_BITS = 2048


def _fields(blob: bytes) -> list[bytes]:
    """The length-prefixed fields of an SSH key blob (RFC 4251); ValueError if it is cut or longer."""
    fields: list[bytes] = []
    while blob:
        size = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 + size:
            raise ValueError("cut")
        fields.append(blob[4 : 4 + size])
        blob = blob[4 + size :]
    return fields


def _point(curve: str, size: int) -> Callable[[list[bytes]], bool]:
    return lambda f: len(f) >= 2 and f[0] == curve.encode() and len(f[1]) == size and f[1][:1] == b"\x04"


_KEY_SHAPES: dict[str, Callable[[list[bytes]], bool]] = {
    "ssh-ed25519": lambda f: len(f) == 1 and len(f[0]) == 32,
    "sk-ssh-ed25519@openssh.com": lambda f: len(f) == 2 and len(f[0]) == 32,
    "ssh-rsa": lambda f: len(f) == 2 and int.from_bytes(f[0], "big") > 1,
    "ecdsa-sha2-nistp256": _point("nistp256", 65),
    "ecdsa-sha2-nistp384": _point("nistp384", 97),
    "ecdsa-sha2-nistp521": _point("nistp521", 133),
    "sk-ecdsa-sha2-nistp256@openssh.com": _point("nistp256", 65),
}


def _ssh_key(value: str) -> str:
    remedy = "paste the one line of the .pub file, such as ~/.ssh/id_ed25519.pub"
    if "PRIVATE KEY" in value:
        raise refuse(
            "this is a PRIVATE key: consider it known to everyone who can read this file and make a new one",
            remedy,
        )
    if "\n" in value.strip():
        raise refuse("a public key is one line", remedy)
    kind, _, rest = value.strip().partition(" ")
    if kind == "ssh-dss":
        raise refuse("DSA keys are refused by today's servers", "make an ed25519 key: ssh-keygen -t ed25519")
    shape = _KEY_SHAPES.get(kind)
    if shape is None:
        raise refuse("not an OpenSSH public key", remedy)
    try:
        blob = base64.b64decode(rest.split(" ", 1)[0], validate=True)
        name, *fields = _fields(blob)
    except (binascii.Error, ValueError):
        raise refuse("the public key is damaged", remedy) from None
    if name != kind.encode() or not shape(fields):
        raise refuse("the public key is damaged", remedy)
    if kind == "ssh-rsa" and int.from_bytes(fields[1], "big").bit_length() < _MIN_RSA_BITS:
        raise refuse(
            f"an RSA key has at least {_MIN_RSA_BITS} bits", "make an ed25519 key: ssh-keygen -t ed25519"
        )
    return value.strip()


SshPublicKey = Annotated[
    str,
    *_text(
        "SSH public key",
        _ssh_key,
        r"^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)"
        r"|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com) AAAA",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA… ada@laptop",
    ),
]
"""One line of an OpenSSH ``.pub`` file; the key inside is decoded and measured."""


# ---------------------------------------------------------------- sources and releases


def _git_url(value: str) -> str:
    remedy = "write https://host/owner/project.git, or git@host:owner/project.git with a deploy key"
    path = r"[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*"
    if re.match(r"https?://[^/]*@", value):
        raise refuse("a repository's address carries no user and no token", remedy)
    if value.startswith(("http://", "git://", "file:", "/", ".")):
        raise refuse("a repository is fetched over https or ssh", remedy)
    https = re.fullmatch(rf"https://([a-z0-9.-]+)(:\d+)?/{path}", value)
    ssh = re.fullmatch(rf"ssh://[a-z_][a-z0-9_-]*@([a-z0-9.-]+)(:\d+)?/{path}", value)
    scp = re.fullmatch(rf"[a-z_][a-z0-9_-]*@([a-z0-9.-]+):{path}", value)
    found = https or ssh or scp
    if not found or ".." in value:
        raise refuse("not the address of a Git repository", remedy)
    _fqdn(found[1])
    return value


GitUrl = Annotated[
    str,
    *_text(
        "Git URL",
        _git_url,
        r"^(https://[^@\s]+|ssh://[a-z_][a-z0-9_-]*@\S+|[a-z_][a-z0-9_-]*@[a-z0-9.-]+:\S+)$",
        "https://github.com/scell-io/frontend.git",
    ),
]
"""A repository over https (public) or ssh (needs the secret ``deploy_key``); never with a token in it."""


def is_ssh(url: str) -> bool:
    """Whether a :data:`GitUrl` is fetched over SSH and so needs a key."""
    return not url.startswith("https://")


_BRANCHES = frozenset(
    [
        *("main", "master", "trunk", "develop", "development", "dev", "staging", "stage"),
        *("prod", "production", "next", "HEAD", "latest"),
    ]
)
_BRANCH_PREFIXES = (
    "refs/",
    "origin/",
    "feature/",
    "feat/",
    "fix/",
    "bugfix/",
    "hotfix/",
    "release/",
    "support/",
)


def _release(value: str) -> str:
    remedy = "write a tag such as v1.4.2, or a commit's full 40 hex digits"
    if re.fullmatch(r"[0-9a-f]{40}", value):
        return value
    if value in _BRANCHES or value.startswith(_BRANCH_PREFIXES):
        raise refuse("a branch moves: what it names tomorrow is not what was reviewed today", remedy)
    if re.fullmatch(r"[0-9a-fA-F]{4,64}", value):
        raise refuse("a commit is named by all its 40 hex digits, in lower case", remedy)
    if (
        not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/@+-]{0,127}", value)
        or value.endswith((".", "/", ".lock"))
        or any(bad in value for bad in ("..", "//", "/.", "@{"))
    ):
        raise refuse("not a tag Git would accept", remedy)
    if not re.search(r"\d", value):
        raise refuse("this reads like a branch: a release's tag carries its number", remedy)
    return value


Release = Annotated[str, *_text("tag or commit", _release, r"^[A-Za-z0-9][A-Za-z0-9._/@+-]*$", "v1.4.2")]
"""What to run: a tag with a number in it, or a full commit; branches and abbreviations are refused."""


# ---------------------------------------------------------------- databases, buckets, identities

_NOT_OURS = frozenset(["postgres", "template0", "template1", "rdb", "public", "berth"])


def _database(value: str) -> str:
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", value):
        raise refuse(
            "not a name SQL takes without quotes (a-z or _ first, then a-z, 0-9 and _, at most 63)",
            "write one such as scell_production",
        )
    if value in _NOT_OURS or value.startswith("pg_"):
        raise refuse("this name belongs to PostgreSQL, to the cloud or to berth itself", "name another")
    return value


SqlName = Annotated[str, *_text("SQL name", _database, r"^[a-z_][a-z0-9_]{0,62}$", "scell_production")]
"""Name of a database or of its user, usable in SQL without quotes; none that is taken in every cluster."""


def _setting(value: str) -> str:
    if not re.fullmatch(r"[a-z_][a-z0-9_.-]{0,62}", value):
        raise refuse("not the name of a setting", "write one such as work_mem")
    return value


SettingName = Annotated[str, *_text("setting", _setting, r"^[a-z_][a-z0-9_.-]{0,62}$", "work_mem")]
"""A setting of a managed server, by the server's own name."""


def _bucket(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", value) or value.startswith("xn--"):
        raise refuse(
            "not the name of a bucket (3 to 63 of a-z, 0-9 and -, no - at the ends, no dots)",
            "write one such as scell-storage; the whole cloud shares these names",
        )
    return value


BucketName = Annotated[
    str, *_text("bucket name", _bucket, r"^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", "scell-storage")
]
"""A bucket. Dots are legal, and refused here: they break TLS where the bucket is part of the host name."""

_UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def _principal(value: str) -> str:
    if not re.fullmatch(rf"(application|user)_id:{_UUID}", value):
        raise refuse(
            "not an identity of the account",
            "write application_id:<uuid> or user_id:<uuid>, as the cloud's IAM page shows it",
        )
    return value


Principal = Annotated[
    str,
    *_text(
        "identity",
        _principal,
        rf"^(application|user)_id:{_UUID}$",
        "application_id:3b6b1f3e-52d0-4f0a-9d0e-6a1f2c7d8e90",
    ),
]
"""Who may manage something: an application (a program's key) or a person of the cloud's account."""


def _prefix(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!_.*'()-][A-Za-z0-9!_.*'()/-]{0,255}", value):
        raise refuse("not a prefix of object names, or an empty one, which would be all", "write tmp/")
    return value


ObjectPrefix = Annotated[
    str, *_text("prefix", _prefix, r"^[A-Za-z0-9!_.*'()-][A-Za-z0-9!_.*'()/-]{0,255}$", "tmp/")
]
"""What the names of some objects of a bucket begin with; never empty."""


# ---------------------------------------------------------------- variables of an application


def _env_name(value: str) -> str:
    if not re.fullmatch(r"[A-Z][A-Z0-9_]{0,127}", value):
        raise refuse("not the name of a variable (A-Z, 0-9 and _)", "write one such as APP_FEATURE")
    if re.search(r"SECRET|PASSWORD|PASSWD|PRIVATE|TOKEN|CREDENTIAL|(^|_)KEY$", value):
        raise refuse(
            "a secret does not stand in a stack file in clear",
            "declare it in the system's SECRETS and give it with pulumi config set --secret",
        )
    return value


EnvName = Annotated[str, *_text("variable", _env_name, r"^[A-Z][A-Z0-9_]{0,127}$", "APP_FEATURE")]
"""A plain variable of an application; names that sound like secrets are refused."""


def _word(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}", value):
        raise refuse("not one word of a-z, A-Z, 0-9, _ . : and -", "write one word")
    return value


Word = Annotated[str, *_text("word", _word, r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$", "scell_")]
"""One word: a prefix of keys, an identifier at a third party."""


def _locale(value: str) -> str:
    if not re.fullmatch(r"[a-z]{2,3}(_[A-Z]{2})?", value):
        raise refuse("not a locale", "write a language such as fr, or fr_FR")
    return value


Locale = Annotated[str, *_text("locale", _locale, r"^[a-z]{2,3}(_[A-Z]{2})?$", "fr")]


def _siret(value: str) -> str:
    if not re.fullmatch(r"\d{14}", value):
        raise refuse(
            "not a SIRET (14 digits)", 'write it in quotes, without spaces, such as "12345678900001"'
        )
    return value


Siret = Annotated[str, *_text("SIRET", _siret, r"^\d{14}$", "12345678900001")]
"""Number of an establishment in France: 14 digits, kept as text. Its check digit is not judged."""


# ---------------------------------------------------------------- the rest


def _vite_name(value: str) -> str:
    if not value.startswith("VITE_"):
        raise refuse(
            "a site's build sees only variables whose name starts with VITE_",
            "rename it, here and in the site's source",
        )
    if not re.fullmatch(r"[A-Z][A-Z0-9_]{0,127}", value):
        raise refuse("not the name of a variable (A-Z, 0-9 and _)", "write one such as VITE_API_URL")
    if re.search(r"SECRET|PASSWORD|PASSWD|PRIVATE", value):
        raise refuse(
            "every VITE_ variable is readable by every visitor of the site",
            "keep secrets out of the site: let the API hold them",
        )
    return value


ViteName = Annotated[str, *_text("VITE_ variable", _vite_name, r"^VITE_[A-Z0-9_]+$", "VITE_API_URL")]
"""A variable of a site's build; published to every visitor, so names of secrets are refused."""


def _line(value: str) -> str:
    if any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise refuse("a value is one line without control characters", "write it on one line")
    if len(value) > 4096:
        raise refuse("a value has at most 4096 characters", "shorten it")
    return value


Line = Annotated[str, *_text("one line", _line, r"^[^\u0000-\u001f\u007f]*$", "https://api.scell.io/api/v1")]


def _timezone(value: str) -> str:
    known = zoneinfo.available_timezones()
    wellformed = re.fullmatch(r"[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*", value)
    # a system without tzdata knows none: then the shape has to do
    if not wellformed or (known and value not in known):
        near = closest(value, sorted(known))
        raise refuse(
            "not a time zone of the tz database", f"write {near or 'one such as Europe/Paris or UTC'}"
        )
    return value


Timezone = Annotated[str, *_text("time zone", _timezone, r"^[A-Z][A-Za-z0-9_+/-]*$", "Europe/Paris")]


def _time(value: str) -> str:
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value):
        raise refuse("not a time of day", 'write hours and minutes in quotes, such as "04:30"')
    return value


TimeOfDay = Annotated[str, *_text("time of day", _time, r"^([01]\d|2[0-3]):[0-5]\d$", "04:30")]

Days = Annotated[int, Field(ge=1, le=3650)]
"""A number of whole days, one day to ten years."""

Item = TypeVar("Item")
Items = Annotated[tuple[Item, ...], Strict(False)]
"""A list, kept as a tuple: what was read does not change."""


def _https(value: str) -> str:
    if not re.fullmatch(r"https://[a-z0-9.-]+(:\d+)?(/[A-Za-z0-9._~/-]*)?", value):
        raise refuse(
            "not an https address", "write one such as https://acme-v02.api.letsencrypt.org/directory"
        )
    return value


HttpsUrl = Annotated[str, *_text("https URL", _https, r"^https://", "https://api.scell.io/api/v1")]

CLOUDS = ("scaleway", "digitalocean", "hetzner")


def one_cloud_of(*supported: str) -> BeforeValidator:
    """A known cloud this system does not run on yet is told so, rather than called a typing mistake."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and value in CLOUDS and value not in supported:
            raise refuse(
                f"{value} is not built yet for this system", f"write cloud: {' or '.join(supported)}"
            )
        return value

    return BeforeValidator(check)
