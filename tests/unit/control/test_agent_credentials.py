"""What an agent keeps of certificates, with real files and a clock that is passed in: no failure costs a valid one."""

import os
from pathlib import Path

import pytest

from control.agent import kept
from control.agent.credentials import Credentials
from control.agent.signers import Directory, Given
from control.certificates import authority, certificate, keys, leaf, roots, store, verify
from control.certificates.authority import BACKDATED, DAY
from control.certificates.spiffe import SpiffeId
from tests.unit.control import forged

DOMAIN = "cluster.local"
WEB, DB = SpiffeId(DOMAIN, "shop", "web"), SpiffeId(DOMAIN, "shop", "db")
NOW = 1_900_000_000.0


class Place:
    """A run directory and a CA of its own."""

    def __init__(self, directory: Path) -> None:
        self.ca, self.run = directory / "ca", directory / "certs"
        self.signer = Directory(self.ca, DOMAIN)

    def start(self, *ids: SpiffeId, lifetime: float = DAY) -> Credentials:
        made = Credentials(self.run, DOMAIN, lifetime, chance=lambda: 0.5)
        made.recall()
        made.want(ids)
        return made


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def serial(held: Credentials, id: SpiffeId, now: float) -> int:
    return certificate.read_pem(held.leaves(now)[str(id)])[0].parsed.serial_number


def test_each_gets_one_that_all_who_share_the_directory_trust(place: Place) -> None:
    held = place.start(WEB, DB)
    held.turn(NOW, place.signer)
    assert held.leaves(NOW).keys() == {str(WEB), str(DB)} and held.problems(NOW) == ()
    trusted = Directory(place.ca, DOMAIN).roots(NOW, is_known=True)
    for id in (WEB, DB):
        credential = leaf.read(held.leaves(NOW)[str(id)])
        assert verify.peer([each.der for each in credential.chain], trusted, DOMAIN, NOW) == id
        assert (credential.not_before, credential.not_after) == (NOW - BACKDATED, NOW + DAY)
    assert held.renewals == {"ok": 2, "failed": 0}


def test_only_root_can_read_what_is_kept(place: Place) -> None:
    place.start(WEB).turn(NOW, place.signer)
    assert place.run.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in place.run.iterdir()} == {0o600}
    assert {path.name for path in place.run.iterdir()} == {kept.ROOTS, kept.PLAN, kept.path_of(place.run, WEB).name}


@pytest.mark.parametrize("lifetime", [60.0, DAY])
def test_it_is_renewed_at_half_of_its_life(place: Place, lifetime: float) -> None:
    held = place.start(WEB, lifetime=lifetime)
    held.turn(NOW, place.signer)
    os.utime(kept.path_of(place.run, WEB), (NOW, NOW))
    first = serial(held, WEB, NOW)
    held.turn(NOW + 0.49 * lifetime, place.signer)
    assert serial(held, WEB, NOW) == first
    held.turn(NOW + 0.51 * lifetime, place.signer)
    assert serial(held, WEB, NOW + 0.51 * lifetime) != first
    assert held.next_at() == pytest.approx(NOW + 1.01 * lifetime)


def test_a_restart_signs_nothing_anew(place: Place) -> None:
    held = place.start(WEB)
    held.turn(NOW, place.signer)
    os.utime(kept.path_of(place.run, WEB), (NOW, NOW))
    again = place.start(WEB)
    again.turn(NOW + 60, place.signer)
    assert again.leaves(NOW) == held.leaves(NOW) and again.renewals["ok"] == 0
    assert again.next_at() == held.next_at()


def test_of_a_service_account_that_is_gone_nothing_stays(place: Place) -> None:
    held = place.start(WEB, DB)
    held.turn(NOW, place.signer)
    held.want([DB])
    held.turn(NOW, place.signer)
    assert held.leaves(NOW).keys() == held.ends().keys() == {str(DB)}
    assert not kept.path_of(place.run, WEB).exists()
    assert place.start().ends().keys() == set() and not kept.path_of(place.run, DB).exists()


