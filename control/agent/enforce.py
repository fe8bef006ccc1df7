"""Open connections that policy has turned against, or that wait for bytes they cannot see: found here and reset."""

import contextlib
import dataclasses
import functools
import time
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from control import evaluate, names
from control.agent import plaintext
from loader import abi, bpf, sockdiag
from loader.maps import Maps
from loader.record import unpack_addr

_TCP = int(abi.Proto.TCP)
_FROM, _TO = abi.Direction.EGRESS, abi.Direction.INGRESS
NOT_OURS = (abi.Closed.POD, abi.Closed.CUT)


@dataclasses.dataclass(frozen=True)
class Doomed:
    """One connection to reset, seen from the end that began it; endpoints are 0 where an end is not ours."""

    saddr: bytes
    daddr: bytes
    sport: int
    dport: int
    src_endpoint: int
    dst_endpoint: int
    pair: evaluate.Pair | None  # None: not for policy's sake
    cookie: int = 0  # as the record names it
    lost: abi.Direction | None = None  # whose pod has lost the address: EGRESS, the end that began; INGRESS, the other
    plain: abi.Direction | None = None  # whose pod speaks with another node's in plaintext, where mTLS is demanded
    sockets: tuple[int, int] = (0, 0)  # the cookies of its open sockets, source and destination; 0: not known


def initiator(key: abi.ConnKey, conn: abi.Conn) -> tuple[int, bytes, int, bytes, int]:
    """Return (side, address, port, peer's address, peer's port) of the end that began a connection."""
    ends = ((key.addr0, key.port0), (key.addr1, key.port1))
    side = 1 if conn.flags & abi.ConnFlag.INITIATOR_1 else 0
    return side, *ends[side], *ends[1 - side]


class Judge:
    """Asks policy about open connections; remembers answers, since thousands share a pair and a port."""

    def __init__(self, view: evaluate.View) -> None:
        self._view = view
        self._identities = {key.id: value.identity for key, value in view.endpoints.items()}  # type: ignore[attr-defined]
        self._owners = {key.addr: ref.id for key, ref in view.endpoint_ips.items()}  # type: ignore[attr-defined]
        self._answers: dict[tuple[bytes, bytes, int], evaluate.Pair] = {}

    def denied(self, saddr: bytes, daddr: bytes, dport: int) -> evaluate.Pair | None:
        """Return the decisions against a TCP connection, None where policy allows it."""
        pair = self.pair(saddr, daddr, dport)
        return None if pair.allowed else pair

    def pair(self, saddr: bytes, daddr: bytes, dport: int) -> evaluate.Pair:
        """Return both ends' decisions about a TCP connection."""
        key = (saddr, daddr, dport)
        pair = self._answers.get(key)
        if pair is None:
            pair = evaluate.evaluate_pair(self._view, unpack_addr(saddr), unpack_addr(daddr), _TCP, dport)
            self._answers[key] = pair
        return pair

    def has_lost(self, endpoint: int, addr: bytes, is_gone: bool = False) -> bool:
        """Tell whether a pod has that address no more: whatever policy says of it, it says of another pod, or of none.

        `is_gone`: the pod is none of ours any more, and has lost what another has; its address may stay its own.
        """
        if is_gone:
            return bool(self._owners.get(addr, endpoint) != endpoint)
        return endpoint in self._identities and self._owners.get(addr) != endpoint

    def against(
        self, saddr: bytes, daddr: bytes, dport: int, src: int, dst: int, gone: Container[int] = ()
    ) -> tuple[evaluate.Pair, abi.Direction | None] | None:
        """Return `pair` and `lost` of Doomed for a connection, None where it may go on. `src`, `dst`: the endpoints on
        record, or 0; `gone`: which of them are none of ours any more."""
        ends = ((_FROM, src, saddr), (_TO, dst, daddr))
        lost = next((way for way, id, addr in ends if self.has_lost(id, addr, id in gone)), None)
        if lost is None:
            pair = self.denied(saddr, daddr, dport)
            return (pair, None) if pair else None
        source, target = (
            self._identities.get(endpoint) or self._view.identity(unpack_addr(addr))
            for endpoint, addr in ((src, saddr), (dst, daddr))
        )
        return evaluate.Pair(None, None, source, target), lost


