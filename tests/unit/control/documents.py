"""Policy documents for tests, written as their `spec`."""

from typing import Any

import yaml

from control import model
from control.policy import field, parse
from loader import abi

IN, OUT = abi.Direction.INGRESS, abi.Direction.EGRESS
ALLOW, DENY, PROXY = abi.Verdict.ALLOW, abi.Verdict.DENY, abi.Verdict.PROXY
VERSIONS = {kind: version for version, kind in parse.KINDS}
CNP, MESH = "CiliumNetworkPolicy", "MeshNetworkPolicy"
CCNP, CLUSTER_MESH = "CiliumClusterwideNetworkPolicy", "ClusterMeshNetworkPolicy"


def document(spec: Any, kind: str = CNP) -> dict[str, Any]:
    """Return the document of a policy; `spec` may be YAML, and selects everything where it does not say whom."""
    spec = yaml.safe_load(spec) if isinstance(spec, str) else spec
    if isinstance(spec, dict) and "nodeSelector" not in spec:
        spec = {"endpointSelector": {}, **spec}
    metadata = {"name": "p"} if kind in parse.CLUSTER_WIDE else {"name": "p", "namespace": "n"}
    return {"apiVersion": VERSIONS[kind], "kind": kind, "metadata": metadata, "spec": spec}


def read(raw: dict[str, Any]) -> tuple[model.Policy | None, list[str], list[str]]:
    """Return the policy, its problems and what is advised, each as "path: message"."""
    report = field.Report("f")
    policy = parse.parse_policy(field.Field(field.Node.of(raw), "", report), raw["apiVersion"], raw["kind"])
    problems, advice = ([f"{p.path}: {p.message}" for p in each] for each in (report.problems, report.advice))
    return policy, problems, advice


def section(spec: Any, kind: str = CNP) -> tuple[model.Section, list[str]]:
    """Return the section of a document that is right, and what is advised."""
    policy, problems, advice = read(document(spec, kind))
    assert policy is not None and not problems, problems
    (only,) = policy.sections
    return only, advice


def problems(spec: Any, kind: str = CNP) -> list[str]:
    """Return the problems of a document that is wrong."""
    policy, found, _ = read(document(spec, kind))
    assert policy is None
    return found
