"""Hooks that hang on a pod's cgroup and on one around it run twice for each event: records are as if they ran once."""

from tests.hosts import Mesh, Node
from tests.kernel.puppet import Puppet
from tests.kernel.street import mesh_part

TALK = """
for _ in range(40):
    s.sendall(b'x' * 1000)
    select.select([s], [], [], 5)
    s.recv(65536)
"""


def test_each_connection_has_one_record_that_counts_its_bytes() -> None:
    with Node("nested") as node:
        client, server = node.pod("client"), node.pod("server")
        one, other = Puppet(client), Puppet(server)
        with Mesh(node, pods=[server], args=["--no-self-test"]) as mesh:
            around = client.workload_yaml()
            around["spec"]["cgroup"] = node.pod_cgroup  # the server's is inside it
            mesh.apply("workload-client", around)
            mesh.call("reconcile")
            other.do("echo_unblocked(ip, 4611, ends)", ip=server.ip, ends=[])
            one.do("s = socket.create_connection((ip, 4611), 5)\n" + TALK + "s.close()", ip=server.ip)
            mesh.wait_flow(lambda flow: mesh_part(flow)["event"] == "close", "the close is on record", 15)
            mesh.call("reconcile")
            flows = [mesh_part(f) for f in mesh.flows() if "TCP" in f.get("l4", {})]
            assert [f["event"] for f in flows] == ["open", "close"]
            assert int(flows[1]["bytes_sent"]) == 40_000