def doomed(opened: Maps, view: evaluate.View, mtls: abi.Mtls = abi.Mtls.OFF) -> list[Doomed]:
    """Return every open TCP connection that policy no longer allows, that mTLS is demanded for, or that is left without
    its address at one end: those with a socket record, then by conntrack."""
    judge = Judge(view)
    plain = plaintext.Plaintext(opened, view, mtls)
    whose = functools.cache(functools.partial(owner, opened))  # of thousands most have the same ends
    out: list[Doomed] = []
    seen: set[tuple[bytes, int, bytes, int]] = set()
    for key, conn in opened.conns.items():
        side, saddr, sport, daddr, dport = initiator(key, conn)
        seen.add((saddr, sport, daddr, dport))
        source, target = conn.end[side], conn.end[1 - side]
        src, dst = (0 if end.closed == abi.Closed.SOCKET else end.endpoint for end in (source, target))
        gone = {end.endpoint for end in conn.end if end.closed in NOT_OURS}
        against = judge.against(saddr, daddr, dport, src, dst, gone)
        if against is None and (unseen := _unseen(opened, judge, saddr, sport, daddr, dport)):
            against = unseen, None
        if against is None and (way := plain.of(saddr, sport, daddr, dport)) is not None:
            out.append(_unsafe(opened, judge, (saddr, daddr, sport, dport), way, source.cookie or target.cookie))
        if against:
            pair, lost = against
            cookie = source.cookie or target.cookie
            src, dst = whose(saddr, source.endpoint), whose(daddr, target.endpoint)
            if lost is not None and source.closed in NOT_OURS:
                src, pair = source.endpoint, dataclasses.replace(pair, source_identity=source.identity)
            if lost is not None and target.closed in NOT_OURS:
                dst, pair = target.endpoint, dataclasses.replace(pair, destination_identity=target.identity)
            sockets = _open(source), _open(target)
            out.append(Doomed(saddr, daddr, sport, dport, src, dst, pair, cookie, lost, sockets=sockets))
    # Each end that is ours has an entry, which names its endpoint.
    ends: dict[tuple[bytes, int, bytes, int], list[int]] = {}
    ended: list[abi.CtKey] = []
    for entry, value in opened.ct.items():
        tuple_ = (entry.saddr, entry.sport, entry.daddr, entry.dport)
        open_ = value.flags & abi.CtFlag.SEEN_REPLY and not value.flags & abi.CtFlag.CLOSING
        if entry.proto != _TCP or tuple_ in seen or not open_:
            continue
        egress = entry.direction == abi.Direction.EGRESS
        has_lost = judge.has_lost(entry.endpoint, entry.saddr if egress else entry.daddr)
        if has_lost or judge.denied(entry.saddr, entry.daddr, entry.dport):
            ends.setdefault(tuple_, [0, 0])[0 if egress else 1] = entry.endpoint
        elif (way := plain.of_entry(entry, value)) is not None:
            out.append(_unsafe(opened, judge, (entry.saddr, entry.daddr, entry.sport, entry.dport), way))
        if has_lost:
            ended.append(entry)
    for (saddr, sport, daddr, dport), (src, dst) in ends.items():
        if against := judge.against(saddr, daddr, dport, src, dst):
            pair, lost = against
            src, dst = whose(saddr, src), whose(daddr, dst)
            out.append(Doomed(saddr, daddr, sport, dport, src, dst, pair, lost=lost))
    _close(opened, ended)
    return out


def _open(end: abi.End) -> int:
    """Return the cookie of an end's socket, 0 where it may be closed."""
    return 0 if end.closed else end.cookie


def _unseen(opened: Maps, judge: Judge, saddr: bytes, sport: int, daddr: bytes, dport: int) -> evaluate.Pair | None:
    """Return the decisions by which the node proxy is to look into a connection that does not go there. What the
    client's own hook has led there never comes to the server's, and the proxy asks for both."""
    pair = judge.pair(saddr, daddr, dport)
    for way, decision, addr in ((_FROM, pair.egress, saddr), (_TO, pair.ingress, daddr)):
        key = abi.CtKey(saddr, daddr, owner(opened, addr, 0), sport, dport, _TCP, int(way))
        flags = entry.flags if (entry := opened.ct.get(key)) else 0
        if way == _FROM and flags & abi.CtFlag.TO_PROXY:
            return None
        goes_there = flags & (abi.CtFlag.TO_PROXY | abi.CtFlag.FROM_PROXY)
        if decision is not None and decision.verdict == abi.Verdict.PROXY and not goes_there:
            return pair
    return None


def _unsafe(
    opened: Maps, judge: Judge, ends: tuple[bytes, bytes, int, int], way: abi.Direction, cookie: int = 0
) -> Doomed:
    """Return a connection in plaintext with a pod of another node; `way` as in Plaintext."""
    saddr, daddr, _, dport = ends
    pair = dataclasses.replace(judge.pair(saddr, daddr, dport), egress=None, ingress=None)  # no rule is against it
    src, dst = owner(opened, saddr, 0), owner(opened, daddr, 0)
    return Doomed(*ends, src, dst, pair, cookie, plain=way)


def _close(opened: Maps, entries: Iterable[abi.CtKey]) -> None:
    """Have connections over for conntrack whose packet hook will not see their end: it drops whatever comes from an
    address that is not the pod's. Each later edit would condemn them again."""
    for key in entries:
        if entry := opened.ct.get(key):
            with contextlib.suppress(FileNotFoundError):  # the kernel made room just now
                opened.ct.put(key, dataclasses.replace(entry, flags=entry.flags | abi.CtFlag.CLOSING), bpf.BPF_EXIST)


