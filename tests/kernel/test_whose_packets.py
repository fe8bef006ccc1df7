"""What a packet belongs to: no answer that nobody asked for, none that is another pod's."""

import subprocess
import time

import pytest

from tests.hosts import Mesh, Node
from tests.hosts.wait import PATIENCE, wait_until
from tests.kernel.puppet import Puppet
from tests.kernel.street import Json, Street, app, mesh_part, nobody, policy

_ICMP = """
import struct
def icmp(src, dst, typ, ident, token):
    v6 = ":" in src
    s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_RAW, 58 if v6 else 1)
    s.bind((src, 0))
    body = b"token:" + token.encode() + b";"
    head = struct.pack("!BBHHH", typ, 0, 0, ident, 1)
    sum_ = 0 if v6 else checksum(head + body)
    s.sendto(struct.pack("!BBHHH", typ, 0, sum_, ident, 1) + body, (dst, 0))
    s.close()
"""


def test_who_has_shut_down_is_answered_however_late(street: Street) -> None:
    """Of a pod whose sockets no hook knows: its packets are all there is."""
    bare = street.ip("bare")
    street.enforce(policy("out", "bare", egress=[{}]))  # nobody: what it sends must be an answer
    street.mesh.call("set", tcp_close_timeout_s="1")
    try:
        street["bare"].do("l = socket.create_server((ip, 7100)); l.settimeout(5)", ip=bare)
        street["stranger"].do("s = socket.create_connection((ip, 7100), 5); s.send(b'ask'); s.shutdown(1)", ip=bare)
        street["bare"].do("a = l.accept()[0]; a.recv(3)")
        asked = time.monotonic()
        wait_until(lambda: time.monotonic() - asked > 3, "it takes its time", 5)
        street["bare"].do("a.send(b'answer')")
        assert street["stranger"].do("s.settimeout(5); result = s.recv(10).decode()") == "answer"
    finally:
        street.mesh.call("set", tcp_close_timeout_s="10")
        street["stranger"].do("s.close()")
        street["bare"].do("a.close(); l.close()")
        street.relax()


@pytest.mark.parametrize("allows", ["request", "reply"])
def test_an_echo_identifier_is_no_type(street: Street, family: int, allows: str) -> None:
    client, server = street.ip("client", family), street.ip("server", family)
    types = {"request": 128, "reply": 129} if family == 6 else {"request": 8, "reply": 0}
    other = "reply" if allows == "request" else "request"
    fields = [{"type": types[allows], "family": f"IPv{family}"}]
    street.enforce(policy("in", "server", ingress=[{"fromEndpoints": [app("client")], "icmps": [{"fields": fields}]}]))
    street["client"].do(_ICMP)
    wanted: list[str] = []
    found: list[str] = []
    for ident in (types["request"], 77):
        for what in (allows, other, allows):
            token = f"echo-{family}-{allows}-{what}-{ident}"
            words: Json = {"src": client, "dst": server, "typ": types[what], "ident": ident, "token": token}
            street["client"].do("icmp(src, dst, typ, ident, token)", **words)
            wanted += [token] * (what == allows)

    def heard() -> bool:
        tokens = street["server"].do("result = heard()")
        found.extend(token for token in tokens if token.startswith(f"echo-{family}-{allows}-"))
        return wanted[-1] in found

    wait_until(heard, "the last one is there", 5)
    assert set(found) == set(wanted)
    street.relax()


def test_all_pieces_of_an_echo_pass_or_none(street: Street, family: int) -> None:
    server = street.ip("server", family)
    ping = ["ping", "-c", "1", "-W", "2", "-s", "4000", server]
    client = street.node.pods["client"]
    for what, passes in ((128 if family == 6 else 8, True), (129 if family == 6 else 0, False)):
        fields = [{"type": what, "family": f"IPv{family}"}]
        street.enforce(
            policy("in", "server", ingress=[{"icmps": [{"fields": fields}]}]), nobody("out", "server", "egress")
        )
        assert (client.popen(ping, stdout=subprocess.DEVNULL).wait(10 * PATIENCE) == 0) is passes
    street.relax()


def test_a_request_does_not_answer_a_reply(street: Street, family: int) -> None:
    client, server = street.ip("client", family), street.ip("server", family)
    reply, request = (129, 128) if family == 6 else (0, 8)
    street.enforce(policy("out", "server", egress=[{}]), policy("in", "client", ingress=[{}]))
    for puppet in ("client", "server"):
        street[puppet].do(_ICMP)
    words: Json = {"ident": 55, "token": f"unasked-{family}"}
    street["client"].do("icmp(src, dst, typ, ident, token)", src=client, dst=server, typ=reply, **words)
    before = len(street.mesh.flows())
    street["server"].do("icmp(src, dst, typ, ident, token)", src=server, dst=client, typ=request, **words)
    street.mesh.wait_flow(
        lambda f: f["verdict"] == "DROPPED" and f["IP"]["source"] == server and street.mesh.flows().index(f) >= before
    )
    street.relax()


