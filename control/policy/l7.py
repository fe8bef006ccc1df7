"""What a rule asks of the bytes of a connection: the `rules` of one item of `toPorts`."""

import contextlib
import re
from typing import NamedTuple

from control import model
from control.policy import field, fqdn, lettercase, objectnames, regex
from control.policy.context import Context

HTTP_KEYS = ("method", "path", "host", "headers", "headerMatches")
KAFKA_KEYS = ("role", "apiKey", "apiVersion", "clientID", "topic")
MISMATCHES = {mismatch.value: mismatch for mismatch in model.Mismatch if mismatch.value}
HTTP, DNS, SERVER_NAMES = "http", "dns", "serverNames"
# Of all different expressions of a file. To read them takes about half a second; eight thousand paths have as many.
MAX_EXPRESSIONS = 256 << 10

_HEADER = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]{1,256}")  # RFC 9110, 5.6.2: token
_HEADER_RULE = "the name of a header: letters, digits and dashes"
_VALUE = re.compile(r"[^\x00-\x1f\x7f]*")
_VALUE_RULE = "no control characters"
_NOTHING = "so this item lets nothing through"


class Asked(NamedTuple):
    """The L7 rules of one item. `kind`: as what they were written, for what may stand on one port."""

    kind: str
    rules: model.L7Rules


def read_rules(place: field.Field, context: Context) -> Asked | None:
    """Read `rules`: of exactly one kind, or None where nothing is asked."""
    entries = place.fields((HTTP, DNS, "kafka", "l7proto", "l7"))
    if "l7" in entries and "l7proto" not in entries:
        entries["l7"].problem("needs l7proto")
    kinds = [key for key in entries if key != "l7"]
    if len(kinds) > 1:
        place.problem(f"must have one kind of rules, has {', '.join(kinds)} (use two items of toPorts)")
    found = [_read_kind(kind, entries, context.namespace) for kind in kinds]
    if DNS in entries and context.way == "from":
        entries[DNS].problem("DNS rules are for egress only")
    elif context.of_nodes and kinds and kinds != [DNS]:
        place.problem("a host policy can only have DNS rules, on egress")
    if not entries and isinstance(place.node.value, dict):
        place.advise("is empty: nothing is asked of what is sent to these ports")
    return found[0] if found else None


def _read_kind(kind: str, entries: dict[str, field.Field], namespace: str) -> Asked:
    place = entries[kind]
    if kind == HTTP:
        requests = tuple(_read_http(item, namespace) for item in place.each())
        if place.node.value == ():
            place.advise(f"is empty, {_NOTHING} ([{{}}] lets every request through)")
        return Asked(kind, model.L7Rules(http=requests))
    if kind == DNS:
        names = tuple(name for name in map(fqdn.read_name_peer, place.each()) if name is not None)
        if place.node.value == ():
            place.advise(f'is empty, {_NOTHING} ([{{matchPattern: "*"}}] lets every query through)')
        return Asked(kind, model.L7Rules(dns=names))
    if kind == "kafka":
        for item in place.each():
            for part in item.fields(KAFKA_KEYS).values():
                part.text()
        place.advise(f"Kafka rules are not served here, {_NOTHING}")
    else:
        kind = f"l7proto {place.text() or ''}"
        for item in entries["l7"].each() if "l7" in entries else ():
            for part in (item.mapping() or {}).values():
                part.text()
        place.advise(f"rules of other protocols are not served here, {_NOTHING}")
    return Asked(kind, model.L7Rules(http=()))


def _read_http(item: field.Field, namespace: str) -> model.HttpRule:
    parts = item.fields(HTTP_KEYS)
    method, path, host = (_expression(parts[key]) if key in parts else "" for key in HTTP_KEYS[:3])
    if "host" in parts:
        _check_case(parts["host"], host)
    headers = [_read_header(each) for each in (parts["headers"].each() if "headers" in parts else ())]
    if "headerMatches" in parts:
        headers += [_read_header_match(each, namespace) for each in parts["headerMatches"].each()]
    return model.HttpRule(method, path, host, tuple(header for header in headers if header is not None))


def _expression(place: field.Field) -> str:
    text = place.text()
    if text is None:
        return ""
    known = place.report.expressions
    if text not in known:
        known[text] = next(reversed(known.values()), 0) + len(text)
    if known[text] > MAX_EXPRESSIONS:
        place.problem(f"is beyond the {MAX_EXPRESSIONS:,} characters of regular expressions that a file may have")
        return ""
    try:
        regex.compile(text)
    except ValueError as error:
        place.problem(f"{field.quote(text)} {error}")
    return text


def _check_case(place: field.Field, host: str) -> None:
    """Advise where no host can match; what is no expression is a problem already."""
    with contextlib.suppress(ValueError):
        if host and lettercase.needs_capitals(host):
            place.advise(f"{field.quote(host)} never matches: hosts are compared in lower case (write it so)")


def _read_header(place: field.Field) -> model.HeaderMatch | None:
    """Read "Name" or "Name: Value"."""
    text = place.text(_VALUE, _VALUE_RULE)
    if text is None:
        return None
    name, colon, value = text.partition(":")
    value = value.strip(" ")
    if not _HEADER.fullmatch(name) or (colon and not value):
        place.problem(f'invalid {field.quote(text)} ("Name" for a header with any value, or "Name: Value")')
        return None
    return model.HeaderMatch(name, value if colon else None)


def _read_header_match(item: field.Field, namespace: str) -> model.HeaderMatch | None:
    parts = item.fields(("name", "value", "secret", "mismatch"), required=("name",))
    name = parts["name"].text(_HEADER, _HEADER_RULE) if "name" in parts else None
    value = parts["value"].text(_VALUE, _VALUE_RULE) if "value" in parts else None
    mismatch = parts["mismatch"].choice(MISMATCHES) if "mismatch" in parts else model.Mismatch.FAIL
    secret = read_secret(parts["secret"], namespace) if "secret" in parts else ""
    if name is None or mismatch is None:
        return None
    # An empty value is none: in the objects of Kubernetes there is no difference.
    return model.HeaderMatch(name, value or None, mismatch, secret)


def read_secret(place: field.Field, namespace: str) -> str:
    """Read which secret is meant, as "namespace/name"; `namespace` is the policy's own, if it has one."""
    parts = place.fields(("namespace", "name"), required=("name",))
    name = parts["name"].text(objectnames.DNS_NAME, objectnames.DNS_NAME_RULE) if "name" in parts else None
    where: str | None = namespace or "default"
    if "namespace" in parts:
        where = parts["namespace"].text(objectnames.DNS_LABEL, objectnames.DNS_LABEL_RULE)
    return f"{where}/{name}" if where and name else ""
