"""Hooks that somebody else takes off are back within a second or two, counted and named in the log."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from loader import attach, bpf, programs
from tests.hosts import Mesh, Node
from tests.hosts.wait import wait_until
from tests.kernel.puppet import Puppet
from tests.kernel.street import nobody

CGROUP = [spec.function for spec in programs.PROGRAMS if spec.target is programs.Target.CGROUP]
ON_MESSAGES = int(programs.AttachType.SK_MSG_VERDICT)


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with Node("taken") as node:
        node.pod("client")
        node.pod("server")
        with Mesh(node, [nobody("closed", "server", "ingress")]) as made:
            yield made


def restored(mesh: Mesh) -> int:
    return int(mesh.call("status")["hooks_restored"])


def link(mesh: Mesh, function: str, owner: str) -> Path:
    return attach.link_path(mesh.node.pins, owner, function)


def look(path: Path) -> tuple[int, int]:
    """Return the program's id and the cgroup's id of a pinned link; zeros where there is none."""
    try:
        fd = bpf.get(path)
    except FileNotFoundError:
        return 0, 0
    try:
        program, cgroup = struct.unpack_from("=I4xQ", bpf.info(fd, 32), 8)
    finally:
        os.close(fd)
    return program, cgroup


def found(paths: dict[str, Path]) -> dict[str, tuple[int, int]]:
    return {name: look(path) for name, path in paths.items()}


def detach(path: Path) -> None:
    """What `bpftool link detach` does."""
    fd = bpf.get(path)
    bpf.call(bpf.Cmd.LINK_DETACH, struct.pack("=I", fd))
    os.close(fd)


def exchange(path: Path) -> None:
    """Put a program that allows all behind a link."""
    spec = programs.PROGRAM_BY_NAME["connect4"]
    other = bpf.load_program(int(spec.type), bpf.exit_with(1), int(spec.attach), "sm_other")
    fd = bpf.get(path)
    bpf.link_update(fd, other)
    os.close(fd)
    os.close(other)


@pytest.mark.parametrize(("how", "which"), [(detach, CGROUP), (Path.unlink, ["connect4", "sockops"]),
                                            (exchange, ["connect4"])])  # fmt: skip
def test_hooks_of_a_cgroup(mesh: Mesh, how: object, which: list[str]) -> None:
    client, server = mesh.node.pods["client"], mesh.node.pods["server"]
    puppet, order = Puppet(client), "result = connect(ip, 4610, 0.3)[0]"
    inode = os.stat(client.cgroup).st_ino
    (owner,) = (owner for owner in ("endpoint-1", "endpoint-2") if look(link(mesh, "connect4", owner))[1] == inode)
    paths = {name: link(mesh, name, owner) for name in CGROUP}
    whole = found(paths)
    before = restored(mesh)
    assert puppet.do(order, ip=server.ip) == "EPERM"
    for name in which:
        how(paths[name])  # type: ignore[operator]
    # The agent's look may come between the first and the last: then it needs two.
    wait_until(lambda: restored(mesh) > before and found(paths) == whole, "the hooks are back", 5)
    assert puppet.do(order, ip=server.ip) == "EPERM"
    assert f"hooks were taken off {client.cgroup} by somebody else: they are put back" in mesh.log.read_text()
    after = restored(mesh)
    mesh.settle()
    assert restored(mesh) == after <= before + 2


def said_of(mesh: Mesh, name: str) -> bool:
    return f"the whole machine were taken off by somebody else: {name}: they are back" in mesh.log.read_text()


def test_the_program_of_the_sockhash(mesh: Mesh) -> None:
    before = restored(mesh)
    with mesh.open_maps() as maps:
        if kernel() < (5, 18):  # which does not tell what hangs there
            assert attach.is_on_sockhash(maps.socks.fd, 0)
            return
        attached = bpf.attached(maps.socks.fd, ON_MESSAGES)
        fd = bpf.get(mesh.node.pins / "progs" / "skmsg")
        bpf.detach(maps.socks.fd, fd, ON_MESSAGES)
        os.close(fd)
        wait_until(lambda: restored(mesh) == before + 1, "the loss is noticed", 5)
        assert bpf.attached(maps.socks.fd, ON_MESSAGES) == attached
    assert said_of(mesh, "skmsg")


def kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int(minor)


def test_a_tracepoint(mesh: Mesh) -> None:
    before = restored(mesh)
    path = link(mesh, "enter_splice", "tracepoint")
    path.unlink()
    wait_until(lambda: restored(mesh) == before + 1, "the loss is noticed", 5)
    assert path.exists() and said_of(mesh, "enter_splice")
