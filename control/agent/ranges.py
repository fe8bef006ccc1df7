"""Which identities addresses have before and after a change of the ipcache, and the order that goes straight there."""

from collections.abc import Mapping

from loader import abi, record

Ipcache = Mapping[record.Record, record.Record]
_NONE = int(abi.ReservedIdentity.WORLD)  # what the kernel takes for an address in no range


class Ranges:
    """The longest range decides, as in the kernel."""

    def __init__(self, ipcache: Ipcache) -> None:
        self._ipcache = ipcache
        lengths = {key.prefixlen for key in ipcache if isinstance(key, abi.IpcacheKey)}
        self._masks = [(n, ((1 << n) - 1) << (128 - n)) for n in sorted(lengths, reverse=True)]

    def identity(self, addr: bytes, longest: int = 128) -> int:
        """Return the identity that ranges of at most `longest` bits give to an address or to a range's first one."""
        address = int.from_bytes(addr, "big")
        for length, mask in self._masks:
            if length <= longest:
                value = self._ipcache.get(abi.IpcacheKey(length, (address & mask).to_bytes(16, "big")))
                if isinstance(value, abi.IpcacheValue):
                    return value.identity
        return _NONE


def length(key: record.Record) -> int:
    assert isinstance(key, abi.IpcacheKey)
    return key.prefixlen


def straight_puts(puts: Ipcache) -> dict[record.Record, record.Record]:
    """Sort puts so that no address has an identity on the way that it has neither before nor after: longest first."""
    return dict(sorted(puts.items(), key=lambda item: -length(item[0])))


def straight_deletes(deletes: tuple[record.Record, ...]) -> tuple[record.Record, ...]:
    """Sort deletes likewise: shortest first."""
    return tuple(sorted(deletes, key=length))
