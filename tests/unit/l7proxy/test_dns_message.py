"""Messages as dnspython and dig make them, our own answers as dnspython reads them, and what is none."""

import itertools
import random

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l7proxy.dns import message
from l7proxy.dns.message import Answer, Rcode, Type
from l7proxy.dns.name import Malformed

# dig www.ExAmple.com, as sent: AD, EDNS with a cookie.
DIG = bytes.fromhex(
    "a1b20120000100000000000103777777074578416d706c6503636f6d000001000100002904d000000000000c000a00081122334455667788"
)
QUESTION = DIG[12:33]
NAMES = st.lists(st.from_regex(r"[-_a-zA-Z0-9]{1,12}", fullmatch=True), max_size=5).map(lambda ls: ".".join(ls) + ".")
IPV4 = st.ip_addresses(v=4).map(str)


def response(*records: str) -> bytes:
    """Return the answer to dig's query, with records as in a zone file."""
    out = dns.message.make_response(dns.message.from_wire(DIG))
    for record in records:
        owner, ttl, kind, data = record.split()
        out.answer.append(dns.rrset.from_text(owner, int(ttl), "IN", kind, data))
    return out.to_wire()


def learned(*records: str) -> tuple[tuple[str, ...], tuple[str, ...], int]:
    found = message.answer(response(*records))
    return found.addresses, found.cnames, found.ttl


def test_a_query_of_dig() -> None:
    asked = message.query(DIG)
    assert asked == message.Query(0xA1B2, 0x0120, "www.example.com", Type.A, message.IN, QUESTION, 0)
    assert asked.question.startswith(b"\x03www\x07ExAmple")


@given(
    NAMES,
    st.sampled_from(["A", "AAAA", "TXT", "HTTPS", "ANY", "TYPE65280"]),
    st.sampled_from(["IN", "CH", "ANY"]),
    st.integers(0, 0xFFFF),
    st.sampled_from([None, False, True]),
)
def test_a_query_says_what_dnspython_says(text: str, kind: str, klass: str, ident: int, signed: bool | None) -> None:
    made = dns.message.make_query(text, kind, klass, id=ident, use_edns=None if signed is None else 0)
    if signed is not None:
        made.want_dnssec(signed)
    data = made.to_wire()
    asked, question = message.query(data), made.question[0]
    assert asked[:2] == (ident, dns.flags.RD)
    assert asked[2:5] == (text.lower().rstrip("."), question.rdtype, question.rdclass)
    assert asked.edns == (None if signed is None else 0x8000 * signed)
    for answer, rcode in ((message.refused(asked), Rcode.REFUSED), (message.servfail(asked), Rcode.SERVFAIL)):
        read = dns.message.from_wire(answer)
        assert made.is_response(read) and int(read.rcode()) == rcode and read.flags & dns.flags.RA
        assert read.edns == made.edns and read.ednsflags & 0x8000 == made.ednsflags & 0x8000
        assert answer[12:].startswith(asked.question)
        found = message.answer(answer)
        assert message.is_answered_by(asked, found) and found[:2] == (ident, rcode) and not found.addresses


def test_a_refusal_says_that_it_is_policy() -> None:
    (option,) = dns.message.from_wire(message.refused(message.query(DIG))).options
    assert isinstance(option, dns.edns.EDEOption) and option.code == dns.edns.EDECode.PROHIBITED
    plain = DIG[:10] + b"\0\0" + QUESTION
    assert message.refused(message.query(plain)) == bytes.fromhex("a1b281850001000000000000") + QUESTION


