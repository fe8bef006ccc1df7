"""Ranges of addresses: whose they are, and how they are written."""

import ipaddress

from hypothesis import given, settings
from hypothesis import strategies as st

from control import model
from control.analysis import outside, spans
from control.policy import peers

TREE = (
    "10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9", "10.64.0.0/10", "10.64.0.1/32", "192.0.2.0/24", "255.255.255.255/32",
    "0.0.0.0/1", "0.0.0.0/32", "fd00::/8", "fd00::1/128", "::/1", "::/128", "ffff::/16",
)  # fmt: skip
ADDRESSES = ("0.0.0.0", "10.0.0.1", "10.64.0.1", "10.64.0.2", "10.200.0.1", "192.0.2.9", "200.0.0.1",
             "255.255.255.255", "::", "1::", "fd00::", "fd00::1", "fe00::", "ffff::1")  # fmt: skip


def longest(address: str, known: dict[str, int]) -> int:
    ip = ipaddress.ip_address(address)
    inside = [ipaddress.ip_network(p) for p in known if ip in ipaddress.ip_network(p)]
    if not inside:
        return 9 if ip.version == 4 else 10
    return known[str(max(inside, key=lambda network: network.prefixlen))]


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(TREE), st.integers(300, 303)))
def test_each_address_has_the_identity_of_the_longest_range_that_it_is_in(known: dict[str, int]) -> None:
    found = outside.regions((peers.parse_prefix(text), number) for text, number in known.items())
    written = {number: [ipaddress.ip_network(c) for c in outside.cidrs(held)] for number, held in found.items()}
    for address in ADDRESSES:
        holders = [number for number, cidrs in written.items() for c in cidrs if ipaddress.ip_address(address) in c]
        assert holders == [longest(address, known)]
    everything = sorted(span for held in found.values() for span in held)
    assert spans.merged(everything) == outside.EVERYTHING


@given(st.sets(st.sampled_from(TREE)))
def test_the_written_ranges_are_the_fewest(chosen: set[str]) -> None:
    known = ((peers.parse_prefix(text), 300) for text in chosen)
    written = outside.cidrs(outside.regions(known).get(300, ()))
    for version, kind in ((4, ipaddress.IPv4Network), (6, ipaddress.IPv6Network)):
        networks = [kind(text) for text in chosen if ipaddress.ip_network(text).version == version]
        fewest = [str(network) for network in ipaddress.collapse_addresses(networks)]  # type: ignore[type-var]
        assert [text for text in written if ipaddress.ip_network(text).version == version] == fewest
    assert list(written) == sorted(written, key=lambda text: peers.parse_prefix(text))


def test_words() -> None:
    assert outside.words(("0.0.0.0/0", "::/0")) == "the outside"
    assert outside.words(("10.0.0.0/8", "fd00::/8")) == "10.0.0.0/8, fd00::/8"
    without_ten = outside.regions([(model.Prefix(4, 10 << 24, 8), 300)])
    assert outside.cidrs(without_ten[9])[:3] == ("0.0.0.0/5", "8.0.0.0/7", "11.0.0.0/8")
    both = outside.cidrs(spans.merged((*without_ten[9], *without_ten[10])))
    assert outside.words(both) == "the outside except 10.0.0.0/8"
    assert outside.words(outside.cidrs(without_ten[9])) == "0.0.0.0/0 except 10.0.0.0/8"


def test_the_smallest_range_around_where_that_is_said_sooner() -> None:
    def held(*known: str) -> tuple[str, ...]:
        numbered = [(peers.parse_prefix(text), 300 + (index > 0)) for index, text in enumerate(known)]
        return outside.cidrs(outside.regions(numbered)[300])

    ten = held("10.0.0.0/8", "10.1.0.0/16")
    assert len(ten) == 8
    assert outside.words(ten) == "10.0.0.0/8 except 10.1.0.0/16"
    assert outside.words((*ten, "fd00::/8")) == "10.0.0.0/8 except 10.1.0.0/16; fd00::/8"
    assert outside.words(held("fd00::/8", "fd00::1/128")) == "fd00::/8 except fd00::1/128"
    assert outside.words(("10.0.0.0/9", "10.128.0.0/10")) == "10.0.0.0/9, 10.128.0.0/10"


@given(st.sets(st.sampled_from(TREE), min_size=1))
def test_words_mean_what_is_written(chosen: set[str]) -> None:
    def addresses(text: str) -> spans.Spans:
        listed = filter(None, text.split(", "))
        return spans.merged(s for cidr in listed for s in outside.regions([(peers.parse_prefix(cidr), 300)])[300])

    held = addresses(", ".join(chosen))
    meant: list[tuple[int, int]] = []
    for part in outside.words(outside.cidrs(held)).split("; "):
        named, _, lacking = part.partition(" except ")
        inside = outside.EVERYTHING if named == "the outside" else addresses(named)
        meant += spans.without(inside, addresses(lacking))
    assert spans.merged(meant) == held


def test_several_ranges_that_lack_something() -> None:
    def held(*ranges: str, lacking: tuple[str, ...]) -> tuple[str, ...]:
        known = [(peers.parse_prefix(text), 300) for text in ranges]
        known += [(peers.parse_prefix(text), 301) for text in lacking]
        return outside.cidrs(outside.regions(known)[300])

    two = held("10.0.0.0/8", "192.168.0.0/16", lacking=("10.1.0.0/16", "192.168.3.0/24"))
    assert len(two) == 16
    assert outside.words(two) == "10.0.0.0/8 except 10.1.0.0/16; 192.168.0.0/16 except 192.168.3.0/24"
    families = held("0.0.0.0/0", "fd00::/8", lacking=("10.1.0.0/16", "192.168.3.0/24"))
    assert outside.words(families) == "0.0.0.0/0 except 10.1.0.0/16, 192.168.3.0/24; fd00::/8"
    both = held("0.0.0.0/0", "::/0", lacking=("10.1.0.0/16", "fd00::/9"))
    assert outside.words(both) == "the outside except 10.1.0.0/16, fd00::/9"


@given(st.sets(st.sampled_from(TREE), min_size=1), st.sets(st.sampled_from(TREE)))
def test_words_are_never_longer_than_what_is_written(chosen: set[str], lacking: set[str]) -> None:
    known = [(peers.parse_prefix(text), 300 + (text in lacking)) for text in sorted(chosen | lacking)]
    written = outside.cidrs(outside.regions(known).get(300, ()))
    assert not written or len(outside.words(written)) <= len("; ".join(written))
