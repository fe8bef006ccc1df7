"""What holds for all tests."""

import hypothesis
import pytest

from l7proxy import compiled
from loader.errors import MeshError

# A busy machine makes any example slow for once. What a bound in time is for has a test that says so (test_hostile.py).
hypothesis.settings.register_profile("sockmesh", deadline=None)
hypothesis.settings.load_profile("sockmesh")


def pytest_configure() -> None:
    try:
        compiled.is_compiled()
    except MeshError as error:
        pytest.exit(str(error), returncode=2)
