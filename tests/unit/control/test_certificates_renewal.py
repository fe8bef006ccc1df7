"""When certificates are renewed, whatever fails."""

from hypothesis import given, settings
from hypothesis import strategies as st

from control.certificates import renewal
from control.certificates.renewal import Renewal

DAY = 86400.0

moments = st.floats(0, 4e9)
lives = st.floats(60, 400 * DAY)
chances = st.floats(0, 1)


@settings(deadline=None)
@given(moments, lives, chances)
def test_it_comes_around_half_life(begins: float, life: float, random: float) -> None:
    plan = Renewal.of(begins, begins + life, random)
    assert begins + 0.39 * life <= plan.due_at <= begins + 0.61 * life
    assert plan.due_at <= plan.not_after - 0.39 * life


@settings(deadline=None)
@given(moments, lives, st.lists(chances, min_size=1, max_size=20), st.floats(0, 1))
def test_while_attempts_succeed_there_is_always_most_of_an_hour_or_a_third(
    begins: float, life: float, randoms: list[float], slowness: float
) -> None:
    """Whoever asks when it is due, and gets an answer within a twentieth of a life, never comes near an end."""
    for random in randoms:
        plan = Renewal.of(begins, begins + life, random)
        begins = plan.due_at + slowness * life / 20
        assert plan.is_valid(begins) and plan.not_after - begins >= life / 3


def test_the_renewals_of_one_moment_are_spread() -> None:
    count = 1000
    plans = [Renewal.of(0, DAY, at / count) for at in range(count)]
    hours = [int(plan.due_at // 3600) for plan in plans]
    full = [hours.count(hour) for hour in range(10, 14)]  # of the 4.8 from 9:36 to 14:24
    assert min(hours) == 9 and max(hours) == 14
    assert all(abs(found - count / 4.8) <= 2 for found in full)


@settings(deadline=None)
@given(lives, st.floats(0, 1), st.lists(chances, min_size=200, max_size=200))
def test_failures_are_followed_by_attempts_ever_more_seldom_and_some_before_the_end(
    life: float, random: float, randoms: list[float]
) -> None:
    first = plan = Renewal.of(0, life, random)
    waits: list[float] = []
    for chance in randoms:
        now = plan.due_at
        plan = plan.failed(now, chance)
        waits.append(plan.due_at - now)
        assert (plan.not_before, plan.not_after) == (0, life)
        assert 2.4 <= waits[-1] <= renewal.LONGEST_WAIT + 0.1
        left = life - now
        assert waits[-1] <= max(renewal.SHORTEST_WAIT, left / 4) + 0.1
        assert plan.is_valid(now) == (now < life)  # what is at hand stays
    assert plan.failures == len(randoms) and waits[0] <= renewal.FIRST_WAIT + 0.1
    assert first.is_valid(first.due_at)


@settings(deadline=None, max_examples=50)
@given(st.floats(60, 10 * DAY), chances, chances)
def test_an_authority_back_before_the_last_moments_is_not_missed(life: float, random: float, chance: float) -> None:
    plan, last = Renewal.of(0, life, random), 0.0
    while plan.due_at < life:
        last = plan.due_at
        plan = plan.failed(last, chance)
    assert life - last <= renewal.SHORTEST_WAIT + 0.1


def test_without_jitter_the_waits_double() -> None:
    plan, at, waits = Renewal.of(0, 30 * DAY, 0.5), 15 * DAY, []
    for _ in range(10):
        plan = plan.failed(at, 1.0)
        waits.append(plan.due_at - at)
        at = plan.due_at
    assert waits == [5, 10, 20, 40, 80, 160, 320, 600, 600, 600]


def test_a_success_forgets_the_failures() -> None:
    plan = Renewal.of(0, DAY, 0.5).failed(DAY / 2, 0.5).failed(DAY / 2 + 10, 0.5)
    assert plan.failures == 2
    assert Renewal.of(DAY / 2, 1.5 * DAY, 0.5) == Renewal(DAY / 2, 1.5 * DAY, DAY, 0)


def test_many() -> None:
    plans = {at: Renewal.of(at, at + DAY, 0.5) for at in range(100)}
    assert renewal.next_at(plans) == DAY / 2 and renewal.next_at({}) is None
    assert renewal.due(plans, DAY / 2 - 1) == []
    assert renewal.due(plans, DAY / 2 + 4) == [0, 1, 2, 3, 4]
    assert renewal.due(plans, DAY) == list(range(renewal.MAX_AT_ONCE))
    plans[500] = Renewal.missing(DAY / 2)  # nothing at all is more urgent than what is valid
    assert renewal.due(plans, DAY / 2 + 1)[0] == 500 and not plans[500].is_valid(DAY / 2 + 1)


@settings(deadline=None)
@given(st.dictionaries(st.integers(), st.tuples(moments, lives, chances), max_size=50), moments, st.integers(1, 10))
def test_what_is_due_is_what_ends_first(raw: dict[int, tuple[float, float, float]], now: float, limit: int) -> None:
    plans = {key: Renewal.of(at, at + life, random) for key, (at, life, random) in raw.items()}
    found = renewal.due(plans, now, limit)
    ready = [key for key, plan in plans.items() if plan.due_at <= now]
    assert len(found) == min(limit, len(ready)) and set(found) <= set(ready)
    left = [plans[key].not_after for key in ready if key not in found]
    assert all(plans[key].not_after <= min(left, default=float("inf")) for key in found)
