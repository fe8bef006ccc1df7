"""Playbooks: what goes where when clients ask and servers answer, and others pretend to."""

import itertools
import random
from typing import Any

import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control import model
from control.policy import request
from l7proxy.dns import message
from l7proxy.dns.exchange import LIMITS, Dropped, End, Forward, Limits, Lookup, Reply, Resolver
from l7proxy.dns.learned import Learned, Table
from l7proxy.dns.message import Rcode, Type

POD, OTHER = End("10.0.1.5", 40000), End("10.0.1.6", 40000)
SERVER, FORGER = End("10.0.0.10", 53), End("10.0.0.66", 53)
RULES = [model.L7Rules(dns=(model.NamePeer(pattern="*.open.example"), model.NamePeer(name="open.example")))]
OPEN = "www.open.example"


def query(name: str = OPEN, kind: str = "A", ident: int = 0x1234, klass: str = "IN") -> bytes:
    return dns.message.make_query(name, kind, klass, id=ident).to_wire()


def answer(to: bytes, *records: str, rcode: Rcode = Rcode.NOERROR) -> bytes:
    out = dns.message.make_response(dns.message.from_wire(to))
    out.set_rcode(dns.rcode.Rcode.make(rcode))
    for record in records:
        owner, ttl, kind, data = record.split()
        out.answer.append(dns.rrset.from_text(owner, int(ttl), "IN", kind, data))
    return out.to_wire()


GOOD = f"{OPEN}. 60 A 192.0.2.1"


