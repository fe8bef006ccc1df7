"""A UDP server that may call nobody answers whoever may call it: over a connected socket, too, and from any address."""

from collections.abc import Iterator

import pytest

from tests.hosts import Mesh, Node
from tests.kernel.puppet import Puppet
from tests.kernel.street import nobody

SECOND = {4: "10.244.0.99", 6: "fd00:244::99"}
ASK = """
q = socket.socket(family(ip), socket.SOCK_DGRAM)
q.settimeout(5)
q.sendto(b'question', (ip, port))
"""
HEAR = """
u = socket.socket(family(ip), socket.SOCK_DGRAM)
u.bind((bound, port))
u.settimeout(5)
"""


@pytest.fixture(scope="module")
def puppets() -> Iterator[dict[str, Puppet]]:
    with Node("answers") as node:
        client, server = node.pod("client"), node.pod("server")
        document = server.workload_yaml()
        for version, address in SECOND.items():
            server.run(["ip", "addr", "add", f"{address}/{24 if version == 4 else 64}", "dev", "eth0", "nodad"])
            document["spec"]["ips"].append(address)
        with Mesh(node, pods=[client], args=["--no-self-test"]) as mesh:
            mesh.apply("workload-server", document)
            mesh.apply("policy", nobody("out", "server", "egress"))
            assert mesh.call("reconcile")["problems"] == []
            yield {"client": Puppet(client), "server": Puppet(server)}


def address(puppets: dict[str, Puppet], version: int, which: str) -> str:
    pod = puppets["server"].host
    first: str = pod.ip if version == 4 else pod.ip6  # type: ignore[attr-defined]
    return first if which == "first" else SECOND[version]


@pytest.mark.parametrize("which", ["first", "second"])
@pytest.mark.parametrize("how", ["u.sendto(d, a)", "u.connect(a); u.send(d)"])
@pytest.mark.parametrize("version", [4, 6])
def test_an_answer_passes(puppets: dict[str, Puppet], version: int, how: str, which: str) -> None:
    client, server, ip = puppets["client"], puppets["server"], address(puppets, version, which)
    server.do(HEAR, ip=ip, bound=ip, port=4601)
    client.do(ASK, ip=ip, port=4601)
    server.do(f"d, a = u.recvfrom(100)\n{how}")
    assert client.do("result = q.recv(100).decode()") == "question"
    # To another port of the caller nothing passes: there was no question from there.
    server.do("v = socket.socket(family(ip), socket.SOCK_DGRAM); v.bind((ip, 4602))", ip=ip)
    with pytest.raises(PermissionError):
        server.do("v.connect(a)")
    client.do("q.close()")
    server.do("u.close(); v.close()")


def test_a_server_that_is_bound_to_no_address_connects_back(puppets: dict[str, Puppet]) -> None:
    """As socat's UDP-LISTEN does."""
    client, server, ip = puppets["client"], puppets["server"], address(puppets, 4, "first")
    server.do(HEAR, ip=ip, bound="0.0.0.0", port=4603)
    client.do(ASK, ip=ip, port=4603)
    server.do("d, a = u.recvfrom(100)\nu.connect(a); u.send(d)")
    assert client.do("result = q.recv(100).decode()") == "question"
    client.do("q.close()")
    server.do("u.close()")
