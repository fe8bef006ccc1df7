"""Who has a say in a connection, and what all of them together let through."""

from control.model import HeaderMatch, HttpRule, L7Rules, Mismatch, NamePeer
from l7proxy.policy.book import Book, Kind, Side
from l7proxy.policy.requests import Decision
from loader import abi

TCP = int(abi.Proto.TCP)
EGRESS = Side(1, int(abi.Direction.EGRESS), 500, TCP, 80)
INGRESS = Side(2, int(abi.Direction.INGRESS), 400, TCP, 80)


def at(
    side: Side, *rules: L7Rules, peer: int = 0, port: int = 80, plen: int = 16
) -> dict[abi.PolicyKey, tuple[L7Rules, ...]]:
    return {abi.PolicyKey(0, peer, port, side.proto, side.direction, plen): rules}


def http(path: str, **more: object) -> L7Rules:
    return L7Rules(http=(HttpRule(path=path, **more),))  # type: ignore[arg-type]


def book(**sets: object) -> Book:
    out = Book()
    out.replace({int(name[1:]): rules for name, rules in sets.items()})  # type: ignore[misc]
    return out


def decide(found: Book, *sides: Side, path: str = "/a") -> Decision:
    return found.policy(sides).decide("GET", path, "", ())


def test_both_ends_must_agree() -> None:
    both = book(s1=at(EGRESS, http("/a.*")), s2=at(INGRESS, http(".*/b")))
    assert [decide(both, EGRESS, INGRESS, path=path).allowed for path in ("/a/b", "/a/c", "/c/b")] == [
        True,
        False,
        False,
    ]
    assert decide(both, EGRESS, path="/a/c").allowed and decide(both, INGRESS, path="/c/b").allowed


def test_what_is_not_known_lets_nothing_through() -> None:
    known = book(s1=at(EGRESS, http("")))
    assert decide(known, EGRESS).allowed
    for sides in ((), (INGRESS,), (EGRESS, INGRESS), (EGRESS._replace(port=81),), (EGRESS._replace(proto=17),)):
        assert not decide(known, *sides).allowed
        assert known.policy(sides).kind is Kind.NOTHING
    known.replace({})
    assert not decide(known, EGRESS).allowed


def test_rules_of_two_kinds_at_two_ends_let_nothing_through() -> None:
    mixed = book(s1=at(EGRESS, L7Rules(server_names=("a.example",))), s2=at(INGRESS, http("")))
    found = mixed.policy((EGRESS, INGRESS))
    assert found.kind is Kind.NOTHING
    assert not found.allows_server("a.example") and not found.decide("GET", "/", "", ()).allowed


def test_names() -> None:
    names = book(
        s1=at(EGRESS, L7Rules(dns=(NamePeer(pattern="*.example"),))),
        s2=at(INGRESS, L7Rules(server_names=("*.example",))),
    )
    dns, tls = names.policy((EGRESS,)), names.policy((INGRESS,))
    assert (dns.kind, tls.kind) == (Kind.DNS, Kind.SERVER_NAMES)
    assert dns.allows_name("a.example") and not dns.allows_name("a.other") and not dns.allows_server("a.example")
    assert tls.allows_server("a.example") and not tls.allows_server("a.other") and not tls.allows_name("a.example")


def test_what_both_ends_mend_is_mended() -> None:
    def adds(name: str) -> L7Rules:
        return http("", headers=(HeaderMatch(name, "1", Mismatch.ADD),))

    found = decide(book(s1=at(EGRESS, adds("X-A")), s2=at(INGRESS, adds("X-B"))), EGRESS, INGRESS)
    assert [change.name for change in found.changes] == [b"x-a", b"x-b"]


def test_a_range_around_a_port_counts_too() -> None:
    rules = {**at(EGRESS, http("/a")), **at(EGRESS, http("/b"), port=0, plen=0), **at(EGRESS, http("/c"), peer=9)}
    around = book(s1=rules)
    assert [decide(around, EGRESS, path=path).allowed for path in ("/a", "/b", "/c")] == [True, True, False]


def test_an_end_that_lets_anything_through_leaves_it_to_the_other() -> None:
    # Whoever allows this peer anything at a range counts beside the rules for one port of it.
    free = {**at(EGRESS, http("/a")), **at(EGRESS, L7Rules(), port=0, plen=0)}
    both = book(s1=free, s2=at(INGRESS, http("/b")))
    found = both.policy((EGRESS,))
    assert found.kind is Kind.ANYTHING
    assert decide(both, EGRESS, path="/c").allowed and found.allows_name("a.b") and found.allows_server("a.b")
    assert both.policy((EGRESS, INGRESS)).kind is Kind.HTTP
    assert [decide(both, EGRESS, INGRESS, path=path).allowed for path in ("/a", "/b")] == [False, True]
    assert not decide(both, EGRESS, INGRESS._replace(port=81), path="/b").allowed