@pytest.mark.parametrize(
    ("data", "rcode"),
    [
        (b"", None),
        (DIG[:11], None),
        (DIG[:2] + b"\x81" + DIG[3:], None),
        (DIG[:2] + b"\x11" + DIG[3:], Rcode.NOTIMP),
        (DIG[:2] + b"\x29" + DIG[3:], Rcode.NOTIMP),
        (DIG[:4] + b"\0\0" + DIG[6:], Rcode.FORMERR),
        (DIG[:4] + b"\0\2" + DIG[6:12] + QUESTION * 2 + DIG[33:], Rcode.FORMERR),
        (DIG[:6] + b"\0\1" + DIG[8:], Rcode.FORMERR),
        (DIG[:8] + b"\0\1" + DIG[10:], Rcode.FORMERR),
        (DIG[:10] + b"\0\2" + DIG[12:] + DIG[33:], Rcode.FORMERR),
        (DIG[:33] + b"\1a" + DIG[33:], Rcode.FORMERR),
        (DIG[:10] + b"\xff\xff" + DIG[12:], Rcode.FORMERR),
        (DIG[:12] + b"\xc0\x0c\0\1\0\1" + DIG[33:], Rcode.FORMERR),
        (DIG + b"\0", Rcode.FORMERR),
        (DIG[:-1], Rcode.FORMERR),
        (DIG[:32], Rcode.FORMERR),
    ],
)
def test_what_is_no_query(data: bytes, rcode: Rcode | None) -> None:
    with pytest.raises(Malformed) as error:
        message.query(data)
    assert error.value.rcode == rcode
    if rcode is not None:
        answer = message.failed(data, rcode)
        assert answer[:2] == data[:2] and answer[2] & 0xF8 == 0x80 | data[2] & 0x78 and answer[3] == rcode
        assert answer[4:] == bytes(8)


def test_an_answer() -> None:
    data = response("www.example.com. 300 A 192.0.2.1", "www.example.com. 200 A 192.0.2.2")
    assert message.answer(data) == Answer(
        0xA1B2, 0, False, "www.example.com", Type.A, message.IN, ("192.0.2.1", "192.0.2.2"), (), 200
    )


@given(st.lists(st.tuples(IPV4, st.integers(0, 2**31 - 1)), max_size=20, unique_by=lambda pair: pair[0]))
def test_all_addresses_of_an_answer(pairs: list[tuple[str, int]]) -> None:
    data = response(*(f"www.example.com. {ttl} A {address}" for address, ttl in pairs))
    found = message.answer(data)
    assert found.addresses == tuple(address for address, _ in pairs)
    assert found.ttl == min((ttl for _, ttl in pairs), default=0)


@given(st.permutations(range(4)))
def test_a_chain_in_any_order(order: list[int]) -> None:
    records = [
        "www.example.com. 300 CNAME Edge.CDN.example.",
        "edge.cdn.example. 20 CNAME n1.cdn.example.",
        "n1.cdn.example. 60 A 192.0.2.1",
        "n1.cdn.example. 60 AAAA 2001:db8::1",
    ]
    addresses, cnames, ttl = learned(*(records[at] for at in order))
    assert set(addresses) == {"192.0.2.1", "2001:db8::1"}
    assert (cnames, ttl) == (("edge.cdn.example", "n1.cdn.example"), 20)


def test_what_the_chain_does_not_lead_to_is_not_learned() -> None:
    assert learned(
        "bank.example. 300 A 203.0.113.1",
        "www.example.com. 300 A 192.0.2.1",
        "other.example. 5 CNAME www.example.com.",
        "sub.www.example.com. 300 A 203.0.113.2",
    ) == (("192.0.2.1",), (), 300)
    data = dns.message.from_wire(response("www.example.com. 300 A 192.0.2.1"))
    data.additional.append(dns.rrset.from_text("www.example.com.", 5, "IN", "A", "203.0.113.3"))
    data.authority.append(dns.rrset.from_text("www.example.com.", 5, "IN", "A", "203.0.113.4"))
    assert message.answer(data.to_wire()).addresses == ("192.0.2.1",)
    chaos = response("www.example.com. 300 A 192.0.2.1").replace(b"\xc0\x0c\0\1\0\1", b"\xc0\x0c\0\1\0\3")
    assert message.answer(chaos).addresses == ()


def test_of_two_cnames_of_one_name_the_first_counts() -> None:
    data = response("www.example.com. 9 CNAME a.", "x.example. 9 CNAME b.", "a. 9 A 192.0.2.1", "b. 9 A 203.0.113.1")
    owner = data.index(b"\1x\7example")
    two = data[:owner] + b"\xc0\x0c" + data[owner + 11 :]
    assert message.answer(two)[6:8] == (("192.0.2.1",), ("a",))


def test_a_cname_of_another_class_leads_nowhere() -> None:
    data = response("www.example.com. 9 CNAME x.", "x. 9 A 203.0.113.1")
    assert message.answer(data.replace(b"\0\5\0\1", b"\0\5\0\3"))[6:8] == ((), ())


