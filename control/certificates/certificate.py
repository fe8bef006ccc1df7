"""What a certificate says, read once into a frozen type: everything that is asked of it later is a field.

Nothing is trusted for being read. What a certificate must be read for and cannot be (a critical extension that is not
known here, RFC 5280, 4.2) makes it Unreadable.
"""

import base64
import binascii
import dataclasses
import datetime
import re
from collections.abc import Callable
from typing import Any

from cryptography import exceptions, x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, SignatureAlgorithmOID

MAX_DER = 16 << 10  # bytes of one certificate; ours have about five hundred
MAX_PEM = 128 << 10
MAX_MANY = 16  # certificates in one text
MIN_RSA, _MAX_RSA = 2048, 8192  # bits; a signature of a longer key costs the one who checks it too much

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

_CURVES = ("secp256r1", "secp384r1")
_KNOWN = {
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
}
# Whoever constrains names means it, also where the mark "critical" is missing.
_REFUSED = {ExtensionOID.NAME_CONSTRAINTS}
_BOTH_ENDS = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}

_BEGIN = b"-----BEGIN CERTIFICATE-----"
_BLOCK = re.compile(_BEGIN + rb"([A-Za-z0-9+/=\s]{1,%d})-----END CERTIFICATE-----" % (2 * MAX_DER))

_Check = Callable[[Any, x509.Certificate], None]


def _rsa(hash: hashes.HashAlgorithm) -> tuple[type, _Check]:
    return rsa.RSAPublicKey, lambda key, c: key.verify(c.signature, c.tbs_certificate_bytes, padding.PKCS1v15(), hash)


def _ecdsa(hash: hashes.HashAlgorithm) -> tuple[type, _Check]:
    return ec.EllipticCurvePublicKey, lambda key, c: key.verify(c.signature, c.tbs_certificate_bytes, ec.ECDSA(hash))


# What is not here is weak, or nobody needs it. The kind of the key is part of it: an algorithm says how to read a
# signature, and the one who made it must not choose that alone.
_SIGNATURES: dict[x509.ObjectIdentifier, tuple[type, _Check]] = {
    SignatureAlgorithmOID.RSA_WITH_SHA256: _rsa(hashes.SHA256()),
    SignatureAlgorithmOID.RSA_WITH_SHA384: _rsa(hashes.SHA384()),
    SignatureAlgorithmOID.RSA_WITH_SHA512: _rsa(hashes.SHA512()),
    SignatureAlgorithmOID.ECDSA_WITH_SHA256: _ecdsa(hashes.SHA256()),
    SignatureAlgorithmOID.ECDSA_WITH_SHA384: _ecdsa(hashes.SHA384()),
    SignatureAlgorithmOID.ECDSA_WITH_SHA512: _ecdsa(hashes.SHA512()),
    SignatureAlgorithmOID.ED25519: (
        ed25519.Ed25519PublicKey,
        lambda key, c: key.verify(c.signature, c.tbs_certificate_bytes),
    ),
}


class Unreadable(ValueError):
    """Bytes that are no certificate, or one that says what nobody here understands; the message says which."""


@dataclasses.dataclass(frozen=True)
class Certificate:
    """Equal when the bytes are. `path_length` None: no limit."""

    der: bytes
    parsed: x509.Certificate = dataclasses.field(compare=False, repr=False)
    subject: x509.Name = dataclasses.field(compare=False)
    issuer: x509.Name = dataclasses.field(compare=False)
    not_before: float = dataclasses.field(compare=False)
    not_after: float = dataclasses.field(compare=False)
    key: PublicKey | None = dataclasses.field(compare=False, repr=False)  # None: of a kind that is weak or not known
    may_sign: bool = dataclasses.field(compare=False)  # other certificates
    may_speak: bool = dataclasses.field(compare=False)  # as a leaf, in a handshake
    path_length: int | None = dataclasses.field(compare=False)
    uris: tuple[str, ...] = dataclasses.field(compare=False)

    @property
    def is_weak(self) -> bool:
        return self.key is None or self.parsed.signature_algorithm_oid not in _SIGNATURES

    @property
    def is_self_signed(self) -> bool:
        return self.subject == self.issuer and self.is_signed_by(self)

    def is_signed_by(self, issuer: "Certificate") -> bool:
        """Tell whether the issuer's key made this; never with a weak key or algorithm."""
        kind, check = _SIGNATURES.get(self.parsed.signature_algorithm_oid, (None, None))
        if kind is None or check is None or not isinstance(issuer.key, kind):
            return False
        try:
            check(issuer.key, self.parsed)
        except exceptions.InvalidSignature:
            return False
        return True

    @property
    def fingerprint(self) -> str:
        return self.parsed.fingerprint(hashes.SHA256()).hex()

    @property
    def pem(self) -> bytes:
        return self.parsed.public_bytes(Encoding.PEM)


