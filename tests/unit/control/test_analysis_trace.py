"""One call held against policies: who decides at each end, what would have allowed it, and what a request meets."""

import ipaddress
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from click import testing

from control import policy_set
from control.analysis import explain, lookup, trace, world
from control.analysis.call import Author, Call
from control.analysis.nearest import Nearest
from control.cli.main import cli
from control.policy import request
from control.source import manifests
from loader import abi

TCP, UDP = abi.Proto.TCP, abi.Proto.UDP
PODS = """
apiVersion: sockmesh.io/v1
kind: Workload
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {ips: [10.0.0.1], node: n, ports: [{name: http, port: 8080}]}
---
apiVersion: sockmesh.io/v1
kind: Workload
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {ips: [10.0.0.2], node: n}
---
apiVersion: sockmesh.io/v1
kind: Workload
metadata: {name: guest, namespace: other, labels: {app: guest}}
spec: {ips: [10.0.0.3], node: n}
"""


def policy(name: str, spec: str, kind: str = "CiliumNetworkPolicy", version: str = "cilium.io/v2") -> str:
    head = f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n"
    return head + textwrap.indent(textwrap.dedent(spec).strip(), "  ") + "\n"


def known(tmp_path: Path, *policies: str) -> world.World:
    (tmp_path / "a-pods.yaml").write_text(PODS)
    for number, text in enumerate(policies):
        (tmp_path / f"p{number}.yaml").write_text(text)
    found = manifests.load([str(tmp_path)])
    assert found.problems == ()
    return world.World(found.snapshot)


def ask(there: world.World, source: str, to: str, port: int, http: request.Request | None = None) -> trace.Trace:
    return trace.trace(there, Call(there.end(source), there.end(to), TCP, port, http))


def tell(tmp_path: Path, *args: str) -> testing.Result:
    """Run `sockmesh policy trace` on what `known` wrote there."""
    return testing.CliRunner().invoke(cli, ["policy", "trace", "-f", str(tmp_path), *args])


def test_nobody_is_asked_where_nothing_selects_or_nobody_is_a_pod(tmp_path: Path) -> None:
    there = known(tmp_path)
    found = ask(there, "192.0.2.1", "shop/web", 80)
    assert (found.verdict, found.egress, found.ingress) == (
        "allowed", trace.Side("unenforced"), trace.Side("unenforced"),
    )  # fmt: skip


def test_both_ends_say_who_decides(tmp_path: Path) -> None:
    spec = """
    endpointSelector: {matchLabels: {app: db}}
    ingress:
    - fromEndpoints: [{matchLabels: {app: web}}]
      toPorts: [{ports: [{port: "5432"}]}]
    """
    there, file = known(tmp_path, policy("db", spec)), tmp_path / "p0.yaml"
    assert ask(there, "shop/web", "shop/db", 5432) == trace.Trace(
        trace.Side("unenforced"),
        trace.Side("allowed", Author("CiliumNetworkPolicy", "shop", "db", "spec.ingress[0]", f"{file}:7")),
    )
    nearest = Author("CiliumNetworkPolicy", "shop", "db", "spec.ingress[0]", f"{file}:7")
    selecting = Author("CiliumNetworkPolicy", "shop", "db", "", f"{file}:5")
    other = ask(there, "other/guest", "shop/db", 5432)
    assert other.verdict == "denied"
    assert other.ingress == trace.Side(
        "denied", selecting, nearest=Nearest(nearest, ("peer",), ("app=web namespace=shop",))
    )
    assert ask(there, "shop/web", "shop/db", 80).ingress.nearest == Nearest(
        nearest, ("port",), ("5432/TCP, 5432/UDP, 5432/SCTP",)
    )
    assert ask(there, "10.0.0.3", "10.0.0.2", 5432) == other  # addresses of pods are those pods


def test_a_deny_names_itself_and_the_rule_that_it_comes_before(tmp_path: Path) -> None:
    spec = """
    endpointSelector: {}
    ingress: [{fromEntities: [all]}]
    ingressDeny: [{fromEndpoints: [{matchLabels: {k8s:io.kubernetes.pod.namespace: other}}]}]
    """
    found = ask(known(tmp_path, policy("all", spec)), "other/guest", "shop/web", 80).ingress
    assert found.author and found.author.rule == "spec.ingressDeny[0]"
    assert found.nearest and (found.nearest.author.rule, found.nearest.lacks) == ("spec.ingress[0]", ())


HTTP = """
endpointSelector: {matchLabels: {app: web}}
ingress:
- fromEndpoints: [{matchLabels: {app: db}}]
  toPorts:
  - ports: [{port: "8080", protocol: TCP}]
    rules: {http: [{method: GET, path: "/public/.*"}]}
"""


@pytest.mark.parametrize(
    ("path", "verdict"), [("/public/a", "allowed"), ("/public", "denied"), ("/private/public/a", "denied")]
)
def test_rules_for_requests_decide_of_requests_only(tmp_path: Path, path: str, verdict: str) -> None:
    there = known(tmp_path, policy("web", HTTP))
    assert ask(there, "shop/db", "shop/web", 8080).ingress.http is None
    assert ask(there, "shop/db", "shop/web", 8080).ingress.some
    assert ask(there, "shop/db", "shop/web", 8080).verdict == "allowed"
    found = ask(there, "shop/db", "shop/web", 8080, request.Request("GET", path))
    assert (found.verdict, found.ingress.verdict, found.ingress.http) == (verdict, verdict, verdict)
    if verdict == "denied":
        assert found.ingress.nearest and found.ingress.nearest.lacks == ("request",)


def test_a_plain_rule_for_the_same_peer_and_port_lets_every_request_through(tmp_path: Path) -> None:
    plain = """
    endpointSelector: {matchLabels: {app: web}}
    ingress:
    - fromEndpoints: [{matchLabels: {app: db}}]
      toPorts: [{ports: [{port: "8080", protocol: TCP}]}]
    """
    there = known(tmp_path, policy("web", HTTP), policy("plain", plain))
    found = ask(there, "shop/db", "shop/web", 8080, request.Request("POST", "/private"))
    assert (found.verdict, found.ingress.http) == ("allowed", None)


