"""Two nodes on one kernel with an agent each, as test clusters have them: nothing of one is taken for the other's."""

import pytest

from tests.hosts import Mesh, Node
from tests.kernel.puppet import Puppet

pytestmark = pytest.mark.kernel
_SERVE = """
import threading
u = socket.socket(family(ip), socket.SOCK_DGRAM)
u.bind((ip, 5300))
def answer():
    while True:
        data, who = u.recvfrom(2000)
        u.sendto(data, who)
threading.Thread(target=answer, daemon=True).start()
"""
_ASK = """
q = socket.socket(family(ip), socket.SOCK_DGRAM)
q.settimeout(3)
q.sendto(b"x", (ip, 5300))
result = q.recv(10).decode()
"""


def test_a_datagram_of_another_agents_pod_is_no_late_one_whatever_its_edition() -> None:
    with Node("one", "10.1.0.0/24", "fd00:1::/64") as one, Node("two", "10.2.0.0/24", "fd00:2::/64") as two:
        one.join(two)
        client, server = one.pod("client"), two.pod("server")
        with Mesh(one) as first, Mesh(two) as second:
            while True:  # of two that are alike nobody could tell
                with first.open_maps() as here, second.open_maps() as there:
                    if here.config.get_at(0).generation != there.config.get_at(0).generation:
                        break
                spec = {"endpointSelector": {"matchLabels": {"app": "server"}}, "ingress": [{"fromEntities": ["all"]}]}
                meta = {"name": "all", "namespace": "default"}
                api = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy"}
                second.apply("all", api | {"metadata": meta, "spec": spec})
                second.settle()
            for ip in (server.ip, server.ip6):
                Puppet(server).do(_SERVE, ip=ip)
                assert Puppet(client).do(_ASK, ip=ip) == "x"
            client.run(["ping", "-c", "1", "-W", "3", server.ip])
