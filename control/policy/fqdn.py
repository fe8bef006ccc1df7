"""Names on the network as rules write them: of `toFQDNs`, of DNS rules and of the servers that a TLS client asks for.

They are kept in lower case and without the dot at their end; `dnsnames` says what a pattern matches.
"""

import re

from control import model
from control.policy import dnsnames, field

_NAME = re.compile(r"[-a-z0-9_]+(\.[-a-z0-9_]+)*")
_PATTERN = re.compile(r"[-a-z0-9_*]+(\.[-a-z0-9_*]+)*")
NAME_RULE = "letters, digits, - and _ with single dots between them"
PATTERN_RULE = f"{NAME_RULE}; * for any of them, a leading **. for one label or more"


def read_name_peer(item: field.Field) -> model.NamePeer | None:
    """Read `matchName` or `matchPattern`; exactly one of them is given."""
    parts = item.fields(("matchName", "matchPattern"))
    if len(parts) == 2:
        item.problem("matchName and matchPattern cannot be combined (use two items)")
    elif not parts and isinstance(item.node.value, dict):
        item.problem("must have one of matchName, matchPattern")
    name = _read(parts["matchName"], _NAME, NAME_RULE) if "matchName" in parts else None
    pattern = _read(parts["matchPattern"], _PATTERN, PATTERN_RULE) if "matchPattern" in parts else None
    if name:
        return model.NamePeer(name=name)
    return model.NamePeer(pattern=pattern) if pattern else None


def read_server_names(place: field.Field) -> tuple[str, ...]:
    """Read the names or patterns of `serverNames`: a set of one or more."""
    out: dict[str, None] = {}
    for item in place.items():
        name = _read(item, _PATTERN, PATTERN_RULE)
        if name is not None and name in out:
            item.problem(f"{field.quote(name)} is given twice")
        elif name is not None:
            out[name] = None
    if place.node.value == ():
        place.problem('must have at least one name (["*"] is every name)')
    return tuple(out)


def _read(place: field.Field, allowed: re.Pattern[str], rule: str) -> str | None:
    text = place.text(most=dnsnames.MAX_NAME)
    if text is None:
        return None
    name = dnsnames.canonical(text)
    # "*." is every name of one label: without its dot it would be every name there is.
    if not text.isascii() or not allowed.fullmatch(name) or text in ("*.", "**."):
        place.problem(f"invalid {field.quote(text)} ({rule})")
        return None
    return name