TWO = """
endpointSelector: {matchLabels: {app: web}}
ingress:
- toPorts: [{ports: [{port: "8080", protocol: TCP}], rules: {http: [{method: GET}]}}]
- fromEndpoints: [{matchLabels: {app: db}}]
  toPorts: [{ports: [{port: "8080", protocol: TCP}], rules: {http: [{path: /a}]}}]
- fromEndpoints: [{matchLabels: {app: db}}]
  toPorts: [{ports: [{port: "8080", protocol: TCP}], rules: {http: []}}]
"""


@pytest.mark.parametrize(
    ("method", "path", "rule"), [("GET", "/b", 0), ("PUT", "/a", 1), ("GET", "/a", 1), ("PUT", "/b", 1)]
)
def test_the_rule_that_lets_a_request_through_is_named(tmp_path: Path, method: str, path: str, rule: int) -> None:
    """Whichever entry decides that it is asked about: only where none does, that is all there is to name."""
    there = known(tmp_path, policy("web", TWO))
    found = ask(there, "shop/db", "shop/web", 8080, request.Request(method, path))
    assert found.verdict == ("denied" if (method, path) == ("PUT", "/b") else "allowed")
    assert found.ingress.author and found.ingress.author.rule == f"spec.ingress[{rule}]"
    assert found.ingress.author.source == f"{tmp_path / 'p0.yaml'}:{7 + rule + (rule > 1)}"


def test_a_rule_for_any_request_elsewhere_is_named(tmp_path: Path) -> None:
    plain = 'endpointSelector: {}\ningress: [{toPorts: [{ports: [{port: "8080", protocol: TCP}]}]}]'
    there = known(tmp_path, policy("web", TWO), policy("plain", plain))
    found = ask(there, "shop/db", "shop/web", 8080, request.Request("PUT", "/b"))
    assert (found.verdict, found.ingress.http, found.ingress.some) == ("allowed", None, "")
    assert found.ingress.author and found.ingress.author.rule == "spec.ingress[0]"


def test_a_tls_client_says_no_request(tmp_path: Path) -> None:
    known(tmp_path, policy("web", TWO))
    found = tell(tmp_path, "--from", "shop/db", "--to", "shop/web", "--port", "8080", "--server-name", "web.example")
    assert found.exit_code == 1 and "denied by CiliumNetworkPolicy shop/web" in found.stdout


@pytest.mark.parametrize("rules", ["http: []", "kafka: [{topic: t}]", "l7proto: x"])
@pytest.mark.parametrize("asked", [[], ["--method", "GET"], ["--server-name", "a.b"], ["--query", "a.b"]])
def test_rules_that_let_nothing_through_deny(tmp_path: Path, rules: str, asked: list[str]) -> None:
    spec = f"""
    endpointSelector: {{matchLabels: {{app: web}}}}
    ingress: [{{toPorts: [{{ports: [{{port: "8080", protocol: TCP}}], rules: {{{rules}}}}}]}}]
    """
    known(tmp_path, policy("web", spec))
    call = ["--from", "shop/db", "--to", "shop/web", "--port", "8080", *asked]
    found = tell(tmp_path, *call)
    by = f"denied by CiliumNetworkPolicy shop/web spec.ingress[0] ({tmp_path}/p0.yaml:6), which lets nothing through"
    assert (found.exit_code, by in found.stdout, "nearest" in found.stdout) == (1, True, False), found.output
    end = json.loads(tell(tmp_path, *call, "-o", "json").stdout)["ingress"]
    assert (end["verdict"], end["lets_nothing"], "some_requests" in end) == ("denied", True, False)


def test_rules_that_let_nothing_through_take_nothing_from_those_for_names(tmp_path: Path) -> None:
    """A TLS client may mean to make the request; of rules that are empty the proxy takes no kind."""
    ports = 'ports: [{port: "8080", protocol: TCP}]'
    web = "endpointSelector: {matchLabels: {app: web}}"
    names, none = f"{{{ports}, serverNames: [shop.org]}}", f"{{{ports}, rules: {{http: []}}}}"
    specs = (f"{web}\ningress: [{{toPorts: [{each}]}}]" for each in (names, none))
    known(tmp_path, *(policy(f"p{number}", spec) for number, spec in enumerate(specs)))
    found = tell(tmp_path, "--from", "shop/db", "--to", "shop/web", "--port", "8080", "--method", "GET")
    assert (found.exit_code, "some TLS server names" in found.stdout) == (0, True), found.output


_BY_NAME, _BY_REQUEST = "serverNames: [shop.org]", "rules: {http: [{method: GET}]}"


@pytest.mark.parametrize("asked", [[], ["--method", "GET"], ["--server-name", "shop.org"]])
@pytest.mark.parametrize("where", ["one end", "both ends"])
def test_of_rules_for_two_kinds_of_bytes_the_proxy_follows_neither(
    tmp_path: Path, where: str, asked: list[str]
) -> None:
    ports = 'ports: [{port: "8080", protocol: TCP}]'
    db = "fromEndpoints: [{matchLabels: {app: db}}], "
    web, caller = "endpointSelector: {matchLabels: {app: web}}", "endpointSelector: {matchLabels: {app: db}}"
    if where == "one end":
        first = f"{{{db}toPorts: [{{{ports}, {_BY_NAME}}}]}}"
        known(tmp_path, policy("web", f"{web}\ningress: [{first}, {{toPorts: [{{{ports}, {_BY_REQUEST}}}]}}]"))
    else:
        inwards, outwards = (f"[{{toPorts: [{{{ports}, {rules}}}]}}]" for rules in (_BY_REQUEST, _BY_NAME))
        known(tmp_path, policy("web", f"{web}\ningress: {inwards}"), policy("db", f"{caller}\negress: {outwards}"))
    found = tell(tmp_path, "--from", "shop/db", "--to", "shop/web", "--port", "8080", *asked)
    assert found.exit_code == 1
    if where == "one end" or "--server-name" not in asked:  # else the name alone is refused
        assert ("lets nothing through" in found.stdout, "nearest" in found.stdout) == (True, False)
    call = ("--from", "shop/db", "--to", "shop/web", "--port", "8080", *asked, "-o", "json")
    end = json.loads(tell(tmp_path, *call).stdout)["ingress"]
    assert (end["verdict"], end["http"]) == ("denied", "denied" if "--method" in asked else None)


