"""Connections of pods that are gone, or none of ours any more: who waits for their last word for ever is told, and one
that is back goes on where it was.

What such a pod's end said last, its FIN at least, can have been held back for bytes that were unread; it would have
been said again, but the pod has lost its interface. While its socket is there it may get another, and TCP goes on.
"""

import contextlib
import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from control import names
from control.agent import ageing, enforce, host, spares
from loader import abi, sockdiag
from loader.maps import Maps

_PAUSE_S, _PATIENCE_S = 1.0, 10.0


class _Pod(NamedTuple):
    """As it was last in force. `is_cut`: its interface is gone."""

    netns: str
    ifindex: int
    is_cut: bool = False


class Gone:
    """Remembers pods for as long as a connection of theirs is on record."""

    def __init__(self, opened: Maps) -> None:
        self._maps = opened
        self._pods: dict[int, tuple[_Pod, ...]] = {}  # of one name there can have been several, in turn
        self._next = self._until = 0.0
        self._replacing = spares.Replacing(opened)
        self.living: set[abi.ConnKey] = set()  # whose end has lost its interface, and lives, at the last look

    def went(self, these: Mapping[int, abi.Endpoint], known: names.Names) -> None:
        """Take note of endpoints that are not in force any more, or have lost their interfaces, by these names."""
        for id, held in these.items():
            name = known.endpoint(id)
            pod = _Pod(name.netns if name else "", held.ifindex)
            self._pods[id] = (*(old for old in self._pods.get(id, ()) if old[:2] != pod[:2]), pod)
            self._next = 0.0

    def is_due(self) -> bool:
        """Tell whether to look before all that ages is looked at: some times after an interface has gone, for the
        namespace may go some moments later. To be called often."""
        now = time.monotonic()
        if not self._pods or now < self._next:
            return False
        self._next = now + _PAUSE_S
        for id, pods in self._pods.items():
            cut = tuple(pod._replace(is_cut=pod.is_cut or not host.name(pod.ifindex)) for pod in pods)
            if cut != pods:
                self._pods[id] = cut
                self._until = now + _PATIENCE_S
        return now < self._until

    def look(self, known: names.Names) -> Iterator[abi.FlowEvent]:
        """Mark the ends that wait for ever; yield a STUCK for each. enforce.stuck has them reset; what such an end has
        in its queue can be read all the same. Open the records of ends that are back."""
        theirs = ageing.those_with(
            self._maps, lambda left, right: left.closed in enforce.NOT_OURS or right.closed in enforce.NOT_OURS
        )
        self.living = set()
        if not theirs:
            self._pods = {}
            return
        sockets = _Sockets()
        here = {key.id for key, held in self._maps.endpoints.items() if host.name(held.ifindex)}
        left: set[int] = set()
        with spares.Replacing(self._maps) as self._replacing:
            for key, conn in theirs:
                for side in (0, 1):
                    end = conn.end[side]
                    if end.closed not in enforce.NOT_OURS or _is_proxys(key, conn, side):
                        continue
                    left.add(end.endpoint)
                    name, pods = known.endpoint(end.endpoint), self._pods.get(end.endpoint, ())
                    socket = ageing.socket_name(key, side, end.cookie)
                    if name and end.endpoint in here and sockets.has(name.netns, socket):
                        conn = self._change(key, conn, side, closed=0) or conn
                    elif end.closed == abi.Closed.CUT or (pods and all(pod.is_cut for pod in pods)):
                        spaces = [pod.netns for pod in pods] or [name.netns if name else ""]
                        is_there = sockets.are_in(spaces, socket)
                        if is_there:
                            self.living.add(key)
                        if is_there is False and _waits(key, conn, 1 - side, known, sockets):
                            yield from self._tell(key, conn, 1 - side)
        self._pods = {id: sockets.without_empty(pods) for id, pods in self._pods.items() if id in left}

    def _tell(self, key: abi.ConnKey, conn: abi.Conn, side: int) -> Iterator[abi.FlowEvent]:
        if not self._change(key, conn, side, stuck=1):
            return
        event = ageing.conn_event(abi.EventType.STUCK, key, conn, time.monotonic_ns())
        is_source = enforce.initiator(key, conn)[0] == side
        yield dataclasses.replace(
            event, reason=int(abi.AccelReason.ABANDONED), cookie=conn.end[side].cookie,
            direction=int(abi.Direction.EGRESS if is_source else abi.Direction.INGRESS),
        )  # fmt: skip

    def _change(self, key: abi.ConnKey, seen: abi.Conn, side: int, **fields: int) -> abi.Conn | None:
        """Change one end on record, and return that; None where an end has closed."""

        def to(conn: abi.Conn) -> tuple[abi.End, abi.End] | None:
            left, right = conn.end
            if (left.closed, right.closed) != (seen.end[0].closed, seen.end[1].closed):
                return None
            changed = dataclasses.replace(conn.end[side], **fields)
            return (left, changed) if side else (changed, right)

        return self._replacing.change(key, seen, to)


def _is_proxys(key: abi.ConnKey, conn: abi.Conn, side: int) -> bool:
    """Tell whether an end's socket is the node proxy's, which stands for the pod, and stays when that goes."""
    began = enforce.initiator(key, conn)[0]
    return bool(conn.flags & (abi.ConnFlag.FROM_PROXY if side == began else abi.ConnFlag.TO_PROXY))


def _waits(key: abi.ConnKey, conn: abi.Conn, side: int, known: names.Names, sockets: "_Sockets") -> bool:
    """Tell whether an end waits for what was held back."""
    end = conn.end[side]
    if end.closed or end.stuck or not (end.enrolled and end.held):
        return False
    name = known.endpoint(end.endpoint)
    return bool(name and sockets.is_unended(name.netns, ageing.socket_name(key, side, end.cookie)))


class _Sockets:
    """The open TCP sockets of pods, by their network namespaces."""

    def __init__(self) -> None:
        self._seen: dict[str, Mapping[sockdiag.SocketName, int] | None] = {}

    def _of(self, netns: str) -> Mapping[sockdiag.SocketName, int] | None:
        if netns not in self._seen:
            self._seen[netns] = None
            with contextlib.suppress(OSError):
                self._seen[netns] = sockdiag.states(netns) if netns else {}
        return self._seen[netns]

    def has(self, netns: str, socket: sockdiag.SocketName) -> bool | None:
        """Tell whether a socket is there, in that connection; None where nobody can tell."""
        there = self._of(netns)
        return None if there is None else socket in there

    def are_in(self, spaces: Iterable[str], socket: sockdiag.SocketName) -> bool | None:
        """As `has`, of several namespaces."""
        found = [self.has(netns, socket) for netns in spaces]
        return True if True in found else None if None in found else False

    def without_empty(self, pods: tuple[_Pod, ...]) -> tuple[_Pod, ...]:
        """Return pods without those that have nothing any more; the last one stays, which tells that it is gone."""
        return tuple(pod for pod in pods if not pod.is_cut or self._of(pod.netns) != {}) or pods[-1:]

    def is_unended(self, netns: str, socket: sockdiag.SocketName) -> bool:
        """Tell whether a socket is there whose peer has not said its end."""
        return (self._of(netns) or {}).get(socket) in sockdiag.NO_FIN_RECEIVED