def test_chains_end() -> None:
    ring = ["www.example.com. 9 CNAME a.example.", "a.example. 9 CNAME www.example.com.", "a.example. 9 A 192.0.2.1"]
    assert learned(*ring) == (("192.0.2.1",), ("a.example", "www.example.com"), 9)
    names = ["www.example.com", *(f"n{n}.example" for n in range(message.MAX_CHAIN + 1))]
    chain = [f"{one}. 9 CNAME {two}." for one, two in itertools.pairwise(names)]
    assert learned(*chain, f"{names[-2]}. 9 A 192.0.2.1")[0] == ("192.0.2.1",)
    assert learned(*chain, f"{names[-1]}. 9 A 192.0.2.1")[0] == ()


def test_an_ipv4_address_in_other_clothes() -> None:
    assert learned("www.example.com. 9 AAAA ::ffff:192.0.2.1", "www.example.com. 9 A 192.0.2.1")[0] == ("192.0.2.1",)


def test_a_ttl_with_the_highest_bit_is_none() -> None:
    data = response("www.example.com. 86399 A 192.0.2.1").replace((86399).to_bytes(4, "big"), b"\x80\0\0\1")
    assert message.answer(data).ttl == 0


def test_the_upper_bits_of_the_rcode() -> None:
    made = dns.message.make_response(dns.message.from_wire(DIG), our_payload=1232)
    made.set_rcode(dns.rcode.BADCOOKIE)
    assert message.answer(made.to_wire()).rcode == dns.rcode.BADCOOKIE


def test_a_truncated_answer_counts_as_far_as_it_is_whole() -> None:
    data = response("www.example.com. 300 A 192.0.2.1", "www.example.com. 300 A 192.0.2.2")
    cut = data[:2] + bytes([data[2] | 2]) + data[3:]
    assert message.answer(cut).truncated and len(message.answer(cut).addresses) == 2
    for size in range(33, len(cut)):
        found = message.answer(cut[:size])
        assert found.truncated and found.addresses == ("192.0.2.1", "192.0.2.2")[: (size - 33) // 16]
        with pytest.raises(Malformed):
            message.answer(data[:size])
    with pytest.raises(Malformed):
        message.answer(cut[:32])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        DIG,
        response()[:2] + b"\xa1" + response()[3:],
        response() + b"\0",
        response("www.example.com. 9 A 192.0.2.1").replace(b"\0\4\xc0\0\2\1", b"\0\3\xc0\0\2"),
        response("www.example.com. 9 CNAME x.").replace(b"\0\3\1x\0", b"\0\4\1x\0\0"),
        response("www.example.com. 9 CNAME x.").replace(b"\0\3\1x\0", b"\0\2\xc0\x2d"),
    ],
)
def test_what_is_no_answer(data: bytes) -> None:
    with pytest.raises(Malformed):
        message.answer(data)


@given(st.binary(max_size=200), st.integers(0, 80), st.booleans())
def test_anything_is_a_message_or_none(noise: bytes, at: int, inserted: bool) -> None:
    answer = response("www.example.com. 9 CNAME x.example.", "x.example. 9 A 192.0.2.1")
    for whole in (b"", DIG, answer):
        data = whole[:at] + noise + whole[at + (0 if inserted else len(noise)) :]
        for read in (message.query, message.answer):
            try:
                found = read(data)
            except Malformed:
                continue
            assert len(found.name) <= 4 * 255


def test_broken_answers_are_read_as_dnspython_reads_them_or_not_at_all() -> None:
    """Bytes changed here and there: what we take, dnspython takes too, and as the same."""
    dice = random.Random(1)
    whole = response("www.example.com. 9 CNAME x.example.", "x.example. 9 A 192.0.2.1", "x.example. 8 A 192.0.2.2")
    both = 0
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 2)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            ours = message.answer(bytes(data))
        except Malformed:
            continue
        if ours.truncated or not ours.addresses:
            continue
        theirs = dns.message.from_wire(bytes(data), ignore_trailing=False, continue_on_error=True)
        assert isinstance(theirs, dns.message.QueryMessage)
        shown = {r.to_text() for rrset in theirs.answer for r in rrset if rrset.rdtype in (1, 28)}
        assert set(ours.addresses) <= shown
        both += 1
    assert both > 500