def test_rules_that_let_nothing_through_come_before_plain_ones(tmp_path: Path) -> None:
    spec = """
    endpointSelector: {matchLabels: {app: web}}
    ingress:
    - {}
    - toPorts: [{ports: [{port: "8080", protocol: TCP}]}]
    - fromEndpoints: [{matchLabels: {app: db}}]
      toPorts: [{ports: [{port: "8080", protocol: TCP}], rules: {http: []}}]
    """
    known(tmp_path, policy("web", spec))
    found = tell(tmp_path, "--from", "shop/db", "--to", "shop/web", "--port", "8080")
    assert found.exit_code == 1
    assert "would allow it, but rules for requests come first" in found.stdout
    pairs = testing.CliRunner().invoke(cli, ["policy", "connectivity", "-f", str(tmp_path), "--to", "shop/web"])
    assert [line.split() for line in pairs.stdout.splitlines()[1:]] == [
        ["other/guest", "shop/web", "TCP", "8080"],
        ["the", "outside", "shop/web", "TCP", "8080"],
    ]


def test_an_audit_of_rules_that_let_nothing_through_is_told_of(tmp_path: Path) -> None:
    spec = """
    audit: true
    endpointSelector: {matchLabels: {app: web}}
    ingress: [{toPorts: [{ports: [{port: "8080", protocol: TCP}], rules: {http: []}}]}]
    """
    there = known(tmp_path, policy("web", spec, "MeshNetworkPolicy", "sockmesh.io/v1"))
    web = Author("MeshNetworkPolicy", "shop", "web", "spec.ingress[0]", f"{tmp_path}/p0.yaml:7")
    assert ask(there, "shop/db", "shop/web", 8080).ingress == trace.Side("unenforced", audited_by=web, only_audit=True)


def test_an_audit_is_told_of_and_does_not_refuse(tmp_path: Path) -> None:
    spec = "endpointSelector: {}\naudit: true\ningress: [{}]"
    there = known(tmp_path, policy("watch", spec, "MeshNetworkPolicy", "sockmesh.io/v1"))
    found = ask(there, "other/guest", "shop/web", 80)
    watch = Author("MeshNetworkPolicy", "shop", "watch", "", f"{tmp_path}/p0.yaml:5")
    assert found.verdict == "allowed"
    assert found.ingress == trace.Side("unenforced", audited_by=watch, only_audit=True)
    said = tell(tmp_path, "--from", "other/guest", "--to", "shop/web", "--port", "80")
    assert (said.exit_code, said.stdout.splitlines()[2:]) == (0, [
        "  ingress unenforced: shop/web: only policies in audit mode select it for ingress",
        f"          audit: MeshNetworkPolicy shop/watch ({tmp_path}/p0.yaml:5) would refuse it, were it not in audit "
        "mode: it selects it, and no rule allows this",
    ])  # fmt: skip
    as_json = tell(tmp_path, "--from", "other/guest", "--to", "shop/web", "--port", "80", "-o", "json")
    side = json.loads(as_json.stdout)["ingress"]
    assert (side["verdict"], side["policy"], side["audit"]) == ("unenforced", None, True)
    assert side["audited_by"] == {
        "policy": {"kind": "MeshNetworkPolicy", "namespace": "shop", "name": "watch"},
        "rule": None,
        "source": f"{tmp_path}/p0.yaml:5",
    }


def test_the_policy_that_an_audit_would_refuse_by_is_named_beside_the_one_that_allows(tmp_path: Path) -> None:
    allows = "endpointSelector: {matchLabels: {app: web}}\ningress: [{fromEndpoints: [{}]}]"
    denies = "audit: true\nendpointSelector: {}\ningressDeny: [{fromEndpoints: [{matchLabels: {app: db}}]}]"
    there = known(tmp_path, policy("web", allows), policy("no-db", denies, "MeshNetworkPolicy", "sockmesh.io/v1"))
    found = ask(there, "shop/db", "shop/web", 80).ingress
    assert (found.verdict, str(found.author)) == ("allowed", "CiliumNetworkPolicy shop/web spec.ingress[0]")
    assert str(found.audited_by) == "MeshNetworkPolicy shop/no-db spec.ingressDeny[0]"
    assert ask(there, "shop/web", "shop/db", 80).ingress == trace.Side(
        "unenforced", audited_by=Author("MeshNetworkPolicy", "shop", "no-db", "", f"{tmp_path}/p1.yaml:5"),
        only_audit=True,
    )  # fmt: skip
    said = tell(tmp_path, "--from", "shop/db", "--to", "shop/web", "--port", "80").stdout.splitlines()
    assert said[1] == "  egress  unenforced: shop/db: no policy selects it for egress"
    assert said[3] == (
        f"          audit: MeshNetworkPolicy shop/no-db spec.ingressDeny[0] ({tmp_path}/p1.yaml:7) would refuse it, "
        "were it not in audit mode"
    )


