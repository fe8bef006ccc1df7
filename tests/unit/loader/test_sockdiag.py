"""What the kernel's answers about sockets are taken for."""

import errno
import struct
from collections.abc import Callable
from typing import Any, Self

import pytest

from loader import netns, sockdiag

_ERROR, _DONE = 2, 3


class Channel:
    """Answers each question with a message of this kind and status."""

    def __init__(self, kind: int, status: int) -> None:
        self._answer = struct.pack("=IHHIIi", 20, kind, 0, 1, 0, -status)

    def send(self, request: bytes) -> int:
        return len(request)

    def recv(self, size: int) -> bytes:
        return self._answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def states(monkeypatch: pytest.MonkeyPatch, kind: int, status: int) -> Any:
    def inside(where: str, function: Callable[[], Any]) -> Any:
        return function()

    monkeypatch.setattr(netns, "inside", inside)
    monkeypatch.setattr(sockdiag, "channel", lambda: Channel(kind, status))
    return sockdiag.states("pod")


@pytest.mark.parametrize("kind", [_ERROR, _DONE])
def test_a_list_that_the_kernel_does_not_give_is_not_an_empty_one(monkeypatch: pytest.MonkeyPatch, kind: int) -> None:
    """Whose socket is not in it is taken for gone, and who waits for it is reset."""
    with pytest.raises(OSError, match="SOCK_DIAG"):
        states(monkeypatch, kind, errno.EBUSY)


@pytest.mark.parametrize(("kind", "status"), [(_DONE, 0), (_ERROR, errno.ENOENT), (_DONE, errno.ENOENT)])
def test_a_kernel_without_a_family_has_no_sockets_of_it(
    monkeypatch: pytest.MonkeyPatch, kind: int, status: int
) -> None:
    assert states(monkeypatch, kind, status) == {}
