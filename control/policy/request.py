"""Whether rules that look at a connection's bytes let through what they say. Pure; the proxy must agree with it.

Regular expressions are for the whole of what they are held against. A header's name and a host have no case: they are
compared in lower case, as the proxy reads them off the wire. A header's value has.
"""

import dataclasses
from collections.abc import Iterable

from control import model
from control.policy import dnsnames, regex


@dataclasses.dataclass(frozen=True)
class Request:
    """One HTTP request. `headers`: lower-case names and values, in order; empty strings match only what any string
    matches.
    """

    method: str = ""
    path: str = ""
    host: str = ""
    headers: tuple[tuple[str, str], ...] = ()


def http_allowed(rules: Iterable[model.L7Rules], request: Request) -> bool:
    """Tell whether any rule lets the request through; rules of other kinds let no request through."""
    return any(each.is_anything or any(_matches(rule, request) for rule in each.http or ()) for each in rules)


def name_allowed(rules: Iterable[model.L7Rules], name: str) -> bool:
    """Tell whether any rule lets a DNS query for name through."""
    return any(each.is_anything or any(dnsnames.matches(rule, name) for rule in each.dns or ()) for each in rules)


def server_allowed(rules: Iterable[model.L7Rules], name: str) -> bool:
    """Tell whether any rule lets a TLS client through that asks for a server of this name."""
    return any(
        each.is_anything
        or any(dnsnames.matches(model.NamePeer(pattern=given), name) for given in each.server_names or ())
        for each in rules
    )


def _matches(rule: model.HttpRule, request: Request) -> bool:
    parts = ((rule.method, request.method), (rule.path, request.path), (rule.host, request.host.lower()))
    return all(not pattern or regex.compile(pattern).fullmatch(value) for pattern, value in parts) and all(
        _has(header, request.headers) for header in rule.headers
    )


def _has(wanted: model.HeaderMatch, headers: tuple[tuple[str, str], ...]) -> bool:
    if wanted.mismatch != model.Mismatch.FAIL:
        return True  # it is mended or told of, not refused
    if wanted.secret:
        return False  # nobody knows the value here
    values = [value for name, value in headers if name == wanted.name.lower()]
    # Which of several a server takes, nobody can tell: they are one value, as for who reads them as a list.
    return bool(values) and wanted.value in (None, ",".join(values))
