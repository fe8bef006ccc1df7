"""Calls that rules for names decide on, and calls of nodes: what `sockmesh policy trace` says of them."""

import json
from pathlib import Path

import pytest

from control import model
from control.analysis import meant
from tests.unit.control.test_analysis_trace import PODS, known, policy, tell

TLS = """
endpointSelector: {matchLabels: {app: web}}
egress:
- toEntities: [all]
  toPorts: [{ports: [{port: "443", protocol: TCP}], serverNames: [api.example.com, "*.example.org"]}]
- toEntities: [all]
  toPorts: [{ports: [{port: "53", protocol: ANY}], rules: {dns: [{matchPattern: "*.example.com"}]}}]
"""
FROM_HOST = """
endpointSelector: {matchLabels: {app: db}}
ingress: [{fromEntities: [host]}]
"""
NODES = """
apiVersion: v1
kind: Node
metadata: {name: n}
status: {addresses: [{type: InternalIP, address: 10.9.0.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: other}
status: {addresses: [{type: InternalIP, address: 10.9.0.2}]}
"""
NODE_POD = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: exporter, namespace: shop}
spec: {selector: {matchLabels: {app: x}}, template: {metadata: {labels: {app: x}}, spec: {hostNetwork: true}}}
"""


@pytest.mark.parametrize(
    ("to", "port", "options", "status", "words"),
    [
        ("192.0.2.1", "443", [], 0, "443/TCP: allowed for some TLS server names (give --server-name NAME)\n"),
        ("192.0.2.1", "443", ["--server-name", "api.example.com"], 0, "the name too"),
        ("192.0.2.1", "443", ["--server-name", "evil.example"], 1, "because of the name"),
        ("fqdn:www.example.org", "443", [], 0, "the name too"),
        ("fqdn:evil.example", "443", [], 1, "is for other requests (TLS server: api.example.com, *.example.org)"),
        ("192.0.2.1", "53/UDP", [], 0, "53/UDP: allowed for some names (give --query NAME)\n"),
        ("192.0.2.1", "53/UDP", ["--query", "a.example.com"], 0, "the name too"),
        ("192.0.2.1", "53/UDP", ["--query", "a.example.net"], 1, "because of the name"),
        ("192.0.2.1", "53/UDP", ["--server-name", "api.example.com"], 1, "because of the name"),
        ("192.0.2.1", "443", ["--query", "api.example.com"], 1, "because of the name"),
        # Rules for names say nothing of requests.
        ("192.0.2.1", "443", ["--method", "GET"], 0, "for some TLS server names"),
    ],
)
def test_rules_for_names(tmp_path: Path, to: str, port: str, options: list[str], status: int, words: str) -> None:
    known(tmp_path, policy("web", TLS))
    found = tell(tmp_path, "--from", "shop/web", "--to", to, "--port", port, *options)
    assert (found.exit_code, words in found.stdout) == (status, True), found.output


def test_names_in_json(tmp_path: Path) -> None:
    known(tmp_path, policy("web", TLS))
    asked = ["--from", "shop/web", "--to", "192.0.2.1", "--port", "443", "-o", "json"]
    egress = json.loads(tell(tmp_path, *asked).stdout)["egress"]
    assert (egress["some_requests"], egress["http"]) == (True, None)
    egress = json.loads(tell(tmp_path, *asked, "--server-name", "x.example.org").stdout)["egress"]
    assert (egress["name"], egress["http"], "some_requests" in egress) == ("allowed", None, False)
    both = tell(tmp_path, *asked, "--server-name", "x.example.org", "--query", "x.example.org")
    assert both.exit_code == 2
    assert "one of a request (--method ...), --server-name and --query" in both.stderr


@pytest.mark.parametrize(("address", "status"), [("10.9.0.1", 0), ("10.9.0.2", 1)])
def test_a_pods_own_node_is_the_host_and_another_one_is_not(tmp_path: Path, address: str, status: int) -> None:
    known(tmp_path, policy("db", FROM_HOST), NODES)
    found = tell(tmp_path, "--from", address, "--to", "shop/db", "--port", "80")
    assert found.exit_code == status, found.output
    assert "own node" not in found.stdout


def test_a_node_that_is_not_known_may_be_the_pods_own(tmp_path: Path) -> None:
    known(tmp_path, policy("db", FROM_HOST), NODE_POD)
    asked = ["--from", "shop/exporter", "--to", "shop/db", "--port", "80"]
    found = tell(tmp_path, *asked)
    assert found.exit_code == 1
    assert "the pod's own node gets through: which node this is is not known here" in found.stdout
    assert json.loads(tell(tmp_path, *asked, "-o", "json").stdout)["ingress"]["own_node"] == "allowed"


OWNED = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop}
spec: {template: {metadata: {labels: {app: db}}, spec: {containers: []}}}
---
apiVersion: v1
kind: Pod
metadata:
  name: cart-1-a
  namespace: shop
  labels: {app: db, pod-template-hash: "1"}
  ownerReferences: [{kind: ReplicaSet, name: cart-1, controller: true}]
spec: {nodeName: n, containers: []}
status: {podIP: 10.0.0.9}
---
apiVersion: v1
kind: Pod
metadata:
  name: exporter-a
  namespace: shop
  labels: {app: x}
  ownerReferences: [{kind: DaemonSet, name: exporter, controller: true}]
spec: {nodeName: n, hostNetwork: true, containers: []}
"""


