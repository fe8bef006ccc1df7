"""The numbers that are the self-test's alone mean the same on both sides."""

import re
from pathlib import Path

from loader import numbers

MAPS_H = Path(__file__).resolve().parents[3] / "bpf" / "maps.h"


def test_the_programs_leave_out_the_endpoints_that_are_the_self_tests() -> None:
    found = re.search(r"^#define FIRST_SELF_TEST (0x[0-9a-f]+)u$", MAPS_H.read_text(), re.MULTILINE)
    assert found and int(found[1], 16) == numbers.FIRST_ENDPOINT
