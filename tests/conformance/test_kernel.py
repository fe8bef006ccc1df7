"""Every conformance case on the real kernel: real pods, real calls, one node.

Each call is made for real: TCP connects, UDP through sendto, ICMP and SCTP as raw packets. Where a case says what only
one end decides, the other end's answer is the Python evaluator's, which test_evaluate.py holds to the same cases.
"""

import contextlib
import dataclasses
import functools
import itertools
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyroute2 import IPRoute

from control import compile as compiler
from control import evaluate, identity
from loader import abi
from tests.conformance import case
from tests.hosts import Mesh, Node, Pod
from tests.hosts.node import BRIDGE, IFA_F_NODAD
from tests.hosts.wait import wait_until
from tests.kernel.puppet import Puppet

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        os.geteuid() != 0 and not os.environ.get("SOCKMESH_REQUIRE_KERNEL"), reason="needs root: makes pods"
    ),
]
HERE = Path(__file__).parent
ALL = case.cases()
RAW = [raw for path in sorted((HERE / "cases").glob("*.yaml")) for raw in yaml.safe_load_all(path.read_text())]
CASES = [(one, raw) for one, raw in zip(ALL, RAW, strict=True) if not one.kernel]
NODE_IP = "10.78.0.254"
# Every address of a case lies in one of these, on the pods' own wire; all other addresses are the world's.
RANGES = (("10.77.255.254", 16), (NODE_IP, 16), ("fd77::fe", 32), ("fd78::fe", 32))
PODS = 9


@dataclasses.dataclass
class Town:
    """The pods that play every case's workloads, one host that plays the world, and the node itself."""

    mesh: Mesh
    pods: list[Pod]
    puppets: list[Puppet]
    world: Puppet
    node: Puppet
    tokens: Iterator[int] = dataclasses.field(default_factory=itertools.count)
    base: tuple[str, dict[str, Any]] = ("", {})  # with the labels that the case adds


def foreign_addresses() -> list[str]:
    """Return every address in the cases that is neither a workload's nor the node's."""
    out: set[str] = set()
    for one, _ in CASES:
        own = {ip for w in one.snapshot.workloads for ip in w.ips} | {NODE_IP}
        out |= {ip for check in one.checks for ip in (check.source, check.destination)} - own
    return sorted(out)


def workloads(name: str) -> list[dict[str, Any]]:
    return [document for document in case.base_documents({"base": name}) if document["kind"] == "Workload"]


def add_addresses(host: Pod, ips: list[tuple[str, int]]) -> None:
    with IPRoute(netns=host.netns) as ipr:
        index = ipr.link_lookup(ifname="eth0")[0]
        for ip, length in ips:
            ipr.addr("add", index=index, address=ip, prefixlen=length, flags=IFA_F_NODAD if ":" in ip else 0)


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    with Node("town") as node:
        with IPRoute(netns=node.netns) as ipr:
            bridge = ipr.link_lookup(ifname=BRIDGE)[0]
            for ip, length in RANGES:
                ipr.addr("add", index=bridge, address=ip, prefixlen=length, flags=IFA_F_NODAD if ":" in ip else 0)
        pods = [node.pod(f"p{i}") for i in range(PODS)]
        for base in sorted(path.stem for path in (HERE / "bases").glob("*.yaml")):
            for pod, workload in zip(pods, workloads(base), strict=False):
                add_addresses(pod, [(ip, 32 if ":" in ip else 16) for ip in workload["spec"]["ips"]])
        world = node.pod("world")
        foreign = foreign_addresses()
        add_addresses(world, [(ip, 128 if ":" in ip else 32) for ip in foreign])
        with IPRoute(netns=node.netns) as ipr:
            for ip in foreign:
                ipr.route("add", dst=f"{ip}/{128 if ':' in ip else 32}", gateway=world.ip6 if ":" in ip else world.ip)
        puppets = [Puppet(host, ears=True) for host in (*pods, world, node)]
        with Mesh(node, pods=[], args=["--node-ip", NODE_IP]) as mesh:
            yield Town(mesh, pods, puppets[:PODS], puppets[PODS], puppets[PODS + 1])


def apply_case(town: Town, one: case.Case, raw: dict[str, Any]) -> dict[str, Puppet]:
    """Put a case in force; return who plays each of its addresses."""
    of_base = case.base_documents(raw)
    players: dict[str, Puppet] = {}
    for number, document in enumerate(d for d in of_base if d["kind"] == "Workload"):
        pod = town.pods[number]
        document["spec"] |= {"netns": pod.netns, "interface": pod.interface, "cgroup": pod.cgroup}
        players |= dict.fromkeys(document["spec"]["ips"], town.puppets[number])
    base = (raw["base"], raw.get("labels", {}))
    if town.base[0] != base[0]:
        withdraw(town, "case", "base")
    if town.base != base:
        town.mesh.apply("base", *of_base)
        town.base = base
    is_broken = any("until it is mended" in problem for problem in one.expected_problems)
    if is_broken:  # what a broken file closes, it closes at the first start
        town.mesh.stop()
        place = ["--run-dir", str(town.mesh.run_dir), "--pin-dir", str(town.mesh.node.pins)]
        town.mesh.node.run([sys.executable, "-m", "control.cli.main", "uninstall", "--pins", *place])
    if documents := raw.get("documents"):
        town.mesh.apply("case", *documents)
    else:
        withdraw(town, "case")
    if is_broken:
        town.mesh.start()
    answer = town.mesh.call("reconcile")
    # By line in the agent's words, and the file written here has its keys in another order.
    assert sorted(map(case.without_line, answer["problems"])) == sorted(one.expected_problems)
    return players


