"""What belongs to an allowed conversation passes both ways, and nothing else does."""

import itertools
import struct

import pytest

from tests.hosts.wait import PATIENCE, wait_until
from tests.kernel.street import Street, app, nobody, policy, to_port

TOKENS = itertools.count(1)


def token() -> str:
    return f"state{next(TOKENS)};"


@pytest.fixture(scope="module", autouse=True)
def echoes(whole_street: Street) -> None:
    for version in (4, 6):
        ip = whole_street.ip("server", version)
        whole_street["server"].do("echo_tcp(ip, 4101); echo_udp(ip, 4102)", ip=ip)


def only_answers(street: Street) -> None:
    """Let the server be called by the client and by bare, the client call the server, and nothing else happen."""
    street.enforce(
        policy("s-in", "server", ingress=[{"fromEndpoints": [app("client"), app("bare")]}]),
        nobody("s-out", "server", "egress"),
        policy("c-out", "client", egress=[{"toEndpoints": [app("server")]}]),
        nobody("c-in", "client", "ingress"),
        nobody("b-in", "bare", "ingress"),
    )


@pytest.mark.parametrize("caller", ["client", "bare"])
def test_tcp_answers_pass(street: Street, family: int, caller: str) -> None:
    only_answers(street)
    said = street[caller].do(
        "with socket.create_connection((ip, 4101), 5) as s: s.sendall(b'hello'); result = s.recv(100).decode()",
        ip=street.ip("server", family),
    )
    assert said == "hello"
    assert street.connect("server", street.ip(caller, family), 4103) == "EPERM"


@pytest.mark.parametrize("caller", ["client", "bare"])
def test_udp_answers_pass_and_only_they(street: Street, family: int, caller: str) -> None:
    only_answers(street)
    ip = street.ip("server", family)
    order = """
u = socket.socket(family(ip), socket.SOCK_DGRAM)
u.bind((mine, 4104))
u.settimeout(5)
u.sendto(b'question', (ip, 4102))
result = u.recvfrom(100)[0].decode()
"""
    assert street[caller].do(order, ip=ip, mine=street.ip(caller, family)) == "question"
    what = token()
    # The same two pods and the caller's own port, but from another port of the server: no answer to anything.
    send = "send_packet(udp_packet(source, target, 4105, 4104, token), target)"
    street["server"].do(send, source=ip, target=street.ip(caller, family), token=what)
    flow = street.drop(source=ip, destination=street.ip(caller, family), port=4104, proto="UDP")
    assert [by["name"] for by in flow["egress_denied_by"]] == ["s-out"]
    assert street[caller].do("u.settimeout(0.05)\ntry: u.recv(10)\nexcept TimeoutError: result = 'none'") == "none"
    street[caller].do("u.close()")


@pytest.mark.parametrize("caller", ["client", "bare"])
def test_an_echo_is_answered(street: Street, family: int, caller: str) -> None:
    only_answers(street)
    street.node.pods[caller].run(["ping", "-n", "-c", "1", "-W", "3", street.ip("server", family)])
    denied = street.node.pods["server"].run(
        ["ping", "-n", "-c", "1", "-W", "1", street.ip(caller, family)], check=False
    )
    assert denied.returncode != 0


def test_ping_works_where_icmp_alone_is_allowed(street: Street, family: int) -> None:
    types = [{"fields": [{"type": 8 if family == 4 else 128, "family": f"IPv{family}"}]}]
    street.enforce(policy("ping", "server", ingress=[{"icmps": types}]))
    street.node.pods["client"].run(["ping", "-n", "-c", "1", "-W", "3", street.ip("server", family)])


