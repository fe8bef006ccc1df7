"""`sockmesh policy trace`: one call held against manifests."""

import json
from collections.abc import Iterator
from typing import Any

import click

from control.analysis import lookup, world
from control.analysis import trace as analysis
from control.analysis.call import Author, Call
from control.analysis.nearest import Nearest
from control.cli import place
from control.cli.policy import answer, ends, source
from control.source import unlearned, unserved
from control.terminal import printable
from loader import abi

EXIT = {analysis.ALLOWED: 0, analysis.DENIED: 1}
LACKS = {"peer": "peers", "port": "ports", "request": "requests"}

_SOME = {
    "http": ("some requests", "--method, --path ..."),
    "dns": ("some names", "--query NAME"),
    "server_names": ("some TLS server names", "--server-name NAME"),
}


@click.command()
@source.files
@click.option("--from", "origin", required=True, metavar="WHO", help="Who calls: NAMESPACE/POD, an address, or host.")
@click.option(
    "--to", required=True, metavar="WHO", help="Who is called: NAMESPACE/POD, an address, host, or fqdn:NAME."
)
@click.option(
    "--port",
    metavar="PORT/PROTOCOL",
    help="80/TCP, 53/UDP, 8/ICMP, GRE, 0/89, a name ...; 22 is 22/TCP.",
    required=True,
)
@click.option("--method", help="The request's method (GET).")
@click.option("--path", help="The request's path (/).")
@click.option("--host", help="The request's host.")
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header of the request.")
@click.option("--server-name", metavar="NAME", help="The TLS client's server name (that of fqdn:NAME).")
@click.option("--query", metavar="NAME", help="The name that DNS is asked for.")
@place.output_option
@answer.said()
def trace(
    files: tuple[str, ...],
    namespace: str,
    origin: str,
    to: str,
    port: str,
    method: str | None,
    path: str | None,
    host: str | None,
    headers: tuple[str, ...],
    server_name: str | None,
    query: str | None,
    output: str,
) -> None:
    """Tell whether policies allow a call, and who decides; exit status 0: allowed, 1: denied, 2: bad input, 3: the
    answer could not be written.
    """
    ends.given(method=method, path=path, host=host, server_name=server_name, query=query)
    proto, given = ends.port(port)
    if origin.startswith("fqdn:"):
        raise ends.wrong(f"--from {origin}: nobody calls by a name (an address, or a workload)")
    snapshot = source.load(files, namespace)
    if to.startswith("fqdn:"):
        snapshot = lookup.with_name(snapshot, ends.dns_name(to))
    known = world.World(snapshot, namespace)
    try:
        source_end, destination = known.end(origin), known.end(_canonical(to))
    except world.Unknown as error:
        raise ends.wrong(str(error)) from None
    proto, number = (proto, given) if isinstance(given, int) else ends.named_port(port, proto, given, destination)
    request = ends.http(method, path, host, headers)
    if request and proto != abi.Proto.TCP:
        raise ends.wrong(f"--port {port}: requests are made over TCP")
    if (server_name or query) and proto not in (abi.Proto.TCP, abi.Proto.UDP):
        raise ends.wrong(f"--port {port}: names are told over TCP or UDP")
    if bool(request) + bool(server_name) + bool(query) > 1:
        raise ends.wrong("one of a request (--method ...), --server-name and --query can be asked about")
    if not (request or server_name or query) and to.startswith("fqdn:"):
        server_name = to.removeprefix("fqdn:")
    names = [ends.dns_name(name) if name else "" for name in (server_name, query)]
    call = Call(source_end, destination, proto, number, request, *names)
    if not any(end.is_declared for end in (call.source, call.destination)):
        raise ends.wrong(f"neither {origin} nor {to} is a workload of the files, so no policy is asked (one must be)")
    found = analysis.trace(known, call)
    said = (known, found, call)
    lines = [json.dumps(_json(*said), indent=2)] if output == "json" else map(printable, _lines(*said))
    answer.end(EXIT[found.verdict], (f"{line}\n" for line in lines))


def _canonical(text: str) -> str:
    return f"fqdn:{ends.dns_name(text)}" if text.startswith("fqdn:") else text


def _json(known: world.World, found: analysis.Trace, call: Call) -> dict[str, Any]:
    out = {"verdict": found.verdict, "egress": _side(found.egress), "ingress": _side(found.ingress)}
    notes = _notes(known, found, call)
    return out | {"needs_proxy": bool(notes)} | ({"note": "; ".join(notes)} if notes else {})


