"""The one spelling of a workload's name."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control.certificates import spiffe
from control.certificates.spiffe import SpiffeId

LONGEST = "spiffe://" + "d" * 255 + "/ns/" + "n" * 63 + "/sa/" + "a" * 253

labels = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
domains = st.from_regex(r"[a-z0-9]([-._a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)


@settings(deadline=None)
@given(domains, labels, labels)
def test_it_reads_what_it_shows(domain: str, namespace: str, account: str) -> None:
    id = SpiffeId(domain, namespace, account)
    assert spiffe.parse(str(id)) == id


def test_the_longest() -> None:
    assert str(spiffe.parse(LONGEST)) == LONGEST and len(LONGEST) < 2048  # SPIFFE-ID, 2.3


@pytest.mark.parametrize(
    "text",
    ["", "spiffe://", "spiffe://d", "spiffe://d/", "spiffe://d/ns/n", "spiffe://d/ns/n/sa/", "spiffe://d/ns//sa/a",
     "spiffe:///ns/n/sa/a", "https://d/ns/n/sa/a", "SPIFFE://d/ns/n/sa/a", "spiffe://D/ns/n/sa/a",
     "spiffe://d/ns/N/sa/a", "spiffe://d/ns/n/sa/A", "spiffe://d/NS/n/sa/a", "spiffe://d/ns/n/sa/a/",
     "spiffe://d/ns/n/sa/a/b", "spiffe://d//ns/n/sa/a", "spiffe://d/ns/n/sa/a?q", "spiffe://d/ns/n/sa/a#f",
     "spiffe://u@d/ns/n/sa/a", "spiffe://d:1/ns/n/sa/a", "spiffe://d/ns/../sa/a", "spiffe://d/ns/n/sa/..",
     "spiffe://d/ns/%6e/sa/a", "spiffe://d/ns/n/sa/a\n", "\nspiffe://d/ns/n/sa/a", "spiffe://d/ns/n/sa/a\0",
     "spiffe://d/ns/n.m/sa/a", "spiffe://d/ns/-n/sa/a", "spiffe://.d/ns/n/sa/a", "spiffe://d/ns/ñ/sa/a",
     "spiffe://d/ns/n/sa/a ", "spiffe://٣/ns/n/sa/a", LONGEST + "a", LONGEST.replace("/ns/", "n/ns/"),
     LONGEST.replace("/sa/", "n/sa/")],
)  # fmt: skip
def test_any_other_spelling_is_no_name(text: str) -> None:
    with pytest.raises(spiffe.BadId):
        spiffe.parse(text)


@settings(deadline=None)
@given(st.text(max_size=40), st.integers(0, 40))
def test_anything_is_a_name_or_bad(noise: str, at: int) -> None:
    text = "spiffe://d.e/ns/shop/sa/web-1"
    changed = text[:at] + noise + text[at + 1 :]
    try:
        assert str(spiffe.parse(changed)) == changed
    except spiffe.BadId:
        assert changed != text


def test_none_can_be_made_of_other_parts() -> None:
    for parts in (("", "n", "a"), ("d", "n/sa/b", "a"), ("d", "n", ""), ("d", "n", "a/b"), ("d/ns", "n", "a")):
        with pytest.raises(spiffe.BadId):
            SpiffeId(*parts)
    with pytest.raises(spiffe.BadId):
        spiffe.of_domain("d/ns/n/sa/a")
    assert spiffe.of_domain("d") == "spiffe://d"