@pytest.mark.parametrize(
    ("port", "verdict", "shown"),
    [
        ("GRE", "allowed", "GRE"),
        ("0/gre", "allowed", "GRE"),
        ("/47", "allowed", "GRE"),
        ("ESP", "denied", "ESP"),
        ("0/89", "denied", "IP protocol 89"),
        ("80/6", "denied", "80/TCP"),
        ("22", "denied", "22/TCP"),
        ("1", "denied", "1/TCP"),
        ("8/1", "denied", "8/ICMP"),
    ],
)
def test_protocols_without_ports(tmp_path: Path, port: str, verdict: str, shown: str) -> None:
    spec = """
    endpointSelector: {matchLabels: {app: web}}
    ingress: [{fromEndpoints: [{}], toPorts: [{ports: [{port: "0", protocol: GRE}]}]}]
    """
    known(tmp_path, policy("web", spec))
    found = tell(tmp_path, "--from", "shop/db", "--to", "shop/web", "--port", port)
    assert found.stdout.splitlines()[0] == f"shop/db -> shop/web {shown}: {verdict}"
    assert found.exit_code == (verdict == "denied")
    (tmp_path / "p0.yaml").write_text(policy("web", "endpointSelector: {}\ningress: [{fromEndpoints: [{}]}]"))
    assert tell(tmp_path, "--from", "shop/db", "--to", "shop/web", "--port", port).exit_code == 0
    denied = "endpointSelector: {}\ningress: [{fromEndpoints: [{}]}]\ningressDeny: [{fromEndpoints: [{}]}]"
    (tmp_path / "p0.yaml").write_text(policy("web", denied))
    assert tell(tmp_path, "--from", "shop/db", "--to", "shop/web", "--port", port).exit_code == 1


@pytest.mark.parametrize(
    ("port", "told"),
    [
        ("80/GRE", "--port 80/GRE: GRE has no ports (0/GRE)"),
        ("http/89", "--port http/89: IP protocol 89 has no ports (0/89)"),
        ("0/256", "unknown protocol 256 (TCP, UDP, SCTP, ICMP, ICMPV4, ICMPV6, VRRP, "),
        ("80/ANY", "unknown protocol ANY (TCP, "),
        ("0/0", "or a number from 1 to 255)"),
        ("0/TCP", "--port 0/TCP: which port of TCP? (write one: 80/TCP, or its name)"),
        ("0/6", "--port 0/6: which port of TCP? (write one: 80/TCP, or its name)"),
        ("0", "--port 0: which port of TCP?"),
        ("00", "--port 00: 00 is no port"),
        ("0/17", "--port 0/17: which port of UDP?"),
        ("0/SCTP", "--port 0/SCTP: which port of SCTP?"),
        ("TCP", "--port TCP: which port of TCP?"),
        ("/UDP", "--port /UDP: which port of UDP?"),
        ("ICMP", "--port ICMP: which type of ICMP? (write one: EchoRequest/ICMP, or its number)"),
        ("ICMPv6", "--port ICMPv6: which type of ICMPV6?"),
        ("70000", "70000 is no port (a number from 1 to 65535, or a name)"),
    ],
)
def test_what_is_no_port_or_protocol(tmp_path: Path, port: str, told: str) -> None:
    known(tmp_path)
    found = tell(tmp_path, "--from", "shop/db", "--to", "shop/web", "--port", port)
    assert found.exit_code == 2 and told in " ".join(found.stderr.split())


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("--method", "GET"), "--port GRE: requests are made over TCP"),
        (("--server-name", "a.b"), "--port GRE: names are told over TCP or UDP"),
        (("--query", "a.b"), "--port GRE: names are told over TCP or UDP"),
    ],
)
def test_what_no_such_protocol_carries(tmp_path: Path, asked: tuple[str, str], told: str) -> None:
    known(tmp_path)
    found = tell(tmp_path, "--from", "shop/db", "--to", "shop/web", "--port", "GRE", *asked)
    assert (found.exit_code, found.stderr) == (2, f"sockmesh: {told}\n")


def test_names_are_met_outside_every_range(tmp_path: Path) -> None:
    spec = """
    endpointSelector: {matchLabels: {app: web}}
    egress:
    - toFQDNs: [{matchPattern: "*.example.com"}]
      toPorts: [{ports: [{port: "443", protocol: TCP}]}]
    """
    plain = known(tmp_path, policy("out", spec))
    for name, verdict in (("api.example.com", "allowed"), ("a.b.example.com", "denied"), ("example.com", "denied")):
        there = world.World(lookup.with_name(plain.snapshot, name))
        assert ask(there, "shop/web", f"fqdn:{name}", 443).verdict == verdict


def test_who_is_not_there_is_named_with_who_is(tmp_path: Path) -> None:
    there = known(tmp_path)
    with pytest.raises(world.Unknown, match=r"no workload is called shop/wbe \(other/guest, shop/db, shop/web\)"):
        there.end("shop/wbe")
    with pytest.raises(world.Unknown, match=r"no workload is called web \(shop/web\)"):
        there.end("web")


def test_every_stage_is_explained(tmp_path: Path) -> None:
    there = known(tmp_path, policy("web", HTTP))
    workload = there.end("shop/web").workload
    assert workload is not None
    found = explain.explain(there, workload)
    assert [(str(s.author), s.closes, s.audit) for s in found.selecting] == [
        ("CiliumNetworkPolicy shop/web spec", ("ingress",), False)
    ]
    rule, localhost = found.rules
    assert (rule.verdict, rule.who, rule.ports, rule.bytes, rule.meant) == (
        "proxy", "app=db namespace=shop", "8080/TCP", "HTTP GET /public/.*", ("shop/db",),
    )  # fmt: skip
    assert (localhost.who, str(localhost.author)) == ("entity host", "Reserved allow-localhost")
    assert [(row.direction, row.verdict, row.ports) for row in found.entries] == [
        ("ingress", "proxy", "8080"),
        ("ingress", "allow", "any"),
        ("ingress", "deny", "any"),
        ("egress", "allow", "any"),
    ]


