"""Who owns which address, for mTLS between nodes: each enrolled pod's SPIFFE id and its node's address. Pure."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from control import model
from control.certificates import spiffe
from control.certificates.spiffe import SpiffeId
from control.flow.summary import counted
from control.proxy_feed import UNKNOWN_NODE

_MOST_TOLD = 10  # problems of one kind


class Owners(NamedTuple):
    """`here`: the service accounts that have pods on this node; `address`: this node's, empty if not known; `of`: as
    proxy_feed.Mesh has it."""

    here: frozenset[SpiffeId] = frozenset()
    address: str = ""
    of: dict[str, tuple[str, str]] = {}  # noqa: RUF012 - never written to
    problems: tuple[str, ...] = ()


def read(snapshot: model.Snapshot, node: str, node_ips: Sequence[str], trust_domain: str) -> Owners:
    """Return who owns what in a snapshot, seen from a node; `node_ips` are its addresses, if they were given."""
    nodes = {each.name: each.ips for each in snapshot.nodes}
    address = next(iter((*node_ips, *nodes.get(node, ()))), "")
    reached = {name: _like(address, ips) for name, ips in nodes.items()}
    ids: dict[tuple[str, str], SpiffeId | None] = {}
    # One object for what is said of many pods: a pickle says it once.
    owners: dict[tuple[str, str, str], tuple[str, str]] = {}
    here: set[SpiffeId] = set()
    of: dict[str, tuple[str, str]] = {}
    problems: list[str] = []
    lost: Counter[str] = Counter()
    for pod in snapshot.workloads:
        is_here = pod.is_local(node)
        if not pod.ips or pod.host_network or (is_here and not (pod.netns and pod.interface)):
            continue  # it is not enrolled
        account = (pod.namespace, pod.service_account or "default")
        if account not in ids:
            ids[account] = _id(trust_domain, *account, problems)
        id = ids[account]
        if id is None:
            continue
        if is_here:
            here.add(id)
        where = "" if is_here else reached.get(pod.node) or UNKNOWN_NODE
        lost[pod.node] += where == UNKNOWN_NODE
        owner = owners.setdefault((*account, where), (str(id), where))
        of.update(dict.fromkeys(pod.ips, owner))
    if not address:
        problems.append(
            f"Node {node}: its own address is not known, so no other node can call its pods by mTLS: give --node-ip, "
            "or a v1 Node document with its InternalIP"
        )
    problems += [
        f"Node {name}: its address is not known, so connections between here and {counted(count, 'pod')} of it are "
        "refused: give a v1 Node document with its InternalIP"
        for name, count in sorted((+lost).items())[:_MOST_TOLD]
    ]
    return Owners(frozenset(here), address, of, tuple(problems))


def _id(trust_domain: str, namespace: str, account: str, problems: list[str]) -> SpiffeId | None:
    try:
        return SpiffeId(trust_domain, namespace, account)
    except spiffe.BadId as error:
        if len(problems) < _MOST_TOLD:
            problems.append(f"service account {namespace}/{account}: its pods cannot have a certificate: {error}")
        return None


def _like(address: str, ips: Sequence[str]) -> str:
    """Return the first of a node's addresses of the same family as our own, or the first of all."""
    same = (ip for ip in ips if (":" in ip) == (":" in address))
    return next(same, None) or next(iter(ips), "")