class Stage:
    """A resolver whose policy lets `RULES` through, and whose ids are 1, 2, 3 ..."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.told: list[Lookup] = []
        self.judged: list[str] = []
        self.ids = 0
        self.resolver = Resolver(self._judge, self.told.append, limits, self._draw)

    def _judge(self, query: message.Query, client: End, server: End) -> bool:
        self.judged.append(query.name)
        return request.name_allowed(RULES, query.name)

    def _draw(self) -> int:
        self.ids += 1
        return self.ids

    def asks(self, data: bytes, client: End = POD, server: End = SERVER, now: int = 0) -> bytes:
        """Return what goes on, b"" if nothing does."""
        out = self.resolver.from_client(data, client, server, now)
        assert not isinstance(out, Forward) or out.server == server
        return out.data if isinstance(out, Forward) else b""

    def refuses(self, data: bytes, now: int = 0) -> Rcode:
        out = self.resolver.from_client(data, POD, SERVER, now)
        assert isinstance(out, Reply) and out.client == POD and out.data[:2] == data[:2]
        return Rcode(out.data[3] & 0xF)


def test_what_is_allowed_goes_on_as_it_came_but_for_its_id() -> None:
    stage = Stage()
    asked = query("wWw.oPen.exaMple")
    sent = stage.asks(asked, now=5)
    assert sent == b"\0\1" + asked[2:] and stage.judged == [OPEN] and not stage.told
    answered = stage.resolver.from_server(answer(sent, GOOD), SERVER, 9)
    assert answered is not None and answered.reply == Reply(POD, answer(asked, GOOD))
    assert answered.learned == Learned(OPEN, ("192.0.2.1",), 60)
    assert stage.told == [Lookup(POD, SERVER, OPEN, Type.A, 0, ("192.0.2.1",), 60, (), True, 5, 9)]
    assert len(stage.resolver) == 0 and stage.resolver.next_timeout() is None


def test_a_rule_reads_what_was_learned_before_the_client_does() -> None:
    stage, table = Stage(), Table()
    records = (f"{OPEN}. 60 CNAME edge.cdn.example.", "edge.cdn.example. 20 AAAA 2001:db8::1")
    answered = stage.resolver.from_server(answer(stage.asks(query(kind="AAAA")), *records), SERVER, 0)
    assert answered is not None and answered.learned is not None
    table.learn(answered.learned, 0)
    assert table.addresses_of(RULES[0].dns[0]) == {"2001:db8::1"}  # type: ignore[index]
    assert table.addresses_of(model.NamePeer(name="edge.cdn.example")) == set()
    (told,) = stage.told
    assert (told.addresses, told.cnames, told.ttl) == (("2001:db8::1",), ("edge.cdn.example",), 20)


@pytest.mark.parametrize("kind", ["A", "AAAA", "TXT", "ANY", "HTTPS"])
def test_what_is_denied_is_refused_whatever_its_type(kind: str) -> None:
    stage = Stage()
    assert stage.refuses(query("shut.example", kind), now=7) is Rcode.REFUSED
    (told,) = stage.told
    assert (told.name, told.rcode, told.allowed, told.began_ns, told.ended_ns) == ("shut.example", 5, False, 7, 7)
    assert stage.asks(query(OPEN, kind)) and len(stage.resolver) == 1


@pytest.mark.parametrize(
    ("data", "rcode"),
    [
        (query(klass="CH"), Rcode.REFUSED),
        (query(klass="ANY"), Rcode.REFUSED),
        (query(kind="AXFR"), Rcode.NOTIMP),
        (query(kind="IXFR"), Rcode.NOTIMP),
        (query()[:2] + b"\x29" + query()[3:], Rcode.NOTIMP),
        (query()[:4] + b"\0\2" + query()[6:] + query("shut.example")[12:], Rcode.FORMERR),
        (query() + b"\0", Rcode.FORMERR),
        (query()[:-1], Rcode.FORMERR),
    ],
)
def test_what_is_never_asked(data: bytes, rcode: Rcode) -> None:
    stage = Stage()
    assert stage.refuses(data) is rcode and stage.judged == []
    (told,) = stage.told
    assert (told.rcode, told.allowed) == (rcode, False) and told.why


@pytest.mark.parametrize("data", [b"", query()[:11], answer(query(), GOOD)])
def test_what_is_dropped(data: bytes) -> None:
    stage = Stage()
    assert stage.resolver.from_client(data, POD, SERVER, 0) is None
    assert stage.resolver.dropped == {Dropped.NOT_A_QUERY: 1} and not stage.told


def test_clients_with_one_id_get_their_own_answers() -> None:
    stage = Stage()
    one, two = stage.asks(query()), stage.asks(query("b.open.example"), OTHER)
    later = stage.resolver.from_server(answer(two, "b.open.example. 60 A 192.0.2.2"), SERVER, 0)
    first = stage.resolver.from_server(answer(one, GOOD), SERVER, 0)
    assert later is not None and first is not None
    assert (later.reply.client, first.reply.client) == (OTHER, POD)
    assert later.reply.data[:2] == first.reply.data[:2] == b"\x12\x34"


def test_what_is_forged_is_dropped_and_the_answer_still_comes() -> None:
    stage = Stage()
    sent = stage.asks(query())
    bad = answer(sent, f"{OPEN}. 60 A 203.0.113.1")
    for data, server, reason in (
        (bad, FORGER, Dropped.UNASKED),
        (bad, SERVER._replace(port=54), Dropped.UNASKED),
        (bad, SERVER._replace(stream=1), Dropped.UNASKED),
        (b"\0\2" + bad[2:], SERVER, Dropped.UNASKED),
        (b"", SERVER, Dropped.UNASKED),
        (bad[:2], SERVER, Dropped.MALFORMED),
        (bad[:-1], SERVER, Dropped.MALFORMED),
        (sent, SERVER, Dropped.MALFORMED),
        (answer(query("b.open.example", ident=1)), SERVER, Dropped.OTHER_QUESTION),
        (answer(query(kind="AAAA", ident=1)), SERVER, Dropped.OTHER_QUESTION),
    ):
        before = stage.resolver.dropped[reason]
        assert stage.resolver.from_server(data, server, 0) is None
        assert stage.resolver.dropped[reason] == before + 1 and not stage.told
    assert stage.resolver.from_server(answer(sent, GOOD), SERVER, 0) is not None
    assert stage.resolver.from_server(answer(sent, GOOD), SERVER, 0) is None
    assert stage.resolver.dropped[Dropped.UNASKED] == 6 and len(stage.told) == 1


def test_a_server_may_lose_the_case_of_the_name() -> None:
    stage = Stage()
    sent = stage.asks(query("WWW.open.example"))
    answered = stage.resolver.from_server(answer(sent, GOOD).replace(b"WWW", b"www"), SERVER, 0)
    assert answered is not None and b"www" in answered.reply.data


@pytest.mark.parametrize("rcode", [Rcode.NXDOMAIN, Rcode.SERVFAIL, Rcode.REFUSED])
def test_what_fails_teaches_nothing(rcode: Rcode) -> None:
    stage = Stage()
    answered = stage.resolver.from_server(answer(stage.asks(query()), GOOD, rcode=rcode), SERVER, 0)
    assert answered is not None and answered.learned is None
    assert [(told.rcode, told.allowed) for told in stage.told] == [(rcode, True)]


def test_a_truncated_answer_and_the_query_once_more_on_a_stream() -> None:
    stage = Stage()
    data = bytearray(answer(stage.asks(query())))
    data[2] |= 2
    answered = stage.resolver.from_server(bytes(data), SERVER, 0)
    assert answered is not None and answered.reply.data[2] & 2 and answered.learned is None
    client, server = POD._replace(stream=7), SERVER._replace(stream=8)
    sent = stage.asks(query(), client, server)
    assert stage.resolver.from_server(answer(sent, GOOD), SERVER, 0) is None
    answered = stage.resolver.from_server(answer(sent, GOOD), server, 0)
    assert answered is not None and answered.reply.client == client


def test_who_gets_no_answer_is_told_so() -> None:
    stage = Stage(Limits(timeout_ns=10))
    sent = stage.asks(query(), now=1)
    stage.asks(query(), OTHER, now=3)
    assert stage.resolver.next_timeout() == 11 and stage.resolver.expire(10) == []
    (reply,) = stage.resolver.expire(11)
    assert reply.client == POD and reply.data == message.servfail(message.query(query()))
    assert stage.resolver.next_timeout() == 13 and len(stage.resolver) == 1
    (told,) = stage.told
    assert (told.rcode, told.allowed, told.began_ns, told.ended_ns) == (Rcode.SERVFAIL, True, 1, 11) and told.why
    assert stage.resolver.from_server(answer(sent, GOOD), SERVER, 12) is None
    assert stage.resolver.dropped == {Dropped.UNASKED: 1}


def test_one_client_cannot_take_all_the_room() -> None:
    stage = Stage(Limits(of_one=2, in_all=3))
    sent = [stage.asks(query(), POD._replace(port=port)) for port in (1, 2, 3)]
    assert all(sent[:2]) and not sent[2] and stage.told[-1].rcode == Rcode.SERVFAIL and stage.told[-1].allowed
    assert stage.asks(query(), OTHER) and not stage.asks(query(), OTHER._replace(address="10.0.1.7"))
    assert stage.resolver.from_server(answer(sent[0], GOOD), SERVER, 0) is not None
    assert stage.asks(query())


def test_ids_are_not_used_twice_at_once() -> None:
    dice = random.Random(1)
    resolver = Resolver(lambda *_: True, lambda _: None, Limits(200, 200), lambda: dice.randrange(256))
    sent = [resolver.from_client(query(), POD, SERVER, 0) for _ in range(200)]
    forwarded = [each.data[:2] for each in sent if isinstance(each, Forward)]
    assert len(set(forwarded)) == len(forwarded) == len(resolver) > 190


def test_ids_cannot_be_guessed_from_others() -> None:
    resolver = Resolver(lambda *_: True, lambda _: None)
    sent = [resolver.from_client(query(), POD, SERVER, 0) for _ in range(256)]
    ids = [int.from_bytes(each.data[:2], "big") for each in sent if isinstance(each, Forward)]
    assert len(set(ids)) == 256 and len({b - a for a, b in itertools.pairwise(ids)}) > 200


def test_when_either_end_is_gone() -> None:
    stage = Stage()
    client, server = POD._replace(stream=7), SERVER._replace(stream=8)
    stage.asks(query(), client, server)
    stage.asks(query(), OTHER, server)
    stage.asks(query(), client, SERVER)
    stage.resolver.client_gone(client, 5)
    assert [told.why for told in stage.told] == ["the client is gone"] * 2
    assert [reply.client for reply in stage.resolver.server_gone(server, 6)] == [OTHER]
    assert len(stage.resolver) == 0 and stage.told[-1].ended_ns == 6


def test_limits_have_to_make_sense() -> None:
    with pytest.raises(ValueError, match="quarter"):
        Resolver(lambda *_: True, lambda _: None, Limits(in_all=1 << 15))


# --- random events ----------------------------------------------------------------------------------------------------

CLIENTS = st.sampled_from([POD, OTHER, POD._replace(port=2), POD._replace(stream=3)])
SERVERS = st.sampled_from([SERVER, FORGER, SERVER._replace(stream=1)])
ASKS = st.tuples(st.just("asks"), CLIENTS, SERVERS, st.sampled_from([OPEN, "open.example", "shut.example"]))
MUTATED = st.tuples(st.just("mutated"), CLIENTS, SERVERS, st.integers(0, 60), st.integers(0, 255))
ANSWERS = st.tuples(st.just("answers"), st.integers(0, 20), SERVERS, st.booleans())
NOISE = st.tuples(st.just("noise"), SERVERS, st.binary(max_size=60))
WAIT = st.tuples(st.just("wait"), st.integers(0, 6))
GONE = st.tuples(st.just("gone"), CLIENTS, SERVERS, st.booleans())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(ASKS, ASKS, ANSWERS, ANSWERS, MUTATED, NOISE, WAIT, GONE), max_size=40))
def test_each_query_is_told_once_and_nothing_goes_unjudged(events: list[Any]) -> None:
    stage, now, asked, dropped = Stage(Limits(3, 5, 10)), 0, 0, 0
    resolver, sent = stage.resolver, list[tuple[bytes, End, End]]()
    for kind, *rest in events:
        match kind, rest:
            case (("asks" | "mutated"), [client, server, *how]):
                data = bytearray(query(how[0] if kind == "asks" else OPEN))
                if kind == "mutated":
                    data[how[0] % len(data)] = how[1]
                out = resolver.from_client(bytes(data), client, server, now)
                asked += 1
                dropped += out is None
                if isinstance(out, Forward):
                    assert out.data[2:] == data[2:] and out.server == server
                    assert request.name_allowed(RULES, dns.message.from_wire(out.data).question[0].name.to_text())
                    sent.append((out.data, client, server))
                elif out is not None:
                    assert out.client == client and out.data[:2] == data[:2]
            case "answers", [index, server, right]:
                if not sent:
                    continue
                data, client, was = sent[index % len(sent)]
                answered = resolver.from_server(answer(data), was if right else server, now)
                assert answered is None or (answered.reply.client == client and (right or server == was))
            case "noise", [server, data]:
                assert resolver.from_server(data, server, now) is None
            case "wait", [more]:
                now += more
                resolver.expire(now)
                due = resolver.next_timeout()
                assert due is None or due > now
            case "gone", [client, server, which]:
                if which:
                    resolver.client_gone(client, now)
                else:
                    resolver.server_gone(server, now)
        assert len(resolver) <= 5 and asked == len(stage.told) + len(resolver) + dropped
    assert all(told.allowed or told.rcode in (1, 4, 5) for told in stage.told)
    assert resolver.expire(now + 10) is not None and len(resolver) == 0
    assert asked == len(stage.told) + dropped and not resolver._of