def test_rules_that_another_kind_of_bytes_shuts_are_explained(tmp_path: Path) -> None:
    """Not where somebody is free, nor at the other ports."""
    web = "endpointSelector: {matchLabels: {app: web}}\n"

    def ports(first: int, last: int, asks: str = "") -> str:
        return f'toPorts: [{{ports: [{{port: "{first}", endPort: {last}, protocol: TCP}}]{asks}}}]'

    requests = policy("a", f"{web}ingress: [{{{ports(80, 90, f', {_BY_REQUEST}')}}}]")
    names = f"fromEndpoints: [{{matchLabels: {{app: db}}}}], {ports(85, 95, f', {_BY_NAME}')}"
    plain = f"{{fromEndpoints: [{{matchLabels: {{app: db}}}}], {ports(80, 90)}}}"
    # A policy that refuses nothing frees what its rules for requests meet.
    free = policy(
        "c", f"{web}enableDefaultDeny: {{ingress: false}}\ningress: [{{{ports(90, 90, f', {_BY_REQUEST}')}}}]"
    )
    known(tmp_path, requests, policy("b", f"{web}ingress: [{{{names}}}, {plain}]"), free)
    command = ["policy", "explain", "shop/web", "-f", str(tmp_path)]
    rules = json.loads(testing.CliRunner().invoke(cli, [*command, "-o", "json"]).stdout)["rules"]
    shut = [(rule["shut_by"]["name"], rule["shut_at"]) for rule in rules if rule["shut_by"]]
    assert shut == [("b", "TCP 85-89"), ("a", "TCP 85-89")]
    shown = " ".join(testing.CliRunner().invoke(cli, command).stdout.split())
    assert "nothing at TCP 85-89, for CiliumNetworkPolicy shop/b spec.ingress[0] is for another kind of bytes" in shown


def test_who_is_meant_is_told_apart_from_its_labels(tmp_path: Path) -> None:
    known(tmp_path, policy("web", "endpointSelector: {matchLabels: {app: web}}\ningress: [{fromEntities: [world]}]"))
    found = testing.CliRunner().invoke(cli, ["policy", "explain", "shop/web", "-f", str(tmp_path), "-o", "json"])
    (meant, _) = (rule["meant"] for rule in json.loads(found.stdout)["rules"])
    table = testing.CliRunner().invoke(cli, ["policy", "explain", "shop/web", "-f", str(tmp_path)])
    assert len(meant) > 1 and any(", " in each for each in meant)
    assert "; ".join(meant) in " ".join(table.stdout.split())


@pytest.mark.parametrize("width", [80, 120])
def test_rules_are_explained_in_lines_that_fit_a_terminal(tmp_path: Path, width: int) -> None:
    ranges = ", ".join(f"10.{i}.0.0/16" for i in range(30))
    spec = f"""
    endpointSelector: {{matchLabels: {{app: web}}}}
    ingress:
    - fromCIDR: [{ranges}]
      toPorts: [{{ports: [{{port: "80", protocol: TCP}}], rules: {{http: [{{path: "/a/long/path/.*", method: GET}}]}}}}]
    """
    known(tmp_path, policy("web", spec))
    command = ["policy", "explain", "shop/web", "-f", str(tmp_path)]
    shown = testing.CliRunner(env={"COLUMNS": str(width)}).invoke(cli, command).stdout
    rules = shown.partition("2. the rules")[2].partition("3. the entries")[0].splitlines()[1:]
    assert len(rules) > 10 and max(len(line) for line in rules if "p0.yaml" not in line) <= width  # a word of its own
    assert [line.split()[0] for line in rules if line[:1].strip()] == ["ingress", "ingress"]
    assert [line[2:9].strip() for line in rules if line[:9].strip() and line[:1] == " "][:4] == [
        "who", "that is", "ports", "bytes",
    ]  # fmt: skip
    assert ranges in " ".join(shown.split())
    known(tmp_path, policy("web", spec.replace(ranges, ", ".join(f"10.{i}.0.0/16" for i in range(250)))))
    shown = testing.CliRunner().invoke(cli, command).stdout
    assert "10.100.0.0/16" in shown and "10.200.0.0/16" not in shown.partition("that is")[0]
    assert "... (-o json has all of it)" in " ".join(shown.split())


DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: api, namespace: shop}
spec:
  selector: {matchLabels: {app: api}}
  template: {metadata: {labels: {app: api}}, spec: {containers: [{name: c}]}}
"""


def test_only_a_pod_is_itself(tmp_path: Path) -> None:
    there = known(tmp_path, policy("closed", "endpointSelector: {}\ningress: [{}]"))
    (tmp_path / "deployment.yaml").write_text(DEPLOYMENT)
    assert ask(there, "shop/web", "shop/web", 80).verdict == "allowed"
    itself = tell(tmp_path, "--from", "shop/web", "--to", "shop/web", "--port", "80")
    assert itself.exit_code == 0
    assert "ingress unenforced: shop/web: a pod always reaches itself" in itself.stdout
    replicas = tell(tmp_path, "--from", "shop/api", "--to", "shop/api", "--port", "80")
    assert (replicas.exit_code, "selects it, and no rule allows this" in replicas.stdout) == (1, True)


SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: 10.96.0.5, selector: {app: db}, ports: [{port: 80}]}
"""


@pytest.mark.parametrize(
    "to", ["10.96.0.5", "fqdn:db.shop.svc", "fqdn:db.shop.svc.cluster.local.", "fqdn:db-0.db.shop.svc.cluster.local"]
)
def test_a_service_is_nobody_policy_ever_sees(tmp_path: Path, to: str) -> None:
    known(tmp_path)
    (tmp_path / "service.yaml").write_text(SERVICE)
    found = tell(tmp_path, "--from", "shop/web", "--to", to, "--port", "80")
    assert (found.exit_code, found.stdout) == (2, "")
    assert (
        f"{to.removeprefix('fqdn:').removesuffix('.')} is service shop/db: ask for the pods behind it" in found.stderr
    )


def test_names_that_are_no_service_are_asked_about(tmp_path: Path) -> None:
    known(tmp_path)
    (tmp_path / "service.yaml").write_text(SERVICE)
    for name in ("db.shop", "db.shop.svc.example.com", "db.other.svc.cluster.local", "db.shop.cluster.local"):
        assert tell(tmp_path, "--from", "shop/web", "--to", f"fqdn:{name}", "--port", "80").exit_code == 0
    caller = tell(tmp_path, "--from", "fqdn:example.com", "--to", "shop/web", "--port", "80")
    assert caller.exit_code == 2
    assert "nobody calls by a name" in caller.stderr


