"""How often a configuration that cannot be in force is tried."""

import itertools

import pytest

from control.agent.patience import Patience


def same() -> bool:
    return False


def test_an_edit_is_read_at_once_and_once() -> None:
    patience = Patience()
    assert not patience.is_due(10.0, has_problems=False, has_changed=same)
    patience.call()
    assert patience.is_due(10.0, has_problems=False, has_changed=same)
    assert not patience.is_due(10.0, has_problems=True, has_changed=same)


def test_what_cannot_be_in_force_is_tried_ever_more_seldom() -> None:
    patience = Patience()
    patience.call()
    tried = [t / 10 for t in range(2000) if patience.is_due(t / 10, has_problems=True, has_changed=same)]
    assert tried[:6] == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0]
    assert {round(later - sooner) for sooner, later in itertools.pairwise(tried[5:])} == {30}
    patience.call()
    assert patience.is_due(200.0, has_problems=True, has_changed=same)
    assert patience.is_due(201.0, has_problems=True, has_changed=same)  # it is quick again after an edit


def test_a_missing_workload_is_looked_for_each_second() -> None:
    patience, looks = Patience(), []
    patience.call()
    assert patience.is_due(0.0, True, lambda: False)
    patience.is_due(1.0, True, same)
    patience.is_due(3.0, True, same)

    def look() -> bool:
        looks.append(1)
        return len(looks) == 3

    due = [t / 10 for t in range(31, 69) if patience.is_due(t / 10, True, look)]
    assert len(looks) == 3 and due == [6.0]


def test_the_host_is_looked_at_each_second_whatever_else_goes_on() -> None:
    """A reconciliation does not look whether its filters still hang: edits and retries must not put the look off."""
    patience, looks = Patience(), []

    def look() -> bool:
        looks.append(now)
        return False

    for now in range(51):
        if now % 4 == 0:
            patience.call()
        patience.is_due(now / 10, True, look)
    assert looks == [0, 10, 20, 30, 40, 50]


def test_an_edit_is_not_forgotten_when_a_look_fails() -> None:
    patience = Patience()
    patience.call()

    def fail() -> bool:
        raise OSError

    with pytest.raises(OSError):
        patience.is_due(10.0, has_problems=False, has_changed=fail)
    assert patience.is_due(10.05, has_problems=False, has_changed=fail)
