"""Names for numbers: ends of connections, identities, rules, ports. Nothing here raises on an unknown number."""

import dataclasses
from collections.abc import Iterable

from control.names import Names
from loader import abi
from loader.record import unpack_addr

_PROTOS = {int(p): p.name for p in abi.Proto}
_MACHINE_LABELS = ("k8s:io.", "k8s:app.kubernetes.io/managed-by")


@dataclasses.dataclass(frozen=True)
class End:
    """One end of a connection. `name` is "namespace/name" or "" for an address that nobody told us about."""

    ip: str
    port: int
    name: str = ""
    identity: int = 0
    endpoint: int = 0

    def __str__(self) -> str:
        return f"{self.name}:{self.port}" if self.name else host_port(self.ip, self.port)

    @property
    def address(self) -> str:
        return host_port(self.ip, self.port)

    def is_called(self, text: str) -> bool:
        """Tell whether text means this end: its address or [namespace/]name, with the port or without."""
        called = {self.ip, self.name or self.ip, self.name.rpartition("/")[2] or self.ip}
        return text in called or text in {host_port(name, self.port) for name in called}


def host_port(ip: str, port: int) -> str:
    """Return an address and port as one word.

    >>> host_port("10.0.0.1", 80), host_port("fd00::1", 80)
    ('10.0.0.1:80', '[fd00::1]:80')
    """
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def end(names: Names, raw: bytes, port: int, endpoint: int = 0, identity: int = 0) -> End:
    """Return an end by its endpoint id if it has one, else by its address."""
    ip = unpack_addr(raw)
    known = names.endpoint(endpoint) if endpoint else None
    known = known or names.endpoint_by_ip(ip)
    if known is None:
        return End(ip, port, "", identity, endpoint)
    return End(ip, port, str(known), identity or known.identity, endpoint or known.id)


def endpoint_name(names: Names, id: int) -> str:
    """Return "namespace/name", or "endpoint 7" for one that has no name."""
    known = names.endpoint(id)
    return str(known) if known else f"endpoint {id}"


def short_labels(labels: Iterable[str]) -> str:
    """Return labels as people wrote them: without their source, and without those that only machines set.

    >>> short_labels(["k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop", "reserved:host", "cidr:10.0.0.0/8"])
    'app=web,host,10.0.0.0/8'
    """
    return ",".join(label.partition(":")[2] for label in labels if not label.startswith(_MACHINE_LABELS))


def namespace_of(labels: Iterable[str]) -> str:
    """Return the namespace that labels tell of, or ""."""
    for label in labels:
        if label.startswith("k8s:io.kubernetes.pod.namespace="):
            return label.partition("=")[2]
    return ""


def identity_word(names: Names, identity: int) -> str:
    """Return an identity in words: "shop app=web", "host", or its bare number when nobody named it."""
    labels = names.labels(identity)
    if labels:
        return " ".join(part for part in (namespace_of(labels), short_labels(labels)) if part)
    try:
        return abi.ReservedIdentity(identity).name.lower().replace("_", "-")
    except ValueError:
        return str(identity)


def proto_word(proto: int) -> str:
    """Return "TCP", "any" for 0, or the bare number."""
    return "any" if proto == 0 else _PROTOS.get(proto, str(proto))


def ports_word(proto: int, port: int, plen: int) -> str:
    """Return the ports that `plen` leading bits of `port` stand for; ICMP has types instead of ports.

    >>> ports_word(6, 80, 16), ports_word(6, 8000, 10), ports_word(6, 0, 0), ports_word(1, 8, 16)
    ('80', '8000-8063', 'any', 'type 8')
    """
    if plen == 0:
        return "any"
    last = port | (0xFFFF >> plen)
    text = str(port) if last == port else f"{port}-{last}"
    return f"type {text}" if proto in (abi.Proto.ICMP, abi.Proto.ICMPV6) else text


def flag_words(flags: int, kind: type[abi.EndpointFlag] | type[abi.CtFlag] | type[abi.ConnFlag]) -> tuple[str, ...]:
    """Return the names of the bits that are set, lowest first."""
    return tuple(member.name.lower().replace("_", "-") for member in kind if member.name and flags & member)


def rule_word(names: Names, rule_id: int) -> str:
    """Return "NetworkPolicy shop/web spec.ingress[0]", "" for no rule, "rule 9" for one whose name is lost."""
    if not rule_id:
        return ""
    known = names.rule(rule_id)
    return str(known) if known else f"rule {rule_id}"


def rule_source(names: Names, rule_id: int) -> str:
    """Return "file:line" of a rule, or ""."""
    known = names.rule(rule_id)
    return known.source if known else ""


def with_source(rule: str, source: str) -> str:
    """Return a rule for people, with where it is written if that is known."""
    return f"{rule} ({source})" if source else rule
