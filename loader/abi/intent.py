"""What the agent tells the programs: the node's switches, who is enrolled, who has which address, policy, services."""

from loader.record import U8, U16, U32, U64, ZERO_ADDR, Addr, Record, record


@record
class Config(Record):
    """The one record of the `config` array: node-wide switches. All zero: policy denies, nothing is accelerated."""

    generation: U32  # raised after each policy change: verdicts remembered under another one are asked again
    probation_packets: U32  # packets an end must have sent before it is enrolled
    udp_timeout_s: U32
    tcp_timeout_s: U32
    tcp_close_timeout_s: U32
    icmp_timeout_s: U32
    acceleration: U8  # 1: new connections may take the short cut
    self_test: U8  # 1: the self-test passed on this kernel
    direct_delivery: U8 = 0  # 1: packets of new connections may go straight into the other pod's interface
    mtls: U8 = 0  # Mtls
    proxy_ifindex: U32 = 0  # host-side interface of the node proxy's namespace; 0: what needs a proxy is denied
    proxy_netns: U64 = 0  # the cookie of that namespace
    proxy_nsid: U32 = 0xFFFFFFFF  # and its number as seen from the agent's; 0xffffffff: not known
    pad1: U32 = 0


@record
class Edition(Record):
    """The one record of the `edition` array."""

    state: U32  # EditionState


@record
class EndpointKey(Record):
    id: U32


@record
class Endpoint(Record):
    """An enrolled pod, in the edition in force and in the one to come (EditionState).

    An element of the map is used again for another pod as soon as its record is replaced, also under a program that
    reads it. `id` comes first, so it is written first; who has read the record compares it last (bpf/policy.h).
    """

    id: U32  # the key
    identity: U32
    set_id: U32  # the policy set; 0 has no entries, so everything is denied
    flags: U32  # EndpointFlag
    ingress_plens: U32 = 0  # bit n: the set has ingress entries whose port prefix is n bits long
    egress_plens: U32 = 0
    next_identity: U32 = 0  # 0: as now
    next_set_id: U32 = 0  # 0: as now, with the set's prefixes
    next_ingress_plens: U32 = 0
    next_egress_plens: U32 = 0
    ifindex: U32 = 0  # host-side interface
    nsid: U32 = 0  # the pod's network namespace as seen from the agent's; 0xffffffff: not known
    netns_cookie: U64 = 0
    addr4: Addr = ZERO_ADDR  # its first address of each family; zero: none
    addr6: Addr = ZERO_ADDR
    mac: U64 = 0  # link address of the pod's own interface, in the first six bytes; 0: not known
    # The interface by which its packets come to the host's routing: `ifindex`, or the bridge that this is a port of.
    # 0: not known, and whatever comes in its name counts as its own.
    inlet: U32 = 0
    pad: U32 = 0


@record
class AddrKey(Record):
    addr: Addr


@record
class EndpointRef(Record):
    id: U32


@record
class NetnsKey(Record):
    cookie: U64


@record
class IfaceKey(Record):
    ifindex: U32


@record
class IpcacheKey(Record):
    """An LPM key: the first `prefixlen` bits of addr, IPv4 counted from bit 96."""

    prefixlen: U32
    addr: Addr


@record
class IpcacheValue(Record):
    identity: U32
    next_identity: U32 = 0  # in the edition to come; 0: as now
    flags: U32 = 0  # IpcacheFlag; while an edit changes them, those of both editions


@record
class PolicyKey(Record):
    """One entry of a policy set. Exact match; wildcards are peer_id 0, proto 0 and port prefixes shorter than 16."""

    set_id: U32
    peer_id: U32  # 0 matches any identity
    port: U16  # the destination port masked to plen bits; the ICMP type for ICMP
    proto: U8  # Proto
    direction: U8  # Direction
    plen: U8  # 0 to 16
    pad0: U8 = 0
    pad1: U16 = 0


@record
class PolicyValue(Record):
    """The enforced part, and the part that policies in audit mode would enforce."""

    verdict: U8  # Verdict
    rank: U8  # Rank
    audit_verdict: U8
    audit_rank: U8
    rule_id: U32
    audit_rule_id: U32
    present: U8  # 1: the enforced part counts; 0: the entry exists for its audit part only
    audit_present: U8
    pad: U16 = 0


@record
class ServiceKey(Record):
    addr: Addr
    port: U16
    proto: U8
    pad: U8 = 0


@record
class Service(Record):
    id: U32
    backends: U32  # ready backends; 0: refuse the call
    next: U32  # round robin position
    pad: U32 = 0


@record
class BackendKey(Record):
    service: U32
    index: U32  # 0 to backends - 1


@record
class Backend(Record):
    addr: Addr
    port: U16
    pad0: U16 = 0
    pad1: U32 = 0
