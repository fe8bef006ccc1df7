"""The conformance cases as data, for every runner: the Python evaluator, native C and the kernel.

A case is one document of cases/*.yaml:

    name: what it shows
    base: shop                  # bases/shop.yaml, declared besides
    documents: [...]            # workloads, namespaces, policies
    node: {ips: [10.78.0.254]}  # optional
    problems: [...]             # optional: the exact problems that loading must report
    checks:
    - {from: shop/web, to: [shop/api, shop/db], port: 80, protocol: TCP, egress: allowed, ingress: denied,
       rule: "NetworkPolicy shop/api spec.ingress"}

Ends are "namespace/name" (patterns as in a shell: "shop/*", "*"), IP addresses or lists of these; a pod never talks to
itself. `family: 6` takes the pods' IPv6 addresses. For ICMP, port is the type. Of several checks for the same call,
what a later one says counts, so a table can start from "everything" and name the exceptions. An end that is not checked
is left out. `rule` names what decided: the end that denies, egress first, else the ingress rule. `audited: true`: it
passes only because a policy is in audit mode.
"""

import dataclasses
import fnmatch
import itertools
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from control import model
from control.source import directory
from loader import abi

HERE = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Check:
    """One call, and what both ends must say to it: True allows, None is not asked."""

    source: str  # an IP address
    destination: str
    proto: abi.Proto
    port: int
    egress: bool | None = None
    ingress: bool | None = None
    rule: str = ""
    audited: bool = False

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
    checks: tuple[Check, ...]

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"


def cases() -> list[Case]:
    """Return every case of every file."""
    found = []
    for path in sorted((HERE / "cases").glob("*.yaml")):
        for raw in yaml.safe_load_all(path.read_text()):
            found.append(read_case(raw, path.name))
    return found


def read_case(raw: dict[str, Any], file: str) -> Case:
    """Return one case; raises ValueError for a key that no runner knows."""
    unknown = raw.keys() - {"name", "base", "documents", "node", "problems", "checks", "note"}
    if unknown:
        raise ValueError(f"{file}: unknown keys {sorted(unknown)}")
    with tempfile.TemporaryDirectory() as scratch:
        if "base" in raw:
            (Path(scratch) / "base.yaml").write_text((HERE / "bases" / f"{raw['base']}.yaml").read_text())
        (Path(scratch) / "case.yaml").write_text(yaml.safe_dump_all(raw.get("documents", []), sort_keys=False))
        result = directory.load(scratch, None)
    checks: dict[tuple[str, str, abi.Proto, int], Check] = {}
    for check in raw["checks"]:
        for one in _expand(check, result.snapshot, file):
            key = (one.source, one.destination, one.proto, one.port)
            checks[key] = _merge(checks.get(key, one), one)
    return Case(
        raw["name"],
        file,
        result.snapshot,
        tuple(map(without_line, map(str, result.problems))),
        tuple(raw.get("problems", ())),
        tuple(raw.get("node", {}).get("ips", ())),
        tuple(checks.values()),
    )


def without_line(problem: str) -> str:
    """Return a problem without its line: that of a case depends on who wrote its documents down."""
    return re.sub(r"^([^:]+):\d+: ", r"\1: ", problem)


def _merge(old: Check, new: Check) -> Check:
    egress = old.egress if new.egress is None else new.egress
    ingress = old.ingress if new.ingress is None else new.ingress
    return dataclasses.replace(new, egress=egress, ingress=ingress)


def _expand(check: dict[str, Any], snapshot: model.Snapshot, file: str) -> Iterator[Check]:
    unknown = check.keys() - {
        "from", "to", "port", "protocol", "egress", "ingress", "rule", "audited", "family",
    }  # fmt: skip
    if unknown:
        raise ValueError(f"{file}: unknown keys {sorted(unknown)} in {check}")
    answers = {"allowed": True, "denied": False, None: None}
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
                answers[check.get("egress")],
                answers[check.get("ingress")],
                check.get("rule", ""),
                check.get("audited", False),
            )


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
