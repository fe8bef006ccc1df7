"""Who is trusted and who is not, by certificates that were really made; where OpenSSL judges the same, it agrees."""

import ipaddress
import itertools
import time
from collections.abc import Sequence
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from control.certificates import certificate, spiffe, verify
from control.certificates.certificate import Certificate
from control.certificates.verify import Reason
from tests.unit.control import forged
from tests.unit.control.forged import DAY, DOMAIN, HOUR, WEB, Made

NOW = time.time()  # OpenSSL asks the clock, some time after this in a long run
ROOT = forged.root(NOW, ends=300 * DAY)
BETWEEN = forged.between(NOW, ROOT)
OTHER = forged.root(NOW, "other root")
ODD = forged.root(NOW, "odd", key=forged.odd_curve())
SMALL = forged.root(NOW, "small", key=forged.rsa_key(1024))


def judged(*chain: Made, roots: Sequence[Made] = (ROOT,), now: float = NOW) -> spiffe.SpiffeId | Reason:
    """Return the name of a peer, or why it has none."""
    try:
        return verify.peer([each.der for each in chain], [each.certificate for each in roots], DOMAIN, now)
    except verify.Untrusted as error:
        assert str(error).startswith(error.reason.value)
        return error.reason


def openssl_takes(*chain: Made, roots: Sequence[Made] = (ROOT,)) -> bool:
    """Tell whether a server takes this client."""
    trusted = b"".join(each.pem for each in roots)
    client = forged.context(False, forged.pem(*chain), SERVER_ROOT.pem)
    return forged.handshake(client, forged.context(True, forged.pem(SERVER), trusted)) is not None


SERVER_ROOT = forged.root(NOW, "server root")
SERVER = forged.leaf(NOW, SERVER_ROOT)
NAME = spiffe.parse(WEB)


@pytest.mark.parametrize(
    ("chain", "roots"),
    [
        ([forged.leaf(NOW, ROOT)], [ROOT]),
        ([forged.leaf(NOW, ROOT), ROOT], [ROOT]),
        ([forged.leaf(NOW, ROOT)], [OTHER, ROOT]),
        ([forged.leaf(NOW, BETWEEN), BETWEEN], [ROOT]),
        ([forged.leaf(NOW, BETWEEN), BETWEEN, ROOT], [OTHER, ROOT]),
        ([forged.leaf(NOW, ROOT), OTHER], [ROOT]),  # RFC 8446, 4.4.2: more than is needed
        ([forged.leaf(NOW, ROOT, others=[x509.DNSName("web.shop")])], [ROOT]),  # X509-SVID, 2: beside the URI
        ([forged.leaf(NOW, ROOT, is_ca=None)], [ROOT]),
        ([forged.leaf(NOW, ROOT, key=ec.generate_private_key(ec.SECP384R1()))], [ROOT]),
        ([forged.leaf(NOW, ROOT, key=ed25519.Ed25519PrivateKey.generate())], [ROOT]),
        ([forged.leaf(NOW, ROOT, key=forged.rsa_key())], [ROOT]),
    ],
)
def test_who_is_trusted(chain: list[Made], roots: list[Made]) -> None:
    assert judged(*chain, roots=roots) == NAME
    assert openssl_takes(*chain, roots=roots)


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("limit", [0, 1, 2])
def test_a_chain_may_be_as_long_as_its_certificates_say(depth: int, limit: int) -> None:
    root = forged.root(NOW, path_length=limit)
    chain = [root]
    for at in range(depth):
        chain.insert(0, forged.between(NOW, chain[0], f"between {at}"))
    chain.insert(0, forged.leaf(NOW, chain[0]))
    assert judged(*chain[:-1], roots=[root]) == (NAME if depth <= limit else Reason.TOO_LONG)
    assert openssl_takes(*chain[:-1], roots=[root]) == (depth <= limit)


FINAL = forged.between(NOW, ROOT, "final", path_length=0)
BEYOND = forged.between(NOW, FINAL, "beyond")
MUTE = forged.between(NOW, ROOT, "mute", uses=forged.usage(digital_signature=True))
LEAF = forged.leaf(NOW, ROOT)
STALE = forged.between(NOW, ROOT, "stale", begins=-2 * DAY, ends=-HOUR)
STALE_ROOT = forged.root(NOW, "stale root", begins=-2 * DAY, ends=-HOUR)
FALSE_ROOT = forged.root(NOW)  # of the same name as ROOT
CLIENTS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
MAIL = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])


