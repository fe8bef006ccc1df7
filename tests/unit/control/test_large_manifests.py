"""Manifests within every bound that are made to take long: an answer, or an error that names the place, comes soon."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click import testing

from control import model
from control.cli.main import cli
from control.policy import resolve
from control.source import manifests

ROOT = Path(__file__).parents[3]
SOON = 2  # seconds of processor time: twice what is promised, for machines that others use


def policy(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"endpointSelector": {}, **spec},
    }


def pod(name: str, **labels: str) -> dict[str, Any]:
    spec = {"containers": [{"name": "c"}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "labels": labels},
        "spec": spec,
    }


def written(folder: Path, *items: dict[str, Any]) -> Path:
    file = folder / "a.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    return file


def load_soon(file: Path) -> model.LoadResult:
    start = time.process_time()
    result = manifests.load([file])
    assert time.process_time() - start < SOON
    return result


def grown_by(file: Path) -> int:
    """Return how many MB a process had at most that read a file, on its own."""
    code = "import sys; from control.source import manifests; assert not manifests.load(sys.argv[1:]).problems"
    # Not ru_maxrss: that starts from what the process had whose program this one replaced.
    peak = "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
    words = [sys.executable, "-c", f"{code}; {peak}", str(file)]
    return int(subprocess.run(words, capture_output=True, cwd=ROOT, timeout=60, check=True).stdout) >> 10


def said_soon(status: int, *words: str) -> testing.Result:
    start = time.process_time()
    answer = testing.CliRunner().invoke(cli, ["policy", *words])
    assert time.process_time() - start < SOON
    assert answer.exit_code == status
    return answer


def refused_soon(*words: str) -> str:
    return said_soon(2, *words).stderr


def port(number: int | str) -> dict[str, str]:
    return {"port": str(number), "protocol": "TCP"}


def test_a_subject_of_many_labels_and_many_ports_with_rules(tmp_path: Path) -> None:
    ports = [[port(number) for number in range(start, start + 40)] for start in range(1, 4001, 40)]
    rules = [{"toPorts": [{"ports": some, "rules": {"http": [{}]}} for some in ports]}]
    labels = {f"l{number}": "a" for number in range(8000)}
    result = load_soon(written(tmp_path, policy("p", endpointSelector={"matchLabels": labels}, ingress=rules)))
    assert result.problems == ()


def test_one_rule_of_many_ranges_and_many_ports(tmp_path: Path) -> None:
    ports = [{"ports": [port(number) for number in range(start, start + 40)]} for start in range(1, 1001, 40)]
    cidrs = [f"10.0.{number >> 8}.{number & 255}/32" for number in range(3000)]
    rule = {"toCIDR": cidrs, "toPorts": ports}
    old = written(tmp_path, pod("p"), policy("a", egress=[rule]))
    (tmp_path / "new").mkdir()
    new = written(tmp_path / "new", pod("p"), policy("a", egress=[{**rule, "toCIDR": cidrs[1:]}]))
    more, named = "CiliumNetworkPolicy/shop/a", "CiliumNetworkPolicy shop/a"
    entries = f"{more} and what else selects the same pods: more than 262,144 entries are needed (fewer or wider rules)"
    pairs = "rules come to more than 250,000 pairs of peer and port (fewer or wider rules)"
    call = ["--from", "shop/p", "--to", "10.0.0.1", "--port", "80"]
    assert refused_soon("trace", "-f", str(old), *call) == f"sockmesh: {entries}\n"
    assert refused_soon("explain", "-f", str(old), "shop/p") == f"sockmesh: {entries}\n"
    assert "10.0.0.0/21" in said_soon(0, "connectivity", "-f", str(old)).stdout
    assert refused_soon("diff", str(old), str(new)) == f"sockmesh: {old}:1: {named}: up to here {pairs}\n"


def test_rules_for_requests_of_many_peers_beside_plain_ones(tmp_path: Path) -> None:
    ports = [[port(number) for number in range(start, start + 40)] for start in range(1, 1001, 40)]
    cidrs = [f"10.0.{number >> 8}.{number & 255}/32" for number in range(3000)]
    asking = {"toCIDR": cidrs, "toPorts": [{"ports": some, "rules": {"http": [{}]}} for some in ports]}
    plain = {"toCIDR": cidrs[:1500], "toPorts": [{"ports": some} for some in ports]}
    snapshot = load_soon(written(tmp_path, pod("p"), policy("a", egress=[asking, plain]))).snapshot
    ((only, section),) = [(policy, section) for policy in snapshot.policies for section in policy.sections]
    start = time.process_time()
    rules = resolve.together([(only, section)]).rules
    assert time.process_time() - start < SOON
    assert [(rule.l7 is None, len(rule.peers or ())) for rule in rules] == [
        *[(True, 1500), (False, 1500)] * 1000,
        (True, 1500),
    ]


def test_thousands_of_rules_for_requests_that_see_none(tmp_path: Path) -> None:
    at_80 = [{"ports": [port(80)]}]
    looking = [{**at_80[0], "rules": {"http": [{"method": "GET"}]}}]
    cidrs = [[f"10.{number >> 8}.{number & 255}.0/24"] for number in range(1000)]
    items = [{"fromCIDR": cidr, "toPorts": what} for cidr in cidrs for what in (looking, at_80)]
    load_soon(written(tmp_path, *(policy(f"p{n}", ingress=items[2 * n : 2 * n + 2]) for n in range(1000))))
    # What is let through to anybody is let through to each of many.
    ports = [[port(number) for number in range(start, start + 40)] for start in range(1, 1001, 40)]
    asked = [{"ports": some, "rules": looking[0]["rules"]} for some in ports]
    many = {"fromCIDR": [cidr for each in cidrs for cidr in each], "toPorts": asked}
    plain = {"toPorts": [{"ports": some} for some in ports]}
    load_soon(written(tmp_path, policy("p", ingress=[{"toPorts": asked}, plain, many], ingressDeny=[many])))


@pytest.mark.parametrize("others", ["the same", "in another order", "one is another"])
def test_rules_for_two_kinds_of_bytes_of_many_peers_at_many_ports(tmp_path: Path, others: str) -> None:
    peers = [{"matchLabels": {"app": f"a{number}"}} for number in range(1500)]
    also = peers if others == "the same" else peers[::-1]
    if others == "one is another":
        also[0] = {"matchLabels": {"app": "z"}}
    ports = [port(number) for number in range(1, 21)]
    policies = [
        policy(name, ingress=[{"fromEndpoints": those, "toPorts": [{"ports": [at], **asked} for at in ports]}])
        for name, those, asked in (("a", peers, {"rules": {"http": [{}]}}), ("b", also, {"serverNames": ["a.org"]}))
    ]
    told = [each.message for each in load_soon(written(tmp_path, *policies)).advice]
    assert [message for message in told if "a port speaks one protocol" in message] != []
    # Where each shuts the other, neither needs a proxy.
    assert ("needs the node proxy" in str(told)) == (others == "one is another")


def test_an_explanation_beside_many_rules_for_two_kinds_of_bytes_of_nobody(tmp_path: Path) -> None:
    asked: tuple[dict[str, Any], ...] = {"rules": {"http": [{}]}}, {"serverNames": ["a.org"]}
    policies = [
        policy(f"p{number}", ingress=[{"fromEndpoints": [{"matchLabels": {"app": f"a{number}"}}],
                                       "toPorts": [{"ports": [port(80)], **asked[number % 2]}]}])
        for number in range(1600)
    ]  # fmt: skip
    file = written(tmp_path, *policies, pod("p", app="a1"))
    said_soon(0, "explain", "shop/p", "-f", str(file), "-o", "json")


def test_an_explanation_beside_many_rules_for_two_kinds_of_bytes_at_other_ports(tmp_path: Path) -> None:
    asked: tuple[dict[str, Any], ...] = {"rules": {"http": [{}]}}, {"serverNames": ["a.org"]}
    policies = [
        policy(f"p{number}", ingress=[{"fromEndpoints": [{"matchLabels": {"app": "a"}}],
                                       "toPorts": [{"ports": [port(1000 + number)], **asked[number % 2]}]}])
        for number in range(1200)
    ]  # fmt: skip
    file = written(tmp_path, *policies, pod("p", app="a"))
    said_soon(0, "explain", "shop/p", "-f", str(file), "-o", "json")


def test_rules_for_requests_beside_denies_of_many_conditions(tmp_path: Path) -> None:
    def conditions(value: int) -> dict[str, Any]:
        asked = ({"key": f"k{key}", "operator": "NotIn", "values": [str(value)]} for key in range(400))
        return {"matchExpressions": list(asked)}

    def some(first: int) -> dict[str, Any]:
        peers = [*({"matchLabels": {"app": "a", "tier": f"t{tier}"}} for tier in range(7)), {"matchLabels": {"z": "z"}}]
        ports = [port(number) for number in range(first, first + 40)]
        return {"fromEndpoints": peers, "toPorts": [{"ports": ports, "rules": {"http": [{"path": "/a"}]}}]}

    denied = {"fromEndpoints": [*map(conditions, range(7)), {"matchLabels": {"app": "a"}}]}
    rules = policy("p", ingress=[some(1 + 40 * number) for number in range(17)], ingressDeny=[denied])
    file = written(tmp_path, rules, pod("p", app="b"))
    load_soon(file)
    said_soon(0, "connectivity", str(file))


def test_who_sees_names_beside_many_denies_of_many_ranges(tmp_path: Path) -> None:
    ranges = [f"10.{number >> 8}.{number & 255}.0/24" for number in range(1000)]
    group = {"apiVersion": "cilium.io/v2", "kind": "CiliumCIDRGroup", "metadata": {"name": "g"}}

    def at_dns(**asked: Any) -> dict[str, Any]:
        ports = [{"port": "53", "protocol": "UDP"}]
        return {"toCIDRSet": [{"cidrGroupRef": "g"}], "toPorts": [{"ports": ports, **asked}]}

    asked = [at_dns(rules={"dns": [{"matchName": f"a{number}.org"}]}) for number in range(40)]
    names = {"toFQDNs": [{"matchName": "a0.org"}]}
    rules = policy("p", egress=[names, *asked], egressDeny=[at_dns()] * 40)
    file = written(tmp_path, {**group, "spec": {"externalCIDRs": ranges}}, rules, pod("p", app="a"))
    words = ("trace", "--from", "shop/p", "--to", "fqdn:a0.org", "--port", "443", "-f", str(file))
    assert "sees none of theirs" in said_soon(0, *words).stdout


def test_many_long_expressions(tmp_path: Path) -> None:
    paths = [f"/{number:04d}" + "a?" * 500 for number in range(4000)]
    again = {"toPorts": [{"ports": [port(80)], "rules": {"http": [{"path": paths[0]}] * 300}}]}
    rule = {"toPorts": [{"ports": [port(80)], "rules": {"http": [{"path": path} for path in paths]}}]}
    assert load_soon(written(tmp_path, policy("p", ingress=[again]))).problems == ()
    result = load_soon(written(tmp_path, policy("p", ingress=[again, rule])))
    assert (result.problems[0].path, result.problems[0].message) == (
        "items[0].spec.ingress[1].toPorts[0].rules.http[260].path",
        "is beyond the 262,144 characters of regular expressions that a file may have",
    )


def test_port_names_of_thousands_of_rules_for_a_wide_range(tmp_path: Path) -> None:
    cidrs = [f"10.{number >> 8}.{number & 255}.0/32" for number in range(20000)]
    rules = [{"toCIDR": ["10.0.0.0/8"], "toPorts": [{"ports": [port("web")]}]}] * 2000
    file = written(tmp_path, pod("p"), policy("a", egress=[{"toCIDR": cidrs}, *rules]))
    result = load_soon(file)
    said_soon(0, "trace", "-f", str(file), "--from", "shop/p", "--to", "10.0.0.0", "--port", "80")
    told = [each.message for each in result.advice]
    assert told == ['no Workload among its peers has a TCP port named "web", so it allows nothing (a number)'] * 2000


def test_thousands_of_selectors_that_select_nearly_everybody(tmp_path: Path) -> None:
    pods = [pod(f"p{number}", **{f"a{number}": "x"}) for number in range(2500)]
    absent = [{"matchExpressions": [{"key": f"b{number}", "operator": "DoesNotExist"}]} for number in range(9000)]
    file = written(tmp_path, *pods, policy("a", ingress=[{"fromEndpoints": absent}]))
    assert load_soon(file).advice == ()
    assert grown_by(file) < 500
