"""What an authority signs, whose key and chain it may be, and that OpenSSL takes both ends at their word."""

import ssl
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from control.certificates import authority, certificate, keys, leaf, spiffe, verify
from control.certificates.authority import Authority, BadAuthority, BadRequest
from control.certificates.certificate import PrivateKey
from control.certificates.leaf import Credential
from control.certificates.roots import TrustBundle
from control.certificates.spiffe import SpiffeId
from tests.unit.control import forged
from tests.unit.control.forged import DAY, DOMAIN, HOUR, WEB, Made

NOW = float(int(time.time()))  # OpenSSL asks the clock
OWN = authority.new_root(DOMAIN, NOW)
ROOT = forged.root(NOW, "given root", ends=300 * DAY)
NAME = spiffe.parse(WEB)
DB = SpiffeId(DOMAIN, "shop", "db")
KEY = keys.new()
REQUEST = leaf.request(KEY)


def issued(by: Authority, id: SpiffeId = NAME, now: float = NOW, lifetime: float = DAY) -> Credential:
    return leaf.read(keys.to_pem(KEY) + by.sign(REQUEST, id, now, lifetime))


def given_by(*chain: Made, roots: bytes = ROOT.pem) -> Authority:
    return authority.given(keys.to_pem(chain[0].key), b"".join(each.pem for each in chain), roots, DOMAIN, NOW)


def test_a_leaf() -> None:
    credential = issued(OWN)
    (made,) = credential.chain
    assert credential.id == NAME
    assert (made.not_before, made.not_after) == (NOW - authority.BACKDATED, NOW + DAY)
    found = made.parsed
    assert found.subject == x509.Name([]) and found.issuer == OWN.root.subject
    assert {(each.oid._name, each.critical) for each in found.extensions} == {
        ("basicConstraints", True), ("keyUsage", True), ("extendedKeyUsage", False), ("subjectAltName", True),
        ("authorityKeyIdentifier", False),
    }  # fmt: skip
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier(WEB)]
    assert made.may_speak and not made.may_sign and keys.is_of(KEY, made.key)
    assert verify.peer([made.der], [OWN.root], DOMAIN, NOW) == NAME


def test_serial_numbers_are_random() -> None:
    numbers = {issued(OWN).chain[0].parsed.serial_number for _ in range(20)}
    assert len(numbers) == 20 and all(0 < number < 1 << 160 for number in numbers)  # RFC 5280, 4.1.2.2
    assert max(numbers).bit_length() > 120


