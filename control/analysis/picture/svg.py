"""A picture of who may talk to whom, as SVG: namespaces are boxes, workloads nodes, the outside stands above.

An arrow begins at the lower edge of who may call and ends at the upper edge of who may be called. Wires that are one
net join: each of its senders may open the ports to each of its receivers. Where there are more arrows than anybody
could follow, the picture is a table of squares instead.
"""

from collections.abc import Iterator
from html import escape

from control.analysis import outside
from control.analysis.connectivity import Connectivity
from control.analysis.picture import arrange, bundle, matrix, route, wires
from control.analysis.picture.arrange import Grid
from control.analysis.picture.bundle import Bundle, Item, Node
from control.analysis.picture.wires import COLOURS, MARGIN, NODE_H, NODE_W, Scale, cut, cut_name
from control.analysis.proxied import Proxied

MAX_NETS = 120
_LETTERS = 27  # of a node's second line, about
_FOOT = 30  # for a line of text below the picture
_STYLE = """
text{font-family:Inter,"Helvetica Neue","DejaVu Sans",Arial,sans-serif;fill:#1e293b}
.title{font-size:12px;font-weight:600;text-anchor:middle}
.line,.among,.hint{font-size:10px;fill:#64748b}
.line{text-anchor:middle}
.among{text-anchor:end}
.ns{font-size:12px;font-weight:700;fill:#475569}
.box{fill:#f1f5f9;stroke:#cbd5e1}
.node{fill:#fff;stroke:#64748b;stroke-width:1.2}
.more{fill:#fff;stroke:#94a3b8}
.alone{stroke-dasharray:3 3;stroke:#94a3b8}
.outside{fill:#fefce8;stroke:#ca8a04;stroke-width:1.2}
.wire{fill:none;stroke-width:2;stroke-linejoin:round}
.proxied{stroke-dasharray:7 4}
.pill{fill:#fff;fill-opacity:.92}
.ports{font-size:10px;font-weight:600;text-anchor:middle}
.band{fill:#64748b;fill-opacity:.07}
.from,.to{font-size:10px}
.from{text-anchor:end}
"""
_HINT = "An arrow leads from who may open connections to whom they may be opened; lines that join hold for all of them."
_PROXIED = "Dashed, or with *: needs the node proxy, in part at least."
_BY_NAMESPACE = "What some workload of one namespace may open to some workload of another."


def picture(found: Connectivity, proxied: Proxied | None = None) -> str:
    """Return the picture of all connections; `proxied`: what needs the proxy."""
    shown = bundle.bundle(found, proxied)
    if len(shown.nets) > MAX_NETS or (shown.pairs and not shown.nets and not shown.among):
        return _table(shown)
    grid = arrange.arrange(shown)
    routes = route.route(shown, grid)
    scale = wires.scale_of(grid, routes)
    hint = f"{_BY_NAMESPACE} {_HINT}" if shown.is_by_namespace else _HINT
    needs = (*(pair.proxied for pair in shown.pairs.values()), *(node.among.proxied for node in shown.nodes))
    hint += f" {_PROXIED}" if any(needs) else ""
    body = [*_boxes(shown, grid, scale), *_nodes(shown, grid, scale), *wires.wires(shown, routes, grid, scale)]
    return _page(scale.width, scale.height, hint, body)


def _table(shown: Bundle) -> str:
    names = [" ".join(_texts(node, shown.is_by_namespace)[:1]) for node in shown.nodes]
    if not shown.is_by_namespace:
        names = [
            name if node.box is None else f"{node.box}/{name}" for name, node in zip(names, shown.nodes, strict=True)
        ]
    width, height = matrix.size(names)
    return _page(width, height, _BY_NAMESPACE if shown.is_by_namespace else "", list(matrix.squares(shown, names)))