def test_fragments_go_the_way_of_their_first(street: Street, family: int) -> None:
    ip, mine = street.ip("server", family), street.ip("bare", family)
    street.enforce(policy("ports", "server", ingress=[{"toPorts": to_port(4102, 4102, "UDP")}]))
    order = """
u = socket.socket(family(ip), socket.SOCK_DGRAM)
u.bind((mine, 0))
u.settimeout(wait)
u.sendto(b'f' * 6000, (ip, port))
try:
    result = len(u.recv(65535))
except TimeoutError:
    result = 0
"""
    assert street["bare"].do(order, ip=ip, mine=mine, port=4102, wait=5) == 6000
    assert street["bare"].do(order, ip=ip, mine=mine, port=4106, wait=0.3) == 0
    flow = street.drop(source=mine, destination=ip, port=4106, proto="UDP")
    assert [by["name"] for by in flow["ingress_denied_by"]] == ["ports"]


def test_a_later_fragment_without_its_first_is_dropped(street: Street) -> None:
    mine, ip = street.ip("bare"), street.ip("server")
    order = """
body = b'x' * 64
head = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(body), 777, 100, 64, 17, 0)
head += socket.inet_aton(mine) + socket.inet_aton(ip)
send_packet(head[:10] + struct.pack('!H', checksum(head)) + head[12:] + body, ip)
"""
    street["bare"].do(order, ip=ip, mine=mine)
    street.mesh.wait_flow(
        lambda flow: flow.get("drop_reason_desc") == "DROP_FRAG_NOT_FOUND" and flow["IP"]["source"] == mine
    )


def test_icmp_errors_come_back_to_those_they_are_about(street: Street, family: int) -> None:
    only_answers(street)
    order = """
u = socket.socket(family(ip), socket.SOCK_DGRAM)
u.settimeout(5)
u.connect((ip, 4107))
u.send(b'anybody?')
try:
    u.recv(10)
except OSError as error:
    result = word(error.errno or 0) if not isinstance(error, TimeoutError) else 'timeout'
"""
    assert street["client"].do(order, ip=street.ip("server", family)) == "ECONNREFUSED"


def tell_of(street: Street, proto: int, sport: int, dport: int) -> str:
    """Have the server send the client an ICMP error about a packet from it; return a token that the error carries."""
    quoted = struct.pack("!BBHHHBBH", 0x45, 0, 28, 1, 0, 64, proto, 0)
    what = token()
    order = """
inner = bytes.fromhex(quoted) + socket.inet_aton(target) + socket.inet_aton(mine) + struct.pack('!HHI', *ports, 8 << 16)
body = inner + f'token:{token}'.encode()
message = struct.pack('!BBHI', 3, 3, checksum(struct.pack('!BBHI', 3, 3, 0, 0) + body), 0) + body
with socket.socket(socket.AF_INET, socket.SOCK_RAW, 1) as s:
    s.sendto(message, (target, 0))
"""
    mine, target, ports = street.ip("server"), street.ip("client"), (sport, dport)
    street["server"].do(order, mine=mine, target=target, ports=ports, quoted=quoted.hex(), token=what)
    return what


def test_an_icmp_error_about_nothing_is_dropped(street: Street) -> None:
    only_answers(street)
    mine = street.ip("server")
    tell_of(street, 17, 5, 6)
    flow = street.mesh.wait_flow(
        lambda flow: (
            flow["verdict"] == "DROPPED"
            and flow["IP"]["source"] == mine
            and flow["l4"].get("ICMPv4", {}).get("type") == 3
        )
    )
    assert [by["name"] for by in flow["egress_denied_by"]] == ["s-out"]


def test_an_icmp_error_about_an_open_connection_passes_without_its_conntrack_entry(street: Street) -> None:
    """The packets of an open connection do not touch the entry: it may grow old and go."""
    only_answers(street)
    client = street["client"]
    client.do("s = socket.create_connection((ip, 4101), 5); s.sendall(b'x'); s.recv(1)", ip=street.ip("server"))
    client.do("ear = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); ear.settimeout(wait)", wait=5 * PATIENCE)
    port = client.do("result = s.getsockname()[1]")
    try:
        with street.mesh.open_maps() as maps:
            entries = [key for key, _ in maps.ct.items() if (key.sport, key.dport) == (port, 4101)]
            assert len(entries) == 2, "one for each pod"
            maps.ct.delete_many(entries)
        what = tell_of(street, 6, port, 4101)
        client.do("while f'token:{token}'.encode() not in ear.recv(200): pass", token=what)
    finally:
        client.do("s.close(); ear.close()")


