"""What rules for the bytes of a connection say of a request, a TLS server name or a DNS query; pure."""

from typing import Protocol

from control import model, policy_set
from control.policy import request

ALLOWED, DENIED = "allowed", "denied"


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
        return "http", "server_names"
    return ("dns",) if asked.query else ("server_names",) if asked.server_name else model.KINDS


def kind(rules: policy_set.L7) -> str:
    """Return which of model.KINDS some rules let through, the first of these; empty for none or any."""
    return next((each.kind for each in rules if each.kind), "")


def are_two(*ends: policy_set.L7) -> bool:
    """Tell whether rules, or those of both ends, are of more than one kind of bytes: the proxy speaks none then."""
    return len({each.kind for rules in ends for each in rules} - {""}) > 1


def is_nothing(rules: policy_set.L7) -> bool:
    """Tell whether there are rules for bytes and nothing is let through."""
    return bool(rules) and (all(each.is_nothing for each in rules) or are_two(rules))


def lets(l7: model.L7Rules | None, rules: policy_set.L7, asked: Asked) -> bool:
    """Tell whether one rule of all for a connection lets through what these do."""
    if l7 is None or rules == policy_set.ANYTHING:
        return l7 is None
    return not l7.is_nothing and verdict((l7,), asked) == verdict(rules, asked)
