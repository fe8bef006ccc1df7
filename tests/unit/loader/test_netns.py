"""What is no network namespace is told from one, and holds nobody up."""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from loader import netns
from loader.errors import AttachFailed


def leftover(path: Path) -> None:
    path.write_bytes(b"")


def user_namespace(path: Path) -> None:
    path.symlink_to("/proc/self/ns/user")


@pytest.mark.parametrize("make", [os.mkfifo, leftover, Path.mkdir, user_namespace])
def test_what_is_no_namespace_is_refused_at_once(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "pod"
    make(path)
    failures: list[BaseException] = []

    def look() -> None:
        try:
            netns.facts(str(path), "eth0")
        except AttachFailed as error:
            failures.append(error)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(5)
    assert [str(error) for error in failures] == [
        f"network namespace {path}: not a network namespace: is the pod still there?"
    ]


def test_a_name_with_a_zero_byte_is_no_namespaces() -> None:
    with pytest.raises(OSError, match="embedded null byte") as caught:
        netns.inside("/run/netns/a\0b", lambda: None)
    assert caught.value.errno == errno.EINVAL


def test_a_namespace_is_one() -> None:
    os.close(netns._open("/proc/self/ns/net"))


@pytest.mark.parametrize("interface", ["x\ud800", "lo\0y", "no such"])
def test_an_interface_that_cannot_be_is_not_there(interface: str) -> None:
    with pytest.raises(AttachFailed, match=r"^interface .*: not in the agent's network namespace"):
        netns.facts("/proc/self/ns/net", interface)
