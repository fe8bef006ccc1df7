"""What one worker grants, by what all of them grant and by its open files."""

import doctest

from l7proxy.edge import limits
from l7proxy.edge.limits import Limits


def test_examples() -> None:
    assert doctest.testmod(limits).failed == 0


def test_the_share_of_one_identity() -> None:
    assert Limits(connections=9).for_one_of(4, 100_000).connections == 3
    assert Limits(connections=1).for_one_of(64, 100_000).connections == 1
    few = Limits().for_one_of(1, 10)
    assert (few.connections, few.all_connections) == (1, 1)
