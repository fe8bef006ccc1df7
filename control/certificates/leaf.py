"""What a node's proxy holds for a service account: a key that never leaves it, and the chain that the authority gave.

    key = keys.new()
    credential = leaf.read(keys.to_pem(key) + sent_back_for(leaf.request(key)))

A credential is one PEM text, key first, as OpenSSL takes it from one file.
"""

import dataclasses
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from control.certificates import certificate, files, keys, spiffe
from control.certificates.certificate import Certificate, PrivateKey
from control.certificates.spiffe import SpiffeId


class BadCredential(ValueError):
    """A key and a chain that nobody could prove a name with; the message says why."""


@dataclasses.dataclass(frozen=True)
class Credential:
    """A key and the chain that names its holder, leaf first. Whether anybody trusts it is for others to say."""

    id: SpiffeId
    not_before: float
    not_after: float
    chain: tuple[Certificate, ...] = dataclasses.field(repr=False)
    pem: bytes = dataclasses.field(repr=False, compare=False)  # has the key

    def save(self, path: Path) -> None:
        """Write it to a file, in place of an earlier one; raises BadFile, and the earlier one stays."""
        files.replace(path, self.pem)


def request(key: PrivateKey) -> bytes:
    """Return a signing request (PEM) for a key. It names nobody: who asks is known from elsewhere, or not at all."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, keys.hash_for(key)).public_bytes(Encoding.PEM)


def read(pem: bytes) -> Credential:
    """Return the credential of a key and a chain; raises BadCredential."""
    try:
        chain, key = certificate.read_pem(pem), keys.read(pem)
    except (certificate.Unreadable, keys.BadKey) as error:
        raise BadCredential(str(error)) from error
    first = chain[0]
    if not keys.is_of(key, first.key):
        raise BadCredential("the key is not that of the first certificate")
    if not first.may_speak:
        raise BadCredential("the first certificate is no leaf")
    if len(first.uris) != 1:
        raise BadCredential(f"the first certificate has {len(first.uris)} URIs, not one")
    try:
        id = spiffe.parse(first.uris[0])
    except spiffe.BadId as error:
        raise BadCredential(str(error)) from error
    ends = min(each.not_after for each in chain)
    text = keys.to_pem(key) + b"".join(each.pem for each in chain)
    return Credential(id, first.not_before, ends, chain, text)


def load(path: Path) -> Credential:
    """Return the credential that `save` wrote; raises BadFile."""
    try:
        return read(files.read(path))
    except BadCredential as error:
        raise files.BadFile(path, str(error)) from error
