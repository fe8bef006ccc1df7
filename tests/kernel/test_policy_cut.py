"""A policy that turns against an open connection cuts it, short-cut or not, in use or not, within a second."""

import subprocess
import sys
import time
from typing import Any

import pytest

from tests.hosts.wait import PATIENCE, wait_until
from tests.kernel.street import Json, Street, app, mesh_part, nobody, policy

WITHIN_S = 1.0 * PATIENCE
PORT = 4301


@pytest.fixture(scope="module", autouse=True)
def server(whole_street: Street) -> None:
    whole_street["server"].do("ends = []")
    for version in (4, 6):
        whole_street["server"].do("echo_unblocked(ip, port, ends)", ip=whole_street.ip("server", version), port=PORT)


def call(street: Street, caller: str, family: int, short_cut: bool) -> int:
    """Open a connection and use it; return the caller's port."""
    order = """
s = socket.create_connection((ip, port), 5)
s.setblocking(not short_cut)
exchange(s, 40)
result = s.getsockname()[1]
"""
    street["server"].do("ends.clear()")
    port: int = street[caller].do(order, ip=street.ip("server", family), port=PORT, short_cut=short_cut)
    used = any(
        any(end.redirect_msgs for end in conn.end)
        for key, conn in connections(street)
        if port in (key.port0, key.port1)
    )
    assert used == short_cut
    return port


def connections(street: Street) -> list[Any]:
    with street.mesh.open_maps() as maps:
        return list(maps.conns.items())


def cut(street: Street, caller: str, busy: bool, *documents: Json) -> tuple[str, float, list[Any]]:
    """Edit the policy while the caller uses its connection; return how its end broke, when, and the server's ends."""
    street[caller].start("result = watch(s, busy, 5.0)", busy=busy)
    time.sleep(0.05)  # in use, or waiting, by now; later is no harm
    edited = time.monotonic()
    street.mesh.apply("policy", *documents)
    how, when = street[caller].answer()
    ends = wait_until(lambda: street["server"].do("result = ends"), "the server's end breaks, too")
    street[caller].do("s.close()")
    return how, max([when, *(when for _, when in ends)]) - edited, ends


def wait_reset(street: Street, port: int) -> Json:
    return street.mesh.wait_flow(
        lambda flow: mesh_part(flow)["event"] == "policy_reset" and flow["l4"]["TCP"]["source_port"] == port,
        "the record of the reset",
    )


@pytest.mark.parametrize("busy", [True, False], ids=["busy", "idle"])
@pytest.mark.parametrize("short_cut", [True, False], ids=["short-cut", "plain"])
def test_both_ends_are_reset(street: Street, family: int, short_cut: bool, busy: bool) -> None:
    port = call(street, "client", family, short_cut)
    before = street.mesh.call("status")["resets"]
    how, took, ends = cut(street, "client", busy, policy("turned", "server", ingressDeny=[{"fromEndpoints": [{}]}]))
    print(f"cut after {took * 1000:.0f} ms")
    assert how in ("ECONNRESET", "ECONNABORTED", "EPIPE")
    assert {how for how, _ in ends} <= {"ECONNRESET", "ECONNABORTED", "EPIPE"}
    assert took < WITHIN_S
    flow = wait_reset(street, port)
    resets = [f for f in street.mesh.flows() if mesh_part(f)["event"] == "policy_reset"]
    assert [f for f in resets if f["l4"]["TCP"]["source_port"] == port] == [flow]  # of all its records this counts it
    assert flow["verdict"] == "DROPPED"
    assert flow["drop_reason_desc"] == "POLICY_DENY"
    assert [by["name"] for by in flow["ingress_denied_by"]] == ["turned"]
    assert (flow["source"]["pod_name"], flow["destination"]["pod_name"]) == ("client", "server")
    assert not [key for key, conn in connections(street) if port in (key.port0, key.port1) and conn.open_ends]
    assert street.mesh.call("status")["resets"] == before + 1


def test_the_sending_ends_policy_cuts_as_well(street: Street) -> None:
    port = call(street, "client", 4, short_cut=True)
    how, took, _ = cut(street, "client", True, nobody("kept-in", "client", "egress"))
    assert how in ("ECONNRESET", "ECONNABORTED", "EPIPE")
    assert took < WITHIN_S
    assert [by["name"] for by in wait_reset(street, port)["egress_denied_by"]] == ["kept-in"]


def test_a_policy_that_still_allows_it_cuts_nothing(street: Street) -> None:
    call(street, "client", 4, short_cut=True)
    street["client"].start("result = watch(s, True, 1.5)")
    street.enforce(policy("in", "server", ingress=[{"fromEndpoints": [app("client")]}]), nobody("x", "third", "egress"))
    street.enforce(policy("in", "server", ingress=[{"fromEndpoints": [app("client")]}]))
    assert street["client"].answer()[0] == "alive"
    street["client"].do("exchange(s, 40); s.close()")


def test_a_caller_from_outside_loses_its_connection(street: Street) -> None:
    port = call(street, "stranger", 4, short_cut=False)
    edited = time.monotonic()
    street.mesh.apply("policy", nobody("closed", "server", "ingress"))
    ends = wait_until(lambda: street["server"].do("result = ends"), "the server's end breaks")
    assert ends[0][1] - edited < WITHIN_S
    assert [by["name"] for by in wait_reset(street, port)["ingress_denied_by"]] == ["closed"]
    street["stranger"].do("s.close()")


OUTSIDE = """
import socket, sys
if sys.argv[1] == "serve":
    with socket.create_server((sys.argv[2], 4302)) as listener:
        end = listener.accept()[0]
else:
    end = socket.create_connection((sys.argv[2], 4302), 5)
end.settimeout(10)
end.send(b"x")
end.recv(1)
print("open", flush=True)
try:
    print("alive", end.recv(1))
except OSError as error:
    print(type(error).__name__)
"""


def test_programs_outside_their_pods_cgroups_both_lose_their_connection(street: Street) -> None:
    """No socket record tells of it, and nobody sends anything: each end must be told by the agent."""

    def outside(pod: str, what: str) -> Any:
        netns = street.node.pods[pod].netns
        command = ["nsenter", f"--net={netns}", sys.executable, "-c", OUTSIDE, what, street.ip("server")]
        return street.node.popen(command, stdout=subprocess.PIPE, text=True)

    programs = [outside("server", "serve")]
    street.node.pods["server"].wait_listening(4302)
    programs.append(outside("client", "call"))
    assert [program.stdout.readline() for program in programs] == ["open\n"] * 2
    assert not [key for key, _ in connections(street) if 4302 in (key.port0, key.port1)]
    edited = time.monotonic()
    street.mesh.apply("policy", nobody("closed-outside", "server", "ingress"))
    said = [program.communicate(timeout=20 * PATIENCE)[0].strip() for program in programs]
    assert set(said) <= {"ConnectionAbortedError", "ConnectionResetError"}
    assert time.monotonic() - edited < WITHIN_S + 1  # a tick of the watch, and two interpreters that end
    resets = [flow for flow in street.mesh.flows() if mesh_part(flow)["event"] == "policy_reset"]
    (record,) = [flow for flow in resets if flow["l4"]["TCP"]["destination_port"] == 4302]
    assert (record["source"]["pod_name"], record["destination"]["pod_name"]) == ("client", "server")
