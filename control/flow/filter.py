"""Which flows to show: the filter flags of `hubble observe` that mean something here, as pure predicates.

A `Term` is one use of a flag. Uses of one flag are alternatives; different flags must all hold; a negated use removes
what it matches, whatever else holds. `pod`, `ip` and their like ask either end, `from-` and `to-` forms one end.
"""

import dataclasses
import fnmatch
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from control.flow import filter_l7, labels, record
from loader import abi

Flow = Mapping[str, Any]
Predicate = Callable[[Flow], bool]
_SidePredicate = Callable[[Flow, str], bool]
_Builder = Callable[[str], Predicate]

VERDICTS = ("FORWARDED", "DROPPED", "ERROR", "AUDIT", "REDIRECTED", "TRACED", "TRANSLATED")
PROTOCOLS = {
    "tcp": ("TCP",), "udp": ("UDP",), "sctp": ("SCTP",), "icmp": ("ICMPv4", "ICMPv6"), "icmpv4": ("ICMPv4",),
    "icmpv6": ("ICMPv6",),
}  # fmt: skip
# Hubble's event types by number, then those that only sockmesh has.
TYPES = {"drop": 1, "capture": 3, "trace": 4, "policy-verdict": 5, "trace-sock": 7, "l7": 129}
OUR_TYPES = ("request", "open", "periodic", "close", "failed", "audit", "stuck", "policy-reset")
_TRACE_POINTS = {"to-endpoint": 0, "from-endpoint": 5}
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "NS")


@dataclasses.dataclass(frozen=True)
class Term:
    """One use of a filter flag: its long name without dashes, and its value."""

    flag: str
    value: str
    negated: bool = False


class FilterInvalid(ValueError):
    """The caller wrote a value that its flag does not take."""


def _plain(word: str) -> str:
    return word.lower().replace("_", "-")


def _one_of(value: str, allowed: Iterable[str]) -> str:
    """Return the allowed word that is meant: records write policy_reset what a line of text calls policy-reset."""
    known = {_plain(name): name for name in allowed}
    try:
        return known[_plain(value)]
    except KeyError:
        raise ValueError(f'unknown "{value}" ({", ".join(known.values())})') from None


def _verdict(value: str) -> Predicate:
    wanted = _one_of(value, VERDICTS)
    return lambda flow: flow.get("verdict") == wanted


def _drop_reason(value: str) -> Predicate:
    if value.isdecimal():
        number = int(value)
        return lambda flow: flow.get("drop_reason") == number
    wanted = _one_of(value, (reason.name for reason in abi.DropReason if reason))
    return lambda flow: flow.get("drop_reason_desc") == wanted


def _direction(value: str) -> Predicate:
    wanted = _one_of(value, ("INGRESS", "EGRESS"))
    return lambda flow: flow.get("traffic_direction") == wanted


def _protocol(value: str) -> Predicate:
    wanted = PROTOCOLS[_one_of(value, PROTOCOLS)]
    return lambda flow: any(name in (flow.get("l4") or {}) for name in wanted)


def _ip_version(value: str) -> Predicate:
    wanted = "IPv" + _one_of(value.lower().removeprefix("ip").removeprefix("v"), ("4", "6"))
    return lambda flow: (flow.get("IP") or {}).get("ipVersion") == wanted


def _tcp_flags(value: str) -> Predicate:
    wanted = [_one_of(flag.strip(), _TCP_FLAGS) for flag in value.split(",")]

    def holds(flow: Flow) -> bool:
        flags = ((flow.get("l4") or {}).get("TCP") or {}).get("flags") or {}
        return all(flags.get(flag) for flag in wanted)

    return holds


def _type(value: str) -> Predicate:
    name, colon, sub = value.lower().partition(":")
    name = _one_of(name, (*TYPES, *OUR_TYPES))
    if name in OUR_TYPES:
        if colon:
            raise ValueError(f'"{value}": {name} has no sub types')
        event = name.replace("-", "_")
        return lambda flow: record.extension(flow).get("event") == event
    number = TYPES[name]
    if not colon:
        return lambda flow: (flow.get("event_type") or {}).get("type") == number
    if name != "trace":
        raise ValueError(f'"{value}": only trace has sub types')
    point = _TRACE_POINTS[_one_of(sub, _TRACE_POINTS)]
    return lambda flow: (
        (flow.get("event_type") or {}).get("type") == number and (flow["event_type"].get("sub_type") or 0) == point
    )


def _uuid(value: str) -> Predicate:
    return lambda flow: flow.get("uuid") == value


def _node_name(value: str) -> Predicate:
    pattern = re.compile(fnmatch.translate(value))
    return lambda flow: bool(pattern.match(str(flow.get("node_name", ""))))


def _ip(value: str) -> _SidePredicate:
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f'"{value}" is neither an address nor a range (10.0.0.1, 10.0.0.0/8, fd00::/8)') from None
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        # As a dual-stack program writes an IPv4 address; records have it as what it is.
        bits = int(network.network_address) & 0xFFFFFFFF
        network = ipaddress.IPv4Network((bits, network.prefixlen - _MAPPED.prefixlen))

    def holds(flow: Flow, side: str) -> bool:
        address = (flow.get("IP") or {}).get(side)
        try:
            return address is not None and ipaddress.ip_address(address) in network
        except ValueError:
            return False

    return holds


