"""What an event is in Hubble's words: its verdict, drop reason, type, direction and observation point.

Event types, as Hubble numbers them:

| event | Hubble type | sub type |
|---|---|---|
| open, audit | 5 policy-verdict | |
| drop, policy_reset | 1 drop | drop reason |
| periodic, close of a packet hook | 4 trace | 0 to-endpoint, 5 from-endpoint |
| periodic, close of a socket hook; stuck, failed | 7 trace-sock | |

`traffic_direction` is that of the policy that decided. A refusal has that of the policy that refused, which for a reply
(`is_reply`) is not the way its packet went. Where policy allowed, it is EGRESS if only the source is a pod of this
node, else INGRESS: of two pods the callee's policy is asked last.
"""

from loader import abi

DROP, TRACE, POLICY_VERDICT, TRACE_SOCK = 1, 4, 5, 7
TO_ENDPOINT, FROM_ENDPOINT = 0, 5

_SOCKET_HOOKS = frozenset({abi.Hook.CONNECT, abi.Hook.SENDMSG, abi.Hook.SOCKOPS, abi.Hook.SKMSG})
_PACKET_HOOKS = frozenset({abi.Hook.TC_FROM_POD, abi.Hook.TC_TO_POD})
_REFUSALS = frozenset({abi.EventType.DROP, abi.EventType.POLICY_RESET})
_DIRECTIONS = ("INGRESS", "EGRESS")


def is_socket_event(event: abi.FlowEvent) -> bool:
    """Whether a socket was seen rather than a packet; the agent's own events have a cookie if they are a socket's."""
    return event.hook in _SOCKET_HOOKS or (event.hook not in _PACKET_HOOKS and event.cookie != 0)


def verdict(event: abi.FlowEvent) -> str:
    """Return Hubble's verdict. A stuck connection is an ERROR: policy allowed it, the agent resets it."""
    if event.type == abi.EventType.AUDIT:
        return "AUDIT"
    if event.type == abi.EventType.STUCK:
        return "ERROR"
    if event.type in _REFUSALS or event.verdict == abi.Verdict.DENY:
        return "DROPPED"
    return "REDIRECTED" if event.verdict == abi.Verdict.PROXY else "FORWARDED"


def drop_reason(event: abi.FlowEvent) -> int:
    """Return Hubble's number for why an event was dropped, 0 where none is known."""
    if event.reason or event.type != abi.EventType.POLICY_RESET:
        return event.reason
    # Policy changes are found in user space, which knows the rule: an explicit deny has one, a missing allow has none.
    rule = event.ingress_rule if event.direction == abi.Direction.INGRESS else event.egress_rule
    return abi.DropReason.POLICY_DENY if rule else abi.DropReason.POLICY_DENIED


def direction(event: abi.FlowEvent) -> str:
    """Return the direction of the policy that decided. Only a refusal's event says it; others tell who was asked."""
    if event.type in _REFUSALS or event.type == abi.EventType.AUDIT or event.src_endpoint == event.dst_endpoint == 0:
        return _DIRECTIONS[event.direction & 1]
    return _DIRECTIONS[abi.Direction.INGRESS if event.dst_endpoint else abi.Direction.EGRESS]


def _trace_point(event: abi.FlowEvent) -> int:
    if event.hook == abi.Hook.TC_FROM_POD:
        return FROM_ENDPOINT
    if event.hook == abi.Hook.TC_TO_POD:
        return TO_ENDPOINT
    return TO_ENDPOINT if event.direction == abi.Direction.INGRESS else FROM_ENDPOINT


def event_type(event: abi.FlowEvent, reason: int) -> dict[str, int]:
    """Return Hubble's type and sub type; `reason` is the drop reason, if it was dropped."""
    if event.type in _REFUSALS:
        return {"type": DROP, "sub_type": reason} if reason else {"type": DROP}
    if event.type in (abi.EventType.OPEN, abi.EventType.AUDIT):
        return {"type": POLICY_VERDICT}
    if event.type == abi.EventType.STUCK or is_socket_event(event):
        return {"type": TRACE_SOCK}
    point = _trace_point(event)
    return {"type": TRACE, "sub_type": point} if point else {"type": TRACE}


def observation_point(event: abi.FlowEvent) -> str:
    """Return whether a packet was on its way to its pod or came from it; "" for what no packet hook saw."""
    if event.hook not in _PACKET_HOOKS:
        return ""
    return "TO_ENDPOINT" if _trace_point(event) == TO_ENDPOINT else "FROM_ENDPOINT"
