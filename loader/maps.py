"""Typed maps over pinned files: keys and values are records, never bytes.

The maps of one agent lie under `<pin dir>/maps`. `create_all` makes what is missing and adopts what has our layout;
everything else is refused before anything is written.
"""

import errno
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from loader import abi, bpf
from loader.errors import AttachFailed, LayoutMismatch, MapFull
from loader.record import Record

K = TypeVar("K", bound=Record)
V = TypeVar("V", bound=Record)

_BATCH = 1024
_PER_CPU = ("percpu_array", "percpu_hash")


def possible_cpus() -> int:
    """Return how many slots a per-CPU value has."""
    text = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return int(text.rsplit("-", 1)[-1].rsplit(",", 1)[-1]) + 1


def sizes(spec: abi.MapSpec) -> tuple[int, int]:
    """Return the kernel's key and value size of a map, in bytes."""
    if spec.type == "ringbuf":
        return 0, 0
    if spec.type == "sockhash":
        return 8, 8
    if spec.type == "sockmap":
        return 4, 8
    key = spec.key.SIZE if spec.key else 4
    return key, spec.value.SIZE if spec.value else 4


class Map(Generic[K, V]):
    """One open map. Keys of arrays are indexes: give `Index` or use `get_at`."""

    def __init__(self, spec: abi.MapSpec, fd: int) -> None:
        self.spec = spec
        self.fd = fd
        self._key_size, self._value_size = sizes(spec)
        self._cpus = possible_cpus() if spec.type in _PER_CPU else 0
        self._slot = (self._value_size + 7) // 8 * 8
        self._read_size = self._slot * self._cpus if self._cpus else self._value_size

    def close(self) -> None:
        os.close(self.fd)

    def get(self, key: K) -> V | None:
        raw = bpf.lookup(self.fd, key.pack(), self._read_size)
        return None if raw is None else self._value(raw)

    def get_at(self, index: int) -> V:
        raw = bpf.lookup(self.fd, struct.pack("=I", index), self._read_size)
        if raw is None:
            raise IndexError(f"{self.spec.name}[{index}]")
        return self._value(raw)

    def cpus_at(self, index: int) -> list[V]:
        """Return the value of each CPU in a per-CPU array."""
        raw = bpf.lookup(self.fd, struct.pack("=I", index), self._read_size) or b""
        return [self._value(raw[i : i + self._slot]) for i in range(0, len(raw), self._slot)]

    def put(self, key: K, value: V, flags: int = bpf.BPF_ANY) -> None:
        """Write one entry; raises MapFull when there is no room, then nothing was changed."""
        self._put(key.pack(), value.pack(), flags)

    def put_at(self, index: int, value: V) -> None:
        self._put(struct.pack("=I", index), value.pack(), bpf.BPF_ANY)

    def _put(self, key: bytes, value: bytes, flags: int) -> None:
        try:
            bpf.update(self.fd, key, value, flags)
        except OSError as error:
            if error.errno in (errno.E2BIG, errno.ENOSPC, errno.ENOMEM):
                raise self.full() from error
            raise

    def full(self) -> MapFull:
        return MapFull(
            f"map {self.spec.name} is full: it takes {self.spec.max_entries} entries; "
            "use fewer or wider rules, or fewer workloads on this node"
        )

    def put_many(self, entries: Mapping[K, V]) -> None:
        """Write all entries in batches; raises MapFull when there is no room (the caller deletes what it wrote)."""
        items = list(entries.items())
        for start in range(0, len(items), _BATCH):
            part = items[start : start + _BATCH]
            keys, values = b"".join(k.pack() for k, _ in part), b"".join(v.pack() for _, v in part)
            try:
                bpf.update_batch(self.fd, keys, values, len(part))
            except OSError as error:
                if error.errno in (errno.E2BIG, errno.ENOSPC, errno.ENOMEM):
                    raise self.full() from error
                for key, value in part:  # a map type without batches on this kernel
                    self.put(key, value)

    def delete(self, key: K) -> bool:
        return bpf.delete(self.fd, key.pack())

    def delete_many(self, keys: Iterable[K]) -> None:
        for key in keys:
            self.delete(key)

    def items(self) -> Iterator[tuple[K, V]]:
        """Iterate over a moving map: entries that come or go meanwhile may or may not be seen."""
        for key, value in self.raw_items():
            assert self.spec.key is not None
            yield self.spec.key.unpack(key), self._value(value)  # type: ignore[misc]

    def raw_items(self) -> Iterator[tuple[bytes, bytes]]:
        if self.spec.type in ("hash", "lru_hash") and not self._cpus:
            token: bytes | None = None
            count = _BATCH
            while True:
                try:
                    keys, values, after = bpf.lookup_batch(self.fd, token, self._key_size, self._read_size, count)
                except OSError as error:
                    if error.errno != errno.ENOSPC or count >= self.spec.max_entries:
                        raise
                    count *= 4  # one bucket holds more than the batch
                    continue
                yield from zip(keys, values, strict=True)
                if after is None:
                    return
                token = after
        key: bytes | None = None
        seen = 0
        while seen <= self.spec.max_entries:
            key = bpf.next_key(self.fd, key, self._key_size)
            if key is None:
                return
            seen += 1
            raw = bpf.lookup(self.fd, key, self._read_size)
            if raw is not None:
                yield key, raw

    def _value(self, raw: bytes) -> V:
        assert self.spec.value is not None
        if not self._cpus or len(raw) <= self._slot:
            return self.spec.value.unpack(raw)  # type: ignore[return-value]
        slots = [self.spec.value.unpack(raw[i : i + self._slot]) for i in range(0, len(raw), self._slot)]
        total = {name: sum(getattr(s, name) for s in slots) for name, _, _ in self.spec.value.FIELDS}
        return self.spec.value(**total)  # type: ignore[return-value]

    def count(self) -> int:
        """Return how many entries there are now."""
        return sum(1 for _ in self.raw_items())


