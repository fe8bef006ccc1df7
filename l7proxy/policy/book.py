"""What each policy set says of the bytes of a connection, and what all who have a say in one let through.

The kernel tells of a connection at which ends the proxy is asked, under which set and about which peer (`Side`); the
book says what that means. Where both ends ask, both must agree. What the book does not know lets nothing through.
"""

import enum
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from control import model
from control.policy import request
from control.policy_set import ANYTHING, L7, rules_at
from l7proxy.policy.requests import ALLOWED, DENIED, Decision, Fields, Rules
from loader import abi

_KNOWN = 4096  # answers that are kept: a rule for a range of ports has a side for each port

Sets = Mapping[int, Mapping[abi.PolicyKey, L7]]


class Side(NamedTuple):
    """One end's question: its policy set, and who the other end is."""

    set_id: int
    direction: int  # abi.Direction
    peer: int
    proto: int
    port: int


class Kind(enum.Enum):
    """What the bytes of a connection are, by the rules that ask."""

    HTTP = "http"
    DNS = "dns"
    SERVER_NAMES = "server names"
    ANYTHING = "anything"  # beside the rules that ask are some that let all bytes through, so nobody looks at them
    NOTHING = "nothing"  # no rule lets anything through, or the two ends ask for bytes of two kinds


class Policy:
    """What the ends of one connection let through."""

    def __init__(self, sides: Iterable[L7], secrets: Mapping[str, str] | None = None) -> None:
        asked = tuple(sides)
        # An end that lets anything through leaves it to the other one.
        self._sides = tuple(rules for rules in asked if rules != ANYTHING)
        kinds = {_kind(rules) for rules in self._sides} or ({Kind.ANYTHING} if asked else set())
        self.kind = kinds.pop() if len(kinds) == 1 else Kind.NOTHING
        self._http = tuple(Rules(rules, secrets) for rules in self._sides) if self.kind is Kind.HTTP else ()

    def decide(self, method: str, path: str, host: str, fields: Fields) -> Decision:
        """Return what becomes of an HTTP request."""
        if self.kind is Kind.ANYTHING:
            return ALLOWED
        if not self._http:
            return DENIED
        out = ALLOWED
        for rules in self._http:
            found = rules.decide(method, path, host, fields)
            if not found.allowed:
                return DENIED
            if found is not ALLOWED:
                out = Decision(True, out.changes + found.changes, out.told + found.told)
        return out

    def allows_name(self, name: str) -> bool:
        """Tell whether a DNS query for a name may go on."""
        return self.kind in (Kind.DNS, Kind.ANYTHING) and all(
            request.name_allowed(rules, name) for rules in self._sides
        )

    def allows_server(self, name: str) -> bool:
        """Tell whether a TLS client may ask for a server of this name."""
        kinds = Kind.SERVER_NAMES, Kind.ANYTHING
        return self.kind in kinds and all(request.server_allowed(rules, name) for rules in self._sides)


_REFUSED, _FREE = Policy([]), Policy([ANYTHING])


class Book:
    """All policy sets of this node that ask the proxy; connections under equal rules share one Policy."""

    def __init__(self) -> None:
        self._sets: Sets = {}
        self._known: dict[tuple[Side, ...], Policy] = {}
        self._secrets: Mapping[str, str] = {}

    def replace(self, sets: Sets, secrets: Mapping[str, str] | None = None) -> None:
        """Take other sets in place of all; a set's content never changes under its number, a secret's value may."""
        self._sets, self._secrets = sets, secrets or {}
        self._known.clear()

    def policy(self, sides: Iterable[Side]) -> Policy:
        """Return what those who ask let through; nobody asking lets nothing through, for then the proxy has no part."""
        key = tuple(sides)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            found = self._known[key] = Policy([self._rules(side) for side in key], self._secrets)
        return found

    def of_open(self, sides: tuple[Side, ...] | None) -> Policy:
        """Return what the ends let through of what has come to the proxy: nothing where one refuses it (None). Where
        nobody asks any more, that is anything."""
        if sides is None:
            return _REFUSED
        return self.policy(sides) if sides else _FREE

    def _rules(self, side: Side) -> L7:
        return rules_at(self._sets.get(side.set_id, {}), side.direction, side.peer, side.proto, side.port)


def _kind(rules: Iterable[model.L7Rules]) -> Kind:
    found = {
        kind
        for each in rules
        for kind, given in ((Kind.HTTP, each.http), (Kind.DNS, each.dns), (Kind.SERVER_NAMES, each.server_names))
        if given
    }
    return found.pop() if len(found) == 1 else Kind.NOTHING
