"""Names meet policy at the node proxy: what may be asked, and what may be called because it was asked."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from loader import abi
from loader.record import Record, pack_addr
from tests.hosts import Mesh, Node, Pod
from tests.hosts.mesh import ROOT
from tests.hosts.wait import wait_until

pytestmark = pytest.mark.e2e
Json = dict[str, Any]

_ASK = """
import json, sys
import dns.flags, dns.message, dns.query, dns.rcode, dns.rdatatype
server, name, kind, way, edns = sys.argv[1:6]
query = dns.message.make_query(name, kind, use_edns=edns == "edns", payload=1232)
said = getattr(dns.query, way)(query, server, timeout=3)
said = said[0] if way == "udp_with_fallback" else said
found = [item.to_text() for rrset in said.answer for item in rrset]
print(json.dumps({"rcode": dns.rcode.to_text(said.rcode()), "found": found, "edns": said.edns,
                  "truncated": bool(said.flags & dns.flags.TC)}))
"""
BIG = {f"203.0.113.{n}" for n in range(1, 200)}
ZONE = {
    "web.example.com.": {"A": ["198.51.100.1"], "AAAA": ["2001:db8::1"], "ttl": 30},
    "www.example.com.": {"CNAME": "alias.example.net.", "ttl": 60},
    "alias.example.net.": {"CNAME": "host.example.net.", "ttl": 20},
    "host.example.net.": {"A": ["198.51.100.2"], "ttl": 40},
    "big.example.com.": {"A": sorted(BIG), "ttl": 40},
    "secret.example.org.": {"A": ["198.51.100.66"]},
    "silent.example.com.": {"silent": True},
}
DNS = {"port": "53", "protocol": "ANY"}


def policy(name: str, who: str, *egress: Json) -> Json:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"endpointSelector": {"matchLabels": {"app": who}}, "egress": list(egress)},
    }


SERVICE_IP = "10.96.0.10"
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "dns", "namespace": "default"},
    "spec": {
        "clusterIP": SERVICE_IP,
        "selector": {"app": "names"},
        "ports": [
            {"name": "dns", "port": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
        ],
    },
}
NAMES = {
    "toEndpoints": [{"matchLabels": {"app": "names"}}],
    "toPorts": [{"ports": [DNS], "rules": {"dns": [{"matchPattern": "*.example.com"}]}}],
}


ANY_NAME = {"toFQDNs": [{"matchPattern": "*.example.com"}]}
NEW = [f"n{number}.example.com" for number in range(50)]
SHUT = "shut.example.net"
FIRST = 128  # of 10.244.0.0/24: addresses of servers that are no pods
BAD, POOL = FIRST + 63, range(FIRST + 64, FIRST + 124)
DUG = {"udp": f"10.244.0.{FIRST + 58}", "tcp": f"10.244.0.{FIRST + 59}"}  # by which way they are asked for
_CONNECT = """
import json, socket, sys
import dns.message, dns.query, dns.rcode
server, kind = sys.argv[1:3]
out = {}
for name in sys.argv[3:]:
    said = dns.query.udp(dns.message.make_query(name, kind), server, timeout=3)
    address = said.answer[-1][0].address
    try:
        with socket.create_connection((address, 80), timeout=3) as sock:
            out.setdefault(name, []).append(sock.recv(5).decode())
    except OSError as error:
        out.setdefault(name, []).append(str(error))
print(json.dumps(out))
"""
_SERVE = """
import socket
listener = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128)
while True:
    with listener.accept()[0] as client:
        client.settimeout(2)
        try:
            client.sendall(b"hello")
            client.shutdown(socket.SHUT_WR)
            while client.recv(4096):  # else what it has not read would be a reset
                pass
        except OSError:
            pass
