"""Where rules for two kinds of bytes meet, so that nothing is let through; pure.

Where they no longer do, what one kind lets through is opened, though no rule for it is new; where they do now, what is
new is not.
"""

from collections.abc import Callable, Iterator

from control import model
from control.analysis.change import meeting, written
from control.analysis.change.called import Words
from control.analysis.change.lacking import Told
from control.analysis.change.written import Beside, Item, Place, Said, Written

_CALLED = {model.HttpRule: "http requests", model.NamePeer: "DNS queries", str: "TLS names"}
_Kinds = dict[str, dict[Place, Said]]  # the places of the rules for each kind


def no_longer(before: Written, after: Written, called: Words) -> Iterator[Told]:
    """Yield the rules that were shut by those for another kind of bytes, some of which are not there any more."""
    were, are = _kinds(before), _kinds(after)
    for gone in were if len(were) > 1 else ():
        left = are.get(gone, {})
        still = meeting.of(left, meeting.INCLUDES)
        lost = meeting.of((place for place in were[gone] if not still.has(place)), meeting.MEETS)
        for kind in were.keys() & are.keys() - {gone}:
            shut = meeting.of(were[kind], meeting.MEETS)
            for place, said in are[kind].items():
                if lost.has(place) and shut.has(place):
                    yield _told(place, Beside(f"{called.one_kind}: {kind}, {written.at(place)}", *said))


def shut(after: Written) -> Callable[[Item], bool]:
    """Return what tells whether a rule for bytes lets nothing through, wherever it counts, because of one for another
    kind; False also where that is not plain to see.
    """
    kinds = _kinds(after)
    if len(kinds) < 2:
        return lambda item: False
    around = {kind: meeting.of(places, meeting.INCLUDES) for kind, places in kinds.items()}
    plain = (item.place for item in after.items if item.request is None and not item.is_deny)
    free = meeting.of([*plain, *after.unbound], meeting.MEETS)

    def is_shut(item: Item) -> bool:
        own = _CALLED[type(item.request)] if item.request is not None else ""
        meets = (kind for kind in around if own and kind != own)
        return any(around[kind].has(item.place) for kind in meets) and not free.has(item.place)

    return is_shut


def _kinds(of: Written) -> _Kinds:
    out: _Kinds = {}
    for item, said in of.items.items():
        if not item.is_deny and item.request not in (None, written.NOTHING):
            out.setdefault(_CALLED[type(item.request)], {}).setdefault(item.place, said)
    return out


def _told(place: Place, beside: Beside) -> Told:
    """Return it as what pairs show, or the pods that no file declares, where these can be worked out."""
    ports = Item(place, False, None)
    if written.is_exact(ports):
        return Told(beside, place)
    return Told(beside, unless=place if written.is_of_named_port(ports) else None)
