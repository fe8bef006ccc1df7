"""Files of any bytes: what is wrong is told with its place, in no more than a second and 500 MB, and nothing raises."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control import model
from control.policy import cilium
from control.source import directory, manifests

ROOT = Path(__file__).parents[3]
LARGE = 10_400_000  # bytes
MOST_SECONDS = 1.0  # of the processor, on a machine that does nothing else
SLOWER = 8  # a busy one: this catches a wrong order of growth, not a slow day
MOST_MEMORY = 500 << 20

MESH = "sockmesh.io/v1"
META = {"name": "a", "namespace": "shop", "labels": {"app": "web"}, "annotations": {"sockmesh.io/audit": "true"}}
CONTAINERS = [{"name": "c", "ports": [{"name": "http", "containerPort": 80, "protocol": "TCP"}]}]
POD_SPEC = {"containers": CONTAINERS, "initContainers": CONTAINERS, "hostNetwork": False, "nodeName": "n1"}
OWNER = [{"kind": "ReplicaSet", "name": "a-1", "controller": True}]
TEMPLATE = {"template": {"metadata": META, "spec": POD_SPEC}}
RULE = {
    "fromEndpoints": [
        {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}
    ],
    "toPorts": [{"ports": [{"port": "80", "protocol": "TCP", "endPort": 90}]}],
}
CILIUM_SPEC = {
    "endpointSelector": {"matchLabels": {"app": "web"}},
    "enableDefaultDeny": {"ingress": True},
    "ingress": [RULE, {"fromCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}]}],
    "egressDeny": [{"toEntities": ["world"], "icmps": [{"fields": [{"type": 8, "family": "IPv4"}]}]}],
}
PEER = {"podSelector": {}, "namespaceSelector": {"matchLabels": {"a": "b"}}}
KUBERNETES_SPEC = {
    "podSelector": {"matchLabels": {"app": "web"}},
    "policyTypes": ["Ingress"],
    "ingress": [{"from": [PEER, {"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 80, "endPort": 90}]}],
}
RIGHT: list[dict[str, Any]] = [
    {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": META, "spec": CILIUM_SPEC},
    {"apiVersion": MESH, "kind": "ClusterMeshNetworkPolicy", "metadata": {"name": "a"}, "specs": [CILIUM_SPEC]},
    {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": META, "spec": KUBERNETES_SPEC},
    {"apiVersion": MESH, "kind": "Workload", "metadata": META, "spec": {"ips": ["10.0.0.1"], "node": "n1"}},
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "annotations": META["annotations"]}},
    {"apiVersion": "v1", "kind": "Pod", "metadata": META | {"ownerReferences": OWNER}, "spec": POD_SPEC,
     "status": {"phase": "Running", "podIP": "10.0.0.9", "podIPs": [{"ip": "10.0.0.9"}]}},
    {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": META, "spec": TEMPLATE},
    {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": META, "spec": {"jobTemplate": {"spec": TEMPLATE}}},
    {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": {"a": "b"}},
     "status": {"addresses": [{"type": "InternalIP", "address": "192.168.0.1"}]}},
    {"apiVersion": "v1", "kind": "Service", "metadata": META,
     "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80, "targetPort": "http"}], "selector": {"a": "b"}}},
    {"apiVersion": "v1", "kind": "Endpoints", "metadata": META,
     "subsets": [{"addresses": [{"ip": "10.0.0.7"}], "ports": [{"name": "a", "port": 80}]}]},
    {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": META, "addressType": "IPv4",
     "endpoints": [{"addresses": ["10.0.0.7"], "conditions": {"ready": True}}], "ports": [{"name": "a", "port": 80}]},
    {"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": [{"metadata": META, "spec": POD_SPEC}]},
]  # fmt: skip

words = st.sampled_from(
    ["a", "kind", "10.0.0.0/8", "::1", "\x00", "\ud800", "é😀", "-1", "80", "", "x" * 300, "a\nb", "*"]
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inner for place in places(each, (*path, key)))]


def with_value(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    items = dict(value) if isinstance(value, dict) else list(value)
    items[path[0]] = with_value(items[path[0]], path[1:], new)
    return items


def check(result: model.LoadResult, file: Path) -> None:
    for problem in (*result.problems, *result.advice):
        assert problem.file in (str(file), file.name)
        of_all = any(words in problem.message for words in ("larger", "not told", "holds no document"))
        assert problem.line or problem.path or of_all, problem
        assert str(problem).isprintable() and len(str(problem).replace(problem.file, "")) < 1500


def load_both(file: Path) -> None:
    try:
        check(manifests.load([file]), file)
        check(directory.load(file.parent, None), file)
    finally:
        file.unlink()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bad")


@pytest.mark.parametrize("right", RIGHT, ids=lambda right: str(right["kind"]))
def test_what_is_changed_below_is_right(folder: Path, right: dict[str, Any]) -> None:
    (folder / "x.json").write_text(json.dumps(right))
    assert manifests.load([folder / "x.json"]).problems == ()
    (folder / "x.json").unlink()


@pytest.mark.parametrize("right", RIGHT, ids=lambda right: str(right["kind"]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_in_any_place(folder: Path, right: dict[str, Any], data: st.DataObject) -> None:
    wrong: Any = right
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from([place for place in places(wrong) if place]))
        wrong = with_value(wrong, path, data.draw(anything))
    file = folder / "x.json"
    file.write_text(json.dumps(wrong))
    load_both(file)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    raw=st.binary(max_size=60) | anything.map(lambda value: json.dumps(value).encode()),
    ending=st.sampled_from(["yaml", "json"]),
)
def test_any_bytes(folder: Path, raw: bytes, ending: str) -> None:
    file = folder / f"x.{ending}"
    file.write_bytes(raw)
    load_both(file)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), right=st.sampled_from(RIGHT))
def test_a_file_with_a_piece_that_is_other_bytes(folder: Path, right: dict[str, Any], data: st.DataObject) -> None:
    raw = (yaml.safe_dump(right) + "---\n" + yaml.safe_dump(RIGHT[0])).encode()
    start = data.draw(st.integers(0, len(raw)))
    piece = data.draw(
        st.binary(max_size=8) | st.sampled_from([b"&a ", b"*a", b"<<: *a\n", b"\n---\n", b"\t", b"? ", b"{" * 60])
    )
    file = folder / "x.yaml"
    file.write_bytes(raw[:start] + piece + raw[start + data.draw(st.integers(0, 40)) :])
    load_both(file)


def filled(before: str, unit: Callable[[int], str], behind: str, size: int = LARGE) -> str:
    """Return a text of a size, of units between what is before and behind."""
    out: list[str] = []
    length = len(before) + len(behind)
    while length + len(each := unit(len(out)) + ",") <= size:
        out.append(each)
        length += len(each)
    return before + "".join(out)[:-1] + behind


def of(right: dict[str, Any], marked: str) -> tuple[str, str]:
    """Return what is before and behind the place in a document that holds a mark."""
    before, _, behind = json.dumps(right).replace('"MARK"', marked, 1).partition("MARK")
    return before, behind


CILIUM = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "a"}}
LIST = {"apiVersion": "v1", "kind": "List", "items": "MARK"}
SPECS = of(CILIUM | {"specs": "MARK"}, "[MARK]")
RANGES = of(CILIUM | {"spec": {"endpointSelector": {}, "egress": [{"toCIDR": "MARK"}]}}, "[MARK]")
LABELS = of({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "labels": "MARK"}}, "{MARK}")
ITEMS = of(LIST, "[MARK]")
HEAVY: dict[str, Callable[[], str | bytes]] = {
    "ranges.json": lambda: filled(RANGES[0], lambda i: f'"10.0.{i >> 8 & 255}.{i & 255}/32"', RANGES[1]),
    "rules.json": lambda: filled(SPECS[0], lambda _: '{"endpointSelector":{},"ingres":[{}]}', SPECS[1], 1_000_000),
    "no-specs.yaml": lambda: filled(SPECS[0], lambda _: "1", SPECS[1], 230_000),
    "empty-specs.yaml": lambda: filled(SPECS[0], lambda _: "{}", SPECS[1], 345_000),
    "no-rules.yaml": lambda: filled(SPECS[0], lambda _: "{endpointSelector: {}}", SPECS[1], 900_000),
    "no-ranges.yaml": lambda: filled(RANGES[0], lambda _: "10.0.0.0/99", RANGES[1], 1_300_000),
    "labels.json": lambda: filled(LABELS[0], lambda i: f'"a{i}":""', LABELS[1]),
    "wrong-labels.json": lambda: filled(LABELS[0], lambda i: f'"-{i}":1', LABELS[1], 1_000_000),
    "others.json": lambda: filled(
        ITEMS[0], lambda i: f'{{"apiVersion":"cilium.io/v2","kind":"X{i}"}}', ITEMS[1], 1_800_000
    ),
    "numbers.json": lambda: filled(ITEMS[0], lambda _: "1", ITEMS[1]),
    "small.json": lambda: filled("[", lambda _: '{"":0}', "]", LARGE // 3),
    "empty.json": lambda: filled("[", lambda _: "{}", "]"),
    "keys.json": lambda: filled("{", lambda i: f'"{i}":1', "}"),
    "deep.json": lambda: "[" * LARGE,
    "digits.json": lambda: "9" * LARGE,
    "garbage.json": lambda: bytes(range(256)) * (LARGE // 256),
    "large.yaml": lambda: "a: b\n" * (LARGE // 5),
    "flow.yaml": lambda: filled("[", lambda _: "{}", "]", 4_100_000),
    "rules.yaml": lambda: filled(SPECS[0], lambda _: '{"endpointSelector": {}, "ingres": [{}]}', SPECS[1], 900_000),
    "documents.yaml": lambda: "---\n" * 1_000_000,
    "broken.yaml": lambda: "a: [\n---\n" * 400_000,
    "twice.yaml": lambda: "a: 1\na: 1\n---\n" * 290_000,
    "deep.yaml": lambda: "- " * 2_000_000,
    "aliases.yaml": lambda: "a: &a [1]\n" + "".join(f"{i}: [*a, *a]\n" for i in range(200_000)),
    "quotes.yaml": lambda: '"' + "\\u0041" * 600_000 + '"',
    "nul.yaml": lambda: "# \n" * 1_000_000 + "\0",
}
MEASURE = """
import re, sys, time
from control.source import manifests
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
began = time.process_time()
result = manifests.load(sys.argv[1:])
print(time.process_time() - began, peak(), len(result.problems))
"""


@pytest.mark.parametrize(
    "specs", [["1"], ["{}"], ["{endpointSelector: {}}"], ["1", "{endpointSelector: {}, ingress: [{}]}"]]
)
def test_what_nobody_would_read_of_a_policy_is_not_read(tmp_path: Path, specs: list[str]) -> None:
    head = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: a}\n"
    (tmp_path / "a.yaml").write_text(f"{head}specs: [{', '.join(specs * 5000)}]\n---\n{head}specs: [1]\n")
    with mock.patch("control.policy.cilium.read_section", wraps=cilium.read_section) as read:
        result = manifests.load([tmp_path])
    assert read.call_count < 250 and not result.snapshot.policies
    assert (len(result.problems), result.problems[-1].message[:27]) == (101, "more problems are not told ")


BIG, SHOWN = "1" * 6000, "1" * 75 + "..."
PORTS = "spec.ingress[0].toPorts[0].ports[0]"


@pytest.mark.parametrize(
    ("name", "port", "end", "told"),
    [
        ("a.json", '"80"', BIG, f'.endPort: invalid "{SHOWN}" (a number from 0 to 65535)'),
        ("a.json", '"80"', f"-{BIG}", f'.endPort: invalid "-{SHOWN[1:]}" (a number from 0 to 65535)'),
        ("a.json", '"80"', "1e999", ".endPort: must be a whole number from 0 to 65535, is far too large"),
        ("a.json", BIG, "90", ".port: must be a string, is a number (from 0 to 65535, in quotes)"),
        ("a.yaml", '"80"', BIG, f'.endPort: invalid "{SHOWN}" (a number from 0 to 65535)'),
        ("a.yaml", BIG, "90", f'.port: invalid "{SHOWN}" (a number from 0 to 65535)'),
        ("a.yaml", '"80"', "0x50", '.endPort: invalid "0x50" (a number from 0 to 65535)'),
    ],
)
def test_a_number_that_is_none_is_told_with_its_path(tmp_path: Path, name: str, port: str, end: str, told: str) -> None:
    rule = {"toPorts": [{"ports": [{"port": "PORT", "endPort": "END", "protocol": "TCP"}]}]}
    text = json.dumps(RIGHT[0] | {"spec": {"endpointSelector": {}, "ingress": [rule]}})
    (tmp_path / name).write_text(text.replace('"PORT"', port).replace('"END"', end))
    assert [str(p) for p in manifests.load([tmp_path / name]).problems] == [f"{tmp_path / name}:1: {PORTS}{told}"]


@pytest.mark.parametrize("name", HEAVY)
def test_no_file_takes_long(tmp_path: Path, name: str) -> None:
    text = HEAVY[name]()
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / name)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    seconds, memory, problems = map(float, done.stdout.split())
    assert problems or name == "others.json"
    assert seconds < MOST_SECONDS * SLOWER
    assert memory < MOST_MEMORY
