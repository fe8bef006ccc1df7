"""The conformance cases as data, for every runner: the Python evaluator, native C and the kernel.

A case is one document of cases/*.yaml:

    name: what it shows
    base: shop                  # bases/shop.yaml, declared besides
    labels: {shop/web: {...}}   # optional: more labels for workloads ("namespace/name") and namespaces of the base
    documents: [...]            # workloads, namespaces, nodes, services, CIDR groups, policies
    learned: {name: [ips]}      # optional: what DNS answers said
    node: {ips: [10.78.0.254], cidr: [10.78.0.0/16]}  # optional: its addresses, and the range of its pods
    problems: [...]             # optional: the exact problems that loading must report
    kubernetes: ...             # optional: the end-to-end case of Kubernetes that it stands for
    semantics: 5                # optional: the numbered points (one, or a list) of test_coverage.py that it shows
    kernel: ...                 # optional: why it cannot be had on the real kernel, one of KERNEL_LACKS
    checks:
    - {from: shop/web, to: [shop/api, shop/db], port: 80, protocol: TCP, egress: allowed, ingress: denied,
       rule: "NetworkPolicy shop/api spec.ingress"}

Ends are "namespace/name" (patterns as in a shell: "shop/*", "*"), IP addresses or lists of these; a pod never talks
to itself. `family: 6` takes the pods' IPv6 addresses. For ICMP, port is the type. An end says allowed, denied or
proxy: the proxy is to look into the bytes. Of several checks for the same call, what a later one says counts, so a
table can start from "everything" and name the exceptions. An end that is not checked is left out. `rule` names what
decided: the end that denies, egress first, else the ingress rule. `audited: true`: it passes only because a policy is
in audit mode.

`requests` says what the proxy lets through, each `allowed` or `denied`: {method, path, host, headers, http: allowed},
{query: "a.example.com", dns: denied} or {server: "a.example.com", tls: allowed}.
"""

import dataclasses
import fnmatch
import itertools
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from control import model
from control.policy import request
from control.source import directory
from loader import abi

