"""Pods and nodes for tests, demo and bench: network namespaces, veths, bridges and cgroups that real programs run in.

A `Mesh` runs a real agent for a node's pods. Everything made here is written down first, so that
`tests.hosts.cleanup.sweep()` removes what a killed run left behind, and nothing else.

    with Node("n1") as node:
        web, client = node.pod("web"), node.pod("client")
        web.popen(["nginx", "-g", "daemon off;"])
        web.wait_listening(80)
        print(client.run(["curl", "-s", web.ip]).stdout)
"""

from tests.hosts.mesh import Mesh
from tests.hosts.node import Node
from tests.hosts.pod import Host, Pod

__all__ = ["Host", "Mesh", "Node", "Pod"]