@pytest.mark.parametrize("address", ["::ffff:10.0.0.2", "::ffff:a00:2", "fe80::1%eth0"])
def test_addresses_that_no_policy_may_name_are_not_taken_for_strangers(tmp_path: Path, address: str) -> None:
    known(tmp_path)
    found = tell(tmp_path, "--from", address, "--to", "shop/web", "--port", "80")
    assert found.exit_code == 2
    assert f"{address} is neither plain IPv4 nor plain IPv6" in found.stderr


RANGES = """
endpointSelector: {matchLabels: {app: web}}
egress:
- toCIDRSet: [{cidr: 192.0.2.0/24, except: [192.0.2.7/32]}]
  toPorts: [{ports: [{port: "1", endPort: 1000, protocol: TCP}]}]
- toCIDR: [192.0.2.9/32, 198.51.100.0/24]
- toEntities: [all]
  toPorts: [{ports: [{port: "5000", protocol: TCP}]}]
egressDeny:
- toCIDR: [192.0.2.8/32]
"""


def test_a_call_is_decided_by_the_entries_of_its_peer_alone(tmp_path: Path) -> None:
    there = known(tmp_path, policy("ranges", RANGES), policy("web", HTTP))
    web = there.end("shop/web").workload
    assert web is not None
    whole = there.policy_set(web)
    for text in ("192.0.2.1", "192.0.2.7", "192.0.2.8", "192.0.2.9", "198.51.100.1", "203.0.113.1", "shop/db"):
        peer = there.end(text).identity
        part = there.policy_set(web, peer)
        assert part.entries == {k: v for k, v in whole.entries.items() if k.peer_id in (0, peer)}
        assert part.l7 == {k: v for k, v in whole.l7.items() if k.peer_id in (0, peer)}
        assert there.policy_set(web, peer) is part


def test_what_no_agent_could_load_is_refused_for_one_peer_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known(tmp_path, policy("ranges", RANGES))
    monkeypatch.setattr(policy_set, "MAX_ENTRIES", 10)
    found = tell(tmp_path, "--from", "shop/web", "--to", "192.0.2.1", "--port", "80")
    assert (found.exit_code, "more than 10 entries are needed" in found.stderr) == (2, True)


def test_so_many_entries_are_explained_and_the_rest_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = known(tmp_path, policy("ranges", RANGES))
    web = there.end("shop/web").workload
    assert web is not None
    whole = explain.explain(there, web)
    assert whole.entries_count == len(whole.entries) > 5
    monkeypatch.setattr(explain, "MOST_ENTRIES", 5)
    assert explain.explain(there, web).entries == whole.entries[:5]
    shown = testing.CliRunner().invoke(cli, ["policy", "explain", "shop/web", "-f", str(tmp_path)])
    assert shown.stdout.splitlines()[-1] == f"and {whole.entries_count - 5} more"


NAME_AND_RANGES = """
endpointSelector: {matchLabels: {app: web}}
egress:
- toFQDNs: [{matchName: api.example.com}]
- toCIDR: [RANGES]
"""


@pytest.mark.parametrize(
    ("ranges", "address"),
    [
        ("192.0.2.0/24", "240.0.0.1"),
        ("240.0.0.0/4, 224.0.0.0/4", "223.255.255.255"),
        ("128.0.0.0/1, 0.0.0.0/2, 64.0.0.0/3, 96.0.0.0/4, 112.0.0.0/5, 120.0.0.0/7", "127.255.255.255"),
        ("0.0.0.0/1, 128.0.0.0/1, 240.0.0.0/8", "239.255.255.255"),  # there is none: the fewest ranges
    ],
)
def test_a_name_is_met_in_no_range_where_there_is_such_an_address(tmp_path: Path, ranges: str, address: str) -> None:
    there = known(tmp_path, policy("out", NAME_AND_RANGES.replace("RANGES", ranges)))
    assert lookup.with_name(there.snapshot, "example.com").learned == {"example.com": (address,)}


def test_a_name_is_met_outside_thousands_of_ranges_at_once(tmp_path: Path) -> None:
    one = ipaddress.IPv4Network("203.0.113.9/32")
    all_but_one = ", ".join(map(str, ipaddress.IPv4Network("0.0.0.0/0").address_exclude(one)))
    many = ", ".join(f"10.{i // 250}.{i % 250}.0/24" for i in range(3000))
    there = known(tmp_path, policy("out", NAME_AND_RANGES.replace("RANGES", f"{all_but_one}, {many}")))
    before = time.process_time()
    learned = lookup.with_name(there.snapshot, "example.com").learned
    assert time.process_time() - before < 5  # address by address it was most of a minute
    assert learned == {"example.com": ("203.0.113.9",)}


ANYBODY = """
endpointSelector: {matchLabels: {app: web}}
ingress: [{fromEntities: [all]}]
"""


def test_what_comes_before_the_nearest_rule_is_called_what_it_is(tmp_path: Path) -> None:
    known(tmp_path, policy("anybody", ANYBODY), policy("web", HTTP))
    asked = ("--from", "shop/db", "--to", "shop/web", "--port", "8080")
    found = tell(tmp_path, *asked, "--path", "/private")
    assert found.exit_code == 1
    assert "nearest: CiliumNetworkPolicy shop/anybody spec.ingress[0]" in found.stdout
    assert found.stdout.endswith("would allow it, but rules for requests come first\n")
    deny = ANYBODY + "ingressDeny: [{fromEndpoints: [{matchLabels: {app: db}}]}]\n"
    known(tmp_path, policy("anybody", deny))
    assert tell(tmp_path, *asked).stdout.endswith("would allow it, but a deny comes first\n")


def nearest(there: world.World, source: str, to: str, port: int) -> tuple[str, ...]:
    found = ask(there, source, to, port)
    side = found.egress.nearest or found.ingress.nearest
    assert side is not None
    return side.lacks


