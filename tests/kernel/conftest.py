"""Tests on the real kernel: as root, or not at all (an error where SOCKMESH_REQUIRE_KERNEL says that they must run)."""

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.kernel)


@pytest.fixture(scope="session", autouse=True)
def root() -> None:
    if os.geteuid() != 0 and not os.environ.get("SOCKMESH_REQUIRE_KERNEL"):
        pytest.skip("needs root: policy in the kernel cannot be tested without")
