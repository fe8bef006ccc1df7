"""Flow records as people read them: one line each, table rows, or a block of keys. Text in, text out."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from control import names
from control.flow import classify, query, record, summary
from control.terminal import printable
from loader import abi

Json = Mapping[str, Any]
Paint = Callable[[str, str], str]  # (text, what it is) -> text, perhaps in colour

TIME_FORMATS = ("StampMilli", "RFC3339", "RFC3339Milli", "RFC3339Micro", "RFC3339Nano", "RFC1123Z")
_FRACTIONS = {"RFC3339Milli": 3, "RFC3339Micro": 6, "RFC3339Nano": 9}
_TYPES = {classify.DROP: "drop", 3: "capture", classify.TRACE: "trace", classify.POLICY_VERDICT: "policy-verdict",
          classify.TRACE_SOCK: "trace-sock", 129: "l7"}  # fmt: skip
_DIRECTIONS = ("egress", "ingress")
_RESERVED = {int(r): r.name.lower().replace("_", "-") for r in abi.ReservedIdentity}


def plain(text: str, kind: str) -> str:
    """Return text as it is: the Paint without colours."""
    return text


@dataclasses.dataclass(frozen=True)
class Style:
    """What to show of a record and how."""

    time_format: str = "StampMilli"
    node_name: bool = False
    policy_names: bool = False
    numeric: bool = False
    addresses: bool = False  # instead of the ends' names; `numeric` says so, too
    paint: Paint = plain


def moment(text: str, layout: str) -> str:
    """Return an RFC 3339 time in one of TIME_FORMATS or in a pattern for strftime, always UTC.

    >>> moment("2026-11-20T20:00:00.123456789Z", "StampMilli"), moment("2026-11-20T20:00:00Z", "%H:%M")
    ('Nov 20 20:00:00.123', '20:00')
    """
    try:
        seconds, ns = divmod(query.parse_time(text), 10**9)
    except ValueError:
        return "N/A"
    at = time.gmtime(seconds)
    if layout == "StampMilli":
        return f"{time.strftime('%b', at)} {at.tm_mday:2d} {time.strftime('%H:%M:%S', at)}.{ns // 10**6:03d}"
    if layout == "RFC1123Z":
        return time.strftime("%a, %d %b %Y %H:%M:%S +0000", at)
    if "%" in layout:
        return time.strftime(layout, at)
    digits = _FRACTIONS.get(layout, 0)
    return time.strftime("%Y-%m-%dT%H:%M:%S", at) + (f".{ns:09d}"[: digits + 1] if digits else "") + "Z"


def _port(flow: Json, side: str) -> str:
    for proto in (flow.get("l4") or {}).values():
        if f"{side}_port" in proto:
            return str(proto[f"{side}_port"])
    return ""


def host(flow: Json, side: str, style: Style) -> str:
    """Return "namespace/name:port", or the address where there is no name or none is wanted.

    That of a service is "svc/namespace/name:port": a pod may be called the same, and is not who was called.
    """
    port = _port(flow, side)
    if not (style.numeric or style.addresses):
        end = flow.get(side) or {}
        service = flow.get(f"{side}_service") or {}
        name = service.get("name") or end.get("pod_name") or ""
        if name:
            namespace = (service if service.get("name") else end).get("namespace")
            name = f"{namespace}/{name}" if namespace else name
            name = f"svc/{name}" if service.get("name") else name
        elif names := flow.get(f"{side}_names"):
            name = ",".join(names)
        if name:
            return printable(f"{name}:{port}" if port else name)
    address = str((flow.get("IP") or {}).get(side) or "?")
    if not port:
        return printable(address)
    return printable(f"[{address}]:{port}" if ":" in address else f"{address}:{port}")


def identity(flow: Json, side: str, numeric: bool) -> str:
    """Return "(ID:256)", or "(world)" for an identity with a fixed meaning."""
    number = (flow.get(side) or {}).get("identity") or 0
    name = None if numeric else _RESERVED.get(number)
    return f"({name})" if name else f"(ID:{number})"


def kind(flow: Json) -> str:
    """Return what happened and in which direction policy was asked: "open EGRESS", "drop:POLICY_DENIED INGRESS".

    Of a request it is Hubble's word alone: "http-response".
    """
    l7 = flow.get("l7") or {}
    if name := next((name for name in ("http", "dns") if name in l7), None):
        return printable(f"{name}-{str(l7.get('type', 'unknown')).lower()}")
    event = record.extension(flow).get("event")
    if event:
        word = str(event).replace("_", "-")
    else:
        event_type = flow.get("event_type") or {}
        number = event_type.get("type") or 0
        word = _TYPES.get(number, f"type-{number}")
        if number == classify.TRACE and flow.get("trace_observation_point"):
            word = str(flow["trace_observation_point"]).lower().replace("_", "-")
    if reason := flow.get("drop_reason_desc") or flow.get("drop_reason"):
        word += f":{reason}"
    return printable(f"{word} {flow['traffic_direction']}" if flow.get("traffic_direction") else word)


def summed_up(flow: Json, style: Style) -> str:
    """Return the record's summary; the reader for whom a connection was reset is called as its end is."""
    text = printable(str(flow.get("Summary", "")))
    reader = record.extension(flow).get("reader")
    if not isinstance(reader, dict) or (end := reader.get("end")) not in ("source", "destination"):
        return text
    reason = str(reader.get("reason"))
    return text.replace(summary.reset_for(end, reason), printable(summary.reset_for(host(flow, end, style), reason)))


