"""Stack files the sandbox derives from the committed ones, which it only reads.

``.sandbox/stacks/Pulumi.<stack>.yaml`` is the text of the committed file with three changes: the secrets
provider is dropped, every ``secure:`` value is replaced by a made-up one encrypted with the sandbox's own
passphrase, and secrets that ``config/stack.schema.json`` calls usual and the file does not have are added.
A stand-in stays the same as long as its place does, so a second ``up`` changes nothing.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from sandbox.errors import SandboxError

DROPPED = ("encryptionsalt", "encryptedkey", "secretsprovider")
NAME = re.compile(r"Pulumi\.([A-Za-z0-9_.-]+)\.ya?ml")
SECRETS = ("config", "berth:secrets")  # where declared secrets are: then system, then name
# What the engine's passphrase encryption uses: fixed by its file format.
ITERATIONS = 1_000_000
PROOF = "pulumi"
PAIR = ("certificate", "certificate-key")
Path_ = tuple[str, ...]


def stacks(root: Path) -> dict[str, Path]:
    """The committed stack files by stack name."""
    found = {match[1]: path for path in root.glob("Pulumi.*.y*ml") if (match := NAME.fullmatch(path.name))}
    return dict(sorted(found.items()))


def derived(state: Path, stack: str) -> Path:
    """Where the derived file of a stack is."""
    return state / "stacks" / f"Pulumi.{stack}.yaml"


def derive(root: Path, state: Path, stack: str) -> Path:
    """Write the derived file of a stack unless it is up to date; its path. Raises SandboxError."""
    committed = stacks(root).get(stack)
    if committed is None:
        known = ", ".join(stacks(root)) or "none"
        raise SandboxError(f"there is no Pulumi.{stack}.yaml in {root} (stacks here: {known})")
    path = derived(state, stack)
    before = path.read_text() if path.exists() else ""
    old = yaml.compose(before) if before else None
    salt = _scalars(old).get(("encryptionsalt",))
    cipher = Cipher(passphrase_file(state).read_text(), salt.value if salt else None)
    kept = {place: node.value for place, node in _scalars(old).items() if place[-1] == "secure"}
    text = _stand_ins(committed, _declared(root), kept, cipher)
    if text != before:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_private(path, text)
    return path


def _stand_ins(
    committed: Path, declared: Mapping[Path_, tuple[str, bool]], kept: Mapping[Path_, str], cipher: Cipher
) -> str:
    """The derived text. ``declared``: place of a secret -> (kind, usual)."""
    text = committed.read_text()
    try:
        tree = yaml.compose(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or error
        raise SandboxError(f"{committed.name}{where} is not valid YAML: {problem}") from error
    if tree is not None and not isinstance(tree, yaml.MappingNode):
        raise SandboxError(f"{committed.name}: expected settings under `config:`")

    made: dict[str, str] = {}

    def stand_in(place: Path_) -> str:
        kind, _ = declared.get(place[:-1], ("text", False))
        if kind in PAIR:  # belong together, so both are kept or both are new
            pair = [(*at, "secure") for at, (each, _) in declared.items() if each in PAIR]
            if all(each in kept for each in pair):
                return kept[place]
            if not made:
                made.update(zip(PAIR, certificate(), strict=True))
            return cipher.encrypt(made[kind])
        return kept.get(place) or cipher.encrypt(made_up(kind))

    edits: list[tuple[int, int, str]] = []
    for key, value in tree.value if tree else ():
        if key.value in DROPPED:
            edits.append((key.start_mark.index, value.end_mark.index, ""))
    places = _scalars(tree)
    for place, node in places.items():
        if place[-1] == "secure" and len(place) > 1:
            edits.append((node.start_mark.index, node.end_mark.index, f'"{stand_in(place)}"'))
    absent: dict[str, dict[str, Any]] = {}
    for place, (_, usual) in declared.items():
        in_use = any(p[:3] == ("config", "berth:systems", place[2]) for p in places)
        if usual and in_use and (*place, "secure") not in places:
            absent.setdefault(place[2], {})[place[3]] = {"secure": stand_in((*place, "secure"))}
    if absent:
        edits += _added(tree, absent, places)
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text.rstrip("\n") + f"\nencryptionsalt: {cipher.salt}\n"


def _added(
    tree: Any, absent: Mapping[str, Any], places: Mapping[Path_, Any]
) -> Iterator[tuple[int, int, str]]:
    """Edits that put secrets into the deepest mapping that is there already."""
    for system, named in absent.items():
        for depth, value in ((3, named), (2, {system: named}), (1, {SECRETS[1]: {system: named}})):
            node = _mapping(tree, (*SECRETS, system)[:depth])
            if node is None or not node.value:
                continue
            first = node.value[0][0].start_mark
            for key, item in value.items():
                line = f"{json.dumps(key)}: {json.dumps(item)}"
                yield (
                    first.index,
                    first.index,
                    line + (", " if node.flow_style else "\n" + " " * first.column),
                )
            break


def _mapping(node: Any, path: Path_) -> Any:
    for name in path:
        node = next((value for key, value in node.value if key.value == name), None)
        if not isinstance(node, yaml.MappingNode):
            return None
    return node


def _scalars(node: Any, place: Path_ = ()) -> dict[Path_, Any]:
    """Every scalar of a document by its place."""
    if isinstance(node, yaml.MappingNode):
        found: dict[Path_, Any] = {}
        for key, value in node.value:
            found |= _scalars(value, (*place, str(key.value)))
        return found
    if isinstance(node, yaml.SequenceNode):
        found = {}
        for index, value in enumerate(node.value):
            found |= _scalars(value, (*place, str(index)))
        return found
    return {} if node is None else {place: node}


def _declared(root: Path) -> dict[Path_, tuple[str, bool]]:
    """Secrets the stack files' schema knows of: place -> (kind, whether most stacks need it)."""
    path = root / "config" / "stack.schema.json"
    if not path.exists():
        return {}
    node: Any = json.loads(path.read_text())
    for name in SECRETS:
        node = node.get("properties", {}).get(name, {})
    return {
        (*SECRETS, system, name): (fact.get("x-berth-kind", "text"), fact.get("x-berth-usual", False))
        for system, entry in node.get("properties", {}).items()
        for name, fact in entry.get("properties", {}).items()
    }


