"""Port ranges as prefixes, and what may be written as a port."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.policy import field, parse, ports
from control.source import document


@given(st.integers(0, 65535), st.integers(0, 65535))
def test_a_range_is_split_into_exactly_its_ports(a: int, b: int) -> None:
    first, last = sorted((a, b))
    upcoming = first
    for port, plen in ports.split(first, last):
        assert port == upcoming
        assert port % (1 << (16 - plen)) == 0  # what the kernel masks a port to
        upcoming += 1 << (16 - plen)
    assert upcoming == last + 1


@given(st.integers(0, 65535), st.integers(0, 65535))
def test_a_range_takes_few_entries(a: int, b: int) -> None:
    assert len(list(ports.split(*sorted((a, b))))) <= 30


def test_known_splits() -> None:
    assert list(ports.split(0, 65535)) == [(0, 0)]
    assert list(ports.split(80, 80)) == [(80, 16)]
    assert list(ports.split(1, 65535)) == [(1 << i, 16 - i) for i in range(16)]
    assert list(ports.split(8000, 8999)) == [(8000, 10), (8064, 9), (8192, 7), (8704, 8), (8960, 11), (8992, 13)]
    assert list(ports.split(65535, 65535)) == [(65535, 16)]


BASED = "others take it for a number: write it in decimal, or a name in quotes"


def told(port: str, kind: tuple[str, str], rule: str) -> list[str]:
    """Return what is wrong with a policy that has a port, as it is written in YAML."""
    (node,), _ = document.parse(f"apiVersion: {kind[0]}\nkind: {kind[1]}\nmetadata: {{name: p}}\nspec: {rule % port}\n")
    report = field.Report("f")
    parse.parse_policy(field.Field(node, "", report), *kind)
    return [problem.message for problem in report.problems]


@pytest.mark.parametrize(
    ("port", "problem"),
    [
        ("80", ""),
        ("'80'", 'invalid "80" (a number without quotes, or a name)'),
        ("080", 'invalid "080" (a number without quotes, or a name)'),
        ("'0'", 'invalid "0" (a number without quotes, or a name)'),
        ("0x50", f'invalid "0x50" ({BASED})'),
        ("0b101", f'invalid "0b101" ({BASED})'),
        ("0o17", f'invalid "0o17" ({BASED})'),
        ("1_000", f'invalid "1_000" ({ports.PORT_NAME_RULE})'),
        ("0xylophone", ""),
        ("'0x50'", ""),
        ("80.0", "must be a whole number from 0 to 65535, is 80.0"),
    ],
)
def test_ports_of_a_network_policy_are_what_kubernetes_takes(port: str, problem: str) -> None:
    rule = "{podSelector: {}, ingress: [{ports: [{port: %s}]}]}"
    assert told(port, parse.KUBERNETES, rule) == ([problem] if problem else [])


@pytest.mark.parametrize(("port", "problem"), [("'80'", ""), ("0x50", f'invalid "0x50" ({BASED})')])
def test_ports_of_the_cilium_language_may_be_strings_of_digits(port: str, problem: str) -> None:
    rule = "{endpointSelector: {}, ingress: [{toPorts: [{ports: [{port: %s}]}]}]}"
    assert told(port, ("cilium.io/v2", "CiliumNetworkPolicy"), rule) == ([problem] if problem else [])
