"""Certificates as `sockmesh cert` shows them: what an agent keeps in its run directory, or any file of them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from control.agent.credentials import when
from control.agent.kept import Found, Leaf, Planned
from control.certificates import spiffe, verify
from control.certificates.certificate import Certificate, shown
from control.flow.summary import span


@dataclasses.dataclass(frozen=True)
class Row:
    """One service account's certificate; all but `id` and `problem` is empty where it has none. Times in UTC."""

    id: str
    not_before: str
    not_after: str
    renewed_at: str
    due_at: str  # for renewal
    issuer: str
    fingerprint: str
    problem: str


@dataclasses.dataclass(frozen=True)
class Link:
    """One certificate of a chain, above the leaf."""

    subject: str
    not_before: str
    not_after: str
    fingerprint: str


@dataclasses.dataclass(frozen=True)
class Detail:
    """All that a person asks of one certificate. `trusted`: whether it leads to a trusted root; if not, `why` not."""

    id: str
    serial: str
    not_before: str
    not_after: str
    left: str  # until it ends, or since it did
    issuer: str
    key: str
    fingerprint: str
    chain: tuple[Link, ...]
    trusted: bool
    root: str
    why: str


def rows(found: Found, now: float) -> tuple[Row, ...]:
    """Return a row for each service account that has a certificate or should have one."""
    leaves = {str(id): each for id, each in found.leaves.items()}
    ids = sorted({*leaves, *found.plan.leaves})
    return tuple(_row(id, leaves.get(id), found.plan.leaves.get(id), found, now) for id in ids)


def _row(id: str, leaf: Leaf | None, planned: Planned | None, found: Found, now: float) -> Row:
    told = [planned.problem] if planned and planned.problem else []
    due = when(planned.due_at) if planned and planned.due_at else ""
    if leaf is None:
        return Row(id, "", "", "", due, "", "", "; ".join(["there is none", *told]))
    first = leaf.credential.chain[0]
    wrong = _untrusted(leaf.credential.chain, found.roots, leaf.credential.id.trust_domain, now)
    return Row(
        id, when(first.not_before), when(leaf.credential.not_after), when(leaf.renewed_at), due, shown(first.issuer),
        first.fingerprint, "; ".join([*filter(None, [wrong]), *told]),
    )  # fmt: skip


def detail(chain: Sequence[Certificate], roots: Sequence[Certificate], trust_domain: str, now: float) -> Detail:
    """Return what there is to know of a chain, leaf first. `trust_domain` empty: the leaf's own."""
    first = chain[0]
    name = first.uris[0] if len(first.uris) == 1 else ""
    try:
        id = str(parsed := spiffe.parse(name))
        domain = trust_domain or parsed.trust_domain
    except spiffe.BadId:
        id, domain = f"none ({', '.join(first.uris) or 'it has no URI'})"[:300], trust_domain
    why = _untrusted(chain, roots, domain, now)
    root = "" if why else shown(verify.climb(chain, roots, now)[-1].subject)
    ends = min(each.not_after for each in chain)
    return Detail(
        id,
        f"{first.parsed.serial_number:x}",
        when(first.not_before),
        when(first.not_after),
        _left(first.not_before, ends, now),
        shown(first.issuer),
        key_words(first),
        first.fingerprint,
        tuple(Link(shown(c.subject), when(c.not_before), when(c.not_after), c.fingerprint) for c in chain[1:]),
        not why,
        root,
        why,
    )


def _untrusted(chain: Sequence[Certificate], roots: Sequence[Certificate], trust_domain: str, now: float) -> str:
    """Return why a peer would refuse a chain; nothing if it would not."""
    if not roots:
        return "no root is known to check it against"
    try:
        verify.peer([each.der for each in chain], roots, trust_domain, now)
    except verify.Untrusted as error:
        return str(error)
    return ""


def _left(not_before: float, ends: float, now: float) -> str:
    if now < not_before:
        return f"begins in {_span(not_before - now)}"
    return f"{_span(ends - now)} left" if now < ends else f"ended {_span(now - ends)} ago"


def _span(seconds: float) -> str:
    return span(int(seconds) * 1_000_000_000)


def key_words(of: Certificate) -> str:
    """Return the kind of a certificate's key."""
    key: Any = of.parsed.public_key()
    match key:
        case ec.EllipticCurvePublicKey():
            words = f"EC {key.curve.name}"
        case rsa.RSAPublicKey():
            words = f"RSA, {key.key_size} bits"
        case ed25519.Ed25519PublicKey():
            words = "Ed25519"
        case _:
            words = type(key).__name__
    return words if of.key is not None else f"{words} (not taken)"
