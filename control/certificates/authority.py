"""Signs leaves for a trust domain, by a root of its own or by an intermediate that somebody gave.

Of a signing request only the public key is taken, and only when the request is signed by it: names, lifetimes and
extensions are what the caller knows, never what the request asks for. X509-SVID, 2 to 4; RFC 5280, 4.
"""

import dataclasses
import datetime
import secrets

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from control.certificates import certificate, keys, spiffe, verify
from control.certificates.certificate import Certificate, PrivateKey, PublicKey
from control.certificates.spiffe import SpiffeId
from loader.errors import MeshError

HOUR, DAY = 3600.0, 86400.0
LEAF_LIFETIME = DAY
ROOT_LIFETIME = 3650 * DAY
BACKDATED = 300.0  # seconds: a node whose clock is behind by so much still takes a certificate made just now
MAX_LIFETIME = 90 * DAY  # of a leaf
MAX_REQUEST = 16 << 10  # bytes


class BadAuthority(MeshError):
    """The operator must give another key, chain or root: what does not fit."""


class BadRequest(ValueError):
    """A signing request that gets no certificate; the message says why."""


@dataclasses.dataclass(frozen=True)
class Authority:
    """Who signs. `chain`: the signing certificate and those above it, without the root; none: the root signs."""

    trust_domain: str
    root: Certificate
    chain: tuple[Certificate, ...]
    key: PrivateKey = dataclasses.field(repr=False, compare=False)

    @property
    def signer(self) -> Certificate:
        return self.chain[0] if self.chain else self.root

    @property
    def not_before(self) -> float:
        """The moment from which all that a leaf hangs on is valid."""
        return max(each.not_before for each in (*self.chain, self.root))

    @property
    def not_after(self) -> float:
        """The end of the first that ends of what a leaf hangs on: no leaf ends later."""
        return min(each.not_after for each in (*self.chain, self.root))

    def to_pem(self) -> bytes:
        """Return key, chain and root as one text, the root last."""
        return keys.to_pem(self.key) + b"".join(each.pem for each in (*self.chain, self.root))

    def sign(self, request: bytes, id: SpiffeId, now: float, lifetime: float = LEAF_LIFETIME) -> bytes:
        """Return a leaf and the chain above it (PEM), for the key of a request (PEM); raises BadRequest, BadAuthority.

        The caller must know that whoever asks is `id`.
        """
        if not 0 < lifetime <= MAX_LIFETIME:
            raise ValueError(f"a leaf lives for {lifetime} seconds (allowed: up to {MAX_LIFETIME})")
        if id.trust_domain != self.trust_domain:
            raise BadRequest(f"{id} is not of the trust domain {self.trust_domain}")
        if not self.not_before <= now < self.not_after:
            raise BadAuthority(f"the authority {certificate.shown(self.signer.subject)} is not valid now")
        key = _key_of(request)
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(id))])
        leaf = (
            _begun(key, max(self.not_before, now - BACKDATED), min(self.not_after, now + lifetime))
            .subject_name(x509.Name([]))
            .issuer_name(self.signer.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False
            )
            .add_extension(names, critical=True)  # RFC 5280, 4.2.1.6: with an empty subject it is
            .add_extension(_issuer_key(self.signer), critical=False)
            .sign(self.key, keys.hash_for(self.key))
        )
        return leaf.public_bytes(Encoding.PEM) + b"".join(each.pem for each in self.chain)


def new_root(trust_domain: str, now: float, lifetime: float = ROOT_LIFETIME) -> Authority:
    """Return an authority with a root made now; raises BadId."""
    uri = x509.UniformResourceIdentifier(spiffe.of_domain(trust_domain))
    key = keys.new()
    # A name of its own: OpenSSL tells the roots of a bundle apart by their names.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"sockmesh root {secrets.token_hex(8)}")])
    root = (
        _begun(key.public_key(), now - HOUR, now + lifetime)
        .subject_name(name)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, keys.hash_for(key))
    )
    return Authority(trust_domain, certificate.read(root.public_bytes(Encoding.DER)), (), key)


def given(key: bytes, chain: bytes, roots: bytes, trust_domain: str, now: float) -> Authority:
    """Return the authority of a key, its certificate with those above it, and the roots (PEM); raises BadAuthority.

    A root may sign leaves itself: then it is all of the chain.
    """
    try:
        spiffe.check_domain(trust_domain)
        above, known = certificate.read_pem(chain), certificate.read_pem(roots)
        held = keys.read(key)
    except (spiffe.BadId, certificate.Unreadable, keys.BadKey) as error:
        raise BadAuthority(str(error)) from error
    if not keys.is_of(held, above[0].key):
        raise BadAuthority("the key is not that of the first certificate of the chain")
    if len(above) > verify.MAX_CHAIN - 1:
        raise BadAuthority(f"the chain has more than {verify.MAX_CHAIN - 1} certificates")
    try:
        *used, root = verify.climb(above, known, now, below=0)
    except verify.Untrusted as error:
        raise BadAuthority(f"leaves of it would not be trusted: {error}") from error
    if not root.is_self_signed:  # OpenSSL wants to see the end of a chain
        raise BadAuthority(f"the root {certificate.shown(root.subject)} is signed by another one")
    for each in (above[0], root):
        if any(uri != spiffe.of_domain(trust_domain) for uri in each.uris):
            raise BadAuthority(f"{certificate.shown(each.subject)} is not of the trust domain {trust_domain}")
    return Authority(trust_domain, root, tuple(used), held)


def _key_of(request: bytes) -> PublicKey:
    """Return the key of a request that is signed by it; raises BadRequest."""
    if len(request) > MAX_REQUEST:
        raise BadRequest(f"the signing request is longer than {MAX_REQUEST} bytes")
    try:
        asked = x509.load_pem_x509_csr(request)
        key = certificate.known_key(asked.public_key())
        if key is None:
            raise BadRequest("the key is none of P-256, P-384, Ed25519, RSA with 2048 to 8192 bits")
        if not asked.is_signature_valid:
            raise BadRequest("the signing request is not signed by its own key")
    except BadRequest:
        raise
    except Exception as error:  # of several kinds, for what may be wrong in each of its fields
        raise BadRequest("it is no signing request (PKCS #10, PEM)") from error
    return key


def _begun(key: PublicKey, not_before: float, not_after: float) -> x509.CertificateBuilder:
    """Return what all certificates have. Times are whole seconds; the end is never later than said."""
    began, ends = (datetime.datetime.fromtimestamp(int(at), datetime.UTC) for at in (not_before, not_after))
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .not_valid_before(began)
        .not_valid_after(ends)
        .public_key(key)
    )


def _usage(signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=signs, crl_sign=signs, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _issuer_key(signer: Certificate) -> x509.AuthorityKeyIdentifier:
    """Return what the signer calls its own key: OpenSSL finds no issuer where the two differ."""
    try:
        named = signer.parsed.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        assert signer.key is not None  # it was checked when it was given
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(named)
