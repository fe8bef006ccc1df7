"""Which of the rules that may open something do, for whom no pair shows, and what else opens for these; pure.

A rule is told of once, by its own words; what is opened for other reasons is told of by whom it is opened to.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from control import model
from control.analysis.change import around, undeclared, unseen
from control.analysis.change.unseen import Opening, Side
from control.analysis.change.written import Beside, Place, Written
from control.policy import selectors
from loader import abi

_MOST = 3  # of those that something is opened to, by name
_TOO_MANY = Beside(
    "something for pods that no file declares: there are more kinds of these than could be looked at", "labels", ""
)


class Told(NamedTuple):
    """What may be opened. Where `place` is given, only if something is opened there beside the pairs; where `unless`
    is, only if no pair shows that something is opened there.
    """

    beside: Beside
    place: Place | None = None
    unless: Place | None = None


def told(
    old: model.Snapshot, new: model.Snapshot, both: tuple[Written, Written], maybe: Sequence[Told]
) -> Iterator[Beside]:
    """Yield which of these open something that is in no pair, and what else does."""
    changed = [around.Rule(each.place.subject, each.place.peer) for each in maybe if each.place is not None]
    where = around.around([*changed, *around.moved(old, new, both)], both)
    pods = undeclared.examples(where, (old, new))
    try:
        found = unseen.compare(old, new, pods or ())
    except model.TooMuch:
        found, pods = unseen.Openings([], []), None
    confirmed: set[Told] = set()
    others: list[Opening] = []
    for opening in found.beside:
        said = [each for each in maybe if each.place is not None and _is_at(each.place, opening)]
        confirmed.update(said)
        if not said:
            others.append(opening)
    for each in maybe:
        if each.place is not None:
            counts = each in confirmed or pods is None
        else:
            counts = each.unless is None or not any(_is_at(each.unless, opening) for opening in found.shown)
        if counts:
            yield each.beside
    yield from _in_words(others)
    if pods is None and not changed:
        yield _TOO_MANY


def _is_at(place: Place, opening: Opening) -> bool:
    """Tell whether a rule at a place may have opened it."""
    is_egress = place.direction == abi.Direction.EGRESS
    own, peer = (opening.source, opening.destination) if is_egress else (opening.destination, opening.source)
    if not _has(own, place.subject):
        return False
    if isinstance(place.peer, model.Selector):
        by_entity = any(r.source == "reserved" for r in place.peer.requirements)
        return _has(peer, place.peer) or (by_entity and peer.has_more)
    return place.peer in around.PODS or peer.has_more


def _has(side: Side, selector: model.Selector) -> bool:
    return any(selectors.fulfils(selector, values) for values in side.values)


def _in_words(openings: Iterable[Opening]) -> Iterator[Beside]:
    """Yield what is opened: for each workload and its ports at once, whoever the others are; for pods that nobody
    declares, for all that have the same in common.
    """
    found: dict[tuple[str, str, str], dict[str, None]] = {}
    for each in openings:
        leaves = bool(each.source.declared or not each.destination.declared)
        own, peer = (each.source, each.destination) if leaves else (each.destination, each.source)
        named = dict.fromkeys([*peer.others, *(f"{w.kind} {w}" for w in peer.declared)])
        owners = [(f"{w.kind} {w}", w.source) for w in own.declared] or [(_listed(own.others), "")]
        for where, source in owners:
            found.setdefault((f"{each.ports} {'to' if leaves else 'from'}", where, source), {}).update(named)
    for (what, where, source), peers in found.items():
        yield Beside(f"{what} {_listed(tuple(peers))}", where, source)


def _listed(named: Sequence[str]) -> str:
    more = f" and {len(named) - _MOST} more" if len(named) > _MOST else ""
    return f"{', '.join(named[:_MOST])}{more}"
