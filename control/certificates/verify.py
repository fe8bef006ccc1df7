"""Who a peer is, by its certificates: the name of its workload, or one reason why it is nobody.

A chain is taken as it came, leaf first, each certificate signed by the next, up to a root of the bundle (RFC 5280, 6.1,
without policies and name constraints: a certificate that has them is refused). The root's own times and path length
count too, as they do for OpenSSL. SPIFFE X509-SVID, 4 and 5: what a leaf and what a signing certificate must be.
"""

import enum
from collections.abc import Sequence

from control.certificates import spiffe
from control.certificates.certificate import Certificate, Unreadable, read, shown
from control.certificates.spiffe import SpiffeId

MAX_CHAIN = 8  # certificates that a peer may send


class Reason(enum.Enum):
    """Why a peer is not trusted, in the words of a flow record."""

    UNREADABLE = "unreadable certificate"
    SELF_SIGNED = "self-signed"
    NOT_A_LEAF = "not a leaf"
    WRONG_SAN = "wrong SAN"
    OTHER_TRUST_DOMAIN = "other trust domain"
    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    UNKNOWN_ROOT = "unknown root"
    BAD_SIGNATURE = "bad signature"
    WEAK = "weak key or signature"
    NOT_AN_ISSUER = "signed by what may not sign"
    TOO_LONG = "chain too long"


class Untrusted(ValueError):
    """The peer is nobody. `reason` is for the record, the message has what is known of it beside."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason


def peer(chain: Sequence[bytes], roots: Sequence[Certificate], trust_domain: str, now: float) -> SpiffeId:
    """Return whose certificate comes first in a chain (DER); raises Untrusted. No roots: nobody is trusted."""
    if len(chain) > MAX_CHAIN:
        raise Untrusted(Reason.TOO_LONG, f"more than {MAX_CHAIN} certificates")
    if not chain:
        raise Untrusted(Reason.UNREADABLE, "there is none")
    try:
        certificates = [read(der) for der in chain]
    except Unreadable as error:
        raise Untrusted(Reason.UNREADABLE, str(error)) from error
    leaf = certificates[0]
    # What a leaf says of itself comes first: of an unknown root, the trust domain tells more than the root.
    if leaf.is_self_signed and leaf not in roots:
        raise Untrusted(Reason.SELF_SIGNED)
    if not leaf.may_speak:
        raise Untrusted(Reason.NOT_A_LEAF, "it signs certificates, or no handshakes")
    found = _name(leaf)
    if found.trust_domain != trust_domain:
        raise Untrusted(Reason.OTHER_TRUST_DOMAIN, found.trust_domain)
    climb(certificates, roots, now)
    return found


def climb(
    chain: Sequence[Certificate], roots: Sequence[Certificate], now: float, below: int = -1
) -> tuple[Certificate, ...]:
    """Return as much of a chain as leads to a root, and the root; raises Untrusted.

    `below`: how many certificates that sign stand under the first one, -1 when that is a leaf itself.
    """
    for place, current in enumerate(chain):
        _check(current, now, below + place)
        if below + place >= 0 and current in roots:  # a peer may send its root too
            return tuple(chain[: place + 1])
        above = chain[place + 1] if place + 1 < len(chain) else None
        root = _root_above(current, roots, now, below + place + 1, is_last=above is None)
        if root is not None:
            return (*chain[: place + 1], root)
        if above is None or above.subject != current.issuer:
            break
        _check_signature(current, above)
    raise Untrusted(Reason.UNKNOWN_ROOT, shown(current.issuer) if chain else "")


def _root_above(
    current: Certificate, roots: Sequence[Certificate], now: float, depth: int, is_last: bool
) -> Certificate | None:
    """Return the root that signed this, None where the chain may go on. Two roots may bear one name: one is enough."""
    refusal: Untrusted | None = None
    for root in roots:
        if root.subject != current.issuer:
            continue
        try:
            _check_signature(current, root)
            _check(root, now, depth)
            return root
        except Untrusted as error:
            if refusal is None or refusal.reason is Reason.BAD_SIGNATURE:  # the root of another key says nothing
                refusal = error
    if refusal is not None and is_last:
        raise refusal
    return None


def _check(certificate: Certificate, now: float, depth: int) -> None:
    """Raise Untrusted unless the certificate may stand where it does: with `depth` that sign below it, -1: a leaf."""
    if certificate.is_weak:
        raise Untrusted(Reason.WEAK, _who(certificate))
    if now < certificate.not_before:
        raise Untrusted(Reason.NOT_YET_VALID, _who(certificate))
    if now > certificate.not_after:
        raise Untrusted(Reason.EXPIRED, _who(certificate))
    if depth < 0:
        return
    if not certificate.may_sign:
        raise Untrusted(Reason.NOT_AN_ISSUER, _who(certificate))
    if certificate.path_length is not None and certificate.path_length < depth:
        raise Untrusted(Reason.TOO_LONG, f"{_who(certificate)} allows {certificate.path_length} below it")


def _check_signature(certificate: Certificate, issuer: Certificate) -> None:
    if not certificate.is_signed_by(issuer):  # a weak key signs nothing
        raise Untrusted(Reason.WEAK if issuer.is_weak else Reason.BAD_SIGNATURE, _who(certificate))


def _name(leaf: Certificate) -> SpiffeId:
    if len(leaf.uris) != 1:
        raise Untrusted(Reason.WRONG_SAN, f"{len(leaf.uris)} URIs, not one")
    try:
        return spiffe.parse(leaf.uris[0])
    except spiffe.BadId as error:
        raise Untrusted(Reason.WRONG_SAN, str(error)) from error


def _who(certificate: Certificate) -> str:
    return shown(certificate.subject) or "the leaf"
