"""Which connections with pods of other nodes go past the node proxies, and so in plaintext, where mTLS is demanded."""

from control import evaluate
from loader import abi
from loader.maps import Maps

_TCP = int(abi.Proto.TCP)
# The proxy is called in the place of pods of other nodes, and calls in theirs.
_SAFE = {abi.Direction.EGRESS: abi.CtFlag.TO_PROXY, abi.Direction.INGRESS: abi.CtFlag.FROM_PROXY}


class Plaintext:
    """Asked about open TCP connections: whose pod has one in plaintext, as the direction of that pod's policy; None: it
    is none, or it may be."""

    def __init__(self, opened: Maps, view: evaluate.View, mode: abi.Mtls) -> None:
        self._opened, self._view, self._is_refused = opened, view, mode == abi.Mtls.STRICT

    def of(self, saddr: bytes, sport: int, daddr: bytes, dport: int) -> abi.Direction | None:
        """Tell of a connection by its ends; what conntrack has forgotten nobody can vouch for."""
        for way, addr, far in ((abi.Direction.EGRESS, saddr, daddr), (abi.Direction.INGRESS, daddr, saddr)):
            if self._is_refused and self._is_meshed(far):
                ref = self._view.endpoint_ips.get(abi.AddrKey(addr))
                id = ref.id if isinstance(ref, abi.EndpointRef) else 0
                entry = self._opened.ct.get(abi.CtKey(saddr, daddr, id, sport, dport, _TCP, int(way)))
                if entry is None or not entry.flags & _SAFE[way]:
                    return way
        return None

    def of_entry(self, key: abi.CtKey, entry: abi.CtEntry) -> abi.Direction | None:
        """Tell of a connection by one of its entries of conntrack."""
        way = abi.Direction(key.direction)
        far = key.daddr if way == abi.Direction.EGRESS else key.saddr
        return way if self._is_refused and not entry.flags & _SAFE[way] and self._is_meshed(far) else None

    def _is_meshed(self, addr: bytes) -> bool:
        value = self._view.ipcache.get(abi.IpcacheKey(128, addr))
        return isinstance(value, abi.IpcacheValue) and bool(value.flags & abi.IpcacheFlag.MESH)
