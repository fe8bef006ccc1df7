"""Rules for requests by their regular expressions: each pair of these is compared once, and all of them together as
far as that is some seconds' work; pure. What is not compared is not proved.
"""

import dataclasses
from collections.abc import Callable

from control import model
from control.policy import inclusion

MOST_WORK = 20 * inclusion.MAX_WORK
MOST_PAIRS = 100_000  # that are kept: some 20 MB


class Compared:
    """What is known of rules for requests. Built once, then only asked."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, bool], bool] = {}
        self._work = 0

    def covers(self, wide: model.HttpRule, narrow: model.HttpRule) -> bool:
        """Tell whether a rule is proved to match whatever request another one does."""
        return (
            (not wide.headers or _asked(wide) <= _asked(narrow))
            and self._is_within(narrow.method, wide.method)
            and self._is_within(narrow.host, wide.host)
            and self._is_within(narrow.path, wide.path)
        )

    def may_meet(self, one: model.HttpRule, other: model.HttpRule) -> bool:
        """Tell whether a request may match both rules: where it is not proved that none does."""
        return (
            not _exclude(one, other)
            and self._may_meet(one.method, other.method)
            and self._may_meet(one.host, other.host)
            and self._may_meet(one.path, other.path)
        )

    def _is_within(self, narrow: str, wide: str) -> bool:
        if not wide or wide == narrow:
            return True
        return bool(narrow) and self._ask(inclusion.is_within, narrow, wide, False)

    def _may_meet(self, one: str, other: str) -> bool:
        return not one or not other or one == other or self._ask(inclusion.may_meet, one, other, True)

    def _ask(self, compare: Callable[[str, str], tuple[bool, int]], one: str, other: str, unproved: bool) -> bool:
        key = one, other, unproved
        if key not in self._known:
            if self._work > MOST_WORK or len(self._known) >= MOST_PAIRS:
                return unproved
            self._known[key], work = compare(one, other)
            self._work += work
        return self._known[key]


def _asked(rule: model.HttpRule) -> set[model.HeaderMatch]:
    """Return the headers without which a rule does not match."""
    # Names of headers have no case.
    asked = (header for header in rule.headers if header.mismatch is model.Mismatch.FAIL)
    return {dataclasses.replace(header, name=header.name.lower()) for header in asked}


def _exclude(one: model.HttpRule, other: model.HttpRule) -> bool:
    """Tell whether two rules ask for different values of one header."""
    values = [
        {header.name: header.value for header in _asked(rule) if header.value and not header.secret}
        for rule in (one, other)
    ]
    return any(values[1].get(name, value) != value for name, value in values[0].items())
