"""Service addresses: translated when a program connects or sends, in turns over the backends that are ready."""

import errno
from collections import Counter
from typing import Any

import pytest

from tests.kernel.street import SERVICE, Street, app, nobody, policy, to_port

CALL = """
with socket.create_connection((ip, 80), 5) as s:
    result = [s.recv(100).decode(), s.getpeername()[0], s.getpeername()[1]]
"""
ASK = """
with socket.socket(family(ip), socket.SOCK_DGRAM) as s:
    s.settimeout(5)
    result = []
    for _ in range(times):
        s.sendto(b'who?', (ip, 53))
        data, who = s.recvfrom(100)
        result.append([data.decode(), who[0], who[1]])
"""


@pytest.fixture(scope="module", autouse=True)
def backends(whole_street: Street) -> None:
    for name in ("server", "third"):
        for version in (4, 6):
            order = "name_tcp(ip, 8080, name); name_udp(ip, 8081, name)"
            whole_street[name].do(order, ip=whole_street.ip(name, version), name=name)


def service(**backends: Any) -> dict[str, Any]:
    """Return a service with a `selector`, or with `endpoints`."""
    ports = [
        {"name": "tcp", "port": 80, "targetPort": 8080, "protocol": "TCP"},
        {"name": "udp", "port": 53, "targetPort": 8081, "protocol": "UDP"},
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "shop", "namespace": "default"},
        "spec": {"clusterIP": SERVICE[4], "clusterIPs": [SERVICE[4], SERVICE[6]], "ports": ports, **backends},
    }


def both(street: Street) -> list[str]:
    return [street.ip(name, version) for name in ("server", "third") for version in (4, 6)]


def test_tcp_calls_take_turns_and_see_the_service(street: Street, family: int) -> None:
    street.enforce(service(endpoints=both(street)))
    said = [street["client"].do(CALL, ip=SERVICE[family]) for _ in range(8)]
    assert Counter(name for name, _, _ in said) == {"server": 4, "third": 4}
    assert {(ip, port) for _, ip, port in said} == {(SERVICE[family], 80)}


def test_datagrams_take_turns_and_their_answers_come_from_the_service(street: Street, family: int) -> None:
    street.enforce(service(endpoints=both(street)))
    said = street["client"].do(ASK, ip=SERVICE[family], times=8)
    assert Counter(name for name, _, _ in said) == {"server": 4, "third": 4}
    assert {(ip, port) for _, ip, port in said} == {(SERVICE[family], 53)}


def test_a_connected_datagram_socket_sees_the_service(street: Street, family: int) -> None:
    street.enforce(service(selector={"app": "server"}))
    order = """
with socket.socket(family(ip), socket.SOCK_DGRAM) as s:
    s.settimeout(5)
    s.connect((ip, 53))
    s.send(b'who?')
    result = [s.recv(100).decode(), s.getpeername()[0], s.getpeername()[1]]
"""
    assert street["client"].do(order, ip=SERVICE[family]) == ["server", SERVICE[family], 53]


def test_an_ipv4_call_through_an_ipv6_socket(street: Street) -> None:
    street.enforce(service(selector={"app": "server"}))
    order = """
with socket.socket(socket.AF_INET6) as s:
    s.settimeout(5)
    s.connect(('::ffff:' + ip, 80))
    result = [s.recv(100).decode(), s.getpeername()[0], s.getpeername()[1]]
"""
    assert street["client"].do(order, ip=SERVICE[4]) == ["server", "::ffff:" + SERVICE[4], 80]


def test_policy_judges_the_backend(street: Street, family: int) -> None:
    allow = policy("out", "client", egress=[{"toEndpoints": [app("server")], "toPorts": to_port(8080)}])
    street.enforce(service(selector={"app": "server"}), allow)
    assert street["client"].do(CALL, ip=SERVICE[family])[0] == "server"
    with pytest.raises(PermissionError):
        street["client"].do(ASK, ip=SERVICE[family], times=1)
    street.enforce(service(selector={"app": "third"}), allow)
    with pytest.raises(PermissionError):
        street["client"].do(CALL, ip=SERVICE[family])
    flow = street.drop(destination=street.ip("third", family), port=8080)
    assert [by["name"] for by in flow["egress_denied_by"]] == ["out"]
    street.enforce(service(selector={"app": "third"}), nobody("closed", "third", "ingress"))
    with pytest.raises(PermissionError):
        street["client"].do(CALL, ip=SERVICE[family])


def test_a_service_without_a_ready_backend_is_refused_at_once(street: Street, family: int) -> None:
    (problem,) = street.enforce_with_problems(service(selector={"app": "nobody"}))
    assert problem.endswith("no Workload of namespace default has these labels, so calls are refused (app=nobody)")
    how, took = street["client"].do("result = connect(ip, 80)", ip=SERVICE[family])
    assert how in ("EPERM", "ECONNREFUSED")
    assert took < 0.1
    with pytest.raises(OSError) as refusal:
        street["client"].do(ASK, ip=SERVICE[family], times=1)
    assert refusal.value.errno in (errno.EPERM, errno.ECONNREFUSED)
    street.drop(port=80, hook="connect", destination=SERVICE[family])
    flow = street.drop(port=53, hook="sendmsg", destination=SERVICE[family], proto="UDP")
    assert flow["drop_reason_desc"] == "SERVICE_BACKEND_NOT_FOUND"
    assert flow["destination_service"] == {"name": "shop", "namespace": "default"}


def test_other_ports_of_a_service_address_are_not_translated(street: Street, family: int) -> None:
    street.enforce(service(selector={"app": "server"}))
    how, _ = street["client"].do("result = connect(ip, 81, 0.3)", ip=SERVICE[family])
    assert how != "ok"


def test_a_changed_backend_is_used_by_the_next_call(street: Street, family: int) -> None:
    for name in ("server", "third", "server"):
        street.enforce(service(selector={"app": name}))
        assert street["client"].do(CALL, ip=SERVICE[family])[0] == name
