"""Certificates of any kind, right and wrong, and OpenSSL's opinion of them."""

import datetime
import functools
import ssl
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from control.certificates import certificate, keys
from control.certificates.certificate import Certificate, PrivateKey

DOMAIN = "cluster.local"
WEB = f"spiffe://{DOMAIN}/ns/shop/sa/web"
HOUR, DAY = 3600, 86400


_read = functools.cache(certificate.read)


class Made(NamedTuple):
    der: bytes
    key: PrivateKey

    @property
    def certificate(self) -> Certificate:
        return _read(self.der)

    @property
    def subject(self) -> x509.Name:
        return x509.load_der_x509_certificate(self.der).subject

    @property
    def pem(self) -> bytes:
        return ssl.DER_cert_to_PEM_cert(self.der).encode()


def public_der(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


def usage(**used: bool) -> x509.KeyUsage:
    nothing = dict.fromkeys(
        ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
         "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
        False,
    )  # fmt: skip
    return x509.KeyUsage(**{**nothing, **used})


def make(
    name: str,
    by: Made | None,
    now: float,
    *,
    is_ca: bool | None = False,
    path_length: int | None = None,
    uris: Sequence[str] = (),
    others: Sequence[x509.GeneralName] = (),
    begins: float = -HOUR,
    ends: float = DAY,
    key: PrivateKey | None = None,
    uses: x509.KeyUsage | None = None,
    extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> Made:
    """Return a certificate by an issuer, or by itself. `is_ca` None: it does not say."""
    key = key or keys.new()
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(by.subject if by else named(name))
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime.fromtimestamp(int(now + begins), datetime.UTC))
        .not_valid_after(datetime.datetime.fromtimestamp(int(now + ends), datetime.UTC))
        .public_key(key.public_key())
    )
    if is_ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(is_ca, path_length if is_ca else None), critical=True)
    uses = uses or (usage(key_cert_sign=True, crl_sign=True) if is_ca else usage(digital_signature=True))
    builder = builder.add_extension(uses, critical=True)
    names = [*map(x509.UniformResourceIdentifier, uris), *others]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not name)
    for value, critical in extra:
        builder = builder.add_extension(value, critical)
    signer = by.key if by else key
    return Made(builder.sign(signer, keys.hash_for(signer)).public_bytes(Encoding.DER), key)


def root(now: float, name: str = "root", **changes: Any) -> Made:
    return make(name, None, now, **{"is_ca": True, **changes})


def between(now: float, by: Made, name: str = "between", **changes: Any) -> Made:
    return make(name, by, now, **{"is_ca": True, **changes})


def leaf(now: float, by: Made | None, **changes: Any) -> Made:
    return make("", by, now, **{"uris": (WEB,), **changes})


@functools.cache
def rsa_key(bits: int = 2048) -> PrivateKey:
    return rsa.generate_private_key(65537, bits)


@functools.cache
def odd_curve() -> PrivateKey:
    return ec.generate_private_key(ec.SECP224R1())


class Handshake(NamedTuple):
    """What came of one: who the two saw, each a chain, leaf first; None: it failed."""

    by_server: list[bytes]
    by_client: list[bytes]


def context(server: bool, credential: bytes, roots: bytes) -> ssl.SSLContext:
    """Return TLS 1.3 with a credential and roots (PEM), where each side must prove itself."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(cadata=roots.decode())
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "credential.pem")
        path.write_bytes(credential)
        made.load_cert_chain(path)
    return made


def handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> Handshake | None:
    """Let two talk, and send a word each way; None when either refuses the other."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True))
    try:
        waits = True
        while waits:
            waits = False
            for end in ends:
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    waits = True
        for says, hears in (ends, ends[::-1]):
            says.write(b"word")
            assert hears.read() == b"word"
    except ssl.SSLError:
        return None
    assert ends[0].version() == "TLSv1.3"
    return Handshake(_chain(ends[1]), _chain(ends[0]))


def _chain(end: ssl.SSLObject) -> list[bytes]:
    seen: Any = end
    found: list[bytes] = [ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in seen._sslobj.get_unverified_chain()]
    assert found[0] == end.getpeercert(binary_form=True)
    return found


def pem(*chain: Made) -> bytes:
    """Return key and chain of the first, as one text."""
    return keys.to_pem(chain[0].key) + b"".join(each.pem for each in chain)