def test_an_icmp_error_passes_that_comes_after_an_edit_of_others(street: Street) -> None:
    """Policy of the two ends is what it was, and is asked anew; one that turned against them refuses the error, too."""
    only_answers(street)
    client = street["client"]
    client.do("u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.connect((ip, 4102))", ip=street.ip("server"))
    client.do("u.settimeout(wait); u.send(b'x'); u.recv(9)", wait=5 * PATIENCE)
    client.do("ear = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); ear.settimeout(wait)", wait=5 * PATIENCE)
    port = client.do("result = u.getsockname()[1]")
    try:
        street.mesh.apply("unrelated", policy("unrelated", "bare", ingress=[{"fromCIDR": ["192.0.2.1/32"]}]))
        street.mesh.settle()
        what = tell_of(street, 17, port, 4102)
        client.do("while f'token:{token}'.encode() not in ear.recv(200): pass", token=what)
        street.enforce(nobody("s-out", "server", "egress"), nobody("s-in", "server", "ingress"))
        what = tell_of(street, 17, port, 4102)
        street.mesh.wait_flow(lambda flow: flow["verdict"] == "DROPPED" and "ICMPv4" in flow.get("l4", {}))
    finally:
        street.mesh.delete("unrelated")
        client.do("u.close(); ear.close()")


def test_only_an_echo_has_an_answer(street: Street, family: int) -> None:
    """With its identifier chosen to that end, another type would pass for the reply to the pod's own ping."""
    request, other, name = (8, 13, "ICMP") if family == 4 else (128, 144, "ICMPV6")
    server, client = street.ip("server", family), street.ip("client", family)
    street.enforce(nobody("s-in", "server", "ingress"))
    order = "send({'proto': name, 'source': mine, 'target': ip, 'port': kind, 'token': what}, ident)"
    street["server"].do(order, name=name, mine=server, ip=client, kind=request, ident=other, what=f"asked{family}")
    wait_until(lambda: f"asked{family}" in street["server"].do("result = heard()"), "the ping is answered")
    street["client"].do(order, name=name, mine=client, ip=server, kind=other, ident=request, what=f"sent{family}")
    street.mesh.wait_flow(
        lambda flow: (
            flow["verdict"] == "DROPPED"
            and flow["l4"].get(f"ICMPv{family}", {}).get("type") == other
            and flow["IP"]["source"] == client
        )
    )
    assert f"sent{family}" not in street["server"].do("result = heard()")


def test_an_answer_stops_when_policy_turns_against_the_question(street: Street, family: int) -> None:
    ip, mine = street.ip("server", family), street.ip("client", family)
    street["client"].do(
        "u = socket.socket(family(ip), socket.SOCK_DGRAM); u.bind((mine, 4108)); u.settimeout(5);"
        "u.sendto(b'a', (ip, 4102)); u.recv(10)",
        ip=ip,
        mine=mine,
    )
    street.enforce(nobody("s-in", "server", "ingress"), nobody("s-out", "server", "egress"))
    what = token()
    street["server"].do(
        "send_packet(udp_packet(source, target, 4102, 4108, token), target)", source=ip, target=mine, token=what
    )
    street.drop(source=ip, destination=mine, proto="UDP")
    heard = street["client"].do("u.settimeout(0.05)\ntry: result = u.recv(99).decode()\nexcept TimeoutError: pass")
    assert heard is None
    street["client"].do("u.close()")


def test_a_closed_port_of_an_allowed_pod_says_so(street: Street, family: int) -> None:
    only_answers(street)
    wait_until(lambda: street.connect("client", street.ip("server", family), 4109) == "ECONNREFUSED", "refused by it")
