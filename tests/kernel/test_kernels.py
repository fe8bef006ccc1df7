"""The mesh on Debian's stock kernel, emulated: features, all programs, the self-test (`make test-kernels`: more)."""

import subprocess
import sys
from pathlib import Path

import pytest

from loader.selftest.cases import NAMES

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(1000)
def test_programs_load_and_the_self_test_passes_on_debians_kernel() -> None:
    guest = subprocess.run(
        [sys.executable, "-m", "tests.kernels", "--quick", "--timeout", "900"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = guest.stdout.splitlines()
    assert guest.returncode == 0, guest.stdout[-6000:] + guest.stderr[-2000:]
    assert [line for line in lines if line.startswith("self-test ") and line.endswith(": ok")] == [
        f"self-test {name}: ok" for name in NAMES
    ], guest.stdout[-6000:]
