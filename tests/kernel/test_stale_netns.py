"""A pod whose namespace can no longer be entered: the file that it was mounted on stays behind as an ordinary one."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts import Mesh, Node
from tests.hosts.wait import wait_until
from tests.kernel.pairs import Maker, connect
from tests.kernel.puppet import Puppet
from tests.kernel.street import mesh_part, nobody

pytestmark = pytest.mark.kernel
PORT = 4601
_MNT_DETACH = 2


@pytest.fixture
def node() -> Iterator[Node]:
    with Node("stale") as made:
        for name in ("lost", "server", "third", "other"):
            made.pod(name)
        yield made


def unmount(netns: str) -> None:
    assert ctypes.CDLL(None, use_errno=True).umount2(netns.encode(), _MNT_DETACH) == 0
    assert Path(netns).is_file()


def errors(mesh: Mesh) -> list[str]:
    return [line for line in mesh.log.read_text().splitlines() if " ERROR " in line or "Traceback" in line]


def test_an_edit_resets_the_connections_of_all_others(node: Node) -> None:
    """The lost pod's connection is condemned with another's: its own far end and the other's both ends are reset."""
    puppets = {name: Puppet(pod) for name, pod in node.pods.items()}
    with Mesh(node) as mesh:
        for caller, server in (("lost", "server"), ("third", "other")):
            ip = node.pods[server].ip
            puppets[server].do("l = socket.create_server((ip, port))", ip=ip, port=PORT)
            puppets[caller].do("c = socket.create_connection((ip, port), 5)", ip=ip, port=PORT)
            puppets[server].do("x, _ = l.accept(); x.settimeout(5)")
        unmount(node.pods["lost"].netns)
        wait_until(lambda: mesh.call("status")["problems"], "the loss is seen")
        mesh.apply("policy", nobody("one", "server", "ingress"), nobody("two", "other", "ingress"))
        order = """
try:
    result = repr(x.recv(10))
except OSError as error:
    result = type(error).__name__
"""
        said = [puppets[name].do(order) for name in ("other", "server")]
        assert said == ["ConnectionAbortedError"] * 2
        wait_until(lambda: mesh.call("status")["resets"] == 2, "both count")

        def reset() -> list[str]:
            resets = [flow for flow in mesh.flows() if mesh_part(flow)["event"] == "policy_reset"]
            return sorted(flow["destination"]["pod_name"] for flow in resets)

        wait_until(lambda: reset() == ["other", "server"], "both are on record")
        assert len(errors(mesh)) == 1 and "/run/netns/" in errors(mesh)[0], errors(mesh)


def test_a_stuck_reader_is_reset_and_the_agent_lives(node: Node) -> None:
    makers = Maker(node.pods["lost"]), Maker(node.pods["server"])
    with Mesh(node) as mesh, mesh.open_maps() as maps:
        pair = connect(*makers, maps)
        assert pair.warm_up()
        pair.a.send(b"redirected")
        unmount(node.pods["lost"].netns)
        inner, outer = os.pipe2(os.O_NONBLOCK)
        with pytest.raises(BlockingIOError):
            os.splice(pair.b.fileno(), outer, 4096, flags=2)
        wait_until(lambda: errors(mesh), "the failure is in the log")
        assert mesh.agent is not None and mesh.agent.poll() is None
        mesh.kill()
        mesh.start()  # with the connection still marked
        mesh.settle()
        pair.close()
        os.close(inner)
        os.close(outer)


def test_a_pod_whose_namespace_is_unmounted_stays_under_policy(node: Node) -> None:
    """With its agent, and with another that never entered the namespace."""
    puppets = {name: Puppet(node.pods[name]) for name in ("lost", "server")}
    ip = node.pods["lost"].ip
    puppets["lost"].do("l = socket.create_server((ip, port))", ip=ip, port=PORT)
    with Mesh(node, policies=[nobody("closed", "lost", "ingress")]) as mesh:
        for restarted in (False, True):
            if restarted:
                mesh.kill()
                mesh.start()
            else:
                unmount(node.pods["lost"].netns)
            wait_until(lambda: mesh.call("status")["problems"], "the loss is told")
            mesh.settle()
            (problem,) = mesh.call("reconcile")["problems"]
            assert "not a network namespace" in problem and "the last good values stay" in problem
            assert puppets["server"].do("result = connect(ip, port, 1)", ip=ip, port=PORT)[0] != "ok"
            with mesh.open_maps() as maps:
                assert len(list(maps.endpoints.items())) == 4
