"""Sets of whole numbers as spans, first and last in them: sorted and apart from each other, so equal sets are equal."""

from collections.abc import Iterable, Iterator, Sequence

Spans = tuple[tuple[int, int], ...]


def merged(spans: Iterable[tuple[int, int]]) -> Spans:
    """Return the set that spans of any order cover together.

    >>> merged([(5, 9), (1, 2), (3, 3)])
    ((1, 3), (5, 9))
    """
    out: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if out and first <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(last, out[-1][1]))
        else:
            out.append((first, last))
    return tuple(out)


def common(one: Spans, other: Spans) -> Spans:
    """Return what is in both.

    >>> common(((1, 4), (8, 9)), ((3, 8),))
    ((3, 4), (8, 8))
    """
    out = []
    left, right = list(reversed(one)), list(reversed(other))
    while left and right:
        first, last = max(left[-1][0], right[-1][0]), min(left[-1][1], right[-1][1])
        if first <= last:
            out.append((first, last))
        (left if left[-1][1] < right[-1][1] else right).pop()
    return tuple(out)


def overlaps(ones: Sequence[Spans], others: Sequence[Spans]) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Yield each span that a set of the first and one of the others have in common, as numbers of the two and the span:
    in order, and in one pass. No two of the first share anything, and no two of the others.

    >>> list(overlaps([((1, 4), (8, 9)), ((5, 7),)], [((3, 8),)]))
    [(0, 0, (3, 4)), (1, 0, (5, 7)), (0, 0, (8, 8))]
    """
    left, right = (sorted((*span, n) for n, held in enumerate(each) for span in held) for each in (ones, others))
    i = j = 0
    while i < len(left) and j < len(right):
        first, last = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if first <= last:
            yield left[i][2], right[j][2], (first, last)
        i, j = i + (left[i][1] == last), j + (right[j][1] == last)


def without(one: Spans, other: Spans) -> Spans:
    """Return what is in one and not in the other.

    >>> without(((1, 9),), ((3, 4), (9, 12)))
    ((1, 2), (5, 8))
    """
    if not one or not other:
        return one
    lowest, highest = min(one[0][0], other[0][0]), max(one[-1][1], other[-1][1])
    edges = [lowest, *(edge for first, last in other for edge in (first - 1, last + 1)), highest]
    between = zip(edges[::2], edges[1::2], strict=True)
    return common(one, tuple((first, last) for first, last in between if first <= last))
