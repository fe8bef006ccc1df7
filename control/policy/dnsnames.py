"""DNS names and the patterns that rules give for them, as `toFQDNs` and `rules.dns` mean them.

Names are compared in lower case and without a trailing dot. In a pattern "*" stands for any characters that a label may
have, none too, but never for a dot; "*" or "**" alone is every name; a leading "**." is one label or more.
"""

import functools
import re

from control import model

_CHARACTERS = "[-a-z0-9_]*"
_LABELS = r"([-a-z0-9_]+\.)+"


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
    return name == canonical(peer.name) if peer.name else _compiled(peer.pattern).fullmatch(name) is not None


def show(peer: model.NamePeer) -> str:
    """Return what a rule says, in the one spelling: the label of whoever is meant by it, behind "fqdn:"."""
    return canonical(peer.name or peer.pattern)


@functools.lru_cache(maxsize=65536)
def _compiled(pattern: str) -> re.Pattern[str]:
    pattern = canonical(pattern)
    if pattern in ("*", "**"):
        return re.compile(r"([-a-z0-9_]+(\.|$))*")
    leading = pattern.startswith("**.")
    rest = re.sub(r"\*+", "*", pattern.removeprefix("**."))  # more stars than one mean no more than one
    body = "".join(_CHARACTERS if c == "*" else re.escape(c) for c in rest)
    return re.compile((_LABELS if leading else "") + body)
