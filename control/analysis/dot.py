"""Connections as a graph for Graphviz: a box for each namespace, an arrow for each pair, one with two heads where both
may open the same ports."""

from collections.abc import Iterator

from control.analysis.connectivity import Connectivity, End, Progress
from control.analysis.write import PartOf, in_namespaces, marked, nothing


def graph(found: Connectivity, progress: Progress | None = None, proxied: PartOf = nothing) -> Iterator[str]:
    """Yield the graph's text. Workloads that may talk to nobody are shown, addresses only where somebody may.

    `proxied`: what needs the proxy of a pair.
    """
    yield "digraph connectivity {\n  rankdir=LR;\n  node [shape=box, style=rounded];\n  compound=true;\n"
    for index, (namespace, ends) in enumerate(in_namespaces(found.ends).items()):
        yield f"  subgraph cluster_{index} {{\n    label={_quoted(namespace)};\n"
        for end in ends:
            text = end.name if end.kind == "Pod" else f"{end.name}\n{end.kind}"
            yield f"    {_id(end)} [label={_quoted(text)}];\n"
        yield "  }\n"
    outside: dict[End, None] = {}
    for sender, receiver, ports in found.pairs(progress):
        source, destination = found.ends[sender], found.ends[receiver]
        outside.update((end, None) for end in (source, destination) if end.is_outside)
        mark = marked(ports, proxied(sender, receiver, ports))
        is_mutual = found.allowed(receiver, sender) is ports and mark == marked(ports, proxied(receiver, sender, ports))
        if is_mutual and receiver < sender:
            continue  # written the first time round
        both = ", dir=both" if is_mutual else ""
        yield f"  {_id(source)} -> {_id(destination)} [label={_quoted(f'{ports}{mark}')}{both}];\n"
    for end in outside:
        yield f"  {_id(end)} [label={_quoted(str(end).replace(', ', chr(10)))}, shape=ellipse];\n"
    yield "}\n"


def _id(end: End) -> str:
    return _quoted(" ".join(end.cidrs) if end.is_outside else f"{end.kind} {end.namespace}/{end.name}")


def _quoted(text: str) -> str:
    r"""Return text as Graphviz reads it: neither a quote nor a backslash in it means anything.

    >>> print(_quoted('a"b\\N'))
    "a\"b\\N"
    """
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
