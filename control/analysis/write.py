"""Connections as text, piece by piece: JSON for programs, lines for people. Nothing is held that is already written."""

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from control.analysis import portset
from control.analysis.change.diff import Change, Difference
from control.analysis.change.written import Beside
from control.analysis.connectivity import Among, Connectivity, End, Progress
from control.analysis.portset import PortSet

PartOf = Callable[[int, int, PortSet], PortSet]  # of a pair's ports, given with the numbers of its ends

_WIDEST = 60  # of a column; what is longer moves its own line only


def nothing(source: int, destination: int, ports: PortSet) -> PortSet:
    return portset.NONE


def marked(ports: PortSet, those: PortSet) -> str:
    """Return what people are told of the ports of a pair that need the proxy; nothing if none do."""
    which = "" if those is ports else f": {those}"
    return f"  (needs the proxy{which})" if those else ""


def jsonable(ports: PortSet) -> list[dict[str, Any]]:
    """Return ports as JSON has them: for each protocol its ranges of ports, or of ICMP types where it has those."""
    out: list[dict[str, Any]] = []
    for proto, ranges in ports.by_protocol():
        what = "ports" if proto in portset.PROTOCOLS else "types" if proto in portset.TYPED else ""
        out.append({"protocol": proto.name} | ({what: [list(each) for each in ranges]} if what else {}))
    return out


@functools.lru_cache(1 << 16)
def ports_json(ports: PortSet) -> str:
    return json.dumps(jsonable(ports))


def items_json(items: Iterable[str]) -> Iterator[str]:
    """Yield a list of what is JSON already, an item a line."""
    separator = "[\n"
    for item in items:
        yield f"{separator}    {item}"
        separator = ",\n"
    yield "[]" if separator == "[\n" else "\n  ]"


def connections_json(
    found: Connectivity,
    progress: Progress | None = None,
    among: Among | None = None,
    proxied: PartOf = nothing,
) -> Iterator[str]:
    """Yield `{"connections": [...]}`, a pair a line; `proxied` is what needs the proxy of a pair."""

    def more(source: int, destination: int, ports: PortSet) -> str:
        those = proxied(source, destination, ports)
        return f', "needs_proxy": {ports_json(those)}' if those else ""

    written = [json.dumps(end.jsonable()) for end in found.ends]
    yield '{\n  "connections": '
    yield from items_json(
        f'{{"from": {written[source]}, "to": {written[destination]}, "allowed": {ports_json(ports)}'
        f"{more(source, destination, ports)}}}"
        for source, destination, ports in found.pairs(progress, among)
    )
    yield "\n}\n"


def connections_table(
    found: Connectivity,
    printable: Callable[[str], str],
    progress: Progress | None = None,
    among: Among | None = None,
    proxied: PartOf = nothing,
) -> Iterator[str]:
    """Yield a heading and a line a pair, nothing where nobody may talk to anybody; `proxied` as in JSON."""
    senders = receivers = set(range(len(found.ends)))
    if among is not None and among != (None, None):  # columns are as wide as what is shown
        senders, receivers = set(), set()
        for source, destination, _ in found.pairs(among=among):
            senders.add(source)
            receivers.add(destination)
    written = {end: printable(str(found.ends[end])) for end in senders | receivers}
    first, second = _width("FROM", senders, written), _width("TO", receivers, written)
    heading = f"{'FROM':<{first}}  {'TO':<{second}}  ALLOWED\n"
    for source, destination, ports in found.pairs(progress, among):
        mark = marked(ports, proxied(source, destination, ports))
        yield f"{heading}{written[source]:<{first}}  {written[destination]:<{second}}  {ports}{mark}\n"
        heading = ""


def _width(heading: str, ends: Iterable[int], written: Mapping[int, str]) -> int:
    return min(max((len(heading), *(len(written[end]) for end in ends))), _WIDEST)


def difference_json(
    found: Difference, may_open: Iterable[Beside] = (), may_close: Iterable[Beside] = ()
) -> Iterator[str]:
    """Yield `{"opened": [...], "closed": [...], "beside": [...], "beside_closed": [...]}`, an item a line;
    `without_ports` are protocols that have none, `note` says that an end is in one snapshot only, `beside` is what may
    be opened and is in no pair, `beside_closed` what may be closed so.
    """
    yield '{\n  "opened": '
    yield from items_json(_change_json(change, change.opened) for change in found.changes() if change.opened)
    yield ',\n  "closed": '
    yield from items_json(_change_json(change, change.closed) for change in found.changes() if change.closed)
    yield ',\n  "beside": '
    yield from items_json(json.dumps(each.jsonable()) for each in may_open)
    yield ',\n  "beside_closed": '
    yield from items_json(json.dumps(each.jsonable()) for each in may_close)
    yield "\n}\n"


def _change_json(change: Change, ports: PortSet) -> str:
    with_ports, without = jsonable(ports & portset.ALL), jsonable(ports & portset.PORTLESS)
    pair = {"from": change.source.jsonable(), "to": change.destination.jsonable(), "allowed": with_ports}
    more = {"without_ports": without, "note": change.note}
    return json.dumps(pair | {key: value for key, value in more.items() if value})


def _words(ports: PortSet) -> str:
    return {portset.EVERYTHING: "all", portset.ALL: "all ports"}.get(ports) or str(ports)


def difference_table(
    found: Difference,
    printable: Callable[[str], str],
    may_open: Iterable[Beside] = (),
    may_close: Iterable[Beside] = (),
) -> Iterator[str]:
    """Yield a heading and a line for all that is opened (+) or closed (-), nothing where nothing is; then a line for
    all that may be opened, or closed, and is in no pair.
    """
    width = min(max((len(printable(str(end))) for end in found.ends), default=0), _WIDEST)
    heading = f"   {'FROM':<{width}}  {'TO':<{width}}  PORTS\n"
    for change in found.changes():
        source, destination = printable(str(change.source)), printable(str(change.destination))
        note = f"  ({change.note})" if change.note else ""
        for sign, ports in (("-", change.closed), ("+", change.opened)):
            if ports:
                yield f"{heading}{sign}  {source:<{width}}  {destination:<{width}}  {_words(ports)}{note}\n"
                heading = ""
    for does, those in (("close", may_close), ("open", may_open)):
        for each in those:
            source = f", {each.source}" if each.source else ""
            yield f"may {does}, seen in no pair: {printable(f'{each.what} ({each.where}{source})')}\n"


def in_namespaces(ends: Iterable[End]) -> dict[str, list[End]]:
    """Return the workloads of each namespace, both in order."""
    out: dict[str, list[End]] = {}
    for end in ends:
        if not end.is_outside:
            out.setdefault(end.namespace, []).append(end)
    return out
