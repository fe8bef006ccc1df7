"""The name by which a TLS client says which workload of a node it wants (SNI)."""

import hashlib


def sni(id: str) -> str:
    """Return the name that stands for a SPIFFE id: always its hash, as an id need not fit in a name.

    >>> sni("spiffe://a/ns/b/sa/c")
    '75b47a4fd8bfeeb0777e50b7abaf94aa.fc91d388e65c1570b011bede828303e3.sockmesh'
    """
    digest = hashlib.sha256(id.encode()).hexdigest()
    return f"{digest[:32]}.{digest[32:]}.sockmesh"