"""


@dataclass
class Dug:
    """What dig has got: `edns` None, the answer has none; `way`: over what it came."""

    rcode: str
    found: set[str]
    truncated: bool
    edns: str | None
    way: str


@dataclass
class Place:
    node: Node
    mesh: Mesh
    client: Pod
    names: Pod

    def ask(
        self, name: str, kind: str = "A", way: str = "udp", v6: bool = False, edns: bool = False, server: str = ""
    ) -> Json:
        server = server or (self.names.ip6 if v6 else self.names.ip)
        words = [sys.executable, "-c", _ASK, server, name, kind, way, "edns" if edns else ""]
        found: Json = json.loads(self.client.run(words).stdout)
        return found

    def dig(self, *words: str) -> Dug:
        shown = self.client.run(["dig", f"@{self.names.ip}", "+time=3", "+tries=1", *words]).stdout
        flags = re.findall(r"^;; flags: ([a-z ]*);", shown, re.M)[-1].split()
        edns = re.search(r"^; EDNS: version: (\d+)", shown, re.M)
        return Dug(
            rcode=re.findall(r"^;; ->>HEADER<<- .* status: (\w+)", shown, re.M)[-1],
            found={line.split()[4] for line in shown.splitlines() if line and not line.startswith(";")},
            truncated="tc" in flags,
            edns=edns and edns[1],
            way=re.findall(r"^;; SERVER: \S+ \((\w+)\)", shown, re.M)[-1],
        )

    def connect(self, *names: str, kind: str = "A") -> dict[str, list[str]]:
        """Look each name up and call it at once."""
        words = [sys.executable, "-c", _CONNECT, self.names.ip, kind, *names]
        found: dict[str, list[str]] = json.loads(self.client.run(words, timeout=120).stdout)
        return found

    def start_proxy(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "control.cli.main", "proxy", "--run-dir", str(self.mesh.run_dir)]
        with (self.node.directory / "proxy.log").open("ab") as log:
            return self.node.popen([*command, "--workers", "2"], stdout=log, stderr=log, cwd=ROOT)


def serve_names(pod: Pod, zone: Json) -> None:
    server = pod.popen([sys.executable, "-m", "tests.hosts.names"], stdin=subprocess.PIPE, cwd=ROOT)
    assert server.stdin
    server.stdin.write(json.dumps(zone).encode())
    server.stdin.close()
    pod.wait_listening(53, "udp")


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with Node("names") as node:
        client, names, outside = node.pod("client"), node.pod("names"), node.pod("outside")
        for number in range(FIRST, POOL.stop):
            outside.run(["ip", "address", "add", f"10.244.0.{number}/24", "dev", "eth0"])
        outside.popen([sys.executable, "-c", _SERVE])
        outside.wait_listening(80)
        zone = ZONE | {f"{name}.": {"A": [f"10.244.0.{FIRST + at}"], "ttl": 1} for at, name in enumerate(NEW)}
        zone |= {"curl.example.com.": {"CNAME": "c.example.net."}, "c.example.net.": {"A": [f"10.244.0.{FIRST + 60}"]}}
        zone |= {f"{SHUT}.": {"A": [f"10.244.0.{FIRST + 61}"]}, "late.example.com.": {"A": [f"10.244.0.{FIRST + 62}"]}}
        zone |= {f"{way}.example.com.": {"A": [address]} for way, address in DUG.items()}
        zone |= {"turns.example.com.": {"A": [f"10.244.0.{at}" for at in POOL], "turns": True, "ttl": 0}}
        zone |= {"bad.example.com.": {"A": [f"10.244.0.{BAD}"]}, "good.example.com.": {"A": [f"10.244.0.{BAD}"]}}
        zone |= {"six.example.com.": {"AAAA": [outside.ip6]}}
        serve_names(names, zone)
        rules = [policy("names", "client", NAMES, ANY_NAME)]
        with Mesh(node, rules, pods=[client, names], args=["--proxy"]) as mesh:
            place = Place(node, mesh, client, names)
            proxy = place.start_proxy()
            try:
                wait_until(lambda: _is_answered(place), "a query passes", 30)
                yield place
            finally:
                proxy.send_signal(signal.SIGTERM)
                proxy.wait(timeout=10)
                print((node.directory / "proxy.log").read_text())


def _is_answered(place: Place) -> bool:
    try:
        return bool(place.ask("web.example.com")["found"])
    except AssertionError:  # nobody takes it yet
        return False


@pytest.mark.parametrize("v6", [False, True])
def test_a_name_that_a_rule_allows_is_answered(place: Place, v6: bool) -> None:
    assert place.ask("web.example.com", v6=v6)["found"] == ["198.51.100.1"]
    assert place.ask("web.example.com", "AAAA", v6=v6)["found"] == ["2001:db8::1"]


def test_another_name_is_refused(place: Place) -> None:
    said = place.ask("secret.example.org")
    assert said == {"rcode": "REFUSED", "found": [], "edns": -1, "truncated": False}
    flow = place.mesh.wait_flow(lambda f: f.get("l7", {}).get("dns", {}).get("query") == "secret.example.org.")
    assert flow["verdict"] == "DROPPED" and flow["l7"]["dns"]["rcode"] == 5


def test_a_chain_is_told_in_its_record(place: Place) -> None:
    assert place.ask("www.example.com")["found"] == ["alias.example.net.", "host.example.net.", "198.51.100.2"]
    flow = place.mesh.wait_flow(lambda f: f.get("l7", {}).get("dns", {}).get("query") == "www.example.com.")
    assert flow["verdict"] == "FORWARDED" and flow["Type"] == "L7"
    assert flow["source"]["pod_name"] == "client" and flow["destination"]["pod_name"] == "names"
    assert flow["l7"]["dns"] == {
        "query": "www.example.com.",
        "ips": ["198.51.100.2"],
        "ttl": 20,
        "cnames": ["alias.example.net.", "host.example.net."],
        "qtypes": ["A"],
        "observation_source": "proxy",
    }


def test_edns_goes_through(place: Place) -> None:
    assert place.ask("web.example.com", edns=True)["edns"] == 0
    refused = place.ask("secret.example.org", edns=True)
    assert (refused["rcode"], refused["edns"]) == ("REFUSED", 0)


def test_over_a_connection_too(place: Place) -> None:
    assert place.ask("web.example.com", way="tcp")["found"] == ["198.51.100.1"]
    assert place.ask("secret.example.org", way="tcp")["rcode"] == "REFUSED"
    is_it = lambda f: f.get("l7", {}).get("dns") and "TCP" in f["l4"] and f["verdict"] == "DROPPED"  # noqa: E731
    assert place.mesh.wait_flow(is_it)["l7"]["dns"]["query"] == "secret.example.org."


def test_what_is_too_long_for_a_datagram_is_asked_again_over_a_connection(place: Place) -> None:
    assert place.ask("big.example.com")["truncated"] and not place.ask("big.example.com")["found"]
    assert len(place.ask("big.example.com", way="udp_with_fallback")["found"]) == 199


CHAIN = {"alias.example.net.", "host.example.net.", "198.51.100.2"}


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("web.example.com", Dug("NOERROR", {"198.51.100.1"}, False, "0", "UDP")),
        ("web.example.com +tcp", Dug("NOERROR", {"198.51.100.1"}, False, "0", "TCP")),
        ("web.example.com +noedns", Dug("NOERROR", {"198.51.100.1"}, False, None, "UDP")),
        ("web.example.com +noedns +tcp", Dug("NOERROR", {"198.51.100.1"}, False, None, "TCP")),
        ("web.example.com AAAA", Dug("NOERROR", {"2001:db8::1"}, False, "0", "UDP")),
        ("web.example.com AAAA +tcp", Dug("NOERROR", {"2001:db8::1"}, False, "0", "TCP")),
        ("www.example.com", Dug("NOERROR", CHAIN, False, "0", "UDP")),
        ("nowhere.example.com", Dug("NXDOMAIN", set(), False, "0", "UDP")),
        ("secret.example.org", Dug("REFUSED", set(), False, "0", "UDP")),
        ("secret.example.org +noedns", Dug("REFUSED", set(), False, None, "UDP")),
        ("secret.example.org +tcp", Dug("REFUSED", set(), False, "0", "TCP")),
        ("big.example.com +bufsize=4096", Dug("NOERROR", BIG, False, "0", "UDP")),
        ("big.example.com +bufsize=512 +ignore", Dug("NOERROR", set(), True, "0", "UDP")),
        ("big.example.com +noedns +ignore", Dug("NOERROR", set(), True, None, "UDP")),
        ("big.example.com +bufsize=512", Dug("NOERROR", BIG, False, "0", "TCP")),  # asked again by itself
    ],
)
def test_dig(place: Place, words: str, wanted: Dug) -> None:
    assert place.dig(*words.split()) == wanted


@pytest.mark.parametrize(("way", "word"), [("udp", "+notcp"), ("tcp", "+tcp")])
def test_what_dig_has_found_may_be_called(place: Place, way: str, word: str) -> None:
    call = ["curl", "-s", "--http0.9", "-m", "5", f"http://{DUG[way]}/"]
    assert place.client.run(call, check=False).returncode == 7
    assert place.dig(f"{way}.example.com", word).found == {DUG[way]}
    assert place.client.run(call).stdout == "hello"


def test_a_server_that_does_not_answer_is_answered_for(place: Place) -> None:
    """After ten seconds, over either way."""
    words = ["dig", f"@{place.names.ip}", "+time=20", "+tries=1", "silent.example.com"]
    asks = [place.client.popen([*words, way], stdout=subprocess.PIPE, text=True) for way in ("+notcp", "+tcp")]
    assert all("status: SERVFAIL" in ask.communicate(timeout=30)[0] for ask in asks)
    wanted = "the server did not answer in time"
    place.mesh.wait_flow(lambda flow: "TCP" in flow.get("l4", ()) and wanted in json.dumps(flow), "it is on record")


def test_the_first_connection_after_a_lookup_works(place: Place) -> None:
    early = place.client.run(["curl", "-s", "-m", "5", f"http://10.244.0.{FIRST}/"], check=False)
    assert early.returncode == 7  # nobody has asked for the name yet: refused at once
    assert place.connect(*NEW) == {name: ["hello"] for name in NEW}
    short = _ipcache(place)
    place.mesh.apply("more", policy("more", "names", {"toCIDR": ["192.0.2.0/24"]}))  # has all worked out again
    place.mesh.settle()
    assert {key: value for key, value in _ipcache(place).items() if key in short} == short
    place.mesh.delete("more")
    place.mesh.settle()
    assert _ipcache(place) == short


def _ipcache(place: Place) -> dict[Record, Record]:
    with place.mesh.open_maps() as opened:
        return dict(opened.ipcache.items())


def test_the_first_connection_over_ipv6_works(place: Place) -> None:
    assert place.connect("six.example.com", kind="AAAA") == {"six.example.com": ["hello"]}


def test_a_name_whose_addresses_change_under_load(place: Place) -> None:
    words = [sys.executable, "-c", _CONNECT, place.names.ip, "A", *["turns.example.com"] * 40]
    callers = [place.client.popen(words, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = [caller.communicate(timeout=100)[0] for caller in callers]
    assert [json.loads(answer) for answer in answers] == [{"turns.example.com": ["hello"] * 40}] * 4


def test_an_address_is_shut_when_it_is_learned_under_a_name_that_is_denied(place: Place) -> None:
    """Whatever other name it has: a deny is a deny."""
    deny = policy("deny", "client") | {"apiVersion": "sockmesh.io/v1", "kind": "MeshNetworkPolicy"}
    deny["spec"] = {
        "endpointSelector": {"matchLabels": {"app": "client"}},
        "egressDeny": [{"toFQDNs": [{"matchName": "bad.example.com"}]}],
    }
    place.mesh.apply("deny", deny)
    place.mesh.settle()
    call = ["curl", "-s", "--http0.9", "-m", "5", f"http://10.244.0.{BAD}/"]
    try:
        assert place.connect("good.example.com") == {"good.example.com": ["hello"]}
        assert place.client.run(call).stdout == "hello"
        assert place.ask("bad.example.com")["found"]
        assert place.client.run(call, check=False).returncode == 7
    finally:
        place.mesh.delete("deny")
        place.mesh.settle()
    assert place.client.run(call).stdout == "hello"


def test_the_address_of_a_name_that_may_not_be_asked_for_is_shut(place: Place) -> None:
    assert place.ask(SHUT)["rcode"] == "REFUSED"
    called = place.client.run(["curl", "-s", "-m", "5", f"http://10.244.0.{FIRST + 61}/"], check=False)
    assert called.returncode == 7


def test_curl_calls_by_name(place: Place) -> None:
    """Through the C library's resolver, for A and AAAA at once, and a CNAME."""
    (place.node.directory / "resolv.conf").write_text(f"nameserver {place.names.ip}\n")
    script = f"mount --bind {place.node.directory}/resolv.conf /etc/resolv.conf && exec curl -sv --http0.9 -m 5 $0"
    said = place.client.run(["unshare", "-m", "sh", "-c", script, "http://curl.example.com/"], check=False)
    assert said.stdout == "hello", said.stderr


