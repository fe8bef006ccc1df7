"""Tests on the real kernel: as root, or not at all (an error where SOCKMESH_REQUIRE_KERNEL says that they must run)."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.street import Street, open_street

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.kernel)


@pytest.fixture(scope="session", autouse=True)
def root() -> None:
    if os.geteuid() != 0 and not os.environ.get("SOCKMESH_REQUIRE_KERNEL"):
        pytest.skip("needs root: policy in the kernel cannot be tested without")


@pytest.fixture(scope="session")
def whole_street(root: None) -> Iterator[Street]:
    yield from open_street()


@pytest.fixture
def street(whole_street: Street) -> Iterator[Street]:
    """The shared pods, with no policy before and none after."""
    yield whole_street
    whole_street.relax()


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def family(request: pytest.FixtureRequest) -> int:
    return int(request.param)
