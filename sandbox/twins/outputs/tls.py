"""Real keys and certificates, as the tls provider makes them."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from sandbox.twins.outputs import Call, Compute, Context, Function, Refusal

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
CURVES: dict[str, type[ec.EllipticCurve]] = {
    "P224": ec.SECP224R1,
    "P256": ec.SECP256R1,
    "P384": ec.SECP384R1,
    "P521": ec.SECP521R1,
}
EXTENDED = {
    "any_extended": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    "server_auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "client_auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "code_signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email_protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocsp_signing": ExtendedKeyUsageOID.OCSP_SIGNING,
    "ipsec_end_system": ObjectIdentifier("1.3.6.1.5.5.7.3.5"),
    "ipsec_tunnel": ObjectIdentifier("1.3.6.1.5.5.7.3.6"),
    "ipsec_user": ObjectIdentifier("1.3.6.1.5.5.7.3.7"),
    "microsoft_server_gated_crypto": ObjectIdentifier("1.3.6.1.4.1.311.10.3.3"),
    "netscape_server_gated_crypto": ObjectIdentifier("2.16.840.1.113730.4.1"),
    "microsoft_commercial_code_signing": ObjectIdentifier("1.3.6.1.4.1.311.2.1.22"),
    "microsoft_kernel_code_signing": ObjectIdentifier("1.3.6.1.4.1.311.61.1.1"),
}
# Upstream's word -> the flag of the key usage extension.
USAGE = {
    "digital_signature": "digital_signature",
    "content_commitment": "content_commitment",
    "key_encipherment": "key_encipherment",
    "data_encipherment": "data_encipherment",
    "key_agreement": "key_agreement",
    "cert_signing": "key_cert_sign",
    "crl_signing": "crl_sign",
    "encipher_only": "encipher_only",
    "decipher_only": "decipher_only",
}
SUBJECT = {
    "country": NameOID.COUNTRY_NAME,
    "province": NameOID.STATE_OR_PROVINCE_NAME,
    "locality": NameOID.LOCALITY_NAME,
    "streetAddresses": NameOID.STREET_ADDRESS,
    "postalCode": NameOID.POSTAL_CODE,
    "organization": NameOID.ORGANIZATION_NAME,
    "organizationalUnit": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "commonName": NameOID.COMMON_NAME,
    "serialNumber": NameOID.SERIAL_NUMBER,
    "emailAddress": NameOID.EMAIL_ADDRESS,
}
PEM, OPENSSH = serialization.Encoding.PEM, serialization.Encoding.OpenSSH
CLEAR = serialization.NoEncryption()


def identify(context: Context) -> str:
    """Set by COMPUTE: a hash of what was made."""
    return context.id


# ---------------------------------------------------------------- keys


def _private_key(context: Context) -> None:
    algorithm = context.inputs["algorithm"]
    bits, curve = int(context.inputs.get("rsaBits", 2048)), context.inputs.get("ecdsaCurve", "P224")
    key: PrivateKey
    if algorithm == "RSA":
        try:
            key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
        except ValueError as error:
            raise Refusal(f"Unable to generate key from algorithm RSA: {error}") from error
    elif algorithm == "ECDSA":
        key = ec.generate_private_key(CURVES[curve]())
    else:
        key = ed25519.Ed25519PrivateKey.generate()
    pkcs8 = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, CLEAR).decode()
    traditional = (
        pkcs8
        if algorithm == "ED25519"
        else key.private_bytes(PEM, serialization.PrivateFormat.TraditionalOpenSSL, CLEAR).decode()
    )
    # OpenSSH has no P224: the real provider leaves these empty, too.
    openssh = (
        ""
        if (algorithm, curve) == ("ECDSA", "P224")
        else key.private_bytes(PEM, serialization.PrivateFormat.OpenSSH, CLEAR).decode()
    )
    context.give(
        rsaBits=bits,
        ecdsaCurve=curve,
        privateKeyPem=traditional,
        privateKeyPemPkcs8=pkcs8,
        privateKeyOpenssh=openssh,
        **_public(key.public_key()),
    )
    context.id = _digest(context.outputs["publicKeyPem"])


def _public(key: PublicKey) -> dict[str, str]:
    pem = key.public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp224r1":
        openssh = md5 = sha256 = ""
    else:
        text = key.public_bytes(OPENSSH, serialization.PublicFormat.OpenSSH)
        blob = base64.b64decode(text.split()[1])
        openssh = text.decode() + "\n"
        md5 = hashlib.md5(blob, usedforsecurity=False).hexdigest()
        md5 = ":".join(md5[index : index + 2] for index in range(0, 32, 2))
        sha256 = "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return {
        "publicKeyPem": pem,
        "publicKeyOpenssh": openssh,
        "publicKeyFingerprintMd5": md5,
        "publicKeyFingerprintSha256": sha256,
    }


def _load(text: str) -> PrivateKey:
    load = serialization.load_ssh_private_key if "OPENSSH" in text else serialization.load_pem_private_key
    try:
        key = load(text.encode(), None)
    except (ValueError, TypeError) as error:
        raise Refusal("Failed to parse private key PEM: no PEM block found") from error
    if not isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)):
        raise Refusal("Failed to parse private key PEM: unsupported key type")
    return key


def _algorithm(key: PrivateKey | PublicKey) -> str:
    if isinstance(key, (rsa.RSAPrivateKey, rsa.RSAPublicKey)):
        return "RSA"
    return "ECDSA" if isinstance(key, (ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey)) else "ED25519"


def _hash(key: PrivateKey) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


# ---------------------------------------------------------------- certificates


def _name(subject: Mapping[str, Any] | None) -> x509.Name:
    given = {key: (subject or {}).get(key) or [] for key in SUBJECT}
    lists = {key: value if isinstance(value, list) else [value] for key, value in given.items()}
    return x509.Name(
        [x509.NameAttribute(SUBJECT[key], item) for key, items in lists.items() for item in items]
    )


def _alternatives(inputs: Mapping[str, Any]) -> x509.SubjectAlternativeName | None:
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in inputs.get("dnsNames") or ()]
    names += [x509.IPAddress(ipaddress.ip_address(text)) for text in inputs.get("ipAddresses") or ()]
    names += [x509.UniformResourceIdentifier(text) for text in inputs.get("uris") or ()]
    return x509.SubjectAlternativeName(names) if names else None


def _request(context: Context) -> None:
    key = _load(_key_text(context.inputs, "privateKeyPem"))
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(context.inputs.get("subject")))
    if alternatives := _alternatives(context.inputs):
        builder = builder.add_extension(alternatives, critical=False)
    context.give(
        keyAlgorithm=_algorithm(key),
        certRequestPem=builder.sign(key, _hash(key)).public_bytes(PEM).decode(),
    )
    context.id = _digest(context.outputs["certRequestPem"])


def _key_text(inputs: Mapping[str, Any], name: str) -> str:
    text = inputs.get(name) or inputs.get(f"{name}Wo")
    if not text:
        raise Refusal(f"one of `{name},{name}Wo` must be specified")
    return str(text)


def _self_signed(context: Context) -> None:
    key = _load(_key_text(context.inputs, "privateKeyPem"))
    subject = _name(context.inputs.get("subject"))
    _issue(context, key.public_key(), subject, _alternatives(context.inputs), key, subject, None)
    context.give(keyAlgorithm=_algorithm(key))


def _locally_signed(context: Context) -> None:
    authority_key = _load(_key_text(context.inputs, "caPrivateKeyPem"))
    try:
        authority = x509.load_pem_x509_certificate(context.inputs["caCertPem"].encode())
        request = x509.load_pem_x509_csr(context.inputs["certRequestPem"].encode())
    except ValueError as error:
        raise Refusal("Failed to parse certificate PEM: no PEM block found") from error
    if not request.is_signature_valid:
        raise Refusal("Failed to validate certificate request: signature does not match")
    try:
        found = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        alternatives: x509.SubjectAlternativeName | None = found.value
    except x509.ExtensionNotFound:
        alternatives = None
    public = request.public_key()
    assert isinstance(public, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey))  # noqa: S101
    _issue(context, public, request.subject, alternatives, authority_key, authority.subject, authority)
    context.give(caKeyAlgorithm=_algorithm(authority_key))


def _issue(
    context: Context,
    public: PublicKey,
    subject: x509.Name,
    alternatives: x509.SubjectAlternativeName | None,
    signer: PrivateKey,
    issuer: x509.Name,
    authority: x509.Certificate | None,
) -> None:
    inputs = context.inputs
    start = datetime.now(UTC).replace(microsecond=0)
    end = start + timedelta(hours=int(inputs["validityPeriodHours"]))
    is_ca = bool(inputs.get("isCaCertificate", False))
    longest = int(inputs.get("maxPathLength", -1))
    below = longest if is_ca and longest >= 0 else None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=below), critical=True)
    )
    usages: Iterable[str] = inputs["allowedUses"]
    flags = {USAGE[use] for use in usages if use in USAGE}
    if flags:
        builder = builder.add_extension(
            x509.KeyUsage(**{flag: flag in flags for flag in USAGE.values()}), critical=True
        )
    if extended := [EXTENDED[use] for use in usages if use in EXTENDED]:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    if is_ca or inputs.get("setSubjectKeyId"):
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    if authority is not None or inputs.get("setAuthorityKeyId"):
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    if alternatives is not None:
        builder = builder.add_extension(alternatives, critical=False)
    certificate = builder.sign(signer, _hash(signer))
    early = int(inputs.get("earlyRenewalHours", 0))
    context.give(
        certPem=certificate.public_bytes(PEM).decode(),
        validityStartTime=start.strftime("%Y-%m-%dT%H:%M:%SZ"),
        validityEndTime=end.strftime("%Y-%m-%dT%H:%M:%SZ"),
        isCaCertificate=is_ca,
        maxPathLength=longest,
        earlyRenewalHours=early,
        setSubjectKeyId=bool(inputs.get("setSubjectKeyId", False)),
        setAuthorityKeyId=bool(inputs.get("setAuthorityKeyId", False)),
        readyForRenewal=datetime.now(UTC) >= end - timedelta(hours=early),
    )
    context.id = str(certificate.serial_number)


def _digest(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


# ---------------------------------------------------------------- functions


def _get_public_key(call: Call) -> Mapping[str, Any]:
    text = call.args.get("privateKeyPem") or call.args.get("privateKeyOpenssh")
    if not text:
        raise Refusal("one of `private_key_openssh,private_key_pem` must be specified")
    key = _load(text)
    public = _public(key.public_key())
    return {**call.args, **public, "algorithm": _algorithm(key), "id": _digest(public["publicKeyPem"])}


def _get_certificate(call: Call) -> Mapping[str, Any]:
    content = call.args.get("content")
    if not content:
        raise Refusal("the sandbox reads certificates from `content` only, not from a URL")
    try:
        chain = x509.load_pem_x509_certificates(content.encode())
    except ValueError as error:
        raise Refusal("Failed to decode one of the certificates in the chain") from error
    certificates = [_described(certificate) for certificate in chain]
    return {**call.args, "certificates": certificates, "id": certificates[0]["sha1Fingerprint"]}


def _described(certificate: x509.Certificate) -> dict[str, Any]:
    try:
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        basic = x509.BasicConstraints(ca=False, path_length=None)
    public = certificate.public_key()
    assert isinstance(public, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey))  # noqa: S101
    algorithm = certificate.signature_algorithm_oid._name
    return {
        "certPem": certificate.public_bytes(PEM).decode(),
        "isCa": basic.ca,
        "maxPathLength": -1 if basic.path_length is None else basic.path_length,
        "issuer": certificate.issuer.rfc4514_string(),
        "subject": certificate.subject.rfc4514_string(),
        "notAfter": certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "notBefore": certificate.not_valid_before_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "publicKeyAlgorithm": _algorithm(public),
        "serialNumber": str(certificate.serial_number),
        "sha1Fingerprint": certificate.fingerprint(hashes.SHA1()).hex(),  # noqa: S303
        "signatureAlgorithm": algorithm,
        "version": certificate.version.value + 1,
    }


COMPUTE: dict[str, Compute] = {
    "tls:index/privateKey:PrivateKey": _private_key,
    "tls:index/certRequest:CertRequest": _request,
    "tls:index/selfSignedCert:SelfSignedCert": _self_signed,
    "tls:index/locallySignedCert:LocallySignedCert": _locally_signed,
}
FUNCTIONS: dict[str, Function] = {
    "tls:index/getPublicKey:getPublicKey": _get_public_key,
    "tls:index/getCertificate:getCertificate": _get_certificate,
}
