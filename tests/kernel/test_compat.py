"""A pod in which a 32-bit program starts stays on TCP: its system calls pass by the hooks that watch for splice."""

import struct
from pathlib import Path

from loader import abi
from tests.hosts import Mesh, Node
from tests.kernel.pairs import Maker, connect

_CODE = bytes.fromhex("b801000000 31db cd80".replace(" ", ""))  # exit(0): mov eax, 1; xor ebx, ebx; int 0x80
_BASE = 0x08048000


def exit_program() -> bytes:
    """Return an ELF file for i386 that does nothing: a header, one segment, the code (elf(5))."""
    ident = b"\x7fELF" + bytes([1, 1, 1]) + bytes(9)
    start, size = _BASE + 52 + 32, 52 + 32 + len(_CODE)
    header = ident + struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, start, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    return header + struct.pack("<IIIIIIII", 1, 0, _BASE, _BASE, size, size, 5, 0x1000) + _CODE


def test_a_pod_with_a_32_bit_program_stays_on_tcp(tmp_path: Path) -> None:
    program = tmp_path / "exit32"
    program.write_bytes(exit_program())
    program.chmod(0o755)
    with Node("compat") as node:
        client, server, other = node.pod("client"), node.pod("server"), node.pod("other")
        with Mesh(node) as mesh, mesh.open_maps() as maps:
            caller, callee = Maker(client), Maker(server)
            assert connect(caller, callee, maps).warm_up()
            server.run([str(program)])
            pair = connect(caller, callee, maps)
            assert not pair.warm_up()
            assert abi.AccelReason.COMPAT in [end.reason for end in pair.record().end]
            assert connect(caller, Maker(other), maps).warm_up(), "another pod"
