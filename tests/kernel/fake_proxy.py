"""A program in the place of the node proxy: it greets whoever is led to it, and calls from others' addresses."""

from typing import Any

from loader import abi, mounts
from loader.interception import ground
from tests.hosts import Host, Mesh
from tests.kernel.puppet import Puppet

_STAND = """
import socket, threading
from loader import bpf
seen = []
def greet():
    while True:
        c, (peer, port, *_) = door.accept()
        own = c.getsockname()
        seen.append([peer, port, *own[:2], c.getsockopt(0, 0x5e50, size).hex()])
        c.sendall(b"proxy")
def of(address, port, kind):
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    s.setsockopt(*(socket.IPPROTO_IPV6, 75) if ":" in address else (socket.IPPROTO_IP, 19), 1)
    s.settimeout(3)
    s.bind((address, port))
    return s
def call(source, target, port):
    try:
        with of(source, 0, socket.SOCK_STREAM) as s:
            s.connect((target, port))
            return s.recv(100).decode()
    except OSError as error:
        return type(error).__name__
door = socket.socket(socket.AF_INET6)
door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
door.setsockopt(socket.IPPROTO_IPV6, 75, 1)
door.bind(("::", 1))
door.listen(64)
bpf.update(bpf.get(doors), (0).to_bytes(4, "little"), door.fileno().to_bytes(8, "little"))
threading.Thread(target=greet, daemon=True).start()
"""
_WOULD = """
with of(source, 40000, socket.SOCK_DGRAM) as s:
    s.connect((target, port))
    result = s.getsockopt(0, 0x5e51, size).hex()
"""


class FakeProxy:
    """At work where the agent of `mesh` leads to; it ends with the node."""

    def __init__(self, mesh: Mesh) -> None:
        cgroup = ground.cgroup_path(mesh.run_dir)
        assert cgroup is not None and mounts.is_cgroup2(str(cgroup))
        self.host = Host("proxy", str(ground.netns_path(mesh.run_dir)), str(cgroup))
        self._puppet = Puppet(self.host)
        doors = str(mesh.node.pins / "maps" / "doors")
        self._puppet.do(_STAND, doors=doors, size=abi.ProxyFacts.SIZE)

    def seen(self) -> list[tuple[str, str, int, abi.ProxyFacts]]:
        """Return who was led here so far: the client's address, the server's, its port, and what the kernel said."""
        return [
            (peer.removeprefix("::ffff:"), own.removeprefix("::ffff:"), port, abi.ProxyFacts.unpack(bytes.fromhex(raw)))
            for peer, _, own, port, raw in self._puppet.do("result = seen")
        ]

    def call(self, source: str, target: str, port: int = 80) -> str:
        """Call from somebody's address; return what the server says, or the name of the error."""
        return str(self._puppet.do("result = call(source, target, port)", source=source, target=target, port=port))

    def would(self, source: str, target: str, port: int = 80) -> abi.ProxyFacts:
        """Ask the kernel who would speak to whom; raises OSError."""
        return abi.ProxyFacts.unpack(bytes.fromhex(self._puppet.do(_WOULD, source=source, target=target, port=port)))

    def do(self, code: str, **args: Any) -> Any:
        return self._puppet.do(code, **args)

    def close(self) -> None:
        self.host.kill_all()
