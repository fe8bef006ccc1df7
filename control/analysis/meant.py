"""Who may have been meant by what names nobody that policy could be asked about: words for an error. Pure."""

import difflib
import re
from collections.abc import Collection

from control import model
from control.policy import dnsnames, objectnames

MAY_BE = "give NAMESPACE/POD, an address, host, or fqdn:NAME"
_MOST_BEHIND = 3  # pods or addresses of a service that are named
_ALIKE = 0.75
_AS_KUBECTL = re.compile(r"(?:svc|services?)/(?:([^/]+)/)?([^/]+)")
_ENTITIES = frozenset(entity.value for entity in model.Entity) - {model.Entity.HOST.value}


def service_name(text: str, namespace: str) -> str:
    """Return "NAME.NAMESPACE" of a service that is written as kubectl has it, "svc/NAME"; nothing if it is not."""
    found = _AS_KUBECTL.fullmatch(text)
    return f"{found[2]}.{found[1] or namespace}" if found else ""


def is_service(text: str, service: model.Service, snapshot: model.Snapshot) -> str:
    """Say that a service is nobody's peer, for a call to it has arrived at a pod when policy is asked, and at which."""
    what, behind = "addresses", list(service.endpoints)
    if service.selector:
        chosen = (w for w in snapshot.workloads if w.namespace == service.namespace)
        what, behind = "pods", [str(w) for w in chosen if service.selector.items() <= w.labels.items()]
    names = ", ".join(behind[:_MOST_BEHIND]) + (", ..." if behind[_MOST_BEHIND:] else "")
    is_folded = service.selector and any(pod.startswith(f"{service.namespace}/") for pod in snapshot.folded)
    # A label that only a pod itself has, its name in a StatefulSet say, is not among its controller's.
    those = names or (
        "one that counts as its controller, if any: give its own name" if is_folded else "none is declared"
    )
    return f"{text} is service {service.namespace}/{service.name}: ask for the {what} behind it ({those})"


def hint(text: str, key: str, workloads: Collection[str]) -> str:
    """Return what may have been meant by a name that no workload has; `key`: with its namespace."""
    address = re.sub(r"/\d+$", "", text)
    if address != text and re.fullmatch(r"[0-9a-fA-F.:]+", address):
        return f"; of a range, one address is asked about: {address}"
    if "." in text and objectnames.DNS_NAME.fullmatch(dnsnames.canonical(text)) and re.search(r"[^\d.]", text):
        return f"; a DNS name is fqdn:{text}"
    if text in _ENTITIES:
        return f"; {text} is an entity, which may be many: {MAY_BE}"
    if _AS_KUBECTL.fullmatch(text):
        return "; no such service is declared: ask for a pod behind it, NAMESPACE/POD"
    near = difflib.get_close_matches(key[:320], workloads, n=1, cutoff=_ALIKE)
    return f"; did you mean {near[0]}?" if near else ""