def read(der: bytes) -> Certificate:
    """Read one certificate; raises Unreadable."""
    if len(der) > MAX_DER:
        raise Unreadable(f"a certificate is longer than {MAX_DER} bytes")
    try:
        return _read(x509.load_der_x509_certificate(der), der)
    except Unreadable:
        raise
    except Exception as error:  # of some ten kinds, for what may be wrong in each of its fields
        raise Unreadable(f"it is no certificate: {str(error)[:200]}") from error


def read_pem(text: bytes) -> tuple[Certificate, ...]:
    """Read all certificates of a text, in order; raises Unreadable, also where there is none or one is cut."""
    if len(text) > MAX_PEM:
        raise Unreadable(f"there are more than {MAX_PEM} bytes")
    blocks = _BLOCK.findall(text)
    if not blocks or len(blocks) != text.count(_BEGIN):
        raise Unreadable("a certificate is cut short" if _BEGIN in text else "there is no certificate")
    if len(blocks) > MAX_MANY:
        raise Unreadable(f"there are more than {MAX_MANY} certificates")
    try:
        return tuple(read(base64.b64decode(b"".join(block.split()), validate=True)) for block in blocks)
    except binascii.Error as error:
        raise Unreadable(f"it is no certificate: {error}") from error


def shown(name: x509.Name) -> str:
    """Return what somebody calls himself, for people; it may say anything, so it is made harmless and short."""
    try:
        text = name.rfc4514_string()
    except Exception:  # values of a type that cannot be shown
        return "a name that cannot be shown"
    return "".join(c if c.isprintable() else "?" for c in text[:200])


def validity(found: Any) -> tuple[float, float]:
    """Return when it begins and ends. cryptography before 42 has only times without a zone, later ones warn of them."""
    if hasattr(found, "not_valid_before_utc"):
        began, ends = found.not_valid_before_utc, found.not_valid_after_utc
    else:
        began, ends = (at.replace(tzinfo=datetime.UTC) for at in (found.not_valid_before, found.not_valid_after))
    return began.timestamp(), ends.timestamp()


def known_key(key: object) -> PublicKey | None:
    """Return the key if it is of a kind and size that counts."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return key
    if isinstance(key, rsa.RSAPublicKey) and MIN_RSA <= key.key_size <= _MAX_RSA:
        return key
    return None


def _read(found: x509.Certificate, der: bytes) -> Certificate:
    if found.version is not x509.Version.v3:
        raise Unreadable("it is not of version 3")
    # The library gives the signed part as it would write it, and a signature without bits that are said to be unused.
    if found.public_bytes(Encoding.DER) != der or der[-1 - len(found.signature)] != 0:
        raise Unreadable("it is not in DER, which has one spelling only")
    extensions = {extension.oid: extension for extension in found.extensions}
    for oid, extension in extensions.items():
        if oid in _REFUSED or (extension.critical and oid not in _KNOWN):
            raise Unreadable(f"it demands what is not checked here: extension {oid.dotted_string}")
    values = {oid: extension.value for oid, extension in extensions.items()}
    basic: Any = values.get(ExtensionOID.BASIC_CONSTRAINTS)
    usage: Any = values.get(ExtensionOID.KEY_USAGE)
    purposes: Any = values.get(ExtensionOID.EXTENDED_KEY_USAGE)
    names: Any = values.get(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    is_ca = basic is not None and basic.ca
    fits = purposes is None or set(purposes) >= _BOTH_ENDS  # X509-SVID, 4.4
    signs = usage is not None and usage.key_cert_sign
    began, ends = validity(found)
    return Certificate(
        der, found, found.subject, found.issuer, began, ends, known_key(found.public_key()),
        may_sign=is_ca and signs and fits,
        may_speak=not is_ca and usage is not None and usage.digital_signature and not signs and not usage.crl_sign
        and fits,
        path_length=basic.path_length if is_ca else None,
        uris=tuple(names.get_values_for_type(x509.UniformResourceIdentifier)) if names is not None else (),
    )  # fmt: skip
