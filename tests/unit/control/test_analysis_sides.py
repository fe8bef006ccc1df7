"""Rules taken apart by who they are for, against one class at a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control import model
from control.analysis import portset, sides
from loader import abi

CLASSES = 5
PORTS = [portset.of_specs([model.PortSpec(abi.Proto.TCP, a, b)]) for a, b in ((1, 80), (80, 80), (81, 90), (0, 65535))]
PEERS = st.none() | st.frozensets(st.integers(0, CLASSES - 1), max_size=CLASSES)
RULES = st.frozensets(st.tuples(st.sampled_from([*PORTS, portset.ALL]), PEERS), max_size=5)


def masks(*contents: sides.Content) -> dict[sides.Identities, int]:
    every = {peers for content in contents for _, peers in frozenset().union(*content.lists)}
    return {peers: sum(1 << peer for peer in peers or ()) for peers in every} | {None: (1 << CLASSES) - 1}


NOBODY: sides.Rules = frozenset()


@given(st.booleans(), RULES, RULES, RULES | st.just(NOBODY), RULES, st.tuples(*[RULES | st.just(NOBODY)] * 3))
def test_each_class_has_what_its_rules_say(
    is_open: bool,
    allows: sides.Rules,
    denies: sides.Rules,
    shuts: sides.Rules,
    opens: sides.Rules,
    asks: tuple[sides.Rules, ...],
) -> None:
    content = sides.Content(is_open, allows, denies, shuts, opens, asks)
    found = sides.parts(content, masks(content))
    assert len({let for let, _ in found}) == len(found)
    for number in range(CLASSES):

        def of(rules: sides.Rules, number: int = number) -> portset.PortSet:
            return portset.union(ports for ports, peers in rules if peers is None or number in peers)

        asked = [of(each) for each in asks]
        two = asked[0] & asked[1] | asked[0] & asked[2] | asked[1] & asked[2]
        ports = ((portset.ALL if is_open else of(allows)) - of(shuts) | portset.union(asked)) - two
        expected = (ports | of(opens)) - of(denies)
        bound = [each - two - of(opens) - of(denies) for each in asked]
        lets = [let for let, mask in found if mask >> number & 1]
        assert [(let.ports, list(let.bound)) for let in lets] == (
            [(expected, bound if any(bound) else [])] if expected else []
        )


def test_what_no_list_could_show_is_refused_soon() -> None:
    count = 2000
    rules = frozenset(
        (portset.of_specs([model.PortSpec(abi.Proto.TCP, 2 * port, 2 * port)]), frozenset((port,)))
        for port in range(1, count)
    )
    everyone = (1 << count) - 1
    apart = {peers: everyone ^ 1 << next(iter(peers)) for _, peers in rules}
    with pytest.raises(model.TooMuch, match="so many peers"):
        sides.parts(sides.Content(False, rules, frozenset()), {None: everyone} | apart)
