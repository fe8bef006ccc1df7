"""HTTP rules compiled for many requests: the same answers as control/policy/request.py, and what a rule mends.

    rules = Rules(l7)
    rules.decide("GET", "/", "shop", ())   # Decision(allowed=True, changes=())

The first rule that matches counts. A header that stands there several times has their values with commas between, as
for who reads it as a list: which of them a server takes, nobody can tell.
"""

import dataclasses
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from control import model
from control.policy import regex
from control.policy.automaton import Automaton

Fields = tuple[tuple[bytes, bytes], ...]  # lower-case name and value, in order

_CACHED = 4096  # answers; what clients ask is much the same again and again
_CACHED_BYTES = 1024  # of what is asked: longer requests are decided anew, so that a client cannot fill the memory


class Change(NamedTuple):
    """What is done to a request's headers before it goes on: ADD, DELETE (of another value) or REPLACE."""

    action: model.Mismatch
    name: bytes
    value: bytes


class Decision(NamedTuple):
    """`told`: names of headers that were not as a rule says, for the record."""

    allowed: bool
    changes: tuple[Change, ...] = ()
    told: tuple[bytes, ...] = ()


DENIED = Decision(False)
ALLOWED = Decision(True)


class Rules:
    """All HTTP rules of one peer and port. `secrets`: "namespace/name" to a value; one that is missing is never had."""

    def __init__(self, rules: Iterable[model.L7Rules], secrets: Mapping[str, str] | None = None) -> None:
        rules = tuple(rules)
        self._free = any(each.is_anything for each in rules)
        self._rules = tuple(_Rule(rule, secrets or {}) for each in rules for rule in each.http or ())
        self._looked_at = frozenset(header.name for rule in self._rules for header in rule.headers)
        self._known: OrderedDict[tuple[str, str, str, Fields], Decision] = OrderedDict()

    def decide(self, method: str, path: str, host: str, fields: Fields) -> Decision:
        """Return what becomes of a request; the host is without regard to case, as a name is."""
        if self._free:
            return ALLOWED
        seen = tuple(field for field in fields if field[0] in self._looked_at) if self._looked_at else ()
        if b"host" in self._looked_at and not any(name == b"host" for name, _ in seen):
            seen += ((b"host", host.encode()),)  # HTTP/2 says it as :authority (RFC 9113, 8.3.1)
        key = method, path, host, seen
        found = self._known.get(key)
        if found is None:
            found = next((rule.decision(seen) for rule in self._rules if rule.matches(*key)), DENIED)
            if len(method) + len(path) + len(host) + sum(len(value) for _, value in seen) <= _CACHED_BYTES:
                if len(self._known) >= _CACHED:
                    self._known.popitem(last=False)
                self._known[key] = found
        return found


@dataclasses.dataclass(frozen=True)
class _Header:
    name: bytes
    value: bytes | None  # None: any
    mismatch: model.Mismatch

    def is_in(self, fields: Fields) -> bool:
        values = [value for name, value in fields if name == self.name]
        return bool(values) and self.value in (None, b",".join(values))

    def change(self, fields: Fields) -> Change | None:
        match self.mismatch:
            case model.Mismatch.ADD | model.Mismatch.REPLACE if self.value is not None:
                return Change(self.mismatch, self.name, self.value)
            case model.Mismatch.DELETE if any(name == self.name for name, _ in fields):
                return Change(self.mismatch, self.name, self.value or b"")
        return None


class _Rule:
    """One rule, its expressions compiled. `impossible`: it asks for a value that nobody knows."""

    def __init__(self, rule: model.HttpRule, secrets: Mapping[str, str]) -> None:
        parts = (rule.method, rule.path, rule.host)
        self._method, self._path, self._host = (regex.compile(part) if part else None for part in parts)
        self.headers = tuple(
            _Header(header.name.lower().encode(), None if value is None else value.encode(), header.mismatch)
            for header in rule.headers
            for value in (secrets.get(header.secret) if header.secret else header.value,)
        )
        self._impossible = any(
            header.secret and header.secret not in secrets and header.mismatch is model.Mismatch.FAIL
            for header in rule.headers
        )

    def matches(self, method: str, path: str, host: str, fields: Fields) -> bool:
        if self._impossible:
            return False
        return (
            _fits(self._method, method)
            and _fits(self._path, path)
            and _fits(self._host, host)
            and all(h.is_in(fields) for h in self.headers if h.mismatch is model.Mismatch.FAIL)
        )

    def decision(self, fields: Fields) -> Decision:
        odd = [header for header in self.headers if not header.is_in(fields)]
        if not odd:
            return ALLOWED
        changes = tuple(change for header in odd if (change := header.change(fields)) is not None)
        return Decision(True, changes, tuple(header.name for header in odd))


def _fits(wanted: Automaton | None, text: str) -> bool:
    return wanted is None or wanted.fullmatch(text)


def mended(fields: Fields, changes: Iterable[Change]) -> Fields:
    """Return the fields as they go on, after a decision's changes."""
    out = list(fields)
    for action, name, value in changes:
        if action is not model.Mismatch.ADD:
            out = [field for field in out if field[0] != name]
        if action is not model.Mismatch.DELETE:
            out.append((name, value))
    return tuple(out)