def _notes(known: world.World, found: analysis.Trace, call: Call) -> list[str]:
    """Return what the node needs, so that it does as the rules say."""
    needs = [unserved.NEEDS_PROXY] if found.needs_proxy else []
    is_judged = any(side.verdict != analysis.UNENFORCED for side in (found.egress, found.ingress))
    if is_judged and call.destination.name.startswith("fqdn:"):
        needs.append(unserved.LEARNS_NAMES)
        caller = call.source.workload
        if caller is not None and not unlearned.is_seen(known.selecting(caller), known.snapshot):
            needs.append(f"{unlearned.UNSEEN} {call.source.name}, {unlearned.NOT_LEARNED}")
    return needs


def _side(side: analysis.Side) -> dict[str, Any]:
    out: dict[str, Any] = {
        "verdict": side.verdict,
        "policy": None,
        "rule": None,
        "source": None,
        "http": side.http,
        "audit": side.audit,
    }
    if side.author:
        out |= _author(side.author)
    if side.audited_by:
        out["audited_by"] = _author(side.audited_by)
    if side.some:
        out["some_requests"] = True
    if side.name:
        out["name"] = side.name
    if side.nothing:
        out["lets_nothing"] = True
    if side.own_node:
        out["own_node"] = analysis.ALLOWED
    if side.nearest:
        near = side.nearest
        out["nearest"] = {**_author(near.author), "lacks": list(near.lacks), "wants": list(near.wants)}
    return out


def _author(author: Author) -> dict[str, Any]:
    return {
        "policy": {"kind": author.kind, "namespace": author.namespace, "name": author.name},
        "rule": author.rule or None,
        "source": author.source or None,
    }


def _lines(known: world.World, found: analysis.Trace, call: Call) -> Iterator[str]:
    what = ends.shown(call.proto, call.port)
    if call.http:
        what += f" {call.http.method} {call.http.host}{call.http.path}"
    some = found.egress.some or found.ingress.some
    for_some = f" for {_SOME[some][0]} (give {_SOME[some][1]})" if some else ""
    verdict = f"{found.verdict}{for_some}" if found.needs_proxy else found.verdict
    yield f"{call.source.name} -> {call.destination.name} {what}: {verdict}"
    for name, side, end in (("egress", found.egress, call.source), ("ingress", found.ingress, call.destination)):
        yield f"  {name:8}{_words(side, name, end, call.is_within_a_pod)}"
        if side.audited_by:
            yield f"  {'':8}{_would_refuse(side.audited_by)}"
        if side.nearest:
            yield f"  {'':8}{_near(side.nearest, side.nothing or analysis.DENIED in (side.http, side.name))}"
        if side.own_node:
            yield f"  {'':8}the pod's own node gets through: which node this is is not known here"
    for note in _notes(known, found, call):
        yield f"  {'note':8}{note}"


def _words(side: analysis.Side, direction: str, end: world.End, is_itself: bool) -> str:
    if is_itself:
        return f"unenforced: {end.name}: a pod always reaches itself"
    if side.verdict == analysis.UNENFORCED:
        who = "only policies in audit mode select it" if side.only_audit else "no policy selects it"
        why = f"{who} for {direction}" if end.workload else ends.ON_HOST if end.on_host else "it is no pod"
        return f"unenforced: {end.name}: {why}"
    by = f" by {side.author}" if side.author else ""
    where = f" ({side.author.source})" if side.author and side.author.source else ""
    if side.denied and side.author and not side.author.rule:
        by = f": {side.author} selects it, and no rule allows this"
    elif side.author and not side.author.rule and side.author.kind != "Reserved":
        by = f": {side.author} selects it without default deny, and no rule denies this"
    what = "request" if side.http else "name"
    said = {None: "", analysis.ALLOWED: f", the {what} too", analysis.DENIED: f", because of the {what}"}
    request = f", for {_SOME[side.some][0]}" if side.some else said[side.http or side.name]
    if side.nothing:
        request = ", which lets nothing through"
    return f"{side.verdict}{by}{where}{request}"


def _would_refuse(author: Author) -> str:
    why = "" if author.rule else ": it selects it, and no rule allows this"
    return f"audit: {author} ({author.source}) would refuse it, were it not in audit mode{why}"


def _near(nearest: Nearest, by_request: bool) -> str:
    first = "rules for requests come" if by_request else "a deny comes"
    each = [f"{LACKS[lack]} ({wants})" for lack, wants in zip(nearest.lacks, nearest.wants, strict=True)]
    lacks = f"is for other {' and '.join(each)}" if each else f"would allow it, but {first} first"
    return f"nearest: {nearest.author} ({nearest.author.source}) {lacks}"