@pytest.mark.parametrize("way", ["udp", "tcp"])
def test_a_name_server_behind_a_service(place: Place, way: str) -> None:
    place.mesh.apply("service", SERVICE)
    place.mesh.settle()
    assert place.ask("web.example.com", server=SERVICE_IP, way=way)["found"] == ["198.51.100.1"]
    assert place.ask(SHUT, server=SERVICE_IP, way=way)["rcode"] == "REFUSED"


@pytest.mark.parametrize("way", ["udp", "tcp"])
def test_a_name_server_that_is_no_pod(place: Place, way: str) -> None:
    outside = place.node.pods["outside"]
    if not outside.listening(53, "udp"):
        serve_names(outside, ZONE)
    beyond = {"toCIDR": [f"{outside.ip}/32"], "toPorts": NAMES["toPorts"]}
    place.mesh.apply("beyond", policy("beyond", "client", beyond))
    place.mesh.settle()
    assert place.ask("web.example.com", server=outside.ip, way=way)["found"] == ["198.51.100.1"]
    assert place.ask(SHUT, server=outside.ip, way=way)["rcode"] == "REFUSED"


def test_a_restart_keeps_what_is_known(place: Place) -> None:
    place.connect(NEW[3])
    place.mesh.kill()
    place.mesh.start()
    place.mesh.settle()
    held = [key.addr for key in _ipcache(place) if isinstance(key, abi.IpcacheKey)]
    assert pack_addr(f"10.244.0.{FIRST + 3}") in held
    assert place.client.run(["curl", "-s", "--http0.9", "-m", "5", f"http://10.244.0.{FIRST + 3}/"]).stdout == "hello"
    assert _is_answered(place)


def test_an_agent_that_is_gone_holds_no_answer_back_for_long(place: Place) -> None:
    place.mesh.kill()
    try:
        assert place.ask("late.example.com")["found"]  # within the three seconds that the client has
        assert place.ask(SHUT)["rcode"] == "REFUSED"
    finally:
        place.mesh.start()
    wait_until(
        lambda: place.connect("late.example.com") == {"late.example.com": ["hello"]}, "names are learned again", 20
    )