def tampered(found: Made) -> Made:
    """Change one bit of the signature."""
    return Made(found.der[:-1] + bytes([found.der[-1] ^ 1]), found.key)


@pytest.mark.parametrize(
    ("chain", "roots", "reason"),
    [
        ([forged.leaf(NOW, ROOT, begins=-DAY, ends=-1)], [ROOT], Reason.EXPIRED),
        ([forged.leaf(NOW, STALE), STALE], [ROOT], Reason.EXPIRED),
        ([forged.leaf(NOW, STALE_ROOT)], [STALE_ROOT], Reason.EXPIRED),
        ([forged.leaf(NOW, ROOT, begins=12 * HOUR)], [ROOT], Reason.NOT_YET_VALID),
        ([forged.leaf(NOW, None)], [ROOT], Reason.SELF_SIGNED),
        ([OTHER], [ROOT], Reason.SELF_SIGNED),
        ([forged.leaf(NOW, OTHER)], [ROOT], Reason.UNKNOWN_ROOT),
        ([forged.leaf(NOW, OTHER), OTHER], [ROOT], Reason.UNKNOWN_ROOT),
        ([forged.leaf(NOW, BETWEEN)], [ROOT], Reason.UNKNOWN_ROOT),
        ([forged.leaf(NOW, FALSE_ROOT)], [ROOT], Reason.BAD_SIGNATURE),
        ([forged.leaf(NOW, FALSE_ROOT), FALSE_ROOT], [ROOT], Reason.BAD_SIGNATURE),
        ([tampered(forged.leaf(NOW, ROOT))], [ROOT], Reason.BAD_SIGNATURE),
        ([tampered(forged.leaf(NOW, BETWEEN)), BETWEEN], [ROOT], Reason.BAD_SIGNATURE),
        ([forged.leaf(NOW, BETWEEN), tampered(BETWEEN)], [ROOT], Reason.BAD_SIGNATURE),
        ([forged.leaf(NOW, LEAF), LEAF], [ROOT], Reason.NOT_AN_ISSUER),
        ([forged.leaf(NOW, MUTE), MUTE], [ROOT], Reason.NOT_AN_ISSUER),
        ([forged.leaf(NOW, BEYOND), BEYOND, FINAL], [ROOT], Reason.TOO_LONG),
        ([forged.leaf(NOW, ROOT, extra=[(MAIL, False)])], [ROOT], Reason.NOT_A_LEAF),
    ],
)
def test_who_is_not_trusted_by_anybody(chain: list[Made], roots: list[Made], reason: Reason) -> None:
    assert judged(*chain, roots=roots) is reason
    assert not openssl_takes(*chain, roots=roots)


ELSEWHERE = x509.NameConstraints([x509.UniformResourceIdentifier("elsewhere")], None)
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")


@pytest.mark.parametrize(
    ("leaf", "reason"),
    [
        (dict(uris=[WEB, WEB + "2"]), Reason.WRONG_SAN),
        (dict(uris=[WEB, WEB]), Reason.WRONG_SAN),
        (dict(uris=[WEB, "https://elsewhere"]), Reason.WRONG_SAN),
        (dict(uris=[], others=[x509.DNSName("web.shop")]), Reason.WRONG_SAN),
        (dict(uris=[], others=[x509.DNSName(WEB)]), Reason.WRONG_SAN),
        (dict(uris=[], others=[x509.IPAddress(ipaddress.ip_address("10.0.0.1"))]), Reason.WRONG_SAN),
        (dict(uris=[]), Reason.WRONG_SAN),
        (dict(uris=["https://cluster.local/ns/shop/sa/web"]), Reason.WRONG_SAN),
        (dict(uris=["spiffe://cluster.local"]), Reason.WRONG_SAN),
        (dict(uris=["spiffe://cluster.local/ns/shop/sa/Web"]), Reason.WRONG_SAN),
        (dict(uris=[WEB.replace("cluster", "other")]), Reason.OTHER_TRUST_DOMAIN),
        (dict(is_ca=True, uses=forged.usage(digital_signature=True, key_cert_sign=True)), Reason.NOT_A_LEAF),
        (dict(is_ca=True, uses=forged.usage(digital_signature=True)), Reason.NOT_A_LEAF),
        (dict(uses=forged.usage(digital_signature=True, key_cert_sign=True)), Reason.NOT_A_LEAF),
        (dict(uses=forged.usage(digital_signature=True, crl_sign=True)), Reason.NOT_A_LEAF),
        (dict(uses=forged.usage(key_encipherment=True)), Reason.NOT_A_LEAF),
        (dict(extra=[(CLIENTS, False)]), Reason.NOT_A_LEAF),
        (dict(key=forged.rsa_key(1024)), Reason.WEAK),
        (dict(key=forged.odd_curve()), Reason.WEAK),
        (dict(extra=[(UNKNOWN, True)]), Reason.UNREADABLE),
        (dict(extra=[(UNKNOWN, False)]), NAME),
    ],
)
def test_what_a_leaf_must_be(leaf: dict[str, Any], reason: Reason | spiffe.SpiffeId) -> None:
    assert judged(forged.leaf(NOW, ROOT, **leaf)) == reason


