"""What a proxy proves itself and others by: TLS 1.3 alone, a leaf per service account, the roots that are trusted now.

Made anew whenever the agent says so; connections that are open keep the one that they began with.
"""

import errno
import os
import ssl
import time
from collections.abc import Mapping

from control.certificates import certificate, spiffe
from control.certificates.verify import Reason, Untrusted
from control.proxy_feed import Mesh
from l7proxy.mesh import names

# OpenSSL's words for it, of X509_V_ERR_*: openssl/x509_vfy.h
_REASONS = {
    9: Reason.NOT_YET_VALID, 10: Reason.EXPIRED, 18: Reason.SELF_SIGNED, 19: Reason.UNKNOWN_ROOT,
    2: Reason.UNKNOWN_ROOT, 20: Reason.UNKNOWN_ROOT, 21: Reason.UNKNOWN_ROOT, 7: Reason.BAD_SIGNATURE,
    22: Reason.TOO_LONG, 25: Reason.TOO_LONG, 24: Reason.NOT_AN_ISSUER, 79: Reason.NOT_AN_ISSUER,
    26: Reason.NOT_A_LEAF, 66: Reason.WEAK, 67: Reason.WEAK, 68: Reason.WEAK,
}  # fmt: skip


class Contexts:
    """Of one Mesh message. `owners`: whose each address is, and on which node."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh, self.owners = mesh, mesh.owners
        self._clients: dict[str, ssl.SSLContext] = {}
        self._servers: dict[str, ssl.SSLContext] = {}
        self._ids: dict[ssl.SSLContext, str] = {}  # of those of servers
        self._by_sni = {names.sni(id): id for id in mesh.leaves}
        self.server = self._new(ssl.PROTOCOL_TLS_SERVER)
        self.server.sni_callback = self._choose

    def client(self, id: str) -> ssl.SSLContext | None:
        """Return what proves a workload of this node to others; None where it has no leaf."""
        return self._of(self._clients, id, ssl.PROTOCOL_TLS_CLIENT)

    def is_like(self, other: "Contexts", id: str) -> bool:
        """Tell whether a workload proves itself, and is proved others, by the same as there."""
        return (self.mesh.roots, self.mesh.leaves.get(id)) == (other.mesh.roots, other.mesh.leaves.get(id))

    def shown(self, found: ssl.SSLObject) -> str:
        """Return as which workload of this node a server has proved itself in a handshake."""
        return self._ids.get(found.context, "")

    def peer(self, found: ssl.SSLObject) -> tuple[str, float]:
        """Return who is at the other end of a good handshake, and until when that is proof; raises Untrusted."""
        der = found.getpeercert(binary_form=True)
        if not der:
            raise Untrusted(Reason.UNREADABLE, "there is none")
        return leaf(der, self.mesh.trust_domain, time.time())

    def _of(self, made: dict[str, ssl.SSLContext], id: str, kind: int) -> ssl.SSLContext | None:
        context = made.get(id)
        if context is None and (pem := self.mesh.leaves.get(id)):
            context = made[id] = self._new(kind)
            _load(context, pem)
        return context

    def _choose(self, found: ssl.SSLObject, sni: str | None, _: ssl.SSLContext) -> int | None:
        id = self._by_sni.get(sni or "", "")
        context = self._of(self._servers, id, ssl.PROTOCOL_TLS_SERVER)
        if context is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        self._ids[context] = id
        found.context = context
        return None

    def _new(self, kind: int) -> ssl.SSLContext:
        context = ssl.SSLContext(kind)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # names are SPIFFE ids, compared after the handshake
        context.verify_mode = ssl.CERT_REQUIRED
        if kind == ssl.PROTOCOL_TLS_SERVER:
            context.num_tickets = 0  # the pool keeps connections; and who comes again is checked again
        if self.mesh.roots:
            context.load_verify_locations(cadata=self.mesh.roots.decode("ascii"))
        return context


def leaf(der: bytes, trust_domain: str, now: float) -> tuple[str, float]:
    """Return whose a leaf is whose chain is good, and until when; raises Untrusted."""
    try:
        found = certificate.read(der)
    except certificate.Unreadable as error:
        raise Untrusted(Reason.UNREADABLE, str(error)) from error
    if not found.may_speak:
        raise Untrusted(Reason.NOT_A_LEAF)
    if found.is_weak:
        raise Untrusted(Reason.WEAK)
    if len(found.uris) != 1:
        raise Untrusted(Reason.WRONG_SAN)
    try:
        id = spiffe.parse(found.uris[0])
    except spiffe.BadId as error:
        raise Untrusted(Reason.WRONG_SAN, str(error)) from error
    if id.trust_domain != trust_domain:
        raise Untrusted(Reason.OTHER_TRUST_DOMAIN)
    if not found.not_before <= now <= found.not_after:
        raise Untrusted(Reason.EXPIRED if now > found.not_after else Reason.NOT_YET_VALID)
    return str(id), found.not_after


def word(error: BaseException) -> str:
    """Return why a handshake failed, in the words of a record."""
    if isinstance(error, Untrusted):
        return error.reason.value
    if isinstance(error, ssl.SSLCertVerificationError):
        return _REASONS.get(error.verify_code, Reason.BAD_SIGNATURE).value
    if isinstance(error, TimeoutError):
        return "the handshake took too long"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or 'failed').lower().replace('_', ' ')}"[:100]
    if isinstance(error, ConnectionRefusedError):
        return "no node proxy listens there"
    if isinstance(error, OSError) and error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return "the node cannot be reached"
    return "the connection broke off in the handshake"


def owner_of(owners: Mapping[str, tuple[str, str]], address: str) -> tuple[str, str]:
    """Return whose an address is and its node; ("", "") where nobody's."""
    return owners.get(address, ("", ""))


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """Take a key and its chain, which OpenSSL reads from a file alone: one that is in no directory."""
    held = os.memfd_create("leaf", os.MFD_CLOEXEC)
    try:
        os.write(held, pem)
        context.load_cert_chain(f"/proc/self/fd/{held}")
    finally:
        os.close(held)
