"""What rules for the bytes of a connection say of a request, a TLS server name or a DNS query; pure."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

from control import model, policy_set
from control.analysis.portset import PortSet
from control.policy import request

ALLOWED, DENIED = "allowed", "denied"
KINDS = ("http", "dns", "server_name")  # of bytes
Where = TypeVar("Where", bool, PortSet)


class Asked(Protocol):
    """What is asked about, one of these at most."""

    @property
    def http(self) -> request.Request | None: ...
    @property
    def server_name(self) -> str: ...
    @property
    def query(self) -> str: ...


def verdict(rules: policy_set.L7, asked: Asked) -> str | None:
    """Return what rules for bytes say of what is asked about; None where nothing is asked, or they say nothing of it.

    Of another kind of bytes than they are about none passes, but for requests, which a TLS client may mean to make. Nor
    does anything where they are of two kinds (`l7proxy/policy/book.py`).
    """
    if are_two(rules):
        return DENIED if asked.http is not None or asked.query or asked.server_name else None
    if asked.http is not None and kind(rules) in ("", "http") and any(each.http is not None for each in rules):
        passes = request.http_allowed(rules, asked.http)
    elif asked.query and any(each.dns is not None for each in rules):
        passes = request.name_allowed(rules, asked.query)
    elif asked.server_name and any(each.server_names is not None for each in rules):
        passes = request.server_allowed(rules, asked.server_name)
    elif any(each.is_anything for each in rules) or kind(rules) in ("", *_may_be_meant(asked)):
        return None
    else:
        passes = False
    return ALLOWED if passes else DENIED


def _may_be_meant(asked: Asked) -> tuple[str, ...]:
    """Return the kinds of bytes that may carry what is asked about."""
    if asked.http is not None:
        return "http", "server_name"
    return ("dns",) if asked.query else ("server_name",) if asked.server_name else KINDS


def kind(rules: policy_set.L7) -> str:
    """Return which kind of bytes some rules let through, empty for none or any."""
    return next(
        ("http" if r.http else "dns" if r.dns else "server_name" for r in rules if not (r.is_anything or r.is_nothing)),
        "",
    )


def are_two(*ends: policy_set.L7) -> bool:
    """Tell whether rules, or those of both ends, are of more than one kind of bytes: the proxy speaks none then."""
    found = {kind((each,)) for rules in ends for each in rules}
    return of_two((name in found for name in KINDS), False)


def of_two(kinds: Iterable[Where], nowhere: Where) -> Where:
    """Return where rules of more than one kind of bytes meet, so that nothing is let through, given where there are
    rules of each kind: which ports, or whether at all.

    >>> of_two((True, False, True), False), of_two((False, False, True), False)
    (True, False)
    """
    one, two = nowhere, nowhere
    for where in kinds:
        two |= one & where
        one |= where
    return two


def is_nothing(rules: policy_set.L7) -> bool:
    """Tell whether there are rules for bytes and nothing is let through."""
    return bool(rules) and (all(each.is_nothing for each in rules) or are_two(rules))


def lets(l7: model.L7Rules | None, rules: policy_set.L7, asked: Asked) -> bool:
    """Tell whether one rule of all for a connection lets through what these do."""
    if l7 is None or rules == policy_set.ANYTHING:
        return l7 is None
    return not l7.is_nothing and verdict((l7,), asked) == verdict(rules, asked)
