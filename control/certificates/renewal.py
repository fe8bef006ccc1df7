"""When each certificate is asked for anew: around half of its life, and after a failure again, ever more seldom.

All is arithmetic on times and random numbers that are passed in. A renewal that fails changes nothing of the valid
certificate; the nearer its end, the closer the attempts, so that an authority that comes back late is not missed.

    plan = Renewal.of(not_before, not_after, random())
    plan = plan.failed(now, random())      # or, when one came: Renewal.of(...) of the new one
"""

import dataclasses
from collections.abc import Hashable, Mapping
from typing import TypeVar

FROM, TO = 0.4, 0.6  # of a life: the renewals of leaves that were made together are spread over so much of it
FIRST_WAIT, LONGEST_WAIT = 5.0, 600.0  # seconds after a failure, doubled with each
SHORTEST_WAIT = 15.0  # however near the end
MAX_AT_ONCE = 32

K = TypeVar("K", bound=Hashable)


@dataclasses.dataclass(frozen=True, slots=True)
class Renewal:
    """What is planned for one certificate. `due_at`: when the next attempt is to be made."""

    not_before: float
    not_after: float
    due_at: float
    failures: int = 0

    @classmethod
    def of(cls, not_before: float, not_after: float, random: float) -> "Renewal":
        """Plan the renewal of a certificate. `random`: from 0 to 1."""
        life = max(0.0, not_after - not_before)
        return cls(not_before, not_after, not_before + life * (FROM + (TO - FROM) * random))

    @classmethod
    def missing(cls, now: float) -> "Renewal":
        """Plan for one that is not there yet: due now."""
        return cls(now, now, now)

    def failed(self, now: float, random: float) -> "Renewal":
        """Plan the next attempt after one that failed at `now`. `random`: from 0 to 1."""
        doubled = FIRST_WAIT * 2.0 ** min(self.failures, 16)
        # A quarter of what is left: several attempts come before any end that is not upon us.
        longest = min(LONGEST_WAIT, max(SHORTEST_WAIT, (self.not_after - now) / 4))
        wait = min(doubled, longest) * (0.5 + random / 2)
        return dataclasses.replace(self, due_at=now + wait, failures=self.failures + 1)

    def is_due(self, now: float) -> bool:
        return now >= self.due_at

    def is_valid(self, now: float) -> bool:
        """Tell whether the certificate at hand is still one; it is kept for so long, whatever fails."""
        return self.not_before <= now < self.not_after


def due(plans: Mapping[K, Renewal], now: float, limit: int = MAX_AT_ONCE) -> list[K]:
    """Return what is to be asked for now, what ends first first, and no more than `limit` at once."""
    ready = [key for key, plan in plans.items() if plan.is_due(now)]
    return sorted(ready, key=lambda key: plans[key].not_after)[:limit]


def next_at(plans: Mapping[K, Renewal]) -> float | None:
    """Return when the next of all is due, None if there are none."""
    return min((plan.due_at for plan in plans.values()), default=None)
