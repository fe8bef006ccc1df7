"""The maps: what each is called, what lies in it and how much fits."""

import dataclasses

from loader.abi import intent, state
from loader.record import Record

RecordType = type[Record]


@dataclasses.dataclass(frozen=True)
class MapSpec:
    """A map as C and Python agree on it. `type` is bcc's table name; a key or value of None has no layout of ours."""

    name: str
    type: str
    key: RecordType | None
    value: RecordType | None
    max_entries: int
    flags: int = 0


BPF_F_NO_PREALLOC = 1

MAPS: tuple[MapSpec, ...] = (
    MapSpec("config", "array", None, intent.Config, 1),
    MapSpec("edition", "array", None, intent.Edition, 1),
    MapSpec("endpoints", "hash", intent.EndpointKey, intent.Endpoint, 4096),
    MapSpec("endpoint_ips", "hash", intent.AddrKey, intent.EndpointRef, 16384),
    MapSpec("endpoint_netns", "hash", intent.NetnsKey, intent.EndpointRef, 4096),
    MapSpec("endpoint_ifaces", "hash", intent.IfaceKey, intent.EndpointRef, 4096),
    MapSpec("ipcache", "lpm_trie", intent.IpcacheKey, intent.IpcacheValue, 262144, BPF_F_NO_PREALLOC),
    MapSpec("policy", "hash", intent.PolicyKey, intent.PolicyValue, 65536),
    MapSpec("ct", "lru_hash", state.CtKey, state.CtEntry, 131072),
    MapSpec("conns", "hash", state.ConnKey, state.Conn, 65536),
    MapSpec("socks", "sockhash", state.CookieKey, state.CookieKey, 131072),
    MapSpec("services", "hash", intent.ServiceKey, intent.Service, 16384),
    MapSpec("backends", "hash", intent.BackendKey, intent.Backend, 65536),
    MapSpec("reverse", "lru_hash", state.ReverseKey, state.ReverseValue, 65536),
    MapSpec("frags", "lru_hash", state.FragKey, state.FragValue, 8192),
    MapSpec("caught", "lru_hash", intent.EndpointKey, state.Caught, 4096),
    MapSpec("roads", "lru_hash", state.RoadKey, state.Road, 65536),
    MapSpec("doors", "sockmap", None, None, 128),
    MapSpec("counters", "percpu_array", None, state.Counter, 64),
    MapSpec("traffic", "percpu_hash", state.TrafficKey, state.TrafficValue, 1024),
    MapSpec("events", "ringbuf", None, state.FlowEvent, 4 << 20),  # bytes
)

MAP_BY_NAME = {spec.name: spec for spec in MAPS}
