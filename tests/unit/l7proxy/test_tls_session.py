"""Playbooks: what becomes of a TLS client's bytes when policy lets the names open.example and "" through."""

from hypothesis import given
from hypothesis import strategies as st

from l7proxy.tls.session import Asked, Session
from tests.unit.l7proxy.test_tls_hello import real


class Stage:
    def __init__(self) -> None:
        self.told: list[Asked] = []
        self.session = Session(lambda name: name in ("open.example", ""), self.told.append)

    @property
    def heard(self) -> bytes:
        return b"".join(self.session.to_server)

    @property
    def verdicts(self) -> list[tuple[str, bool]]:
        return [(asked.name, asked.allowed) for asked in self.told]


@given(st.lists(st.integers(1, 600), max_size=20))
def test_nothing_goes_on_before_the_name_is_known_and_then_all_does(cuts: list[int]) -> None:
    stage, hello = Stage(), real("open.example")
    at = 0
    for size in cuts:
        if at + size >= len(hello):
            break
        stage.session.from_client(hello[at : at + size])
        at += size
        assert stage.heard == b"" and not stage.told
    stage.session.from_client(hello[at:] + b"more")
    stage.session.from_client(b"and more")
    stage.session.from_server(b"answer")
    assert stage.heard == hello + b"moreand more" and stage.session.to_client == [b"answer"]
    assert stage.verdicts == [("open.example", True)] and not stage.session.is_over


def test_another_name_is_reset_and_nobody_hears_of_it() -> None:
    stage = Stage()
    stage.session.from_client(real("shut.example"))
    stage.session.from_client(real("open.example"))
    assert stage.heard == b"" and stage.session.is_broken and stage.session.is_over
    assert stage.verdicts == [("shut.example", False)]


def test_no_name_is_a_name_of_its_own() -> None:
    stage = Stage()
    stage.session.from_client(real(None))
    assert stage.verdicts == [("", True)]


def test_what_is_no_hello_is_reset_with_a_reason() -> None:
    for data in (b"GET / HTTP/1.1\r\n\r\n", real("open.example")[:100]):
        stage = Stage()
        stage.session.from_client(data)
        stage.session.client_ended()
        assert stage.heard == b"" and stage.session.is_broken
        assert [asked.allowed for asked in stage.told] == [False] and stage.told[0].why


def test_either_end_passes_and_both_end_it() -> None:
    stage = Stage()
    stage.session.from_client(real("open.example"))
    stage.session.client_ended()
    assert stage.session.ends_server and not stage.session.is_over
    stage.session.from_server(b"late")
    stage.session.server_ended()
    assert stage.session.ends_client and stage.session.is_over and not stage.session.is_broken


def test_a_client_that_is_lost_before_its_name_is_known_is_told_of_once() -> None:
    stage = Stage()
    stage.session.from_client(real("open.example")[:100])
    for why in ("the client went away", "again"):
        stage.session.lost(why)
    assert [(asked.allowed, asked.why) for asked in stage.told] == [(False, "the client went away")]
    stage = Stage()
    stage.session.from_client(real("open.example"))
    stage.session.lost("the client went away")
    assert stage.verdicts == [("open.example", True)] and stage.session.is_over


def test_who_is_cut_off_in_its_hello_is_on_record() -> None:
    stage = Stage()
    assert not stage.session.waits_for_head
    stage.session.from_client(real("open.example")[:100])
    assert stage.session.waits_for_head
    stage.session.cut("too slow")
    assert stage.session.is_broken and [each.why for each in stage.told] == ["too slow"]