def test_only_what_is_wrong_is_lacking(tmp_path: Path) -> None:
    by_name = """
    endpointSelector: {matchLabels: {app: db}}
    ingress:
    - fromEndpoints: [{matchLabels: {app: web}}]
      toPorts: [{ports: [{port: sql, protocol: TCP}]}]
    """
    there = known(tmp_path, policy("db", by_name))  # nobody has a port of that name
    assert nearest(there, "shop/web", "shop/db", 5432) == ("port",)
    assert nearest(there, "other/guest", "shop/db", 5432) == ("peer", "port")
    nobody = """
    endpointSelector: {matchLabels: {app: db}}
    ingress:
    - fromEndpoints: [{matchLabels: {app: gone}}]
      toPorts: [{ports: [{port: "5432", protocol: TCP}]}]
    """
    there = known(tmp_path, policy("db", nobody))
    assert nearest(there, "shop/web", "shop/db", 5432) == ("peer",)
    assert nearest(there, "shop/web", "shop/db", 80) == ("peer", "port")


NEAR = """
endpointSelector: {matchLabels: {app: web}}
egress:
- {toEndpoints: [{matchLabels: {app: other}}]}
- {toCIDR: [192.0.2.0/24, 10.0.0.0/16]}
- {toCIDRSet: [{cidr: 203.0.113.0/24, except: [203.0.113.8/29]}]}
- {toFQDNs: [{matchName: a.example}], toPorts: [{ports: [{port: "443", protocol: TCP}]}]}
"""
NODE = """
apiVersion: v1
kind: Node
metadata: {name: n}
status: {addresses: [{type: InternalIP, address: 192.0.2.7}]}
"""


@pytest.mark.parametrize(
    ("to", "told"),
    [
        ("192.0.2.7", "[1] (FILE:8) is for other peers (192.0.2.0/24: ranges do not match nodes)"),
        ("shop/db", "[1] (FILE:8) is for other peers (10.0.0.0/16: ranges do not match pods)"),
        ("203.0.113.9", "[2] (FILE:9) is for other peers (203.0.113.0/24 except 203.0.113.8/29)"),
        ("fqdn:a.example", "[3] (FILE:10) is for other ports (443/TCP)"),
        ("198.51.100.1", "[0] (FILE:7) is for other peers (app=other namespace=shop)"),
    ],
)
def test_the_nearest_rule_speaks_of_who_is_asked_about(tmp_path: Path, to: str, told: str) -> None:
    known(tmp_path, policy("web", NEAR), NODE)
    found = tell(tmp_path, "--from", "shop/web", "--to", to, "--port", "80")
    (near,) = [line for line in found.stdout.splitlines() if "nearest: " in line]
    assert near.endswith(" spec.egress" + told.replace("FILE", str(tmp_path / "p0.yaml"))), near


def test_at_egress_a_port_name_is_the_one_that_is_called(tmp_path: Path) -> None:
    spec = """
    endpointSelector: {matchLabels: {app: db}}
    egress:
    - toEndpoints: [{matchLabels: {app: PEER}}]
      toPorts: [{ports: [{port: http, protocol: TCP}]}]
    """
    there = known(tmp_path, policy("db", spec.replace("PEER", "guest")))
    assert nearest(there, "shop/db", "shop/web", 8080) == ("peer",)
    assert nearest(there, "shop/db", "shop/web", 80) == ("peer", "port")
    there = known(tmp_path, policy("db", spec.replace("PEER", "web")))
    assert ask(there, "shop/db", "shop/web", 8080).verdict == "allowed"
    assert nearest(there, "shop/db", "shop/web", 80) == ("port",)


def test_what_is_allowed_for_some_requests_says_so(tmp_path: Path) -> None:
    known(tmp_path, policy("web", HTTP))
    asked = ("--from", "shop/db", "--to", "shop/web", "--port", "8080")
    found = tell(tmp_path, *asked)
    assert found.exit_code == 0
    lines = found.stdout.splitlines()
    assert lines[0].endswith(": allowed for some requests (give --method, --path ...)")
    assert lines[2].endswith(", for some requests")
    as_json = json.loads(tell(tmp_path, *asked, "-o", "json").stdout)
    assert (as_json["verdict"], as_json["needs_proxy"], as_json["ingress"]["some_requests"]) == ("allowed", True, True)
    assert json.loads(tell(tmp_path, *asked[:4], "--port", "81", "-o", "json").stdout)["needs_proxy"] is False
    one = tell(tmp_path, *asked, "--method", "GET", "--path", "/public/a").stdout.splitlines()
    assert one[0].endswith("/public/a: allowed")
    assert "some requests" not in tell(tmp_path, *asked, "--path", "/public/a").stdout


AGENT = """
apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: shop, labels: {app: agent}}
spec: {hostNetwork: true, nodeName: n, containers: []}
status: {hostIP: 10.1.0.1, podIP: 10.1.0.1, podIPs: [{ip: 10.1.0.1}], phase: Running}
"""


def test_a_pod_on_its_nodes_network_is_called_that(tmp_path: Path) -> None:
    known(tmp_path, policy("closed", "endpointSelector: {}\ningress: [{}]"))
    (tmp_path / "agent.yaml").write_text(AGENT)
    words = "shop/agent: it has its node's network: no policy of pods is asked"
    found = tell(tmp_path, "--from", "shop/web", "--to", "shop/agent", "--port", "80")
    assert (found.exit_code, f"unenforced: {words}" in found.stdout) == (0, True)
    explained = testing.CliRunner().invoke(cli, ["policy", "explain", "shop/agent", "-f", str(tmp_path)])
    assert (explained.exit_code, words in explained.stderr) == (2, True)
    stranger = tell(tmp_path, "--from", "192.0.2.1", "--to", "shop/agent", "--port", "80")
    assert "192.0.2.1: it is no pod" in stranger.stdout


