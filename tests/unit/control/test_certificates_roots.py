"""Which roots are trusted and which signs, while one gives way to another."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control.certificates import authority, certificate, keys, leaf, roots, verify
from control.certificates.roots import BadBundle, NotNow, Phase, TrustBundle
from control.certificates.spiffe import SpiffeId
from tests.unit.control import forged
from tests.unit.control.forged import DAY, DOMAIN, HOUR

NOW = 1.8e9
AUTHORITIES = [authority.new_root(DOMAIN, NOW) for _ in range(4)]
OLD, NEW = AUTHORITIES[0].root, AUTHORITIES[1].root
STEADY = TrustBundle(DOMAIN, OLD)
BOTH = STEADY.begin(NEW, NOW, DAY)
NAME = SpiffeId(DOMAIN, "shop", "web")
REQUEST = leaf.request(keys.new())


def test_one_root() -> None:
    assert STEADY.roots == (OLD,) and STEADY.phase(NOW) is Phase.STEADY and STEADY.signer(NOW) == OLD
    assert certificate.read_pem(STEADY.pem) == (OLD,)
    with pytest.raises(NotNow):
        STEADY.finish(NOW + 100 * DAY)


def test_a_rotation() -> None:
    assert BOTH.roots == (OLD, NEW) and certificate.read_pem(BOTH.pem) == (OLD, NEW)
    switches, drained = NOW + roots.SPREADING, NOW + roots.SPREADING + roots.SKEW + DAY
    assert (BOTH.switches_at, BOTH.drained_at) == (switches, drained)
    assert (BOTH.phase(NOW), BOTH.signer(NOW)) == (Phase.SPREADS, OLD)
    assert (BOTH.phase(switches - 1), BOTH.signer(switches - 1)) == (Phase.SPREADS, OLD)
    assert (BOTH.phase(switches), BOTH.signer(switches)) == (Phase.DRAINS, NEW)
    with pytest.raises(NotNow, match="for 1 seconds more"):
        BOTH.finish(drained - 1)
    assert BOTH.finish(drained) == TrustBundle(DOMAIN, NEW)
    with pytest.raises(NotNow):
        BOTH.begin(AUTHORITIES[2].root, NOW, DAY)


def test_an_old_root_that_ends_soon_signs_no_longer_than_it_lives() -> None:
    ending = authority.new_root(DOMAIN, NOW, lifetime=600).root
    assert TrustBundle(DOMAIN, ending).begin(NEW, NOW, DAY).switches_at == NOW + 600
    late = TrustBundle(DOMAIN, ending).begin(NEW, NOW + HOUR, DAY)  # it has ended: nothing to wait for
    assert late.phase(NOW + HOUR) is Phase.DRAINS and late.signer(NOW + HOUR) == NEW


def test_roots_that_cannot_follow() -> None:
    for root in (
        OLD,
        forged.root(NOW + 2 * HOUR, begins=-60).certificate,  # not valid yet
        forged.root(NOW, ends=DAY).certificate,  # ends before it is alone
        forged.leaf(NOW, None).certificate,
        forged.between(NOW, forged.root(NOW), ends=300 * DAY).certificate,
        forged.root(NOW, key=forged.odd_curve(), ends=300 * DAY).certificate,
        authority.new_root("other", NOW).root,
        forged.root(NOW, key=AUTHORITIES[0].key, ends=300 * DAY).certificate,  # of the same key
    ):
        with pytest.raises(BadBundle):
            STEADY.begin(root, NOW, DAY)
    STEADY.begin(forged.root(NOW, ends=300 * DAY).certificate, NOW, DAY)
    for lifetime, spreading in ((0.0, 1.0), (-1.0, 1.0), (1.0, -1.0), (float("nan"), 1.0)):
        with pytest.raises(ValueError, match="leaves live"):
            STEADY.begin(NEW, NOW, lifetime, spreading)
    for domain in ("", "other", "a/b"):
        with pytest.raises(BadBundle):
            TrustBundle(domain, OLD)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_no_leaf_is_refused_at_any_time_of_rotations(data: st.DataObject) -> None:
    """Leaves are signed at any time by whoever signs then; each is trusted until it ends, by the bundle of then, and by
    those who heard of it up to the spreading later."""
    bundle, now, number = STEADY, NOW, 0
    by = {each.root: each for each in AUTHORITIES}
    history: list[tuple[float, TrustBundle]] = [(now, bundle)]
    leaves: list[tuple[float, tuple[bytes, ...]]] = []
    for _ in range(data.draw(st.integers(4, 16))):
        now += data.draw(st.sampled_from([60.0, 1800.0, 7200.0, DAY / 3, DAY]))
        step = data.draw(st.sampled_from(["begin", "finish", "sign", "sign"]))
        try:
            if step == "begin" and number + 1 < len(AUTHORITIES):
                bundle = bundle.begin(AUTHORITIES[number + 1].root, now, DAY)
                number += 1
            elif step == "finish":
                bundle = bundle.finish(now)
            history.append((now, bundle))
        except NotNow:
            pass
        if step == "sign":
            lifetime = data.draw(st.sampled_from([HOUR, DAY]))
            made = certificate.read_pem(by[bundle.signer(now)].sign(REQUEST, NAME, now, lifetime))
            leaves.append((made[0].not_after, tuple(each.der for each in made)))
        assert bundle.signer(now) in bundle.roots
        known_late = [known for at, known in history if at <= now - roots.SPREADING][-1:] or [STEADY]
        for ends, chain in leaves:
            for known in (bundle, *known_late):
                if now <= ends:
                    assert verify.peer(chain, known.roots, DOMAIN, now) == NAME


def test_it_is_written_and_read() -> None:
    for bundle in (STEADY, BOTH):
        again = roots.from_json(bundle.to_json())
        assert again == bundle and again.to_json() == bundle.to_json()
        assert roots.from_json(bundle.to_json().encode()) == bundle
    assert "PRIVATE" not in BOTH.to_json()


@pytest.mark.parametrize(
    "change",
    [{"trust_domain": "other"}, {"trust_domain": 1}, {"roots": []}, {"roots": 1}, {"roots": [1]}, {"roots": None},
     {"roots": ["words"]}, {"roots": ["\ud800"]}, {"switches_at": "1"}, {"switches_at": None}, {"switches_at": True},
     {"switches_at": -1}, {"switches_at": float("nan")}, {"switches_at": 9e9}, {"drained_at": 1},
     {"drained_at": float("inf")}, {"drained_at": 10**400}, {"more": 1}, {"roots": [OLD.pem.decode()] * 2},
     {"roots": [OLD.pem.decode() + NEW.pem.decode()]}, {"roots": [root.root.pem.decode() for root in AUTHORITIES]}],
)  # fmt: skip
def test_what_is_no_bundle(change: dict[str, Any]) -> None:
    with pytest.raises(BadBundle):
        roots.from_json(json.dumps({**json.loads(BOTH.to_json()), **change}))


def test_texts_that_are_no_bundle() -> None:
    whole = BOTH.to_json()
    for text in ("", "[]", "1", "{}", whole[:-2], "[" * 50_000, whole + " " * 70_000, b"\xff", "9" * 5000):
        with pytest.raises(BadBundle):
            roots.from_json(text)
    fields = json.loads(whole)
    for name in fields:
        with pytest.raises(BadBundle):
            roots.from_json(json.dumps({key: value for key, value in fields.items() if key != name}))


@settings(deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner), max_leaves=5))
def test_anything_is_a_bundle_or_bad(value: Any) -> None:
    fields = json.loads(BOTH.to_json())
    for name in fields:
        try:
            found = roots.from_json(json.dumps({**fields, name: value}))
        except BadBundle:
            continue
        assert found.roots == BOTH.roots and found.trust_domain == DOMAIN