def owner(opened: Maps, addr: bytes, recorded: int) -> int:
    """Return the endpoint of one end of a connection, 0 where it is not ours (any more).

    Its record has the endpoint it began with, whoever has its address now. Where that is no more, its pod got another
    name and another interface and is another now, and its address has that.
    """
    if recorded and opened.endpoints.get(abi.EndpointKey(recorded)):
        return recorded
    ref = opened.endpoint_ips.get(abi.AddrKey(addr))
    return ref.id if ref else 0


def stuck(opened: Maps) -> list[Doomed]:
    """Return connections whose reader was marked stuck: by an event, or while no agent was there to hear it."""
    out = []
    for key, conn in opened.conns.items():
        if conn.stuck and not all(end.closed for end in conn.end):
            side, saddr, sport, daddr, dport = initiator(key, conn)
            src = owner(opened, saddr, conn.end[side].endpoint)
            dst = owner(opened, daddr, conn.end[1 - side].endpoint)
            sockets = _open(conn.end[side]), _open(conn.end[1 - side])
            out.append(Doomed(saddr, daddr, sport, dport, src, dst, None, sockets=sockets))
    return out


class Outcome(NamedTuple):
    """Which connections were reset, at one end or at both, and which could not be at some end, by their place in what
    was given; of the latter only that end is named. `reasons` are by network namespace."""

    reset: set[int]
    failed: dict[int, Doomed]
    reasons: dict[str, str]


def reset(connections: Sequence[Doomed], known: names.Names) -> Outcome:
    """Reset both ends that live on this node. One pod that cannot be reached keeps no other from being reset."""
    by_netns: Mapping[str, dict[sockdiag.SocketName, tuple[int, str]]] = defaultdict(dict)
    out = Outcome(set(), {}, {})
    missed: Mapping[int, set[str]] = defaultdict(set)
    for number, each in enumerate(connections):
        for end, way, endpoint, local, lport, remote, rport, cookie in (
            ("src", _FROM, each.src_endpoint, each.saddr, each.sport, each.daddr, each.dport, each.sockets[0]),
            ("dst", _TO, each.dst_endpoint, each.daddr, each.dport, each.saddr, each.sport, each.sockets[1]),
        ):
            name = known.endpoint(endpoint) if endpoint else None
            if name and name.netns:
                by_netns[name.netns][local, lport, remote, rport, cookie] = number, end
            elif endpoint and (name or each.lost != way):  # else the pod is none of ours any more
                missed[number].add(end)
                out.reasons[str(name or endpoint)] = f"endpoint {name or endpoint}: its network namespace is not known"
    for netns, ends in by_netns.items():
        try:
            found = sockdiag.destroy(netns, list(ends))
        except OSError as error:
            found = sockdiag.Destroyed([], dict.fromkeys(ends, error))
        out.reset.update(ends[socket][0] for socket in found.done)
        for socket, why in found.failed.items():
            number, end = ends[socket]
            missed[number].add(end)
            out.reasons[netns] = f"network namespace {netns}: {why.strerror or why}"
    for number, which in missed.items():
        each = connections[number]
        out.failed[number] = dataclasses.replace(
            each,
            src_endpoint=each.src_endpoint if "src" in which else 0,
            dst_endpoint=each.dst_endpoint if "dst" in which else 0,
        )
    return out


def reset_events(connections: Iterable[Doomed]) -> Iterator[abi.FlowEvent]:
    """Return the record of each reset that policy asked for."""
    for each in connections:
        pair = each.pair
        if pair is None:
            continue
        egress, ingress = pair.egress, pair.ingress
        by_egress = _FROM in (each.lost, each.plain) or (egress is not None and not egress.allowed)
        decision = egress if by_egress else ingress
        reason = decision.reason if decision else abi.DropReason.POLICY_DENIED
        if each.lost is not None:  # as the packet hook says of what that pod sends
            reason = abi.DropReason.INVALID_SOURCE_IP
        elif each.plain is not None:
            reason = abi.DropReason.AUTH_REQUIRED
        yield abi.FlowEvent.blank(
            time=time.monotonic_ns(), type=int(abi.EventType.POLICY_RESET), hook=int(abi.Hook.AGENT),
            saddr=each.saddr, daddr=each.daddr, sport=each.sport, dport=each.dport, proto=_TCP, cookie=each.cookie,
            src_endpoint=each.src_endpoint, dst_endpoint=each.dst_endpoint,
            src_identity=pair.source_identity, dst_identity=pair.destination_identity,
            egress_rule=egress.rule_id if egress else 0,
            ingress_rule=ingress.rule_id if ingress and not by_egress else 0,
            direction=int(abi.Direction.EGRESS if by_egress else abi.Direction.INGRESS),
            verdict=int(abi.Verdict.DENY), reason=int(reason),
        )  # fmt: skip