def test_a_port_name_of_what_has_its_nodes_network_is_nobodys(tmp_path: Path) -> None:
    """Nodes that are alike are one identity: all would have the port, and the pod's own one would not."""
    name = "containers: [{name: c, image: c, ports: [{name: metrics, containerPort: 9100}]}]"
    nodes = [
        f"apiVersion: v1\nkind: Node\nmetadata: {{name: {node}}}\n"
        f"status: {{addresses: [{{type: InternalIP, address: {ip}}}]}}\n"
        for node, ip in (("n", "10.1.0.1"), ("m", "10.1.0.2"))
    ]
    (tmp_path / "nodes.yaml").write_text("---\n".join([AGENT.replace("containers: []", name), *nodes]))
    rule = "[{toEntities: [cluster], toPorts: [{ports: [{port: metrics, protocol: TCP}]}]}]"
    for rules, status in ((f"egress: {rule}", 1), (f"egressDeny: {rule}\nenableDefaultDeny: {{egress: false}}", 0)):
        known(tmp_path, policy("p", f"endpointSelector: {{}}\n{rules}"))
        for node in ("shop/agent", "10.1.0.1", "10.1.0.2"):
            found = tell(tmp_path, "--from", "shop/web", "--to", node, "--port", "9100")
            assert (node, found.exit_code) == (node, status)


DENIED = ("--from", "other/guest", "--to", "shop/web", "--port", "80")
ALLOWED = ("--from", "shop/web", "--to", "other/guest", "--port", "80")


def status(tmp_path: Path, stdout: int, *args: str, verb: str = "trace") -> tuple[int, str]:
    """Return what a process of its own ends with, and what it says of that."""
    command = [sys.executable, "-m", "control.cli.main", "policy", verb, "-f", str(tmp_path), *args]
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


def test_a_reader_that_is_gone_changes_no_verdict(tmp_path: Path) -> None:
    known(tmp_path, policy("closed", "endpointSelector: {}\ningress: [{}]"))
    reading, writing = os.pipe()
    os.close(reading)
    try:
        assert status(tmp_path, writing, *ALLOWED) == (0, "")
        assert status(tmp_path, writing, *DENIED, "-o", "json") == (1, "")
        assert status(tmp_path, writing, verb="validate") == (0, "")
    finally:
        os.close(writing)


def test_a_full_disk_is_no_verdict(tmp_path: Path) -> None:
    known(tmp_path, policy("closed", "endpointSelector: {}\ningress: [{}]"))
    with open("/dev/full", "wb") as full:
        for args in (ALLOWED, (*DENIED, "-o", "json")):
            assert status(tmp_path, full.fileno(), *args) == (
                3, "sockmesh: the answer could not be written: No space left on device\n",
            )  # fmt: skip
        assert status(tmp_path, full.fileno(), verb="validate")[0] == 3


def test_options_cannot_steer_a_terminal(tmp_path: Path) -> None:
    known(tmp_path, policy("web", HTTP))
    asked = ("--from", "shop/db", "--to", "shop/web", "--port", "8080")
    for args in (
        ("--from", "shop/\x1bdb", "--to", "shop/web", "--port", "80"),
        ("--from", "shop/db", "--to", "fqdn:\x1b", "--port", "80"),
        ("--from", "shop/db", "--to", "shop/web", "--port", "\x1b"),
        (*asked, "--header", "\x1b"),
        (*asked, "--path", "/\x1b[31m"),
        (*asked, "--host", "a\x1bb"),
        (*asked, "--method", "G\x1b"),
    ):
        refused = tell(tmp_path, *args)
        assert (refused.exit_code, "\x1b" in refused.stderr, "\\x1b" in refused.stderr) == (2, False, True)


STATEFUL = """apiVersion: apps/v1
kind: StatefulSet
metadata: {name: cart, namespace: shop}
spec: {template: {metadata: {labels: {app: cart}}, spec: {containers: []}}}
"""


def test_a_pod_of_a_controller_is_asked_about_by_that(tmp_path: Path) -> None:
    (tmp_path / "cart.yaml").write_text(STATEFUL)
    known(tmp_path)
    found = tell(tmp_path, "--from", "shop/web", "--to", "shop/cart-0", "--port", "80")
    assert found.exit_code == 2 and found.stderr.endswith("; shop/cart is a StatefulSet: use shop/cart\n")


def test_the_node_may_call_and_be_called(tmp_path: Path) -> None:
    deny = "endpointSelector: {matchLabels: {app: web}}\ningressDeny: [{fromEntities: [host]}]"
    known(tmp_path, policy("web", deny))
    asked = ("--from", "host", "--to", "shop/web", "--port", "80")
    found = tell(tmp_path, *asked)
    assert found.exit_code == 1 and found.stdout.splitlines()[1:] == [
        "  egress  unenforced: host: it has its node's network: no policy of pods is asked",
        f"  ingress denied by CiliumNetworkPolicy shop/web spec.ingressDeny[0] ({tmp_path}/p0.yaml:6)",
    ]
    assert tell(tmp_path, "--from", "shop/web", "--to", "host", "--port", "80").exit_code == 0


def test_a_call_that_no_workload_is_part_of_is_not_answered(tmp_path: Path) -> None:
    known(tmp_path)
    found = tell(tmp_path, "--from", "192.0.2.1", "--to", "192.0.2.2", "--port", "80")
    assert found.exit_code == 2
    assert "neither 192.0.2.1 nor 192.0.2.2 is a workload of the files, so no policy is asked" in found.stderr
    for ends in (("host", "host"), ("host", "192.0.2.2"), ("192.0.2.1", "host")):
        found = tell(tmp_path, "--from", ends[0], "--to", ends[1], "--port", "1")
        assert found.exit_code == 2 and f"neither {ends[0]} nor {ends[1]} is a workload of the files" in found.stderr


def test_a_policy_that_only_denies_some_says_that_it_has_no_default(tmp_path: Path) -> None:
    deny = """
    endpointSelector: {matchLabels: {app: web}}
    enableDefaultDeny: {ingress: false}
    ingressDeny: [{fromCIDR: [192.0.2.0/24]}]
    """
    known(tmp_path, policy("web", deny))
    found = tell(tmp_path, "--from", "198.51.100.1", "--to", "shop/web", "--port", "80")
    assert found.exit_code == 0 and found.stdout.splitlines()[2] == (
        "  ingress allowed: CiliumNetworkPolicy shop/web selects it without default deny, and no rule denies this "
        f"({tmp_path}/p0.yaml:5)"
    )
