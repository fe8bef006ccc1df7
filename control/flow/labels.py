"""Label selectors for flows: Kubernetes' syntax with Cilium's label sources, over labels written "source:key=value".

app=web            k8s:app=web        app!=web          app            !app
app in (web, api)  app notin (db)     reserved:world    app=web,tier!=db (both)
"""

import re
from collections.abc import Callable, Iterable

LabelPredicate = Callable[[frozenset[str]], bool]

_KEY = r"(?:(?P<source>[A-Za-z][A-Za-z0-9-]*):)?(?P<key>[A-Za-z0-9](?:[A-Za-z0-9._/:-]*[A-Za-z0-9])?)"
_SET = re.compile(rf"^{_KEY}\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)$")
_EQUAL = re.compile(rf"^{_KEY}\s*(?P<op>==|!=|=)\s*(?P<value>[A-Za-z0-9._:/-]*)$")
_EXISTS = re.compile(rf"^(?P<not>!\s*)?{_KEY}$")


def _split(text: str) -> Iterable[str]:
    """Split at the commas that are not inside parentheses."""
    return (part.strip() for part in re.split(r",(?![^()]*\))", text))


def _matches(label: str, source: str | None, key: str) -> str | None:
    """Return the label's value if it has this key (and this source, if one is asked for), else None."""
    name, _, value = label.partition("=")
    own_source, colon, own_key = name.partition(":")
    if not colon:
        own_source, own_key = "", name
    if source and source != "any" and own_source != source:
        return None
    return value if own_key == key else None


def _requirement(text: str) -> LabelPredicate:
    if found := _SET.match(text):
        wanted = frozenset(value.strip() for value in found["values"].split(","))
        if not all(wanted):
            raise ValueError(f'"{text}": an empty value in the list')
        return _value_test(found["source"], found["key"], wanted, negate=found["op"] == "notin")
    if found := _EQUAL.match(text):
        return _value_test(found["source"], found["key"], frozenset({found["value"]}), negate=found["op"] == "!=")
    if found := _EXISTS.match(text):
        source, key, negate = found["source"], found["key"], bool(found["not"])
        return lambda have: any(_matches(label, source, key) is not None for label in have) != negate
    raise ValueError(f'"{text}" is not a label selector (k=v, k!=v, k, !k, k in (a,b), k notin (a,b))')


def _value_test(source: str | None, key: str, wanted: frozenset[str], *, negate: bool) -> LabelPredicate:
    # As in Kubernetes, "!=" and "notin" also hold where the key is missing.
    return lambda have: any(_matches(label, source, key) in wanted for label in have) != negate


def selector(text: str) -> LabelPredicate:
    """Return the predicate of a selector; raises ValueError with the part that is wrong.

    >>> web = selector("app in (web, api), !canary")
    >>> web(frozenset({"k8s:app=web"})), web(frozenset({"k8s:app=web", "k8s:canary"}))
    (True, False)
    """
    requirements = [_requirement(part) for part in _split(text)]
    return lambda have: all(requirement(have) for requirement in requirements)