def withdraw(town: Town, *names: str) -> None:
    for name in names:
        if (town.mesh.config / f"{name}.yaml").exists():
            town.mesh.delete(name)
    town.mesh.settle()


def expected(one: case.Case) -> dict[case.Check, bool]:
    """Return whether each call gets through: both ends must allow it."""
    facts = {(w.namespace, w.name): compiler.EndpointFacts(1, 2, 3, True) for w in one.snapshot.workloads}
    node = compiler.NodeInfo("node", one.node_ips or (NODE_IP,))
    view = evaluate.View(compiler.compile_state(one.snapshot, identity.Allocation(), facts, node)[0])
    out = {}
    for check in one.checks:
        pair = evaluate.evaluate_pair(view, check.source, check.destination, check.proto, check.port)
        ends = [(check.egress, pair.egress), (check.ingress, pair.ingress)]
        # What the proxy must look at is refused while there is none.
        out[check] = all(
            wanted == abi.Verdict.ALLOW if wanted is not None else not found or found.allowed for wanted, found in ends
        )
    return out


def make_calls(
    town: Town, players: dict[str, Puppet], checks: list[case.Check], wait: float
) -> tuple[dict[case.Check, str], dict[case.Check, str]]:
    """Make the calls, all callers at the same time; return what each said, and the tokens of the datagrams."""
    by_caller: dict[Puppet, list[case.Check]] = defaultdict(list)
    for check in checks:
        by_caller[player(town, players, check.source)].append(check)
    tokens = {check: str(next(town.tokens)) for check in checks if check.proto.name != "TCP"}
    for caller, mine in by_caller.items():
        attempts = [
            {"proto": c.proto.name, "source": c.source, "target": c.destination, "port": c.port, "token": tokens.get(c)}
            for c in mine
        ]
        caller.start("result = call(attempts, wait)", attempts=attempts, wait=wait)
    said: dict[case.Check, str] = {}
    for caller, mine in by_caller.items():
        said |= dict(zip(mine, caller.answer(), strict=True))
    return said, tokens


def player(town: Town, players: dict[str, Puppet], ip: str) -> Puppet:
    return players.get(ip) or (town.node if ip == NODE_IP else town.world)


def differences(town: Town, players: dict[str, Puppet], calls: dict[case.Check, bool], wait: float) -> dict[Any, str]:
    """Make the calls and return those that did not go as they should, with what happened instead."""
    said, tokens = make_calls(town, players, list(calls), wait)

    def missing() -> dict[case.Check, str]:
        heard: dict[Puppet, set[str]] = {}
        out = {}
        for check, token in tokens.items():
            target = player(town, players, check.destination)
            if target not in heard:
                heard[target] = set(target.do("result = heard()"))
            if (token in heard[target]) != calls[check]:
                out[check] = f"{'not ' if calls[check] else ''}heard (the caller saw {said[check]})"
        return out

    wrong: dict[Any, str] = {}
    if tokens:
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not any(calls[check] for check in missing()), "every datagram has arrived", wait)
        wrong |= missing()
    for check, what in said.items():
        # Nobody listens: a refusal is the far end's own answer, so both ways are open.
        if check.proto.name == "TCP" and (what == "ECONNREFUSED") != calls[check]:
            wrong[check] = what
        elif check.proto.name in ("TCP", "UDP") and not calls[check] and check.source in players and what != "EPERM":
            wrong[check] = f"{what}, not EPERM at once"
    return wrong


@pytest.mark.parametrize(("one", "raw"), CASES, ids=[str(one) for one, _ in CASES])
def test_case(town: Town, one: case.Case, raw: dict[str, Any]) -> None:
    players = apply_case(town, one, raw)
    calls = expected(one)
    wrong = differences(town, players, calls, 0.3)
    if wrong:  # a busy machine: once more, with time
        wrong = differences(town, players, {check: calls[check] for check in wrong}, 3.0)
    assert not {str(check): what for check, what in wrong.items()}
    for check in one.checks:
        if check.audited:
            town.mesh.wait_flow(functools.partial(tells_audit, check), f"the record of the audited call {check}")


def tells_audit(check: case.Check, flow: dict[str, Any]) -> bool:
    ends = (flow["IP"]["source"], flow["IP"]["destination"])
    return flow["verdict"] == "AUDIT" and ends == (check.source, check.destination)