class Maps:
    """All maps of one agent, by name: `maps.policy`, `maps["policy"]`."""

    config: Map[Record, abi.Config]
    edition: Map[Record, abi.Edition]
    endpoints: Map[abi.EndpointKey, abi.Endpoint]
    endpoint_ips: Map[abi.AddrKey, abi.EndpointRef]
    endpoint_netns: Map[abi.NetnsKey, abi.EndpointRef]
    endpoint_ifaces: Map[abi.IfaceKey, abi.EndpointRef]
    ipcache: Map[abi.IpcacheKey, abi.IpcacheValue]
    policy: Map[abi.PolicyKey, abi.PolicyValue]
    ct: Map[abi.CtKey, abi.CtEntry]
    conns: Map[abi.ConnKey, abi.Conn]
    socks: Map[abi.CookieKey, abi.CookieKey]
    services: Map[abi.ServiceKey, abi.Service]
    backends: Map[abi.BackendKey, abi.Backend]
    reverse: Map[abi.ReverseKey, abi.ReverseValue]
    frags: Map[abi.FragKey, abi.FragValue]
    caught: Map[abi.EndpointKey, abi.Caught]
    counters: Map[Record, abi.Counter]
    traffic: Map[abi.TrafficKey, abi.TrafficValue]

    def __init__(self, maps: dict[str, Map[Record, Record]]) -> None:
        self._maps = maps
        self.__dict__.update(maps)

    def __getitem__(self, name: str) -> Map[Record, Record]:
        return self._maps[name]

    def __enter__(self) -> "Maps":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for each in self._maps.values():
            each.close()

    @property
    def events_fd(self) -> int:
        return self._maps["events"].fd

    def counter(self, metric: abi.Metric) -> int:
        return self.counters.get_at(int(metric)).value


def open_all(pin_dir: Path) -> Maps:
    """Open the pinned maps of an agent, dead or alive; raises AttachFailed when there are none."""
    opened: dict[str, Map[Record, Record]] = {}
    for spec in abi.MAPS:
        path = pin_dir / "maps" / spec.name
        try:
            fd = bpf.get(path)
        except OSError as error:
            for each in opened.values():
                each.close()
            if error.errno == errno.ENOENT:
                raise AttachFailed(f"{path}: no pinned map: start the agent, or give its pin directory") from error
            raise
        _check(spec, fd)
        opened[spec.name] = Map(spec, fd)
    return Maps(opened)


def empty(path: Path) -> None:
    """Delete all that a pinned map holds, whatever version made it. No map, no error."""
    try:
        fd = bpf.get(path)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return
        raise
    try:
        _, _, key_size, _, entries, _ = bpf.map_info(fd)
        for _ in range(entries):
            key = bpf.next_key(fd, None, key_size)
            if key is None:
                return
            bpf.delete(fd, key)
    finally:
        os.close(fd)


def create_all(pin_dir: Path) -> Maps:
    """Open or create and pin every map; raises LayoutMismatch before anything is changed."""
    directory = pin_dir / "maps"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    fds: dict[str, int] = {}
    for spec in abi.MAPS:
        try:
            fds[spec.name] = bpf.get(directory / spec.name)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
        else:
            _check(spec, fds[spec.name])
    for spec in abi.MAPS:
        if spec.name not in fds:
            fds[spec.name] = _create(spec)
            bpf.pin(fds[spec.name], directory / spec.name)
    return Maps({spec.name: Map(spec, fds[spec.name]) for spec in abi.MAPS})


def _check(spec: abi.MapSpec, fd: int) -> None:
    kind, _, key, value, entries, _ = bpf.map_info(fd)
    want_key, want_value = sizes(spec)
    want = (int(bpf.MapType[spec.type]), want_key, want_value, spec.max_entries)
    if (kind, key, value, entries) != want:
        raise LayoutMismatch(
            f"pinned map {spec.name} is (type, key, value, entries) {(kind, key, value, entries)}, this version wants "
            f"{want}: it was left by another version; run `sockmesh uninstall --pins` and start the agent again"
        )


def _create(spec: abi.MapSpec) -> int:
    key, value = sizes(spec)
    return bpf.create_map(bpf.MapType[spec.type], key, value, spec.max_entries, spec.flags, f"sm_{spec.name}")