def made_up(kind: str) -> str:
    """A value that looks like a secret of this kind."""
    if kind == "ssh-private-key":
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519

        key = ed25519.Ed25519PrivateKey.generate()
        return key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        ).decode()
    if kind == "app-key":
        return f"base64:{_b64(os.urandom(32))}"
    return secrets.token_urlsafe(24)


def certificate() -> tuple[str, str]:
    """A client certificate nobody else trusts, and its key, PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stand-in of the sandbox")])
    today = datetime.datetime.now(datetime.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


def passphrase_file(state: Path) -> Path:
    """Where the sandbox's passphrase is, readable by its owner only; made on first use."""
    path = state / "passphrase"
    if not path.exists():
        write_private(path, secrets.token_urlsafe(32), replace=False)
    return path


def write_private(path: Path, text: str, *, replace: bool = True) -> None:
    """Write a file only its owner reads, whole or not at all; ``replace`` False keeps one that is there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    if replace:
        temporary.replace(path)
        return
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass  # somebody was faster: theirs counts
    finally:
        temporary.unlink()


class Cipher:
    """The engine's passphrase encryption: AES-256-GCM under PBKDF2-HMAC-SHA256. ``salt`` goes into the file.

    The key takes a million rounds (about a third of a second) and is worked out only when needed.
    """

    def __init__(self, phrase: str, salt: str | None = None) -> None:
        self._phrase = phrase
        self._raw = base64.b64decode(salt.split(":")[1]) if salt else os.urandom(8)
        self.salt = salt or f"v1:{_b64(self._raw)}:{self.encrypt(PROOF)}"

    @cached_property
    def _aes(self) -> Any:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(hashlib.pbkdf2_hmac("sha256", self._phrase.encode(), self._raw, ITERATIONS, 32))

    def encrypt(self, text: str) -> str:
        """``v1:<nonce>:<ciphertext>``."""
        nonce = os.urandom(12)
        return f"v1:{_b64(nonce)}:{_b64(self._aes.encrypt(nonce, text.encode(), None))}"

    def decrypt(self, text: str) -> str:
        """The opposite of :meth:`encrypt`."""
        _, nonce, data = text.split(":")
        return str(self._aes.decrypt(base64.b64decode(nonce), base64.b64decode(data), None).decode())


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
