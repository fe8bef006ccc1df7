"""The roots that a trust domain believes in, and which of them signs: one, or two while the old gives way to the new.

    STEADY   one root: trusted, signs
    SPREADS  old and new are trusted, the old one signs: nodes learn of the new one
    DRAINS   old and new are trusted, the new one signs: leaves of the old one end
    STEADY   ... when `finish` takes the old one away, which it refuses before the last of its leaves has ended

`begin` writes down when each step comes, so that several replicas with one bundle do the same without talking. At any
time a leaf of either root is taken by everybody whose bundle is not older than the spreading.
"""

import dataclasses
import enum
import json
import math
from typing import Any

from control.certificates import certificate, keys, spiffe
from control.certificates.certificate import Certificate

SPREADING = 3600.0  # seconds in which every node hears of a new root
SKEW = 600.0  # by how much the clocks of those who sign may differ
_MAX = 64 << 10  # bytes of an exported bundle


class BadBundle(ValueError):
    """A text that is no bundle, or a root that cannot be one; the message says why."""


class NotNow(ValueError):
    """A step that is not due: the message says what has to come before."""


class Phase(enum.Enum):
    STEADY = "steady"
    SPREADS = "spreads"
    DRAINS = "drains"


@dataclasses.dataclass(frozen=True)
class TrustBundle:
    """Whom to trust. `new`, while there are two: signs from `switches_at` on, and is alone from `drained_at` on."""

    trust_domain: str
    current: Certificate
    new: Certificate | None = None
    switches_at: float = 0.0
    drained_at: float = 0.0

    def __post_init__(self) -> None:
        """Raises BadBundle."""
        try:
            domain = spiffe.of_domain(self.trust_domain)
        except spiffe.BadId as error:
            raise BadBundle(str(error)) from error
        for root in self.roots:
            if not root.may_sign or root.is_weak or not root.is_self_signed:
                raise BadBundle(f"{certificate.shown(root.subject)} is no root: not self-signed, weak, or no authority")
            if any(uri != domain for uri in root.uris):
                raise BadBundle(f"{certificate.shown(root.subject)} is of another trust domain")
        if not 0 <= self.switches_at <= self.drained_at < math.inf:
            raise BadBundle("the old root's leaves end before the new one signs")
        if self.new is None:
            return
        assert self.new.key is not None and self.current.key is not None  # of roots that are not weak
        if keys.are_same(self.new.key, self.current.key) or self.new.subject == self.current.subject:
            raise BadBundle("the new root has the key or the name of the old one")

    @property
    def roots(self) -> tuple[Certificate, ...]:
        return (self.current,) if self.new is None else (self.current, self.new)

    @property
    def pem(self) -> bytes:
        """The roots, as OpenSSL takes them."""
        return b"".join(root.pem for root in self.roots)

    def phase(self, now: float) -> Phase:
        if self.new is None:
            return Phase.STEADY
        return Phase.SPREADS if now < self.switches_at else Phase.DRAINS

    def signer(self, now: float) -> Certificate:
        """Return the root that leaves are signed under."""
        return self.new if self.new is not None and now >= self.switches_at else self.current

    def begin(self, new: Certificate, now: float, leaf_lifetime: float, spreading: float = SPREADING) -> "TrustBundle":
        """Return the bundle of both roots; raises NotNow, BadBundle."""
        if not (leaf_lifetime > 0 and spreading >= 0):
            raise ValueError("leaves live for more than nothing, and nothing spreads in less")
        if self.new is not None:
            raise NotNow("another root is on its way in; finish that first")
        switches = min(now + spreading, self.current.not_after)  # an ended root signs nothing
        drained = switches + SKEW + leaf_lifetime
        if not new.not_before <= now or not drained < new.not_after:
            raise BadBundle("the new root is not valid from now until the old one's leaves have ended")
        return dataclasses.replace(self, new=new, switches_at=max(now, switches), drained_at=max(now, drained))

    def finish(self, now: float) -> "TrustBundle":
        """Return the bundle of the new root alone; raises NotNow."""
        if self.new is None:
            raise NotNow("no other root is on its way in")
        if now < self.drained_at:
            raise NotNow(f"leaves of the old root may be valid for {math.ceil(self.drained_at - now)} seconds more")
        return TrustBundle(self.trust_domain, self.new)

    def to_json(self) -> str:
        return json.dumps(
            {
                "trust_domain": self.trust_domain,
                "roots": [root.pem.decode() for root in self.roots],
                "switches_at": self.switches_at,
                "drained_at": self.drained_at,
            },
            indent=1,
        )


def from_json(text: str | bytes) -> TrustBundle:
    """Return the bundle that `to_json` wrote; raises BadBundle on anything else."""
    if len(text) > _MAX:
        raise BadBundle(f"the bundle is longer than {_MAX} bytes")
    try:
        raw: Any = json.loads(text)
        if not isinstance(raw, dict) or set(raw) != {"trust_domain", "roots", "switches_at", "drained_at"}:
            raise BadBundle("the bundle has other fields than it should")
        found = [certificate.read_pem(pem.encode()) for pem in raw["roots"]]
        if not 1 <= len(found) <= 2 or any(len(one) != 1 for one in found):
            raise BadBundle("the bundle has not one root or two")
        roots = [one for (one,) in found]
        times = [raw["switches_at"], raw["drained_at"]]
        if not all(type(at) in (int, float) for at in times):
            raise BadBundle("the bundle's times are no numbers")
        return TrustBundle(raw["trust_domain"], roots[0], roots[1] if len(roots) > 1 else None, *map(float, times))
    except BadBundle:
        raise
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise BadBundle(f"it is no bundle: {error}") from error