def test_nothing_is_taken_from_a_request_but_its_key() -> None:
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(forged.named("admin"))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(DB))]), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(forged.usage(key_cert_sign=True), critical=True)
        .sign(KEY, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    (made,) = certificate.read_pem(OWN.sign(greedy, NAME, NOW))
    assert made.uris == (WEB,) and not made.may_sign and made.may_speak and made.subject == x509.Name([])
    assert made.not_after == NOW + DAY


def test_requests_that_get_nothing() -> None:
    small = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    weak = small.sign(forged.rsa_key(1024), hashes.SHA256()).public_bytes(Encoding.PEM)
    odd = small.sign(forged.odd_curve(), hashes.SHA256()).public_bytes(Encoding.PEM)
    for request in (b"", b"words", OWN.root.pem, keys.to_pem(KEY), REQUEST[:-40], REQUEST * 100, weak, odd):
        with pytest.raises(BadRequest):
            OWN.sign(request, NAME, NOW)
    with pytest.raises(BadRequest, match="trust domain"):
        OWN.sign(REQUEST, SpiffeId("other", "shop", "web"), NOW)
    for lifetime in (0.0, -1.0, float("nan"), authority.MAX_LIFETIME + 1):
        with pytest.raises(ValueError, match="lives"):
            OWN.sign(REQUEST, NAME, NOW, lifetime)


def test_a_key_that_somebody_else_has_gets_nothing() -> None:
    mine, theirs = (forged.public_der(key) for key in (KEY, keys.new()))
    der = x509.load_pem_x509_csr(REQUEST).public_bytes(Encoding.DER)
    assert mine in der and len(mine) == len(theirs)
    with pytest.raises(BadRequest, match="not signed by its own key"):
        OWN.sign(as_request(der.replace(mine, theirs)), NAME, NOW)


def as_request(der: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(der).replace(" CERTIFICATE-", " CERTIFICATE REQUEST-").encode()


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_request_of_other_bytes_gets_nothing(data: st.DataObject) -> None:
    """The key in it is signed by itself: another key, or another signature, is not."""
    der = bytearray(x509.load_pem_x509_csr(REQUEST).public_bytes(Encoding.DER))
    der[data.draw(st.integers(0, len(der) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        made = OWN.sign(as_request(bytes(der)), NAME, NOW)
    except BadRequest:
        return
    assert keys.is_of(KEY, certificate.read_pem(made)[0].key)  # of the bits that are said to be unused


def test_no_leaf_outlives_what_it_hangs_on() -> None:
    between = forged.between(NOW, ROOT, ends=10 * HOUR)
    made = issued(given_by(between))
    assert made.not_after == made.chain[0].not_after == NOW + 10 * HOUR
    root = forged.root(NOW, "short", ends=5 * HOUR)  # the root ends before the one it signed
    made = issued(given_by(forged.between(NOW, root, ends=10 * HOUR), roots=root.pem))
    assert made.chain[0].not_after == NOW + 5 * HOUR
    fresh = forged.between(NOW, ROOT, begins=-60)
    assert issued(given_by(fresh)).not_before == NOW - 60  # nor is it older


def test_who_has_ended_signs_nothing() -> None:
    by = authority.new_root(DOMAIN, NOW, lifetime=HOUR)
    assert issued(by, now=NOW + HOUR - 1).not_after == NOW + HOUR
    for now in (NOW + HOUR, NOW + DAY, NOW - DAY):
        with pytest.raises(BadAuthority, match="not valid now"):
            by.sign(REQUEST, NAME, now)


def test_a_root_comes_back_from_its_text() -> None:
    text = OWN.to_pem()
    again = authority.given(text, text, text, DOMAIN, NOW)
    assert again == OWN and keys.to_pem(again.key) == keys.to_pem(OWN.key)
    assert issued(again).chain[0].is_signed_by(OWN.root)
    assert b"PRIVATE" not in repr(OWN).encode() and "key=" not in repr(OWN)


KINDS: list[PrivateKey] = [
    keys.new(),
    ec.generate_private_key(ec.SECP384R1()),
    ed25519.Ed25519PrivateKey.generate(),
    forged.rsa_key(),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__.strip("_"))
def test_an_intermediate_of_any_kind_is_taken_by_openssl(kind: PrivateKey) -> None:
    odd_id = x509.SubjectKeyIdentifier(b"not a hash of the key")
    top = forged.between(NOW, ROOT, "top")
    between = forged.between(NOW, top, key=kind, path_length=0, extra=[(odd_id, False)], uris=[f"spiffe://{DOMAIN}"])
    by = given_by(between, top)
    assert by.chain == (between.certificate, top.certificate) and by.root == ROOT.certificate
    web, db = issued(by), issued(by, DB)
    done = forged.handshake(forged.context(False, web.pem, ROOT.pem), forged.context(True, db.pem, ROOT.pem))
    assert done is not None
    assert verify.peer(done.by_server, [by.root], DOMAIN, NOW) == NAME
    assert verify.peer(done.by_client, [by.root], DOMAIN, NOW) == DB


def test_a_chain_that_has_the_root_too_is_sent_without_it() -> None:
    between = forged.between(NOW, ROOT)
    by = given_by(between, ROOT)
    assert by.chain == (between.certificate,) and len(issued(by).chain) == 2


def test_a_given_root_signs_itself() -> None:
    by = given_by(ROOT)
    assert by.chain == () and by.root == ROOT.certificate == by.signer and len(issued(by).chain) == 1


BETWEEN = forged.between(NOW, ROOT)
LEAF = forged.leaf(NOW, ROOT)


@pytest.mark.parametrize(
    ("chain", "roots", "why"),
    [
        ([BETWEEN._replace(key=KEY)], ROOT.pem, "key is not that"),
        ([LEAF], ROOT.pem, "may not sign"),
        ([forged.between(NOW, ROOT, uses=forged.usage(digital_signature=True))], ROOT.pem, "may not sign"),
        ([forged.between(NOW, ROOT, ends=-1)], ROOT.pem, "expired"),
        ([forged.between(NOW, ROOT, begins=HOUR)], ROOT.pem, "not yet valid"),
        ([BETWEEN], forged.root(NOW, "other").pem, "unknown root"),
        ([BETWEEN], forged.root(NOW, "given root").pem, "bad signature"),
        ([forged.between(NOW, BETWEEN)], ROOT.pem, "unknown root"),
        ([BETWEEN], b"", "there is no certificate"),
        ([BETWEEN], BETWEEN.pem, "signed by another"),
        ([forged.between(NOW, ROOT, key=forged.rsa_key(1024))], ROOT.pem, "none of"),
        ([forged.between(NOW, ROOT, key=forged.odd_curve())], ROOT.pem, "none of"),
        ([forged.between(NOW, ROOT, uris=["spiffe://other"])], ROOT.pem, "not of the trust domain"),
        ([forged.between(NOW, f := forged.between(NOW, ROOT, "f", path_length=0), "g"), f], ROOT.pem, "too long"),
        ([BETWEEN] * 9, ROOT.pem, "more than"),
    ],
)
def test_whose_leaves_nobody_would_trust(chain: list[Made], roots: bytes, why: str) -> None:
    with pytest.raises(BadAuthority, match=why):
        given_by(*chain, roots=roots)


def test_what_is_no_key() -> None:
    text = keys.to_pem(KEY)
    assert keys.to_pem(keys.read(b"# a word\n" + LEAF.pem + text + LEAF.pem)) == text
    secret = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))
    long, torn = b" " * 300_000 + text, text.replace(b"M", b"N", 1)
    for other in (b"", b"words", text[:-30], text * 2, torn, long, LEAF.pem, secret, b"-----BEGIN PRIVATE KEY-----"):
        with pytest.raises(keys.BadKey) as caught:
            keys.read(other)
        assert text.splitlines()[1][8:].decode() not in str(caught.value)
    for domain in ("", "A", "a/b"):
        with pytest.raises(BadAuthority):
            authority.given(text, LEAF.pem, ROOT.pem, domain, NOW)
        with pytest.raises(spiffe.BadId):
            authority.new_root(domain, NOW)


def test_two_leaves_of_one_bundle_shake_hands() -> None:
    web, db, roots = issued(OWN), issued(OWN, DB), TrustBundle(DOMAIN, OWN.root)
    client, server = forged.context(False, web.pem, roots.pem), forged.context(True, db.pem, roots.pem)
    for end in (client, server):
        end.verify_flags |= ssl.VERIFY_X509_STRICT  # from Python 3.13 on it is what one has without asking
    done = forged.handshake(client, server)
    assert done is not None
    assert verify.peer(done.by_server, roots.roots, DOMAIN, NOW) == NAME
    assert verify.peer(done.by_client, roots.roots, DOMAIN, NOW) == DB
    stranger = issued(authority.new_root(DOMAIN, NOW))
    for one, other in ((stranger, db), (web, stranger)):
        ends = forged.context(False, one.pem, roots.pem), forged.context(True, other.pem, roots.pem)
        assert forged.handshake(*ends) is None


def test_a_rotation_breaks_no_handshake() -> None:
    """Whoever has the old bundle or that of both, and a leaf of either root that is signed by then, talks to all."""
    new = authority.new_root(DOMAIN, NOW)
    old = TrustBundle(DOMAIN, OWN.root)
    both = old.begin(new.root, NOW, DAY)
    alone = both.finish(both.drained_at)
    signed_by = {OWN.root: OWN, new.root: new}

    def talk(web_by: Authority, web_trusts: TrustBundle, db_by: Authority, db_trusts: TrustBundle) -> bool:
        web, db = issued(web_by), issued(db_by, DB)
        client, server = forged.context(False, web.pem, web_trusts.pem), forged.context(True, db.pem, db_trusts.pem)
        return forged.handshake(client, server) is not None

    spreads, drains = signed_by[both.signer(NOW)], signed_by[both.signer(both.switches_at)]
    assert (spreads, drains) == (OWN, new)
    assert talk(OWN, old, spreads, both) and talk(spreads, both, OWN, old)  # not everybody has heard of the new one
    assert talk(OWN, both, drains, both) and talk(drains, both, OWN, both)
    assert talk(new, both, new, alone) and talk(new, alone, new, both)
    assert not talk(OWN, both, new, alone)  # what `finish` waits for
