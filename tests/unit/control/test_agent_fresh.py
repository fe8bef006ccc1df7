"""Which answers take the short way."""

import pytest

from control.agent import fresh

BEFORE = {"a.example.com": ("192.0.2.1",), "b.example.com": ("192.0.2.2",)}


@pytest.mark.parametrize(
    ("after", "new"),
    [
        (BEFORE, frozenset()),
        (BEFORE | {"c.example.com": ("192.0.2.3",)}, {"192.0.2.3"}),
        (BEFORE | {"a.example.com": ("192.0.2.1", "192.0.2.4")}, {"192.0.2.4"}),
        (BEFORE | {"c.example.com": ("192.0.2.3",), "d.example.com": ("192.0.2.3",)}, {"192.0.2.3"}),
        (BEFORE | {"c.example.com": ("192.0.2.1",)}, None),  # one name more
        (BEFORE | {"a.example.com": ("192.0.2.4",)}, None),  # one is gone
        ({"a.example.com": ("192.0.2.1",)}, None),
    ],
)
def test_only_what_is_new_under_all_its_names(
    after: dict[str, tuple[str, ...]], new: set[str] | frozenset[str] | None
) -> None:
    assert fresh.addresses(BEFORE, after) == new