def policies(flow: Json) -> str:
    """Return the deciding rules in words, each with its file and line, or "no policy allows it" where none refused."""
    rule = record.extension(flow).get("rule") or {}
    sources = rule.get("source")
    found = []
    for direction in _DIRECTIONS:
        for outcome in ("denied", "allowed"):
            for policy in flow.get(f"{direction}_{outcome}_by") or ():
                parts = (policy.get("kind"), policy.get("namespace"), policy.get("name"), rule.get(direction))
                kind, namespace, name, path = (str(part or "") for part in parts)
                found.append(f"{direction} {outcome} by {names.rule_words(kind, namespace, name, path)}".rstrip())
                source = str(sources.get(direction) or "") if isinstance(sources, dict) else ""
                if source and path != f"{names.INVALID}{source}":  # a file that cannot be read is its own name
                    found.append(source)
    if flow.get("drop_reason_desc") == "POLICY_DENIED" and not any(flow.get(f"{d}_denied_by") for d in _DIRECTIONS):
        found.append("no policy allows it")
    return printable("; ".join(found))


def _lost(response: Json) -> str:
    lost = response["lost_events"]
    return printable(f"{lost.get('num_events_lost', 0)} from {lost.get('source', 'UNKNOWN')}")


def _when(response: Json, style: Style) -> str:
    return moment(str(response.get("time") or (response.get("flow") or {}).get("time") or ""), style.time_format)


def _node(response: Json) -> str:
    return printable(str(response.get("node_name") or (response.get("flow") or {}).get("node_name") or ""))


def compact(response: Json, style: Style) -> str:
    """Return one line.

    Nov 20 20:00:00.123: shop/web:40212 (ID:256) -> shop/api:8080 (ID:257) open EGRESS FORWARDED (TCP)
    """
    head = _when(response, style) + (f" [{_node(response)}]" if style.node_name else "")
    if "lost_events" in response:
        return f"{head}: {style.paint('EVENTS LOST', 'DROPPED')}: {_lost(response)}"
    flow = response["flow"]
    ends = [
        f"{style.paint(host(flow, side, style), 'host')} {style.paint(identity(flow, side, style.numeric), 'identity')}"
        for side in ("source", "destination")
    ]
    arrow = "->"
    if flow.get("is_reply"):
        ends.reverse()
        arrow = "<-"
    verdict = str(flow.get("verdict", "VERDICT_UNKNOWN"))
    what = summed_up(flow, style)
    line = f"{head}: {ends[0]} {arrow} {ends[1]} {kind(flow)} {style.paint(printable(verdict), verdict)} ({what})"
    if style.policy_names and (rules := policies(flow)):
        line += f" [{rules}]"
    return line


def columns(style: Style) -> list[str]:
    """Return the headings of `cells`."""
    out = ["TIMESTAMP", "NODE", "SOURCE", "DESTINATION", "TYPE", "VERDICT", "SUMMARY", "POLICY"]
    if not style.node_name:
        out.remove("NODE")
    if not style.policy_names:
        out.remove("POLICY")
    return out


def cells(response: Json, style: Style) -> list[str]:
    """Return one record as the cells under `columns`, without colours."""
    out = [_when(response, style)] + ([_node(response)] if style.node_name else [])
    if "lost_events" in response:
        out += ["", "", "lost events", "", _lost(response)]
        return out + ([""] if style.policy_names else [])
    flow = response["flow"]
    out += [host(flow, side, style) for side in ("source", "destination")]
    out += [kind(flow), printable(str(flow.get("verdict", "VERDICT_UNKNOWN"))), summed_up(flow, style)]
    return out + ([policies(flow)] if style.policy_names else [])


def block(response: Json, style: Style) -> str:
    """Return one record as lines of "KEY: value"."""
    pairs = zip(columns(style), cells(response, style), strict=True)
    return "\n".join(f"{name:>11}: {value}" for name, value in pairs)


class Table:
    """Lays out rows as they come: a column is as wide as its widest cell so far, so a followed table settles soon."""

    def __init__(self, headings: Sequence[str]) -> None:
        self._widths = [len(name) for name in headings]
        self._waiting: list[Sequence[str]] = [headings]

    def rows(self, batch: Sequence[Sequence[str]]) -> list[str]:
        """Return the batch as lines, the headings before the first."""
        rows = [*self._waiting, *batch]
        self._waiting = []
        for row in rows:
            self._widths = [max(width, len(cell)) for width, cell in zip(self._widths, row, strict=True)]
        return ["   ".join(f"{c:<{w}}" for c, w in zip(row, self._widths, strict=True)).rstrip() for row in rows]
