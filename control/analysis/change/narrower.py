"""Whether what a rule lets through another one has let through before: requests, names and queries; pure.

Only where that is plain to see: what is not, counts as opened. What is done to requests' headers is `mending`'s.
"""

import itertools
from collections.abc import Iterable

from control import model
from control.analysis.change import expressions, meeting
from control.analysis.change.written import NOTHING, Item, Place
from control.policy import dnsnames

Asked = model.HttpRule | model.NamePeer | str
_MOST_AROUND = 4  # sets of rules, and rules of one, that a rule inside of their places is held against
_MOST_ASKED = 64


class Before:
    """What rules for requests let through. Built once, then only asked."""

    def __init__(self, items: Iterable[Item]) -> None:
        asked: dict[Place, dict[Asked, None]] = {}
        for item in items:
            if not item.is_deny and item.request not in (None, NOTHING):
                asked.setdefault(item.place, {})[item.request] = None
        # By numbers: an index takes the hash of what it says, and thousands of requests have a slow one.
        sets: dict[tuple[Asked, ...], int] = {}
        numbers = {
            place: sets.setdefault(tuple(itertools.islice(requests, _MOST_ASKED)), len(sets))
            for place, requests in asked.items()
        }
        self._at = meeting.Index(numbers, meeting.INCLUDES)
        self._asked = list(sets)
        self._compared = expressions.Compared()

    def let(self, item: Item) -> bool:
        """Tell whether all that an item lets through was let through by one rule of them; raises model.TooMuch."""
        if item.request in (None, NOTHING):
            return False
        around = itertools.islice(self._at.said(item.place), _MOST_AROUND)
        return any(self._covers(one, item.request) for number in around for one in self._asked[number])

    def _covers(self, wide: Asked, narrow: Asked) -> bool:
        if wide == narrow:
            return True
        if isinstance(wide, model.HttpRule) and isinstance(narrow, model.HttpRule):
            return self._compared.covers(wide, narrow)
        if isinstance(wide, model.NamePeer) and isinstance(narrow, model.NamePeer):
            return dnsnames.covers(wide, narrow)
        if isinstance(wide, str) and isinstance(narrow, str):  # names of TLS servers
            return dnsnames.covers(model.NamePeer(pattern=wide), model.NamePeer(pattern=narrow))
        return False
