"""The switches that a person may turn: what each takes, and what it says of what it does not."""

import pytest

from control.agent import switches
from control.inspect import settings
from loader import abi
from loader.errors import ConfigInvalid


def test_numbers_within_their_bounds() -> None:
    assert [switches.parse("probation-packets", text) for text in ("8", "0064", "1000000")] == [8, 64, 1_000_000]


@pytest.mark.parametrize("text", ["٨", "١٦", "\uff18", "²", "7", "1000001", "+9", " 9", "9.0", "", "9" * 5000])
def test_what_is_no_number_in_ascii_digits_is_refused(text: str) -> None:
    with pytest.raises(ConfigInvalid, match="is not a number from 8 to 1000000"):
        switches.parse("probation_packets", text)


def test_what_the_agent_is_told_at_its_start_names_the_option() -> None:
    rows = settings.rows(abi.Config.blank())
    assert {row.name: settings.settable(row) for row in rows if row.name in ("acceleration", "mtls", "generation")} == {
        "acceleration": "on, off", "mtls": "by `sockmesh agent --mtls`", "generation": "-",
    }  # fmt: skip
    with pytest.raises(ConfigInvalid, match="mtls cannot be set, `sockmesh agent --mtls` does"):
        switches.parse("mtls", "strict")
    with pytest.raises(ConfigInvalid, match="self_test cannot be set, the agent sees to it"):
        switches.parse("self_test", "on")
