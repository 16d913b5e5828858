"""The sandbox's certificate authority: one per checkout, made on first use, its key closed to others."""

from __future__ import annotations

import datetime
import hashlib
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sandbox import paths, process
from sandbox.internet.layout import Layout

YEARS = datetime.timedelta(days=3650)
LEAF = datetime.timedelta(days=397)  # the longest that clients accept
RENEW = datetime.timedelta(days=30)


def ca_certificate(root: Path) -> Path:
    """PEM file of the authority of the checkout ``root``; what hosts and `sandbox curl` trust."""
    directory = paths.state(root) / "ca"
    directory.mkdir(mode=0o700, exist_ok=True)
    certificate, key = directory / "ca.pem", directory / "ca.key"
    if certificate.exists():
        return certificate
    with process.lock(directory / "lock"):
        if certificate.exists():
            return certificate
        private = ec.generate_private_key(ec.SECP256R1())
        subject = _name(f"berth sandbox {paths.key(root)}")
        signed = (
            _builder(subject, subject, private.public_key(), YEARS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
            .sign(private, hashes.SHA256())
        )
        _write(key, _key_pem(private), 0o600)
        _write(certificate, _pem(signed), 0o644)
    return certificate


def leaf(root: Path, name: str, hosts: Sequence[str]) -> tuple[Path, Path]:
    """Certificate and key files, kept as ``name``, for DNS names ``hosts``; renewed when near their end."""
    authority = ca_certificate(root)
    directory = Layout(root).state / "tls"
    directory.mkdir(mode=0o700, exist_ok=True)
    # The file name says what is in it, so a list or an authority that changed makes a new one.
    mark = hashlib.sha256("\0".join([*hosts, authority.read_text()]).encode()).hexdigest()[:12]
    certificate, key = directory / f"{name}-{mark}.pem", directory / f"{name}-{mark}.key"
    if certificate.exists() and key.exists():
        known = x509.load_pem_x509_certificate(certificate.read_bytes())
        if known.not_valid_after_utc - RENEW > _now():
            return certificate, key
    issuer, signer = _authority(root)
    private = ec.generate_private_key(ec.SECP256R1())
    signed = (
        _builder(_name(hosts[0]), issuer.subject, private.public_key(), LEAF)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_issued_by(issuer), critical=False)
        .sign(signer, hashes.SHA256())
    )
    _write(key, _key_pem(private), 0o600)
    _write(certificate, _pem(signed), 0o644)
    return certificate, key


def cross_sign(root: Path, pem: str) -> str:
    """Certify the key and the name of another authority's certificate by ours: PEM of the new certificate.

    Whatever that authority has issued then chains up to ours, and goes on doing so after it is gone.
    """
    other = x509.load_pem_x509_certificate(pem.encode())
    issuer, signer = _authority(root)
    identifier = other.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    signed = (
        _builder(other.subject, issuer.subject, other.public_key(), YEARS)  # type: ignore[arg-type]
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(_issued_by(issuer), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return _pem(signed).decode()


def machine_bundle() -> Path | None:
    """What this machine trusts (it may add an authority of its own for the package registries)."""
    found = ssl.get_default_verify_paths()
    candidates = (found.cafile, "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
    return next((Path(path) for path in candidates if path and Path(path).is_file()), None)


def bundle(root: Path) -> Path:
    """The machine's trust and the sandbox's in one file, for programs that use registries and stand-ins."""
    path = paths.state(root) / "ca" / "bundle.pem"
    authority = ca_certificate(root).read_text()
    machine = machine_bundle()
    text = f"{machine.read_text().rstrip()}\n{authority}" if machine else authority
    if not path.exists() or path.read_text() != text:
        _write(path, text.encode(), 0o644)
    return path


def _authority(root: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate = ca_certificate(root)
    key = serialization.load_pem_private_key(certificate.with_suffix(".key").read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{certificate.with_suffix('.key')} is not the key this program made")
    return x509.load_pem_x509_certificate(certificate.read_bytes()), key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, validity: datetime.timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - datetime.timedelta(hours=1))
        .not_valid_after(_now() + validity)
    )


def _issued_by(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, data: bytes, mode: int) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=mode)
    temporary.write_bytes(data)
    temporary.replace(path)