def _port(value: str) -> _SidePredicate:
    first, dash, last = value.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        raise ValueError(f'"{value}" is not a port (80) or a range of ports (8000-8999)')
    low, high = int(first), int(last or first)
    if not low <= high <= 65535:
        raise ValueError(f'"{value}": ports go from 0 to 65535, the lower one first')

    def holds(flow: Flow, side: str) -> bool:
        ports = (flow.get("l4") or {}).values()
        return any(low <= proto[f"{side}_port"] <= high for proto in ports if f"{side}_port" in proto)

    return holds


def _identity(value: str) -> _SidePredicate:
    if value.isdecimal():
        number = int(value)
        return lambda flow, side: ((flow.get(side) or {}).get("identity") or 0) == number
    names = {r.name.lower().replace("_", "-"): r for r in abi.ReservedIdentity}
    name = _one_of(value.lower().removeprefix("reserved:"), names)

    def holds(flow: Flow, side: str) -> bool:
        # By name it is whom policies mean by that word: an address outside has the number of its family, or of the
        # narrowest range that a rule names, and never that of `world`.
        end = flow.get(side) or {}
        return (end.get("identity") or 0) == names[name] or f"reserved:{name}" in (end.get("labels") or ())

    return holds


def _label(value: str) -> _SidePredicate:
    holds = labels.selector(value)
    return lambda flow, side: side in flow and holds(frozenset((flow.get(side) or {}).get("labels") or ()))


def _namespace(value: str) -> _SidePredicate:
    pattern = re.compile(fnmatch.translate(value))

    def holds(flow: Flow, side: str) -> bool:
        own = (flow.get(side) or {}).get("namespace") or (flow.get(f"{side}_service") or {}).get("namespace")
        return bool(own and pattern.match(own))

    return holds


def _owner(value: str) -> tuple[str, str]:
    """Split "[namespace/]name"; without a namespace any will do."""
    namespace, slash, name = value.rpartition("/")
    if (slash and not namespace) or "/" in namespace:
        raise ValueError(f'"{value}" is not a name, namespace/name or namespace/')
    return namespace, name


def _named(namespace: str, pattern: str, own_namespace: Any, own: Any) -> bool:
    if namespace and own_namespace != namespace:
        return False
    if not isinstance(own, str) or not own:
        return False
    return fnmatch.fnmatchcase(own, pattern) if "*" in pattern else own.startswith(pattern)


def _pod(value: str) -> _SidePredicate:
    # A prefix, as in Hubble: the pods of a Deployment differ in their last letters only.
    namespace, name = _owner(value)

    def holds(flow: Flow, side: str) -> bool:
        end = flow.get(side) or {}
        return _named(namespace, name, end.get("namespace"), end.get("pod_name"))

    return holds


def _service(value: str) -> _SidePredicate:
    namespace, name = _owner(value)

    def holds(flow: Flow, side: str) -> bool:
        service = flow.get(f"{side}_service") or {}
        return _named(namespace, name, service.get("namespace"), service.get("name"))

    return holds


_WHOLE: dict[str, _Builder] = {
    "verdict": _verdict, "drop-reason-desc": _drop_reason, "traffic-direction": _direction, "protocol": _protocol,
    "ip-version": _ip_version, "tcp-flags": _tcp_flags, "type": _type, "uuid": _uuid, "node-name": _node_name,
    **filter_l7.FLAGS,
}  # fmt: skip
_SIDED: dict[str, Callable[[str], _SidePredicate]] = {
    "ip": _ip, "port": _port, "identity": _identity, "label": _label, "namespace": _namespace, "pod": _pod,
    "service": _service,
}  # fmt: skip


def _either(holds: _SidePredicate) -> Predicate:
    return lambda flow: holds(flow, "source") or holds(flow, "destination")


def _at(side: str, holds: _SidePredicate) -> Predicate:
    return lambda flow: holds(flow, side)


FLAGS: dict[str, _Builder] = dict(_WHOLE)
for _name, _build in _SIDED.items():
    FLAGS[_name] = lambda value, build=_build: _either(build(value))  # type: ignore[misc]
    FLAGS[f"from-{_name}"] = lambda value, build=_build: _at("source", build(value))  # type: ignore[misc]
    FLAGS[f"to-{_name}"] = lambda value, build=_build: _at("destination", build(value))  # type: ignore[misc]


def predicate(terms: Sequence[Term]) -> Predicate:
    """Return whether a flow passes all terms; raises FilterInvalid, naming the flag, for a value it does not take."""
    wanted: dict[str, list[Predicate]] = {}
    unwanted: list[Predicate] = []
    for term in terms:
        try:
            holds = FLAGS[term.flag](term.value)
        except KeyError:
            raise FilterInvalid(f"--{term.flag}: there is no such filter") from None
        except ValueError as error:
            raise FilterInvalid(f"--{term.flag}: {error}") from None
        if term.negated:
            unwanted.append(holds)
        else:
            wanted.setdefault(term.flag, []).append(holds)
    groups = list(wanted.values())
    return lambda flow: (
        all(any(holds(flow) for holds in group) for group in groups) and not any(holds(flow) for holds in unwanted)
    )
