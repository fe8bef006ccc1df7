"""The switches that a person may turn: what each takes, and what it says of what it does not."""

import pytest

from control.agent import switches
from loader.errors import ConfigInvalid


def test_numbers_within_their_bounds() -> None:
    assert [switches.parse("probation-packets", text) for text in ("8", "0064", "1000000")] == [8, 64, 1_000_000]


@pytest.mark.parametrize("text", ["٨", "١٦", "\uff18", "²", "7", "1000001", "+9", " 9", "9.0", "", "9" * 5000])
def test_what_is_no_number_in_ascii_digits_is_refused(text: str) -> None:
    with pytest.raises(ConfigInvalid, match="is not a number from 8 to 1000000"):
        switches.parse("probation_packets", text)