HERE = Path(__file__).parent
ANSWERS = {"allowed": abi.Verdict.ALLOW, "denied": abi.Verdict.DENY, "proxy": abi.Verdict.PROXY}
KEYS = {
    "name", "base", "labels", "documents", "learned", "node", "problems", "kubernetes", "semantics", "kernel", "checks",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Asked:
    """What goes over a connection that the proxy looks into, and whether it lets it through."""

    kind: str  # http, dns or tls
    what: request.Request | str
    allowed: bool


@dataclasses.dataclass(frozen=True)
class Check:
    """One call, and what both ends must say to it; None is not asked."""

    source: str  # an IP address
    destination: str
    proto: abi.Proto
    port: int
    egress: abi.Verdict | None = None
    ingress: abi.Verdict | None = None
    rule: str = ""
    audited: bool = False
    requests: tuple[Asked, ...] = dataclasses.field(default=(), compare=False)

    def __str__(self) -> str:
        return f"{self.source} -> {self.destination}:{self.port}/{self.proto.name}"


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    file: str
    snapshot: model.Snapshot
    problems: tuple[str, ...]
    expected_problems: tuple[str, ...]
    node_ips: tuple[str, ...]
    node_cidr: tuple[str, ...]
    checks: tuple[Check, ...]
    kubernetes: str = ""
    semantics: tuple[int, ...] = ()
    kernel: str = ""  # why it cannot be had there

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"


# Why a case cannot be had on the real kernel, and what such a case has.
KERNEL_LACKS: dict[str, Callable[[Case], bool]] = {
    "no names are learned": lambda one: bool(one.snapshot.learned),
    "its node has no range of pods": lambda one: bool(one.node_cidr),
}


def cases() -> list[Case]:
    """Return every case of every file."""
    found = []
    for path in sorted((HERE / "cases").glob("*.yaml")):
        for raw in yaml.safe_load_all(path.read_text()):
            found.append(read_case(raw, path.name))
    return found


def read_case(raw: dict[str, Any], file: str) -> Case:
    """Return one case; raises ValueError for a key that no runner knows."""
    unknown = raw.keys() - KEYS
    if unknown:
        raise ValueError(f"{file}: unknown keys {sorted(unknown)}")
    documents = raw.get("documents", [])
    with tempfile.TemporaryDirectory() as scratch:
        if "base" in raw:
            (Path(scratch) / "base.yaml").write_text(yaml.safe_dump_all(base_documents(raw), sort_keys=False))
        (Path(scratch) / "case.yaml").write_text(yaml.safe_dump_all(documents, sort_keys=False))
        result = directory.load(scratch, None)
    snapshot = dataclasses.replace(result.snapshot, learned=raw.get("learned", {}))
    checks: dict[tuple[str, str, abi.Proto, int], Check] = {}
    for check in raw["checks"]:
        for one in _expand(check, snapshot, file):
            key = (one.source, one.destination, one.proto, one.port)
            checks[key] = _merge(checks.get(key, one), one)
    points = raw.get("semantics", [])
    return Case(
        raw["name"],
        file,
        snapshot,
        tuple(map(without_line, map(str, result.problems))),
        tuple(raw.get("problems", ())),
        tuple(raw.get("node", {}).get("ips", ())),
        tuple(raw.get("node", {}).get("cidr", ())),
        tuple(checks.values()),
        raw.get("kubernetes", ""),
        tuple(points if isinstance(points, list) else [points]),
        raw.get("kernel", ""),
    )


def base_documents(raw: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a case's base declares, with the labels that the case adds."""
    documents = list(yaml.safe_load_all((HERE / "bases" / f"{raw['base']}.yaml").read_text()))
    labels = dict(raw.get("labels", {}))
    for document in documents:
        metadata = document["metadata"]
        name = f"{metadata['namespace']}/{metadata['name']}" if "namespace" in metadata else metadata["name"]
        metadata["labels"] = {**metadata["labels"], **labels.pop(name, {})}
    if labels:
        raise ValueError(f"{raw['name']}: the base has no {sorted(labels)}")
    return documents


# --- checks ----------------------------------------------------------------------------------------------------------


def without_line(problem: str) -> str:
    """Return a problem without its line: that of a case depends on who wrote its documents down."""
    return re.sub(r"^([^:]+):\d+: ", r"\1: ", problem)


def _merge(old: Check, new: Check) -> Check:
    egress = old.egress if new.egress is None else new.egress
    ingress = old.ingress if new.ingress is None else new.ingress
    return dataclasses.replace(new, egress=egress, ingress=ingress)


def _expand(check: dict[str, Any], snapshot: model.Snapshot, file: str) -> Iterator[Check]:
    unknown = check.keys() - {
        "from", "to", "port", "protocol", "egress", "ingress", "rule", "audited", "family", "requests",
    }  # fmt: skip
    if unknown:
        raise ValueError(f"{file}: unknown keys {sorted(unknown)} in {check}")
    family = check.get("family", 4)
    sources = _ends(check["from"], snapshot, family)
    destinations = _ends(check["to"], snapshot, family)
    ports = check["port"] if isinstance(check["port"], list) else [check["port"]]
    for source, destination, port in itertools.product(sources, destinations, ports):
        if source != destination:
            yield Check(
                source,
                destination,
                abi.Proto[check.get("protocol", "TCP")],
                port,
                ANSWERS[check["egress"]] if "egress" in check else None,
                ANSWERS[check["ingress"]] if "ingress" in check else None,
                check.get("rule", ""),
                check.get("audited", False),
                tuple(_asked(each, file) for each in check.get("requests", ())),
            )


def _asked(raw: dict[str, Any], file: str) -> Asked:
    keys = {"http": ("method", "path", "host", "headers"), "dns": ("query",), "tls": ("server",)}
    (kind,) = keys.keys() & raw.keys()
    unknown = raw.keys() - {kind, *keys[kind]}
    if unknown:
        raise ValueError(f"{file}: unknown keys {sorted(unknown)} in {raw}")
    allowed = {"allowed": True, "denied": False}[raw[kind]]
    if kind != "http":
        return Asked(kind, raw[keys[kind][0]], allowed)
    parts = {key: raw[key] for key in keys[kind] if key in raw}
    if "headers" in parts:
        parts["headers"] = tuple(parts["headers"].items())
    return Asked(kind, request.Request(**parts), allowed)


def _ends(value: str | list[str], snapshot: model.Snapshot, family: int) -> list[str]:
    out: list[str] = []
    for item in [value] if isinstance(value, str) else value:
        if "/" not in item and item != "*":
            out.append(item)
            continue
        matching = [w for w in snapshot.workloads if fnmatch.fnmatchcase(str(w), item)]
        if not matching:
            raise ValueError(f"no workload is called {item}")
        out += [next(ip for ip in w.ips if (":" in ip) == (family == 6)) for w in matching]
    return out
