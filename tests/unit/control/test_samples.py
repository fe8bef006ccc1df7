"""The sample manifests say what their comments say."""

from pathlib import Path

from control import compile as compiler
from control import evaluate, identity
from control.policy import parse
from control.source import directory
from loader import abi

SAMPLES = Path(__file__).parents[3] / "manifests" / "samples"


def test_samples() -> None:
    result = directory.load(SAMPLES, None)
    assert result.problems == ()
    assert [str(w) for w in result.snapshot.workloads] == ["lab/probe", "shop/api", "shop/db", "shop/web"]
    facts = {
        (w.namespace, w.name): compiler.EndpointFacts(i + 1, i + 1) for i, w in enumerate(result.snapshot.workloads)
    }
    desired, _, _ = compiler.compile_state(result.snapshot, identity.Allocation(), facts, compiler.NodeInfo("n"))
    view = evaluate.View(desired)
    ips = {w.name: w.ips for w in result.snapshot.workloads}
    for family in (0, 1):
        at = {name: addresses[family] for name, addresses in ips.items()}

        def allowed(source: str, destination: str, port: int, proto: abi.Proto = abi.Proto.TCP) -> bool:
            return evaluate.evaluate_pair(view, at[source], at[destination], proto, port).allowed  # noqa: B023

        assert allowed("web", "api", 8080)
        assert not allowed("web", "api", 8081)
        assert allowed("api", "db", 5432)
        assert not allowed("web", "db", 5432)
        assert not allowed("db", "web", 8080)
        assert allowed("probe", "web", 8080)
        assert not allowed("probe", "api", 8080)
        assert not allowed("web", "probe", 80)
    outside = evaluate.evaluate_pair(view, ips["web"][0], "192.0.2.1", abi.Proto.TCP, 443)
    assert outside.egress is not None and outside.egress.allowed and outside.egress.audited
    partner = evaluate.evaluate_pair(view, ips["web"][0], "198.51.100.1", abi.Proto.TCP, 443)
    assert partner.egress is not None and not partner.egress.allowed


def test_samples_show_every_kind_of_policy_and_both_ways_of_audit() -> None:
    found = directory.load(SAMPLES, None).snapshot
    kinds = {kind for _, kind in parse.KINDS}
    assert {policy.kind for policy in found.policies} == kinds
    assert [group.name for group in found.cidr_groups] == ["partners"]
    assert [namespace.name for namespace in found.namespaces if namespace.audit] == ["trial"]