@pytest.mark.parametrize(
    ("origin", "to", "status"),
    [
        ("10.9.0.1", "shop/cart-1-a", 0),
        ("10.9.0.1", "10.0.0.9", 0),
        ("10.9.0.2", "shop/cart-1-a", 1),
        ("10.9.0.1", "shop/cart", 1),
        ("shop/exporter-a", "shop/cart-1-a", 0),
        ("shop/exporter", "shop/cart-1-a", 1),
    ],
)
def test_a_pod_of_a_controller_is_on_its_own_node(tmp_path: Path, origin: str, to: str, status: int) -> None:
    known(tmp_path, policy("db", FROM_HOST), NODES, NODE_POD, OWNED)
    found = tell(tmp_path, "--from", origin, "--to", to, "--port", "80")
    assert found.exit_code == status, found.output
    assert ("own node gets through" in found.stdout) == (status == 1 and origin != "10.9.0.2")


@pytest.mark.parametrize(
    ("to", "hint"),
    [
        ("10.0.0.0/8", "; of a range, one address is asked about: 10.0.0.0"),
        ("www.example.com", "; a DNS name is fqdn:www.example.com"),
        ("WWW.example.com.", "; a DNS name is fqdn:WWW.example.com."),
        ("shop/front", "is service shop/front: ask for the pods behind it (shop/web)"),
        ("svc/shop/front", "is service shop/front: ask for the pods behind it (shop/web)"),
        ("service/front", "no workload is called service/front ("),
        ("svc/other", "; no such service is declared: ask for a pod behind it, NAMESPACE/POD"),
        ("svc/shop/web", "; no such service is declared: ask for a pod behind it, NAMESPACE/POD"),
        ("shop/fronts", "no workload is called shop/fronts ("),
        ("shop/wbe", "(other/guest, shop/db, shop/web); did you mean shop/web?"),
        ("world", "; world is an entity, which may be many: give NAMESPACE/POD, an address, host, or fqdn:NAME"),
    ],
)
def test_what_was_meant(tmp_path: Path, to: str, hint: str) -> None:
    service = "kind: Service\napiVersion: v1\nmetadata: {name: front, namespace: shop}\nspec: {selector: {app: web}}\n"
    known(tmp_path, service)
    found = tell(tmp_path, "--from", "shop/web", "--to", to, "--port", "80")
    assert found.exit_code == 2
    assert hint in found.output


@pytest.mark.parametrize(
    "to", ["10.0.0.1:80", "10.0.0.256", "...", "a..b", "-.example", "www.example.com:443", "a b.c"]
)
def test_what_is_no_dns_name_is_not_offered_as_one(tmp_path: Path, to: str) -> None:
    known(tmp_path)
    found = tell(tmp_path, "--from", "shop/web", "--to", to, "--port", "80")
    assert (found.exit_code, "fqdn:" in found.output) == (2, False)


def test_of_the_pods_behind_a_service_some_are_named() -> None:
    pods = [model.Workload("shop", f"web-{i}", {"app": "web"}, ips=(f"10.0.0.{i}",)) for i in range(5)]
    known, none = model.Snapshot(workloads=tuple(pods)), model.Snapshot()
    service = model.Service("shop", "web", selector={"app": "web"})
    words = "svc/web is service shop/web: ask for the pods behind it"
    assert meant.is_service("svc/web", service, known) == f"{words} (shop/web-0, shop/web-1, shop/web-2, ...)"
    assert meant.is_service("svc/web", service, none) == f"{words} (none is declared)"
    outside = model.Service("shop", "web", endpoints=("192.0.2.1",))
    assert meant.is_service("web", outside, known).endswith("ask for the addresses behind it (192.0.2.1)")


PORTS = """
apiVersion: sockmesh.io/v1
kind: Workload
metadata: {name: dns, namespace: shop}
spec:
  ips: [10.0.0.9]
  node: n
  ports: [{name: dns, port: 53, protocol: UDP}, {name: twice, port: 53}, {name: twice, port: 53, protocol: UDP}]
"""