def test_whom_nobody_may_sign_for() -> None:
    constrained = forged.between(NOW, ROOT, extra=[(ELSEWHERE, True)])
    mail = forged.between(NOW, ROOT, extra=[(MAIL, False)])
    for by in (ODD, SMALL):
        assert judged(forged.leaf(NOW, by), roots=[by]) is Reason.WEAK
    assert judged(forged.leaf(NOW, constrained), constrained) is Reason.UNREADABLE
    constrained = forged.between(NOW, ROOT, extra=[(ELSEWHERE, False)])
    assert judged(forged.leaf(NOW, constrained), constrained) is Reason.UNREADABLE
    assert judged(forged.leaf(NOW, mail), mail) is Reason.NOT_AN_ISSUER


def test_a_weak_hash() -> None:
    """SHA-1 in the place of SHA-256: the signature is one no more, and nobody looks."""
    by = forged.root(NOW, key=forged.rsa_key())
    sha256, sha1 = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
    weak = Made(forged.leaf(NOW, by).der.replace(sha256, sha1), by.key)
    assert weak.certificate.is_weak and not weak.certificate.is_signed_by(by.certificate)
    assert judged(weak, roots=[by]) is Reason.WEAK


def test_nobody_is_trusted_without_roots_or_certificates() -> None:
    assert judged(LEAF, roots=[]) is Reason.UNKNOWN_ROOT
    assert judged(LEAF, ROOT, roots=[]) is Reason.UNKNOWN_ROOT
    assert judged() is Reason.UNREADABLE
    assert judged(LEAF, *[BETWEEN] * verify.MAX_CHAIN) is Reason.TOO_LONG
    with pytest.raises(verify.Untrusted):
        verify.climb([], [ROOT.certificate], NOW)


def test_a_root_whose_name_two_bear() -> None:
    """As when a root was made anew by hand: whichever signed counts, wherever it stands."""
    for leaf in (LEAF, forged.leaf(NOW, FALSE_ROOT)):
        assert judged(leaf, roots=[ROOT, FALSE_ROOT]) == judged(leaf, roots=[FALSE_ROOT, ROOT]) == NAME
    aged = forged.root(NOW, key=ROOT.key, begins=-2 * DAY, ends=-HOUR)
    assert judged(LEAF, roots=[aged, ROOT]) == judged(LEAF, roots=[ROOT, aged]) == NAME
    assert judged(LEAF, roots=[aged, FALSE_ROOT]) is Reason.EXPIRED
    assert judged(LEAF, roots=[FALSE_ROOT, aged]) is Reason.EXPIRED


def test_an_intermediate_may_bear_the_name_of_a_root() -> None:
    between = forged.between(NOW, OTHER, "root")
    assert judged(forged.leaf(NOW, between), between, roots=[ROOT, OTHER]) == NAME
    assert judged(forged.leaf(NOW, between), between, roots=[ROOT]) is Reason.UNKNOWN_ROOT


def test_a_leaf_among_the_roots_vouches_for_nobody() -> None:
    alone = forged.leaf(NOW, None)
    assert judged(alone, roots=[alone]) is Reason.NOT_AN_ISSUER
    assert judged(LEAF, roots=[LEAF]) is Reason.UNKNOWN_ROOT


