"""Who is alike: workloads, and addresses outside, that no policy tells apart are one class; pure."""

import dataclasses
import functools
import operator
from collections.abc import Iterable, Mapping

from control import model
from control.analysis import portset, sides, spans
from control.analysis.portset import PortSet
from loader import abi


@dataclasses.dataclass(frozen=True)
class Subject:
    """Whose policy is asked: an identity, and what its container ports are called."""

    identity: int
    ports: tuple[model.ContainerPort, ...] = ()


Contents = dict[Subject, Mapping[abi.Direction, sides.Content]]


@dataclasses.dataclass(frozen=True)
class Classes:
    """Who is alike. `blocks` are the classes that are addresses outside, with these; all others are workloads'."""

    of_workloads: tuple[int, ...]  # the class of each workload
    egress: Mapping[int, sides.Parts]
    ingress: Mapping[sides.Parts, int]  # what receivers let in, and the classes of the receivers that do
    blocks: Mapping[int, spans.Spans]
    whole: sides.Let  # what nobody refuses
    others: Mapping[int, int]  # identities that are neither, and in no pair, and the classes of these


def classes(
    subjects: Iterable[Subject],
    contents: Contents,
    regions: Mapping[int, spans.Spans],
    others: Iterable[int],
    whole: PortSet,
) -> Classes:
    """Return the classes of all subjects, whose policies say `contents`, of the addresses outside, and of `others`."""
    said = dict.fromkeys(content for both in contents.values() for content in both.values())
    seen = _seen(said)
    numbers: dict[object, int] = {}
    bits: dict[int, int] = {}  # identity -> its classes
    of_subject: dict[Subject, int] = {}
    for subject, both in contents.items():
        alike = (seen.get(subject.identity, ()), both[abi.Direction.EGRESS], both[abi.Direction.INGRESS])
        of_subject[subject] = number = numbers.setdefault(alike, len(numbers))
        bits[subject.identity] = bits.get(subject.identity, 0) | 1 << number
    blocks: dict[int, list[tuple[int, int]]] = {}
    for known, addresses in regions.items():
        number = numbers.setdefault(seen.get(known, ()), len(numbers))
        bits[known] = 1 << number
        blocks.setdefault(number, []).extend(addresses)
    alone = {known: numbers.setdefault(("alone", known), len(numbers)) for known in others}
    for known, number in alone.items():
        bits[known] = bits.get(known, 0) | 1 << number
    masks: dict[sides.Identities, int] = {None: (1 << len(numbers)) - 1}
    for peers in {peers for content in said for rules in content.lists for _, peers in rules} - {None}:
        masks[peers] = functools.reduce(operator.or_, (bits.get(known, 0) for known in peers or ()), 0)
    parts = {content: sides.parts(content, masks, whole) for content in said}
    egress: dict[int, sides.Parts] = {}
    ingress: dict[sides.Parts, int] = {}
    for subject, number in of_subject.items():
        egress[number] = parts[contents[subject][abi.Direction.EGRESS]]
        let_in = parts[contents[subject][abi.Direction.INGRESS]]
        ingress[let_in] = ingress.get(let_in, 0) | 1 << number
    merged = _blocks({number: spans.merged(each) for number, each in blocks.items()}, parts.values())
    of_workloads = tuple(of_subject[subject] for subject in subjects)
    return Classes(of_workloads, egress, ingress, merged, sides.Let(whole), alone)


def _seen(said: Iterable[sides.Content]) -> dict[int, tuple[int, ...]]:
    """Return the sets of peers that each identity is in, by number; identities in the same sets are seen alike."""
    sets = dict.fromkeys(peers for content in said for rules in content.lists for _, peers in rules)
    found: dict[int, list[int]] = {}
    for number, peers in enumerate(sets):
        for known in peers or ():
            found.setdefault(known, []).append(number)
    return {known: tuple(each) for known, each in found.items()}


def _blocks(blocks: Mapping[int, spans.Spans], parts: Iterable[sides.Parts]) -> dict[int, spans.Spans]:
    """Return the classes of addresses with those joined that all policies together treat alike in the end."""
    different = list(dict.fromkeys(parts))
    joined: dict[tuple[PortSet, ...], int] = {}
    out: dict[int, list[tuple[int, int]]] = {}
    for number, held in blocks.items():
        # Who has no policy asks for no kind of bytes, so it is only ports that others can treat it by.
        treated = tuple(
            next((let.ports for let, mask in each if mask >> number & 1), portset.NONE) for each in different
        )
        out.setdefault(joined.setdefault(treated, number), []).extend(held)
    return {number: spans.merged(each) for number, each in out.items()}