def test_without_a_ca_the_valid_one_is_kept_until_it_ends(place: Place) -> None:
    held = place.start(WEB)
    held.turn(NOW, place.signer)
    first = serial(held, WEB, NOW)
    away = place.ca.rename(place.ca.with_name("away"))
    for later in (0.1, 0.55, 0.9):
        held.turn(NOW + later * DAY, place.signer)
        assert serial(held, WEB, NOW + later * DAY) == first
        (problem,) = held.problems(NOW + later * DAY)
        assert problem.startswith(f"certificates are not renewed: {place.ca / store.BUNDLE}: it is gone")
        assert "in use until they end, the first at 2030-03-18T" in problem
    assert held.renewals["failed"] == 2 and not place.ca.exists(), "none is made in its place"
    held.turn(NOW + DAY, place.signer)
    assert held.leaves(NOW + DAY) == {}
    assert [problem for problem in held.problems(NOW + DAY) if problem.startswith(f"no valid certificate: {WEB}: ")]
    away.rename(place.ca)
    held.turn(NOW + DAY + 1, place.signer)
    assert held.leaves(NOW + DAY + 1).keys() == {str(WEB)} and held.problems(NOW + DAY + 1) == ()


def test_without_a_ca_a_restart_goes_on_with_what_is_kept(place: Place) -> None:
    held = place.start(WEB)
    held.turn(NOW, place.signer)
    place.ca.rename(place.ca.with_name("away"))
    again = place.start(WEB)
    again.turn(NOW + 60, place.signer)
    assert again.leaves(NOW) == held.leaves(NOW) and again.roots == held.roots != ()
    assert len(again.problems(NOW)) == 1


@pytest.mark.parametrize("what", ["bundle", "key", "modes", "nonsense"])
def test_whatever_is_wrong_with_the_ca_is_told_with_its_path(place: Place, what: str) -> None:
    held = place.start(WEB)
    held.turn(NOW, place.signer)
    bundle, root = place.ca / store.BUNDLE, place.ca / "root-1.pem"
    path = root if what == "key" else bundle
    if what in ("bundle", "key"):
        path.unlink()
    elif what == "modes":
        path.chmod(0o644)
    else:
        path.write_text("[]")
    held.turn(NOW + 0.9 * DAY, place.signer)
    assert str(place.ca) in held.problems(NOW + 0.9 * DAY)[0] and len(held.leaves(NOW + 0.9 * DAY)) == 1
    kept_plan = kept.read(place.run).plan
    assert kept_plan.problem and kept_plan.leaves[str(WEB)].problem == kept_plan.problem


def test_a_clock_that_is_set_back_gets_another_certificate(place: Place) -> None:
    place.signer.roots(NOW - 30 * DAY, is_known=False)
    held = place.start(WEB)
    held.turn(NOW, place.signer)
    back = NOW - DAY
    assert held.leaves(back) == {}
    held.turn(back, place.signer)
    assert len(held.leaves(back)) == 1 and held.problems(back) == ()


def test_before_its_root_is_valid_nothing_is_signed(place: Place) -> None:
    held = place.start(WEB)
    held.turn(NOW, place.signer)
    held.turn(NOW - DAY, place.signer)
    assert held.leaves(NOW - DAY) == {} and held.leaves(NOW).keys() == {str(WEB)}
    assert "not valid" in held.problems(NOW - DAY)[0] or "not yet valid" in held.problems(NOW - DAY)[0]


def test_roots_rotate_as_a_union_and_no_leaf_is_refused_on_the_way(place: Place) -> None:
    held = place.start(WEB, DB)
    held.turn(NOW, place.signer)
    begun = store.Store(place.ca, DOMAIN).begin(NOW)
    old, new = begun.roots
    assert begun.new == new
    now, signed_by = NOW, set()
    while now < begun.drained_at:
        held.turn(now, place.signer)
        assert held.roots == (old, new) and held.problems(now) == ()
        for text in held.leaves(now).values():
            chain = certificate.read_pem(text)
            verify.peer([each.der for each in chain], held.roots, DOMAIN, now)
            signed_by.add(chain[0].issuer)
        now += 900
    assert signed_by == {old.subject, new.subject}
    store.Store(place.ca, DOMAIN).finish(now)
    held.turn(now, place.signer)
    assert held.roots == (new,) and len(held.leaves(now)) == 2
    assert {certificate.read_pem(text)[0].issuer for text in held.leaves(now).values()} == {new.subject}