def test_its_first_and_its_last_second() -> None:
    begins, ends = LEAF.certificate.not_before, LEAF.certificate.not_after
    assert judged(LEAF, now=begins) == judged(LEAF, now=ends) == NAME
    assert judged(LEAF, now=begins - 1) is Reason.NOT_YET_VALID
    assert judged(LEAF, now=ends + 1) is Reason.EXPIRED


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_other_bytes_are_nobody(data: st.DataObject) -> None:
    """No byte of a leaf may be another one, and whatever comes, the answer is Untrusted."""
    der = bytearray(LEAF.der)
    at = data.draw(st.integers(0, len(der) - 1))
    der[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(min_size=1, max_size=3))
    if bytes(der) == LEAF.der:
        return
    with pytest.raises(verify.Untrusted):
        verify.peer([bytes(der)], [ROOT.certificate], DOMAIN, NOW)


def test_a_signature_has_one_spelling() -> None:
    """With a last bit of zero that is said to be unused it would be the same one, in another certificate."""
    der = next(made.der for made in (forged.leaf(NOW, ROOT) for _ in range(100)) if made.der[-1] % 2 == 0)
    at = len(der) - 1 - len(certificate.read(der).parsed.signature)
    other = Made(der[:at] + b"\x01" + der[at + 1 :], LEAF.key)
    assert der[at] == 0 and judged(other) is Reason.UNREADABLE


@settings(deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=4))
def test_anything_is_nobody(chain: list[bytes]) -> None:
    with pytest.raises(verify.Untrusted):
        verify.peer([LEAF.der, *chain] if chain else [], [OTHER.certificate], DOMAIN, NOW)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_of_random_chains_none_is_trusted_that_openssl_refuses(data: st.DataObject) -> None:
    def some() -> dict[str, Any]:
        return {
            "is_ca": data.draw(st.sampled_from([True, True, True, False, None])),
            "path_length": data.draw(st.sampled_from([None, None, 0, 1])),
            "begins": data.draw(st.sampled_from([-HOUR] * 5 + [12 * HOUR])),
            "ends": data.draw(st.sampled_from([DAY] * 5 + [2 * DAY])),
            "uses": data.draw(st.sampled_from([None, None, None, MUTE_USE, BOTH_USES])),
        }

    made = [forged.root(NOW, "r", **{**some(), "begins": -HOUR, "ends": DAY})]
    for at in range(data.draw(st.integers(0, 2))):
        made.insert(0, forged.between(NOW, made[data.draw(st.sampled_from([0, 0, -1]))], f"b{at}", **some()))
    made.insert(0, forged.leaf(NOW, made[0]))
    chain = made[:-1] if data.draw(st.booleans()) else made
    trusted = judged(*chain, roots=[made[-1]]) == NAME
    taken = openssl_takes(*chain, roots=[made[-1]])
    assert taken or not trusted
    # OpenSSL takes a certificate without BasicConstraints for a CA in places, and finds its way over unordered chains.
    strict = all(each.certificate.may_sign for each in made[1:])
    ordered = all(below.certificate.issuer == above.subject for below, above in itertools.pairwise(made))
    assert trusted or not (taken and strict and ordered)


MUTE_USE = forged.usage(digital_signature=True)
BOTH_USES = forged.usage(digital_signature=True, key_cert_sign=True)


def test_what_is_read_of_a_text() -> None:
    many = certificate.read_pem(b"words\n" + LEAF.pem + b"between\n" + ROOT.pem)
    assert many == (LEAF.certificate, ROOT.certificate)
    assert many[0].fingerprint == LEAF.certificate.parsed.fingerprint(hashes.SHA256()).hex()
    torn, long = LEAF.pem[:100] + ROOT.pem, b" " * certificate.MAX_PEM + LEAF.pem
    other = [LEAF.pem.replace(b"\nM", b"\n" + letter, 1) for letter in (b"-", b"N", b"")]
    for text in (b"", b"words", LEAF.pem[:-20], torn, long, LEAF.pem * 17, *other):
        with pytest.raises(certificate.Unreadable):
            certificate.read_pem(text)


@settings(deadline=None)
@given(st.text(max_size=300))
def test_a_name_of_anything_is_shown_short_and_harmless(text: str) -> None:
    try:
        name = forged.named(text)
    except ValueError:  # longer than X.509 allows
        return
    shown = certificate.shown(name)
    assert len(shown) <= 200 and shown.isprintable()


def test_certificates_are_their_bytes() -> None:
    same: Certificate = certificate.read(LEAF.der)
    assert same == LEAF.certificate and len({same, LEAF.certificate}) == 1 and same != ROOT.certificate
