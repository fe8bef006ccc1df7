"""Everything that the C programs can see: enums, records, map names and sizes, declared once.

`words` holds the enums; `intent` the records by which the agent tells the programs what to do, `state` those of what
the programs know and tell; `maps` where the records lie; `layout` writes it all down, as the C header and as a hash.
Users take every name from here: `from loader import abi`, then `abi.Conn`.

`python -m loader.abi > bpf/mesh_abi.h` writes the C side; `make check` regenerates and compares it, the header's
`_Static_assert`s check every size and offset at compile time. Conventions: ports are host order, addresses network
order, times nanoseconds of CLOCK_MONOTONIC, a zeroed value always means "deny" or "off".
"""

from loader.abi.intent import (
    AddrKey,
    Backend,
    BackendKey,
    Config,
    Edition,
    Endpoint,
    EndpointKey,
    EndpointRef,
    IfaceKey,
    IpcacheKey,
    IpcacheValue,
    NetnsKey,
    PolicyKey,
    PolicyValue,
    Service,
    ServiceKey,
)
from loader.abi.layout import ENUMS, RECORDS, fingerprint, header
from loader.abi.maps import BPF_F_NO_PREALLOC, MAP_BY_NAME, MAPS, MapSpec, RecordType
from loader.abi.state import (
    Caught,
    Conn,
    ConnKey,
    CookieKey,
    Counter,
    CtEntry,
    CtKey,
    End,
    Ends,
    FlowEvent,
    FragKey,
    FragValue,
    ProxyFacts,
    ProxySide,
    ReverseKey,
    ReverseValue,
    Road,
    RoadKey,
    TrafficKey,
    TrafficValue,
)
from loader.abi.words import (
    FIRST_CIDR_IDENTITY,
    FIRST_POD_IDENTITY,
    AccelReason,
    Closed,
    ConnFlag,
    CtFlag,
    Direction,
    DropReason,
    EditionState,
    EndpointFlag,
    EventType,
    Hook,
    IpcacheFlag,
    Metric,
    Mtls,
    Proto,
    ProxyFactsFlag,
    Rank,
    ReservedIdentity,
    Verdict,
)

__all__ = [
    "BPF_F_NO_PREALLOC", "ENUMS", "FIRST_CIDR_IDENTITY", "FIRST_POD_IDENTITY", "MAPS", "MAP_BY_NAME", "RECORDS",
    "AccelReason", "AddrKey", "Backend", "BackendKey", "Caught", "Closed", "Config", "Conn", "ConnFlag", "ConnKey",
    "CookieKey", "Counter", "CtEntry", "CtFlag", "CtKey", "Direction", "DropReason", "Edition", "EditionState", "End",
    "Endpoint", "EndpointFlag", "EndpointKey", "EndpointRef", "Ends", "EventType", "FlowEvent", "FragKey",
    "FragValue", "Hook", "IfaceKey", "IpcacheFlag", "IpcacheKey", "IpcacheValue", "MapSpec", "Metric", "Mtls",
    "NetnsKey", "PolicyKey", "PolicyValue", "Proto", "ProxyFacts", "ProxyFactsFlag", "ProxySide", "Rank",
    "RecordType", "ReservedIdentity", "ReverseKey", "ReverseValue", "Road", "RoadKey", "Service", "ServiceKey",
    "TrafficKey", "TrafficValue", "Verdict", "fingerprint", "header",
]  # fmt: skip