def test_another_root_altogether_has_all_signed_anew_at_once(place: Place) -> None:
    held = place.start(WEB)
    held.turn(NOW, place.signer)
    first = serial(held, WEB, NOW)
    other = authority.new_root(DOMAIN, NOW)
    (place.ca / "root-1.pem").write_bytes(other.to_pem())
    (place.ca / store.BUNDLE).write_text(roots.TrustBundle(DOMAIN, other.root).to_json())
    held.turn(NOW + 1, place.signer)
    assert serial(held, WEB, NOW) != first and held.roots == (other.root,)


def test_a_given_intermediate_signs_and_is_replaced_with_its_root(place: Place, tmp_path: Path) -> None:
    cert, key, trusted = (tmp_path / name for name in ("ca.pem", "ca.key", "root.pem"))
    old, new = forged.root(NOW, "old"), forged.root(NOW, "new")

    def give(by: forged.Made, *roots: forged.Made) -> forged.Made:
        """Put an intermediate of a root in place, and the roots to trust."""
        made = forged.between(NOW, by)
        cert.write_bytes(made.pem)
        key.write_bytes(keys.to_pem(made.key))
        trusted.write_bytes(b"".join(each.pem for each in roots))
        return made

    def issuers(now: float) -> list[bytes]:
        chain = certificate.read_pem(held.leaves(now)[str(WEB)])
        verify.peer([each.der for each in chain], held.roots, DOMAIN, now)
        return [each.der for each in chain[1:]]

    first = give(old, old)
    key.chmod(0o644)
    signer = Given(cert, key, trusted, DOMAIN)
    held = place.start(WEB)
    held.turn(NOW, signer)
    assert held.leaves(NOW) == {} and f"{key}: others may read" in held.problems(NOW)[0]
    assert held.roots == (old.certificate,), "whom to trust is known all the same"
    key.chmod(0o600)
    held.turn(NOW + 1, signer)
    assert issuers(NOW + 1) == [first.der] and held.problems(NOW + 1) == ()

    second = give(new, old, new)
    held.turn(NOW + 2, signer)
    assert issuers(NOW + 2) == [first.der] and len(held.roots) == 2, "the one at hand is as good as before"
    trusted.write_bytes(new.pem)
    held.turn(NOW + 3, signer)
    assert issuers(NOW + 3) == [second.der], "what nobody trusts any more is signed anew at once"
    trusted.write_bytes(b"nothing")
    held.turn(NOW + 4, signer)
    assert f"{trusted}: there is no certificate" in held.problems(NOW + 4)[0] and len(held.roots) == 1


def test_what_cannot_be_written_down_is_used_and_told_of(place: Place) -> None:
    place.run.write_text("in the way")
    held = place.start(WEB)
    held.turn(NOW, place.signer)
    assert len(held.leaves(NOW)) == 1
    (problem,) = held.problems(NOW)
    assert problem.startswith(str(place.run)) and "the next start" in problem
    place.run.unlink()
    held.turn(NOW + 1, place.signer)
    assert held.problems(NOW) == () and place.start(WEB).leaves(NOW) == held.leaves(NOW)


def test_broken_and_strange_files_are_made_anew_or_left_alone(place: Place) -> None:
    place.start(WEB, DB).turn(NOW, place.signer)
    kept.path_of(place.run, WEB).write_bytes(b"nothing")
    kept.path_of(place.run, DB).chmod(0o644)
    (place.run / kept.PLAN).write_text('{"leaves": 1}')
    (place.run / "mine.pem").write_text("x")
    held = place.start(WEB, DB)
    assert held.leaves(NOW) == {}
    held.turn(NOW, place.signer)
    assert len(held.leaves(NOW)) == 2 and (place.run / "mine.pem").exists()
    assert place.start(WEB, DB).leaves(NOW) == held.leaves(NOW)


def test_many_failures_are_few_sentences(place: Place) -> None:
    place.ca.write_text("no directory")
    held = place.start(*(SpiffeId(DOMAIN, "shop", f"n{number}") for number in range(100)))
    for turn in range(8):
        held.turn(NOW + turn, place.signer)
    assert len(held.problems(NOW)) == 2 and "and 95 more" in held.problems(NOW)[1]
    assert 100 <= held.renewals["failed"] <= 400
