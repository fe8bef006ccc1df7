"""What a kernel's type information decides of how the programs are compiled."""

from typing import cast

import pytest

from loader import btf, compiler


class _Kernel:
    """Type information in which these fields are all there are."""

    def __init__(self, *fields: tuple[str, str]) -> None:
        self._fields = fields

    def field(self, struct: str, path: str) -> btf.Field:
        if (struct, path) not in self._fields:
            raise KeyError(f"{struct}.{path}")
        return btf.Field(0, 0, 0)


@pytest.mark.parametrize("fields", [[], [("sk_psock", "msg_tot_len")]], ids=["older", "newer"])
def test_whether_fionread_knows_redirected_bytes_is_seen_not_guessed(fields: list[tuple[str, str]]) -> None:
    assert compiler.fionread_counts(cast(btf.Btf, _Kernel(*fields))) == bool(fields)
