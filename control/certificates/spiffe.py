"""The name of a workload's service account, as certificates carry it; another spelling of it is no name at all.

    spiffe://<trust domain>/ns/<namespace>/sa/<service account>

SPIFFE-ID, 2: what a trust domain and a path may be made of. Kubernetes' names are a part of it, so that nothing is
ever escaped.
"""

import dataclasses
import re

from control.policy import objectnames

_SCHEME = "spiffe://"
_DOMAIN = re.compile(r"[a-z0-9]([-._a-z0-9]{0,253}[a-z0-9])?")
_DOMAIN_RULE = "at most 255 lower-case letters, digits, dots, dashes and underscores, first and last a letter or digit"
_SHAPE = re.compile(r"spiffe://([^/]{1,255})/ns/([^/]{1,63})/sa/([^/]{1,253})")  # RFC 1123 labels and names


class BadId(ValueError):
    """A text that names no workload; the message says why, for the record."""


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class SpiffeId:
    """Raises BadId when made of what no such name holds."""

    trust_domain: str
    namespace: str
    service_account: str

    def __post_init__(self) -> None:
        check_domain(self.trust_domain)
        if not objectnames.DNS_LABEL.fullmatch(self.namespace):
            raise BadId(f"the namespace is not {objectnames.DNS_LABEL_RULE}")
        if not objectnames.DNS_NAME.fullmatch(self.service_account):
            raise BadId(f"the service account is not {objectnames.DNS_NAME_RULE}")

    def __str__(self) -> str:
        return f"{_SCHEME}{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"


def parse(text: str) -> SpiffeId:
    """Return the name that is spelled so; raises BadId."""
    found = _SHAPE.fullmatch(text)
    if found is None:
        raise BadId("it is not spiffe://<trust domain>/ns/<namespace>/sa/<service account>")
    return SpiffeId(*found.groups())


def check_domain(name: str) -> None:
    """Raise BadId for what is no trust domain."""
    if not _DOMAIN.fullmatch(name):
        raise BadId(f"the trust domain is not {_DOMAIN_RULE}")


def of_domain(name: str) -> str:
    """Return the name that a signing certificate carries: the trust domain's own, without a path (X509-SVID, 3.1)."""
    check_domain(name)
    return _SCHEME + name
