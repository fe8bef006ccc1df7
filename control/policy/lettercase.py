"""Whether an expression can match what has no capital letter: hosts are compared in lower case. Pure."""

from control.policy import automaton, regex

_CAPITALS = sum(1 << ord(letter) for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def needs_capitals(text: str) -> bool:
    """Tell whether nothing without a capital letter matches; raises ValueError for what is no expression.

    >>> [needs_capitals(text) for text in ("Shop", "(?i)Shop", "[A-Z]?shop", "shop|Shop")]
    [True, False, False, False]
    """
    return not _has_word(regex.compile(text).tree)


def _has_word(node: automaton.Node) -> bool:
    """Tell whether some text without capitals matches, as if every condition on a gap held: in doubt there is one."""
    match node:
        case automaton.Chars():
            return bool(node.members & ~_CAPITALS)
        case automaton.Sequence():
            return all(map(_has_word, node.items))
        case automaton.Choice():
            return any(map(_has_word, node.items))
        case automaton.Repeat():
            return node.low == 0 or _has_word(node.item)
    return True