@pytest.mark.parametrize("option", ["--method", "--path", "--host", "--server-name", "--query"])
def test_an_option_that_is_given_and_empty_is_refused(tmp_path: Path, option: str) -> None:
    known(tmp_path)
    found = tell(tmp_path, "--from", "shop/db", "--to", "shop/web", "--port", "80", f"{option}=")
    assert found.exit_code == 2 and f"{option} is empty: give it a value, or leave it out" in found.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--path", "abc"), "--path abc: must begin with /, or be *, and be of printable ASCII"),
        (("--path", "/a b"), "--path /a b: must begin with /"),
        (("--path", "*"), "--path *: * is for OPTIONS alone"),
        (("--path", "*", "--method", "OPTIONS"), ""),
        (("--path", "/", "--method", "CONNECT"), "--path /: CONNECT asks for no path"),
        (("--method", "CONNECT", "--host", "a:443"), ""),
        (("--method", "GE\x1bT"), "is no method"),
        (("--method", "GET "), "is no method"),
        (("--host", "a b"), "--host a b: is no host"),
        (("--host", "a", "--header", "Host: b"), "a request is for one host, not for a and b"),
        (("--host", "A", "--header", "Host: a"), ""),
        (("--header", "a b: c"), "--header a b: c: must be 'Name: value'"),
        (("--header", "a: b\nc"), "must be 'Name: value'"),
        (("--header", "a:\tb\tc"), ""),
        (("--header", "a: b\r\nc: d"), "must be 'Name: value'"),
        (("--header", "a : b"), "--header a : b: must be 'Name: value'"),
        (("--header", " a: b"), "--header  a: b: must be 'Name: value'"),
        (
            ("--header", "Host: a", "--header", "host: a"),
            "--header Host: a, --header host: a: the proxy refuses such a request: there is more than one Host",
        ),
        (
            ("--header", "Host: a/b"),
            "--header Host: a/b: the proxy refuses such a request: the Host is not a name or an address",
        ),
        (("--host", "a/b"), "--host a/b: is no host (a name or an address, with a port or without)"),
        (("--host", "a\r\nb: c"), "is no host"),
        (("--host", " a"), "is no host"),
        (("--host", "a:443", "--header", "x: \u00e9"), ""),
        (
            ("--header", "Content-Length: 1", "--header", "x: y", "--header", "Content-Length: 1"),
            "Content-Length: 1: the proxy refuses such a request: Content-Length is not one number",
        ),
        (("--header", "Content-Length: -1"), "--header Content-Length: -1: the proxy refuses such a request"),
        (("--header", "Transfer-Encoding: gzip"), "--header Transfer-Encoding: gzip: the proxy refuses such a"),
        (("--header", "Expect: more"), "--header Expect: more: the proxy refuses such a request: Expect is not"),
        (("--path", "/" * 20000), "the proxy refuses such a request: the request line is not METHOD TARGET"),
        (("--header", f"a: {'b' * (64 << 10)}"), "the proxy refuses such a request: the head is longer"),
        (("--method", "CONNECT"), ""),
    ],
)
def test_what_the_proxy_would_take_for_no_request_is_refused(
    tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    known(tmp_path)
    found = tell(tmp_path, "--from", "shop/db", "--to", "shop/web", "--port", "80", *options)
    assert (found.exit_code, words in found.stderr) == (2 if words else 0, True), found.output


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (("--host", "foo"), 0),
        (("--host", "FOO", "--header", "Host: foo"), 0),
        (("--header", "host: foo"), 0),
        (("--host", "bar"), 1),
        (("--host", "Foo"), 1),  # of a value the case counts
        (("--method", "GET"), 1),
    ],
)
def test_the_host_of_a_request_is_its_header_too(tmp_path: Path, options: tuple[str, ...], status: int) -> None:
    ports = '{ports: [{port: "80", protocol: TCP}], rules: {http: [{headers: ["Host: foo"]}]}}'
    known(
        tmp_path, policy("web", f"endpointSelector: {{matchLabels: {{app: web}}}}\ningress: [{{toPorts: [{ports}]}}]")
    )
    found = tell(tmp_path, "--from", "shop/db", "--to", "shop/web", "--port", "80", *options)
    assert found.exit_code == status, found.output


@pytest.mark.parametrize(
    ("to", "port", "status", "words"),
    [
        ("shop/web", "http", 0, "shop/db -> shop/web 8080/TCP: allowed"),
        ("shop/web", "http/TCP", 0, "shop/db -> shop/web 8080/TCP: allowed"),
        ("shop/dns", "dns", 0, "shop/db -> shop/dns 53/UDP: allowed"),
        ("shop/dns", "twice/UDP", 0, "shop/db -> shop/dns 53/UDP: allowed"),
        ("shop/dns", "twice", 2, "shop/dns has several ports of that name (dns 53/UDP, twice 53/TCP, twice 53/UDP)"),
        ("shop/web", "http/UDP", 2, "--port http/UDP: shop/web has no port of that name (http 8080/TCP)"),
        ("shop/guest", "http", 2, "--port http: shop/guest has no port of that name (it names none)"),
        ("192.0.2.1", "http", 2, "--port http: 192.0.2.1 is no pod that could have named ports (give a number)"),
        ("shop/web", "HTTP", 2, "--port HTTP: HTTP is no port (a number from 1 to 65535, or a name)"),
    ],
)  # fmt: skip
def test_a_port_has_the_name_that_the_called_pod_gives_it(
    tmp_path: Path, to: str, port: str, status: int, words: str
) -> None:
    known(tmp_path, PORTS, PODS.split("---")[2].replace("namespace: other", "namespace: shop").replace("0.3", "0.8"))
    found = tell(tmp_path, "--from", "shop/db", "--to", to, "--port", port)
    assert (found.exit_code, words in found.output) == (status, True), found.output