def _page(width: int, height: int, hint: str, body: list[str]) -> str:
    height += _FOOT
    width = max(width, 2 * MARGIN + round(len(hint) * 5.3))
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    heads = [
        f'<marker id="head{index}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="9" markerHeight="9" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0.8L10 5L0 9.2z" fill="{colour}"/></marker>'
        for index, colour in enumerate(COLOURS)
    ]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>Who may talk to whom</title><style>{_STYLE}</style>",
        "<defs>",
        *heads,
        "</defs>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        *body,
        f'<text class="hint" x="{MARGIN}" y="{height - 14}">{hint}</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _boxes(shown: Bundle, grid: Grid, scale: Scale) -> Iterator[str]:
    for name in filter(None, grid.boxes):
        left, upper, right, lower = wires.edges(Item(-1, name), grid, scale)
        size = f'width="{right - left}" height="{lower - upper}"'
        yield f'<rect class="box" x="{left}" y="{upper}" {size} rx="10"/>'
        room = (right - left - 24) // 8
        among = f"each other: {shown.among[name]}" if name in shown.among else ""
        beside = max(room - len(name) - 3, min(len(among), room * 2 // 3)) if among else -3
        title = cut_name(name, room - beside - 3)
        yield f'<text class="ns" x="{left + 12}" y="{upper + 17}"><title>{escape(name)}</title>{title}</text>'
        if among:
            words = cut(among, beside)
            yield f'<text class="among" x="{right - 12}" y="{upper + 17}"><title>{escape(among)}</title>{words}</text>'


def _nodes(shown: Bundle, grid: Grid, scale: Scale) -> Iterator[str]:
    items = [item for net in shown.nets for item in (*net.senders, *net.receivers)]
    wired = {item.node for item in items}
    boxed = {item.box for item in items if item.node < 0} | shown.among.keys()
    for number, node in enumerate(shown.nodes):
        left, upper, _, _ = wires.edges(Item(number), grid, scale)
        size = f'width="{NODE_W}" height="{NODE_H}"'
        is_alone = number not in wired and node.box not in boxed and not node.among
        kind = "outside" if node.box is None else "node alone" if is_alone else "node"
        if node.box is not None and node.ends[1:]:
            yield f'<rect class="more" x="{left + 4}" y="{upper + 4}" {size} rx="6"/>'
        names = "\n".join(map(str, node.ends[:40])) + ("\n…" if node.ends[40:] else "")
        radius = NODE_H // 2 if node.box is None else 6
        yield f"<g><title>{escape(names)}</title>"
        yield f'<rect class="{kind}" x="{left}" y="{upper}" {size} rx="{radius}"/>'
        title, *lines = _texts(node, shown.is_by_namespace)
        middle, first = left + NODE_W // 2, upper + NODE_H / 2 + 4 - 6.5 * len(lines)
        yield f'<text class="title" x="{middle}" y="{first:g}">{cut_name(title, _LETTERS - 7)}</text>'
        for index, line in enumerate(lines, 1):
            yield f'<text class="line" x="{middle}" y="{first + 13 * index:g}">{cut(line, _LETTERS)}</text>'
        yield "</g>"


def _texts(node: Node, is_namespace: bool) -> list[str]:
    """Return the two lines of a node; the second may be left out."""
    end = node.ends[0]
    if node.box is None:
        if node.ends[1:]:
            return ["the outside", f"{len(node.ends)} sets of addresses"]
        parts = [part.partition(" except ") for part in outside.words(end.cidrs).split("; ")]
        named, lacking = (", ".join(filter(None, each)) for each in list(zip(*parts, strict=True))[::2])
        first, *others = named.split(", ") if not lacking else [named, f"except {lacking}"]
        return [first, *([", ".join(others)] if others else [])]
    if is_namespace:
        title, line = end.namespace, f"{len(node.ends)} workloads" if node.ends[1:] else f"{end.kind} {end.name}"
    elif node.ends[1:]:
        kinds = {each.kind for each in node.ends}
        title = f"{end.name} … {node.ends[-1].name}"
        line = f"{len(node.ends)} {f'{end.kind}s' if len(kinds) == 1 else 'workloads'}"
    else:
        title, line = end.name, end.kind if end.kind != "Pod" else ""
    among = f"each other: {node.among}" if node.among else ""
    both = ", ".join(filter(None, (line, among)))
    line = both if len(both) <= _LETTERS or not is_namespace else line
    return [title, *([line] if line else [])]
