"""A policy that turns against an open MPTCP connection ends both programs' sockets, which the kernel cannot reset."""

import time
from pathlib import Path

from loader import abi
from tests.hosts.wait import PATIENCE, wait_until
from tests.kernel.street import Street, mesh_part, nobody

CLOSE_TIMEOUT = Path("/proc/sys/net/mptcp/close_timeout")  # older kernels have no such setting
WITHIN_S = 1.0 * PATIENCE
PORT = 4303
LISTEN = """
listener = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_MPTCP)
listener.bind((ip, port))
listener.listen()
"""
CALL = """
end = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_MPTCP)
end.settimeout(20)
end.connect((ip, port))
end.send(b"x")
result = end.getsockname()[1]
"""
ANSWER = """
end = listener.accept()[0]
end.settimeout(20)
end.send(end.recv(1))
listener.close()
"""
HEAR = """
end.settimeout(wait)
try:
    result = ["nothing", 0.0] if end.recv(1) else ["the end", time.time()]
except TimeoutError:
    result = ["nothing", 0.0]
except OSError as error:
    result = [errno.errorcode[error.errno], time.time()]
end.close()
"""


def timeouts(street: Street) -> set[str]:
    """Return what the pods have for net.mptcp.close_timeout."""
    return {street.node.pods[name].run(["cat", str(CLOSE_TIMEOUT)]).stdout.strip() for name in ("client", "server")}


def test_both_programs_hear_of_it(street: Street, family: int) -> None:
    server, client, ip = street["server"], street["client"], street.ip("server", family)
    server.do(LISTEN, ip=ip, port=PORT)
    port = client.do(CALL, ip=ip, port=PORT)
    server.do(ANSWER)
    client.do("assert end.recv(1) == b'x'")
    with street.mesh.open_maps() as maps:
        (conn,) = (conn for key, conn in maps.conns.items() if {key.port0, key.port1} == {port, PORT})
    assert {end.marked for end in conn.end} == {abi.AccelReason.MPTCP}
    can = CLOSE_TIMEOUT.exists()
    before = timeouts(street) if can else set()
    for puppet in (client, server):
        puppet.start("import errno, time\n" + HEAR, wait=10.0 if can else 2.0)
    edited = time.time()
    street.mesh.apply("policy", nobody("closed", "server", "ingress"))
    heard = [puppet.answer() for puppet in (client, server)]
    street.mesh.settle()
    records = [flow for flow in street.mesh.flows() if mesh_part(flow)["event"] == "policy_reset"]
    assert [flow["l4"]["TCP"]["source_port"] for flow in records].count(port) == 1
    if not can:
        assert [how for how, _ in heard] == ["nothing", "nothing"]
        return
    assert {how for how, _ in heard} == {"ENOTCONN"} and max(when for _, when in heard) - edited < WITHIN_S
    assert timeouts(street) == before and "0" not in before


def test_also_where_the_first_of_their_ways_is_gone(street: Street) -> None:
    """The kernel calls an MPTCP socket by its first subflow, for as long as it has any."""
    client, server = street.node.pods["client"], street.node.pods["server"]
    port, mapped = PORT + 1, f"::ffff:{server.ip}"
    for pod in (client, server):
        pod.run(["ip", "mptcp", "limits", "set", "subflow", "2", "add_addr_accepted", "2"])
    server.run(["ip", "mptcp", "endpoint", "add", server.ip6, "dev", "eth0", "signal"])
    try:
        street["server"].do(LISTEN, ip="::", port=port)
        first = street["client"].do(CALL, ip=mapped, port=port)
        street["server"].do(ANSWER)
        street["client"].do("assert end.recv(1) == b'x'")

        def ways() -> str:
            return client.run(["ss", "-tnH", "state", "established", "dport", "=", f":{port}"]).stdout

        wait_until(lambda: server.ip6 in ways() and mapped in ways(), "there are two ways")
        client.run(["ss", "-K", "-tn", "sport", "=", f":{first}"])
        wait_until(lambda: mapped not in ways(), "the first one is gone")
        street["client"].do("end.send(b'y')")
        street["server"].do("assert end.recv(1) == b'y'")
        can = CLOSE_TIMEOUT.exists()
        for name in ("client", "server"):
            street[name].start("import errno, time\n" + HEAR, wait=10.0 if can else 2.0)
        edited = time.time()
        street.mesh.apply("policy", nobody("closed", "server", "ingress"))
        heard = [street[name].answer() for name in ("client", "server")]
        if can:
            assert {how for how, _ in heard} == {"ENOTCONN"} and max(when for _, when in heard) - edited < WITHIN_S
    finally:
        server.run(["ip", "mptcp", "endpoint", "flush"])
