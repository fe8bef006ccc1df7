"""How a workload's policy comes about: from the documents that select it, by its rules, to the entries in the end."""

import dataclasses
import heapq
from collections.abc import Iterable

from control import model
from control.analysis import twokinds, world
from control.analysis.call import Author, author
from control.inspect import policies
from control.policy import words
from loader import abi

_DIRECTIONS = (abi.Direction.INGRESS, abi.Direction.EGRESS)
MOST_MEANT = 20  # workloads and ranges named of those that a rule means
MOST_ENTRIES = 10_000  # shown of those that a call is looked up in


@dataclasses.dataclass(frozen=True)
class Selecting:
    """One `spec` that selects the workload. `closes`: the directions in which it switches default deny on."""

    author: Author
    closes: tuple[str, ...]
    audit: bool


@dataclasses.dataclass(frozen=True)
class RuleLine:
    """One rule as it counts. `who` and `ports` as written; `meant`: who that is now; `bytes`: what they must say,
    anything where the rule `freed_by` lets all of it through. `shut_by`: a rule for another kind of bytes that it meets
    at the ports `shut_at`, so that neither lets anything through there.
    """

    direction: str
    verdict: str
    who: str
    ports: str
    bytes: str
    meant: tuple[str, ...]
    meant_count: int | None  # None: anybody
    author: Author | None
    audit: bool
    freed_by: Author | None = None
    shut_by: Author | None = None
    shut_at: str = ""


@dataclasses.dataclass(frozen=True)
class Explanation:
    workload: str
    identity: int
    labels: tuple[str, ...]
    selecting: tuple[Selecting, ...]
    rules: tuple[RuleLine, ...]
    entries: tuple[policies.PolicyRow, ...]  # the first to decide
    entries_count: int


def explain(known: world.World, workload: model.Workload) -> Explanation:
    """Return every stage of a workload's policy, in the order in which they follow from each other."""
    number = known.identities.of_workload[str(workload)]
    policy = known.policy(workload)
    entries = known.policy_set(workload).entries
    first = heapq.nsmallest(MOST_ENTRIES, entries.items(), key=_order)
    shut = twokinds.shut(known, workload)
    return Explanation(
        workload=str(workload),
        identity=number,
        labels=known.identities.labels[number],
        selecting=tuple(_selecting(known, number)),
        rules=tuple(
            RuleLine(
                direction=rule.direction.name.lower(),
                verdict=rule.verdict.name.lower(),
                who="anybody" if rule.peers is None else ", ".join(map(words.peer_word, rule.peers)),
                ports="any" if rule.ports is None else ", ".join(map(words.port_word, rule.ports)),
                bytes=words.l7_word(rule.l7),
                meant=found[0],
                meant_count=found[1],
                author=author(known, rule.rule),
                audit=rule.audit,
                freed_by=author(known, rule.freed_by),
                shut_by=author(known, by),
                shut_at=str(ports) if ports else "",
            )
            for rule, (by, ports) in zip(policy.rules, shut, strict=True)
            for found in (_meant(known, (m[0] for m in known.meant(rule, workload))),)
        ),
        entries=policies.rows(first, known.names, {}),
        entries_count=len(entries),
    )


def _order(entry: tuple[abi.PolicyKey, abi.PolicyValue]) -> tuple[int, ...]:
    """Return what policies.rows sorts by, within one set."""
    key, value = entry
    return key.direction, -value.rank, key.peer_id, key.proto, key.port, -key.plen


def _selecting(known: world.World, number: int) -> Iterable[Selecting]:
    for policy in known.snapshot.policies:
        for section in policy.sections:
            if not section.of_nodes and number in known.identities.subjects(section.subject):
                by = Author(policy.kind, policy.namespace, policy.name, section.path, section.source)
                closes = tuple(d.name.lower() for d in _DIRECTIONS if d in section.default_deny)
                yield Selecting(by, closes, section.audit)


def _meant(known: world.World, found: Iterable[frozenset[int] | None]) -> tuple[tuple[str, ...], int | None]:
    numbers: set[int] = set()
    for each in found:
        if each is None:
            return (), None
        numbers |= each
    called = [name for name, number in known.identities.of_workload.items() if number in numbers]
    called += sorted(
        ", ".join(known.identities.labels[number]) for number in numbers if number not in known.identities.pods
    )
    return tuple(called[:MOST_MEANT]), len(called)
