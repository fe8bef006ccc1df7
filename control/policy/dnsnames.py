"""DNS names and the patterns that rules give for them, as `toFQDNs` and `rules.dns` mean them.

Names are compared in lower case and without a trailing dot. In a pattern "*" stands for any characters that a label may
have, none too, but never for a dot; "*" or "**" alone is every name; a leading "**." is one label or more.
"""

import functools
import re
from collections.abc import Iterable
from typing import NamedTuple

from control import model

MAX_NAME = 255  # no name on the network is longer, so a longer one is nobody's: peers choose what is asked about here
_NAME = re.compile(r"[-a-z0-9_.]*")


def canonical(name: str) -> str:
    """Return the one spelling that names are compared in.

    >>> canonical("API.Example.com.")
    'api.example.com'
    """
    return name.lower().removesuffix(".")


def matches(peer: model.NamePeer, name: str) -> bool:
    """Tell whether a name is one that peer means.

    >>> matches(model.NamePeer(pattern="*.cilium.io"), "a.cilium.io")
    True
    >>> matches(model.NamePeer(pattern="*.cilium.io"), "cilium.io")
    False
    """
    name = canonical(name)
    if peer.name:
        return name == canonical(peer.name)
    return len(name) <= MAX_NAME and _NAME.fullmatch(name) is not None and _read(peer.pattern).matches(name.split("."))


def show(peer: model.NamePeer) -> str:
    """Return what a rule says, in the one spelling: the label of whoever is meant by it, behind "fqdn:"."""
    return canonical(peer.name or peer.pattern)


def covers(wide: model.NamePeer, narrow: model.NamePeer) -> bool:
    """Tell whether a peer means all names that another one does; False also where that is not plain to see.

    >>> covers(model.NamePeer(pattern="*.cilium.io"), model.NamePeer(name="a.cilium.io"))
    True
    """
    name = show(narrow)
    return show(wide) == name or ("*" not in name and matches(wide, name))


class Wanted:
    """The names that any of some peers means: `name in wanted`, for canonical names. It remembers what it was asked."""

    __slots__ = ("_known", "_names", "_patterns")

    _MOST_KNOWN = 4096

    def __init__(self, peers: Iterable[model.NamePeer]) -> None:
        given = tuple(peers)
        self._names = frozenset(canonical(peer.name) for peer in given if peer.name)
        self._patterns = tuple(peer for peer in given if not peer.name)
        self._known: dict[str, bool] = {}

    def __contains__(self, name: str) -> bool:
        if name in self._names:
            return True
        found = self._known.get(name)
        if found is None:
            if len(self._known) >= self._MOST_KNOWN:
                self._known.clear()
            found = self._known[name] = any(matches(peer, name) for peer in self._patterns)
        return found


class _Pattern(NamedTuple):
    """A pattern's labels, each as what stands between its stars.

    `is_any`: of any number of labels. `leads`: one label or more comes before these.
    """

    labels: tuple[tuple[str, ...], ...]
    leads: bool = False
    is_any: bool = False

    def matches(self, name: list[str]) -> bool:
        """Tell whether a name of these labels matches, in a time that grows with the name and with the pattern only."""
        if self.is_any:
            return "" not in name[:-1]
        before = len(name) - len(self.labels)
        if before < 0 or (before > 0) != self.leads or "" in name[:before]:
            return False
        return all(map(_label_matches, self.labels, name[before:]))


@functools.lru_cache(maxsize=4096)
def _read(pattern: str) -> _Pattern:
    pattern = canonical(pattern)
    if pattern in ("*", "**"):
        return _Pattern((), is_any=True)
    rest = re.sub(r"\*+", "*", pattern.removeprefix("**."))  # more stars than one mean no more than one
    return _Pattern(tuple(tuple(label.split("*")) for label in rest.split(".")), leads=pattern.startswith("**."))


def _label_matches(parts: tuple[str, ...], label: str) -> bool:
    """Tell whether a label is these parts with anything between them.

    Of what is between, each part is taken where it comes first: that leaves the most to those behind it.
    """
    if len(parts) == 1:
        return label == parts[0]
    first, *inner, last = parts
    at, end = len(first), len(label) - len(last)
    if at > end or not label.startswith(first) or not label.endswith(last):
        return False
    for part in inner:
        found = label.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
