"""What holds for all tests."""

import pytest

from l7proxy import compiled
from loader.errors import MeshError


def pytest_configure() -> None:
    try:
        compiled.is_compiled()
    except MeshError as error:
        pytest.exit(str(error), returncode=2)
