"""Playbooks of a DNS client's connection: the names in open.example may be asked for."""

from collections.abc import Callable

import dns.message
import dns.rcode
import dns.rrset

from l7proxy.dns import stream
from l7proxy.dns.exchange import LIMITS, End, Lookup
from l7proxy.dns.learned import Learned
from l7proxy.dns.session import Session


class Stage:
    def __init__(self) -> None:
        self.told: list[Lookup] = []
        self.learning: list[tuple[Learned, Callable[[], None]]] = []
        self.flushed = 0
        self.now = 10**9
        self.session = Session(
            End("10.0.0.1", 4000, 1), End("10.0.0.2", 53, 1), lambda name: name.endswith("open.example"),
            self.told.append, lambda learned, then: self.learning.append((learned, then)), self._flush,
            lambda: self.now,
        )  # fmt: skip

    def _flush(self) -> None:
        self.flushed += 1

    def ask(self, name: str) -> dns.message.QueryMessage:
        query = dns.message.make_query(name, "A")
        self.session.from_client(stream.framed(query.to_wire()))
        return query

    def asked(self) -> list[bytes]:
        out = stream.Splitter().take(b"".join(self.session.to_server))
        self.session.to_server.clear()
        return out

    def answer(self, query: bytes, address: str = "192.0.2.1") -> None:
        parsed = dns.message.from_wire(query)
        said = dns.message.make_response(parsed)
        said.answer.append(dns.rrset.from_text(parsed.question[0].name, 9, "IN", "A", address))
        self.session.from_server(stream.framed(said.to_wire()))

    def heard(self) -> list[dns.message.Message]:
        out = [dns.message.from_wire(each) for each in stream.Splitter().take(b"".join(self.session.to_client))]
        self.session.to_client.clear()
        return out


def test_the_client_hears_of_an_address_when_it_is_in_force() -> None:
    stage = Stage()
    query = stage.ask("a.open.example")
    stage.answer(stage.asked()[0])
    assert stage.heard() == [] and stage.flushed == 0
    [(learned, then)] = stage.learning
    assert learned == Learned("a.open.example", ("192.0.2.1",), 9)
    then()
    assert [said.id for said in stage.heard()] == [query.id] and stage.flushed == 1 and not stage.session.is_over


def test_answers_come_as_they_are_there_whatever_was_asked_first() -> None:
    stage = Stage()
    first, second = stage.ask("a.open.example"), stage.ask("b.open.example")
    one, two = stage.asked()
    stage.answer(two)
    stage.answer(one)
    for _, then in stage.learning:
        then()
    assert [said.id for said in stage.heard()] == [second.id, first.id]


def test_a_name_that_is_shut_is_refused_and_the_connection_lives_on() -> None:
    stage = Stage()
    stage.ask("shut.example")
    assert stage.asked() == [] and [said.rcode() for said in stage.heard()] == [dns.rcode.REFUSED]
    stage.ask("a.open.example")
    assert len(stage.asked()) == 1 and [each.allowed for each in stage.told] == [False]


def test_a_client_that_has_asked_all_is_still_answered() -> None:
    stage = Stage()
    stage.ask("a.open.example")
    stage.session.client_ended()
    assert not stage.session.is_over
    stage.answer(stage.asked()[0])
    assert not stage.session.is_over
    stage.learning[0][1]()
    assert len(stage.heard()) == 1 and stage.session.is_over and not stage.session.is_broken


def test_who_waits_for_a_server_that_is_gone_is_told() -> None:
    stage = Stage()
    stage.ask("a.open.example")
    stage.session.failed("Connection refused")
    assert [said.rcode() for said in stage.heard()] == [dns.rcode.SERVFAIL] and stage.session.is_over


def test_what_is_no_query_ends_it() -> None:
    stage = Stage()
    stage.session.from_client(b"\x00\x05hello")
    assert stage.session.is_broken and stage.asked() == []


def test_a_client_that_asks_without_end_is_not_read_for_a_while() -> None:
    stage = Stage()
    for number in range(64):
        assert stage.session.waits_for_client
        stage.ask(f"{number}.open.example")
    assert not stage.session.waits_for_client
    stage.answer(stage.asked()[0])
    assert not stage.session.waits_for_client
    stage.learning[0][1]()
    assert stage.session.waits_for_client


def test_a_query_that_the_server_does_not_answer_is_answered_in_time() -> None:
    stage = Stage()
    first = stage.ask("a.open.example")
    stage.asked()
    stage.now += LIMITS.timeout_ns // 2
    second = stage.ask("b.open.example")
    stage.asked()
    stage.now += LIMITS.timeout_ns // 2 - 1
    stage.session.expire()
    assert stage.heard() == [] and not stage.session.is_idle
    stage.now += 1
    stage.session.expire()
    assert [(said.id, said.rcode()) for said in stage.heard()] == [(first.id, dns.rcode.SERVFAIL)]
    assert not stage.session.is_over and [each.why for each in stage.told] == ["the server did not answer in time"]
    stage.now += LIMITS.timeout_ns
    stage.session.expire()
    assert [said.id for said in stage.heard()] == [second.id] and stage.session.is_idle


def test_an_answer_after_its_time_is_none() -> None:
    stage = Stage()
    stage.ask("a.open.example")
    [query] = stage.asked()
    stage.now += LIMITS.timeout_ns
    stage.session.expire()
    assert len(stage.heard()) == 1
    stage.answer(query)
    assert stage.heard() == [] and stage.learning == []


def test_a_client_that_has_asked_all_is_let_go_when_its_time_is_over() -> None:
    stage = Stage()
    stage.ask("a.open.example")
    stage.asked()
    stage.session.client_ended()
    stage.now += LIMITS.timeout_ns
    stage.session.expire()
    assert len(stage.heard()) == 1 and stage.session.is_over and not stage.session.is_broken


def test_a_client_is_read_again_when_what_it_asked_is_answered_for_the_server() -> None:
    stage = Stage()
    for number in range(64):
        stage.ask(f"{number}.open.example")
    stage.asked()
    stage.now += LIMITS.timeout_ns
    stage.session.expire()
    assert stage.session.waits_for_client and len(stage.heard()) == 64


def test_a_server_that_takes_no_connection_ends_it_for_all_that_wait() -> None:
    stage = Stage()
    stage.ask("a.open.example")
    stage.now += LIMITS.timeout_ns
    stage.ask("b.open.example")
    stage.session.expire()
    assert [said.rcode() for said in stage.heard()] == [dns.rcode.SERVFAIL] * 2 and stage.session.is_over
    assert [each.why for each in stage.told] == ["the server did not answer in time", "the server cannot be reached"]
