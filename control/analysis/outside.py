"""The addresses outside the cluster: which of them one identity stands for, and how they are written.

Both families lie on one line, IPv6 far behind IPv4, so that a set of addresses is its spans on that line.
"""

import bisect
import functools
from collections.abc import Iterable, Iterator

from control import model, places
from control.analysis import spans
from control.policy import peers
from loader import abi

_BASE = {4: 0, 6: 1 << 40}  # further apart than one, so that the families never touch
_BITS = {4: 32, 6: 128}
EVERYTHING: spans.Spans = tuple((base, base + (1 << _BITS[version]) - 1) for version, base in _BASE.items())

_Term = tuple[model.Prefix, spans.Spans]  # a range, and what is not meant of it


def regions(known: Iterable[tuple[model.Prefix, int]]) -> dict[int, spans.Spans]:
    """Return the addresses of each identity: those of its ranges that are in no longer range of another one.

    An address that no range holds has the identity of the world.
    """
    numbers = {places.ANY_IPV4: int(abi.ReservedIdentity.WORLD_IPV4)}
    numbers[places.ANY_IPV6] = int(abi.ReservedIdentity.WORLD_IPV6)
    numbers.update(known)
    found: dict[int, list[tuple[int, int]]] = {}
    around: list[tuple[model.Prefix, int]] = []  # the ranges that hold the next address, the longest last
    position = 0

    def give(last: int) -> None:
        """Give the addresses from the position to last to the longest range around them."""
        nonlocal position
        if position <= last:
            found.setdefault(around[-1][1], []).append((position, last))
            position = last + 1

    for prefix, number in [*sorted(numbers.items()), (None, 0)]:
        while around and (prefix is None or not around[-1][0].contains(prefix)):
            give(_span(around[-1][0])[1])
            around.pop()
        if prefix is not None:
            if around:
                give(_span(prefix)[0] - 1)
            position = _span(prefix)[0]
            around.append((prefix, number))
    return {number: spans.merged(each) for number, each in found.items()}


def place_of(prefix: model.Prefix) -> int:
    """Return where the first address of a range is on the line of all addresses."""
    return _span(prefix)[0]


def _span(prefix: model.Prefix) -> tuple[int, int]:
    base = _BASE[prefix.version]
    return base + prefix.address, base + prefix.last


def cidrs(of: spans.Spans) -> tuple[str, ...]:
    """Return the fewest ranges that are together these addresses, in order, IPv4 first."""
    return tuple(peers.show_prefix(prefix) for span in of for prefix in _blocks(*span))


def _blocks(first: int, last: int) -> Iterator[model.Prefix]:
    version = 6 if first >= _BASE[6] else 4
    first, last = first - _BASE[version], last - _BASE[version]
    while first <= last:
        # The largest block that begins here is bounded by the alignment of its start and by the end of the span.
        size = (first & -first) or 1 << _BITS[version]
        while size > last - first + 1:
            size //= 2
        yield model.Prefix(version, first, _BITS[version] + 1 - size.bit_length())
        first += size


@functools.lru_cache(4096)
def words(written: tuple[str, ...]) -> str:
    """Return what people call a set of ranges: its ranges, or what it lacks where that is said sooner.

    >>> words(("0.0.0.0/0", "::/0")), words(("10.0.0.0/8",)), words(("0.0.0.0/1", "::/0"))
    ('the outside', '10.0.0.0/8', 'the outside except 128.0.0.0/1')
    >>> words(("10.0.0.0/16", "10.2.0.0/15", "10.4.0.0/14"))
    '10.0.0.0/13 except 10.1.0.0/16'
    >>> words(("0.0.0.0/5", "8.0.0.0/7", "10.1.0.0/16", "11.0.0.0/8", "12.0.0.0/6", "16.0.0.0/4", "32.0.0.0/3",
    ... "64.0.0.0/2", "128.0.0.0/1", "::/0"))
    'the outside except (10.0.0.0/8 except 10.1.0.0/16)'
    """
    held = spans.merged(_span(peers.parse_prefix(cidr)) for cidr in written)
    families = [own for family in (EVERYTHING[:1], EVERYTHING[1:]) if (own := spans.common(held, family))]
    found = [_fewest(_around(own), own) for own in families]
    lacking = cidrs(spans.without(EVERYTHING, held)) if len(families) > 1 else ()
    if len(families) > 1 and len(lacking) < sum(count for _, count, _ in found):
        return f"the outside except {_lacking(lacking)}" if lacking else "the outside"
    terms = [(peers.show_prefix(named), cidrs(without)) for each, _, _ in found for named, without in each]
    written_out = (named + (f" except {', '.join(without)}" if without else "") for named, without in terms)
    return ("; " if any(without for _, without in terms) else ", ").join(written_out)


def _lacking(written: tuple[str, ...]) -> str:
    """Return ranges that are left out, of one family in the words that are fewest."""
    one = len({":" in each for each in written}) == 1
    said = words(written) if one and len(written) > 2 else ""
    return f"({said})" if " except " in said else ", ".join(written)


def _around(own: spans.Spans) -> model.Prefix:
    """Return the smallest range around addresses of one family."""
    version = 6 if own[0][0] >= _BASE[6] else 4
    first, last = own[0][0] - _BASE[version], own[-1][1] - _BASE[version]
    bits = (first ^ last).bit_length()
    return model.Prefix(version, first >> bits << bits, _BITS[version] - bits)


def _fewest(around: model.Prefix, own: spans.Spans) -> tuple[list[_Term], int, int]:
    """Return addresses inside a range in the fewest ranges, where those that others lack count, too; how many
    these are; how many the range lacks.
    """
    whole = _span(around)
    if own == (whole,):
        return [(around, ())], 1, 0
    length = around.length + 1
    middle = whole[0] + (1 << (_BITS[around.version] - length))
    at = bisect.bisect(own, (middle,))
    below, above = own[:at], own[at:]
    if below and below[-1][1] >= middle:
        above = ((middle, below[-1][1]), *above)
        below = (*below[:-1], (below[-1][0], middle - 1))
    terms: list[_Term] = []
    count = lacks = 0
    for half in (below, above):
        if not half:
            lacks += 1
            continue
        inside = _around(half)
        found, number, lacking = _fewest(inside, half)
        terms += found
        count += number
        lacks += lacking + inside.length - length  # of each range between them it lacks the other half
    if 1 + lacks < count:
        return [(around, spans.without((whole,), own))], 1 + lacks, lacks
    return terms, count, lacks