@pytest.mark.parametrize("version", [4, 6])
def test_who_gets_an_address_does_not_get_its_conversations(version: int) -> None:
    with Node("passing") as node:
        client, one, other = (node.pod(name) for name in ("client", "one", "other"))
        with Mesh(node, [policy("in", "client", ingress=[{}])], pods=[client], args=["--no-self-test"]) as mesh:
            puppets = {name: Puppet(pod) for name, pod in node.pods.items()}
            mine, passes = (pod.ip if version == 4 else pod.ip6 for pod in (client, one))
            mesh.apply("pods", one.workload_yaml(), other.workload_yaml())
            mesh.settle()
            bound = "u = socket.socket(family(ip), socket.SOCK_DGRAM); u.bind((ip, port)); u.settimeout(3)"
            puppets["client"].do(bound, ip=mine, port=6000)
            puppets["one"].do(bound, ip=passes, port=5000)
            puppets["client"].do("u.sendto(b'question', (ip, 5000))", ip=passes)
            assert puppets["one"].do("result = u.recv(100).decode()") == "question"
            one.run(["ip", "addr", "flush", "dev", "eth0"])
            other.run(["ip", "addr", "add", f"{passes}/{24 if version == 4 else 64}", "dev", "eth0", "nodad"])
            document = other.workload_yaml()
            document["spec"]["ips"] = [passes]
            mesh.apply("pods", document)
            mesh.settle()
            client.run(["ip", "neigh", "flush", "all"])
            before = len(mesh.flows())
            packet = "send_packet(udp_packet(src, dst, 5000, 6000, 'unasked'), dst)"
            puppets["other"].do(packet, src=passes, dst=mine)
            flow = mesh.wait_flow(lambda f: f["verdict"] == "DROPPED" and mesh.flows().index(f) >= before)
            assert (flow["source"]["pod_name"], flow["IP"]["destination"]) == ("other", mine)
            assert [mesh_part(f)["event"] for f in mesh.flows()[before:] if f["IP"]["source"] == mine] == []
            with pytest.raises(OSError, match="timed out"):
                puppets["client"].do("u.recv(100)")


_TO_MANY = """
def to_many(src, dst, token):
    v6 = ":" in src
    s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    scope = (0, socket.if_nametoindex("eth0")) if v6 else ()
    s.bind((src, 0))
    s.sendto(b"token:" + token.encode() + b";", (dst, 5353, *scope))
    s.close()
"""


@pytest.mark.parametrize("many", [True, False], ids=["to many", "by an address that nobody declared"])
def test_who_may_not_send_to_a_pod_does_not_by_another_address_of_its(street: Street, family: int, many: bool) -> None:
    """What the sender's hook knows of such an address is that it is the world's; the receiver's knows better."""
    server = street.node.pods["server"]
    extra = "fd00:244::fff0" if family == 6 else "10.244.0.250"
    at = ("ff02::1" if family == 6 else "255.255.255.255") if many else extra
    street["client"].do(_TO_MANY)
    if not many:
        length = 64 if family == 6 else 24
        server.run(["ip", "addr", "add", f"{extra}/{length}", "dev", "eth0", *(["nodad"] if family == 6 else [])])

    def sent(token: str) -> None:
        street["client"].do("to_many(src, dst, token)", src=street.ip("client", family), dst=at, token=token)

    try:
        names = [f"{word}-{family}-{many}" for word in ("not", "may", "free")]
        street.enforce(
            policy("out", "client", egress=[{"toEntities": ["all"]}], egressDeny=[{"toEndpoints": [app("server")]}])
        )
        sent(names[0])
        flow = street.drop(source=street.ip("client", family), destination=at, port=5353, proto="UDP")
        assert (flow["traffic_direction"], flow["source"]["pod_name"]) == ("EGRESS", "client")
        street.enforce(policy("out", "client", egress=[{"toEntities": ["all"]}]))
        sent(names[1])
        wait_until(lambda: names[1] in street["server"].do("result = heard()"), "who may, does", 5)
        street.relax()
        sent(names[2])
        wait_until(lambda: names[2] in street["server"].do("result = heard()"), "who has no policy, does", 5)
        assert names[0] not in street["server"].do("result = heard()")
    finally:
        if not many:
            server.run(["ip", "addr", "del", f"{extra}/{64 if family == 6 else 24}", "dev", "eth0"])
        street.relax()
