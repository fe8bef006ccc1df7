"""What a module of the package declares, users find in the package and C finds in the header."""

import enum

from loader import abi
from loader.abi import intent, state, words
from loader.record import Record

DECLARED = {
    each
    for module in (words, intent, state)
    for each in vars(module).values()
    if isinstance(each, type) and each.__module__ == module.__name__
}


def test_users_find_every_enum_and_record() -> None:
    assert all(hasattr(abi, name) for name in abi.__all__)
    assert {each.__name__ for each in DECLARED} <= set(abi.__all__)


def test_c_sees_every_enum_and_record() -> None:
    assert {each for each in DECLARED if issubclass(each, enum.Enum)} == set(abi.ENUMS)
    assert {each for each in DECLARED if issubclass(each, Record)} == set(abi.RECORDS)
