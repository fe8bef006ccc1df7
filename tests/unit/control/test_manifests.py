"""Manifests read offline: which files, which kinds, every problem of all of them, and what is used all the same."""

import io
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from control import model
from control.source import content, directory, kinds, manifests, objects

NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {}}}\n"
POLICY = (
    "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: {}}}\n"
    "spec: {{endpointSelector: {{}}, ingress: [{{{}}}]}}\n"
)
INGRESS = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: a}\nspec: {anything: 1}\n"


def names(snapshot: model.Snapshot) -> list[str]:
    return [n.name for n in snapshot.namespaces]


def lines(result: model.LoadResult, path: Path) -> list[str]:
    return [str(problem).replace(f"{path}/", "") for problem in result.problems]


def test_every_problem_of_all_files_and_what_is_good_in_them(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        NAMESPACE.format("a")
        + "---\n"
        + POLICY.format("p", "nonsense: 1, fromEndpoints: 1")
        + "---\n"
        + POLICY.format("q", "")
    )
    (tmp_path / "b.json").write_text(
        '{"apiVersion": "v1",\n "kind": "List",\n "items": [\n{"kind": 1},\n{"kind": "X"}]}'
    )
    (tmp_path / "c.yaml").write_text(
        NAMESPACE.format("c") + "---\nx: [\n---\n" + NAMESPACE.format("d") + "---\ny: {\n---\n"
    )
    result = manifests.load([tmp_path])
    told = lines(result, tmp_path)
    assert [line.partition(" (")[0] for line in told] == [
        "a.yaml:8: documents[1].spec.ingress[0].nonsense: unknown key",
        "a.yaml:8: documents[1].spec.ingress[0].fromEndpoints: must be a list, is a number",
        "b.json:4: items[0].kind: must be a string",
        "b.json:5: items[1]: apiVersion and kind are required",
        "c.yaml:6: not YAML: did not find expected node content",
        "c.yaml:12: not YAML: did not find expected node content",
    ]
    assert names(result.snapshot) == ["a", "c", "d"]
    assert [(p.name, p.invalid, p.source) for p in result.snapshot.policies] == [("q", False, f"{tmp_path}/a.yaml:10")]


def test_files_and_directories(tmp_path: Path) -> None:
    deep = tmp_path / "d" / "e"
    deep.mkdir(parents=True)
    (tmp_path / "d" / ".git").mkdir()
    for place, name in (
        ("d/z.yml", "z"),
        ("d/e/a.json", "json"),
        ("d/.git/x.yaml", "x"),
        ("d/.y.yaml", "y"),
        ("f", "f"),
    ):
        text = NAMESPACE.format(name)
        if place.endswith("json"):
            text = json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        (tmp_path / place).write_text(text)
    (tmp_path / "d" / "notes.txt").write_text("[")
    (tmp_path / "d" / "linked.yaml").symlink_to(tmp_path / "f")
    found = manifests.load([tmp_path / "d", str(tmp_path / "f"), tmp_path / "d/z.yml"])  # each file once
    assert found.problems == ()
    assert [(n.name, n.source.removeprefix(f"{tmp_path}/")) for n in found.snapshot.namespaces] == [
        ("f", "d/linked.yaml:1"), ("json", "d/e/a.json:1"), ("z", "d/z.yml:1"),
    ]  # fmt: skip


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * (content.MAX_FILE + 1))
    (tmp_path / "latin.yaml").write_bytes(b"a: b\nc: \xe9\n")
    (tmp_path / "nul.yaml").write_bytes(b"a: b\nc: \0\n")
    (tmp_path / os.fsdecode(b"odd\xff\n.yaml")).write_text("[")
    result = manifests.load([tmp_path, tmp_path / "empty", tmp_path / "gone.yaml"])
    assert lines(result, tmp_path) == [
        "fifo.yaml: is not a regular file",
        "large.yaml: is larger than 4194304 bytes (split it, or give it as JSON, of which 134217728 bytes are read)",
        "latin.yaml:2: not UTF-8 at byte 8",
        "nul.yaml:2: not YAML: unacceptable character #x0000: control characters are not allowed",
        "odd??.yaml:2: not YAML: did not find expected node content",
        "empty: has no file that ends in .yaml, .yml or .json",
        "gone.yaml: cannot be read: No such file or directory",
    ]
    assert result.snapshot == model.Snapshot()


@pytest.mark.parametrize(
    "text", ['\n {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a\\u0061"}}', NAMESPACE.format("aa")]
)
def test_standard_input(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
    assert names(manifests.load(["-"]).snapshot) == ["aa"]
    monkeypatch.setattr(sys, "stdin", None)
    (problem,) = manifests.load(["-"]).problems
    assert str(problem) == "standard input: cannot be read: it is closed (give a file, or pipe manifests in)"
    closed = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=closed))
    closed.close()
    (problem,) = manifests.load(["-"]).problems
    assert str(problem).startswith("standard input: cannot be read: ")


@pytest.mark.parametrize("text", ["", "\n"])
def test_nothing_on_standard_input_is_what_a_command_left_that_failed(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
    (problem,) = manifests.load(["-"]).problems
    assert str(problem) == "standard input: holds no document: did the command before the pipe fail?"


@pytest.mark.parametrize("text", ["", "---\n# Source: chart/templates/policy.yaml\n"])
def test_a_file_that_holds_nothing_is_a_problem_where_it_is_named(tmp_path: Path, text: str) -> None:
    """A check of what a template has made would be green for nothing."""
    file = tmp_path / "empty.yaml"
    file.write_text(text)
    named, below = manifests.load([file], must_hold=True), manifests.load([tmp_path], must_hold=True)
    assert manifests.load([file]).problems == (), "nothing may be what somebody compares with"
    (problem,) = named.problems
    assert str(problem) == f"{file}: holds no document: was something to be written into it?"
    assert below.problems == () and any("holds no document" in str(each) for each in below.advice)


def test_a_cluster_of_thousands_in_one_list(tmp_path: Path) -> None:
    def both(number: int) -> tuple[dict[str, object], ...]:
        meta, labels = {"name": f"a{number}", "namespace": "shop"}, {"app": f"a{number}", "tier": "web"}
        ports = [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "ports": ports}]}}
        rule = {"from": [{"podSelector": {"matchLabels": labels}}], "ports": [{"port": 8080, "protocol": "TCP"}]}
        spec = {"podSelector": {"matchLabels": labels}, "policyTypes": ["Ingress"], "ingress": [rule]}
        return (
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": {"template": template}},
            {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec},
        )

    items = [item for number in range(3000) for item in both(number)]
    (tmp_path / "a.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    found = manifests.load([tmp_path])
    assert found.problems == ()
    assert (len(found.snapshot.workloads), len(found.snapshot.policies)) == (3000, 3000)


@pytest.mark.parametrize("item", [POLICY.format("p", "nonsense: 1"), "a: [\n", NAMESPACE.format("Not-fine")])
def test_one_broken_document_of_many_is_the_only_one_left_out(tmp_path: Path, item: str) -> None:
    (tmp_path / "a.yaml").write_text("---\n".join([NAMESPACE.format("a"), item, NAMESPACE.format("b")]))
    result = manifests.load([tmp_path])
    assert (len(result.problems), names(result.snapshot)) == (1, ["a", "b"])


def test_the_first_of_two_with_one_name_counts(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(POLICY.format("p", "") + "---\n" + POLICY.format("p", ""))
    (tmp_path / "b.yaml").write_text("\n" + POLICY.format("p", ""))
    result = manifests.load([tmp_path])
    assert lines(result, tmp_path) == [
        "a.yaml:6: CiliumNetworkPolicy default/p is already declared in a.yaml:1",
        "b.yaml:2: CiliumNetworkPolicy default/p is already declared in a.yaml:1",
    ]
    assert [p.source for p in result.snapshot.policies] == [f"{tmp_path}/a.yaml:1"]


@pytest.mark.parametrize("item", ['"apiVersion": "v1", "kind": "Pod", ', ""])
@pytest.mark.parametrize("order", [0, 1])
def test_lists(tmp_path: Path, item: str, order: int) -> None:
    """As kubectl prints them, with the kind behind the items, and as the API gives them, with items of no kind."""
    items = f'"items": [\n{{{item}"metadata": {{"name": "a"}}, "spec": {{}}}}]'
    parts = ['"apiVersion": "v1"', f'"kind": "{"List" if item else "PodList"}"', items, '"metadata": {"continue": ""}']
    parts = [parts[0], parts[2], parts[1], parts[3]] if order else parts
    text = "{" + ", ".join(parts) + "}"
    (tmp_path / "a.json").write_text(text)
    (tmp_path / "b.yaml").write_text(text.replace('"a"', '"b"'))
    result = manifests.load([tmp_path])
    assert result.problems == ()
    assert [(w.name, w.source.rpartition("/")[2]) for w in result.snapshot.workloads] == [
        ("a", "a.json:2"),
        ("b", "b.yaml:2"),
    ]


def nested(lists: int) -> str:
    item = json.loads('{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "d"}}')
    item["spec"] = {"podSelector": {}}
    for _ in range(lists):
        item = {"apiVersion": "v1", "kind": "List", "items": [item]}
    return json.dumps(item)


@pytest.mark.parametrize("is_agent", [False, True])
def test_a_list_in_a_list_is_read_or_is_a_problem(tmp_path: Path, is_agent: bool) -> None:
    (tmp_path / "a.yaml").write_text(nested(objects.MAX_LISTS))
    result = directory.load(tmp_path, None) if is_agent else manifests.load([tmp_path])
    assert (result.problems, [p.name for p in result.snapshot.policies]) == ((), ["d"])
    (tmp_path / "a.yaml").write_text(nested(objects.MAX_LISTS + 1))
    result = directory.load(tmp_path, None) if is_agent else manifests.load([tmp_path])
    (problem,) = result.problems
    assert (problem.path, problem.message.partition(" (")[0]) == (
        ".".join(["items[0]"] * objects.MAX_LISTS),
        "more Lists one inside the other than are read",
    )


def test_json_documents_one_behind_the_other(tmp_path: Path) -> None:
    one = '{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "%s"}}\n'
    (tmp_path / "a.json").write_text(one % "a" + one % "b")
    result = manifests.load([tmp_path])
    assert result.problems == ()
    assert [n.source.rpartition("/")[2] for n in result.snapshot.namespaces] == ["a.json:1", "a.json:2"]


def test_kinds_that_mean_nothing_here_are_counted(tmp_path: Path) -> None:
    others = [
        "networking.k8s.io/v1 IngressClass", "v1 ConfigMap", "v1 ConfigMap", "cilium.io/v2 CiliumEndpoint",
        "cilium.io/v2 CiliumClusterwideEnvoyConfig", "cilium.io/v2alpha1 CiliumBGPPeeringPolicy",
        "projectcalico.org/v3 NetworkPolicy", "crd.projectcalico.org/v1 NetworkPolicy",
        "serving.knative.dev/v1 Service", "example.com/v1 Deployment",
        # Their names are like ours, or begin like them.
        "cilium.io/v2 CiliumNode", "cilium.io/v2 CiliumIdentity", "cilium.io/v2alpha1 CiliumEndpointSlice",
        "networking.gke.io/v1 Network", "crd.projectcalico.org/v1 StagedNetworkPolicy",
        "policy.networking.k8s.io/v1alpha1 AdminNetworkPolicy",
        "policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy", "authentication.istio.io/v1alpha1 MeshPolicy",
        "kuma.io/v1alpha1 MeshTrafficPermission",
        "multicluster.solo.io/v1alpha1 MeshWorkload", "policy/v1beta1 PodSecurityPolicy",
        "extensions/v1beta1 PodSecurityPolicy", "v1 PodTemplate",
    ]  # fmt: skip
    text = "---\n".join("apiVersion: {}\nkind: {}\nanything: [1]\n".format(*kind.split()) for kind in others)
    (tmp_path / "a.yaml").write_text(text + "---\n" + INGRESS)
    result = manifests.load([tmp_path])
    assert (result.problems, result.snapshot) == ((), model.Snapshot())
    assert result.skipped["v1 ConfigMap"] == 2
    assert result.skipped.keys() == {*others, "networking.k8s.io/v1 Ingress"}


def test_a_kind_in_another_case_is_named_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("apiVersion: networking.k8s.io/v1\nkind: Networkpolicy\nmetadata: {name: a}\n")
    (problem,) = manifests.load([tmp_path]).problems
    assert problem.message.endswith("; did you mean NetworkPolicy?")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cilium.io/v2 CiliumNetworkPolcy", 'unknown kind "cilium.io/v2 CiliumNetworkPolcy" ('),
        ("cilium.io/v2 CiliumClusterWideNetworkPolicy", 'unknown kind "cilium.io/v2 CiliumClusterWideNetworkPolicy" ('),
        ("cilium.io/v2 NetworkPolicy", 'unknown kind "cilium.io/v2 NetworkPolicy" ('),
        ("cilium.io/v2 CiliumCidrGroup", 'unknown kind "cilium.io/v2 CiliumCidrGroup" ('),
        ("networking.k8s.io/v1 NetworkPolicies", 'unknown kind "networking.k8s.io/v1 NetworkPolicies" ('),
        ("sockmesh.io/v1 Anything", 'unknown kind "sockmesh.io/v1 Anything" ('),
        (
            "networking.k8s.io/v1beta1 NetworkPolicy",
            'apiVersion: unknown "networking.k8s.io/v1beta1" of kind NetworkPolicy (networking.k8s.io/v1)',
        ),
        (
            "extensions/v1beta1 NetworkPolicy",
            'apiVersion: unknown "extensions/v1beta1" of kind NetworkPolicy (networking.k8s.io/v1)',
        ),
        ("v1 Deployment", 'apiVersion: unknown "v1" of kind Deployment (apps/v1)'),
        ("sockmesh.io/v2 MeshNetworkPolicy", 'apiVersion: unknown "sockmesh.io/v2" of kind MeshNetworkPolicy ('),
        ("sockmesh.io/v1 NetworkPolicy", 'apiVersion: unknown "sockmesh.io/v1" of kind NetworkPolicy ('),
        # Kinds of one group only, and what no group of others can be.
        ("Cilium.io/v2 CiliumNetworkPolicy", 'apiVersion: unknown "Cilium.io/v2" of kind CiliumNetworkPolicy ('),
        ("a.example/v2 CiliumCIDRGroup", 'apiVersion: unknown "a.example/v2" of kind CiliumCIDRGroup ('),
        ("a.example/v1 MeshNetworkPolicy", 'apiVersion: unknown "a.example/v1" of kind MeshNetworkPolicy ('),
        ("0.0.0.0/0 NetworkPolicy", 'apiVersion: unknown "0.0.0.0/0" of kind NetworkPolicy (networking.k8s.io/v1)'),
        ("Networking.k8s.io/v1 NetworkPolicy", 'apiVersion: unknown "Networking.k8s.io/v1" of kind NetworkPolicy ('),
        ("networking.k8s.o/v1 NetworkPolicy", 'apiVersion: unknown "networking.k8s.o/v1" of kind NetworkPolicy ('),
        # Both are mistyped.
        *(
            (kind, f'unknown kind "{kind}" (')
            for kind in (
                "cilium/v2 CiliumNetworkPolcy",
                "cilium/v2 CiliumNetworkPolicies",
                "a.example/v2 CiliumCidrGroup",
                "a.example/v1 MeshNetworkPolcy",
                "a.example/v1 ClusterMeshNetworkPolicies",
                "v1 NetworkPolicies",
                "extensions/v1beta1 NetworkPolcy",
                "networking.k8s.o/v1 NetworkPolicies",
                "networking/v1 NetworkPolcy",
            )
        ),
    ],
)
def test_kinds_that_were_meant_to_be_ours(tmp_path: Path, kind: str, message: str) -> None:
    (tmp_path / "a.yaml").write_text("apiVersion: {}\nkind: {}\nmetadata: {{name: a}}\n".format(*kind.split()))
    (problem,) = manifests.load([tmp_path]).problems
    assert problem.message.startswith(message)


def test_more_problems_than_anybody_reads_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("---\n".join("kind: 1\n" for _ in range(500)))
    problems = manifests.load([tmp_path]).problems
    assert (len(problems), problems[-1].message) == (101, "more problems are not told (at least 400)")


def test_what_is_taken_but_does_not_do_all_that_it_says_is_no_problem(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "apiVersion: sockmesh.io/v1\nkind: Workload\nmetadata: {name: a}\nspec: {ips: [10.0.0.1], netns: x}\n"
    )
    result = manifests.load([tmp_path])
    assert result.problems == ()
    assert [problem.path for problem in result.advice] == ["spec"]


def test_the_agent_reads_nodes_and_endpoints_but_no_pods(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "apiVersion: v1\nkind: Node\nmetadata: {name: n1, uid: x}\n"
        "status: {addresses: [{type: InternalIP, address: 10.1.0.1}]}\n"
        "---\napiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {ports: [{port: 80}]}\n"
        "---\napiVersion: v1\nkind: Endpoints\nmetadata: {name: db}\n"
        "subsets: [{addresses: [{ip: 192.0.2.1}], ports: [{port: 81}]}]\n"
        "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a, annotations: {sockmesh.io/audit: 'true'}}\n"
    )
    first = directory.load(tmp_path, None)
    assert first.problems == ()
    assert [node.ips for node in first.snapshot.nodes] == [("10.1.0.1",)]
    assert [(s.endpoints, s.ports[0].target_port) for s in first.snapshot.services] == [(("192.0.2.1",), 81)]
    assert [n.audit for n in first.snapshot.namespaces] == [True]
    (tmp_path / "b.yaml").write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {}\n")
    second = directory.load(tmp_path, first.snapshot)
    assert second.problems[0].message.startswith(f'unknown kind "v1 Pod"{kinds.TAKEN_ELSEWHERE} (')
    assert second.snapshot.nodes == first.snapshot.nodes
    another = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\n"
    (tmp_path / "b.yaml").write_text(another)
    third = directory.load(tmp_path, first.snapshot)
    assert third.problems[0].message.startswith(
        f'unknown kind "security.istio.io/v1 AuthorizationPolicy"{kinds.OF_OTHERS} ('
    )


ADMIN = "apiVersion: policy.networking.k8s.io/v1alpha1\nkind: AdminNetworkPolicy\nmetadata: {name: a}\n"
ROLLOUT = "apiVersion: {}\nkind: {}\nmetadata: {{name: a}}\nspec: {{template: {{spec: {{containers: [{{}}]}}}}}}\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (ADMIN + "---\n" + ADMIN, "documents[0]: AdminNetworkPolicy is not evaluated here: 2 of them are passed over"),
        (
            "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\n",
            "NetworkPolicy of projectcalico.org/v3 is not evaluated here: 1 of them is passed over",
        ),
        (
            'apiVersion: x.io/v1\nkind: "A\\e[1mPolicy"\n',
            '"A\\u001b[1mPolicy" is not evaluated here: 1 of them is passed over',
        ),
        (
            ROLLOUT.format("argoproj.io/v1alpha1", "Rollout"),
            "Rollout is not read, so it has no pods here: 1 of them is passed over",
        ),
        (
            ROLLOUT.format("x.io/v1", "Deployment"),
            "Deployment of x.io/v1 is not read, so it has no pods here: 1 of them is passed over",
        ),
        ("apiVersion: kyverno.io/v1\nkind: ClusterPolicy\n", ""),
        ("apiVersion: cilium.io/v2\nkind: CiliumLocalRedirectPolicy\n", ""),
        ("apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nspec: {template: 1}\n", ""),
        (INGRESS, ""),
    ],
)
def test_policies_and_pods_that_only_others_know_are_told_of(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    result = manifests.load([tmp_path])
    assert [str(a) for a in result.advice] == ([f"{tmp_path}/a.yaml:1: {told}"] if told else [])


def test_parts_of_a_chart_are_passed_over_or_told_how_to_render(tmp_path: Path) -> None:
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: c\n")
    (tmp_path / "a.yaml").write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: '{{ .Values.x }}'}\n")
    (tmp_path / "b.yaml").write_text("kind: Pod\nmetadata:\n  name: {{ .Values.x }}\n{{- if .Values.y }}\n")
    (tmp_path / "values.yaml").write_text("web: {port: 1}\n")
    result = manifests.load([tmp_path])
    told = lines(result, tmp_path)
    render = "render it first: helm template ... | sockmesh policy ... -f -)"
    assert [line.partition(":")[0] for line in told] == ["a.yaml", "b.yaml"]
    assert all(line.endswith(f" (a template? {render}") for line in told)
    assert [str(a).removeprefix(f"{tmp_path}/") for a in result.advice] == [
        f"Chart.yaml:1: has no kind, so it is passed over (part of a chart? {render}",
        f"values.yaml:1: has neither apiVersion nor kind, so it is passed over (part of a chart? {render}",
    ]


def test_what_kustomize_does_is_not_done_here(tmp_path: Path) -> None:
    for name, head in (("a", "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"), ("b", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "kustomization.yaml").write_text(f"{head}namespace: shop\nresources: [x.yaml]\n")
    render = "(render it first: kustomize build DIR | sockmesh policy ... -f -)"
    result = manifests.load([tmp_path])
    assert (result.problems, sorted(map(str, result.advice))) == (
        (),
        [
            f"{tmp_path}/a/kustomization.yaml:1: Kustomization is not applied here {render}",
            f"{tmp_path}/b/kustomization.yaml:1: has neither apiVersion nor kind, so it is passed over {render}",
        ],
    )


ANCHORED = "a: &a {b: 1}\nc: *a\nd: {<<: *a, e: [*a]}\n"


@pytest.mark.parametrize("head", ["apiVersion: v1\nkind: ConfigMap\n", "apiVersion: a.b/v1\nkind: X\n", ""])
def test_what_nobody_reads_may_have_anchors(tmp_path: Path, head: str) -> None:
    (tmp_path / "a.yaml").write_text(f"{head}{ANCHORED}---\n{NAMESPACE.format('a')}")
    result = manifests.load([tmp_path])
    assert (result.problems, names(result.snapshot)) == ((), ["a"])


@pytest.mark.parametrize(
    "head",
    [
        "apiVersion: v1\nkind: Namespace\n", "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolcy\n", "<<: *a\n",
        "apiVersion: v1\nkind: List\n", "kind: *a\n", "kind: X\n", "apiVersion: Cilium.io/v2\nkind: CiliumCIDRGroup\n",
    ],
)  # fmt: skip
def test_what_is_read_or_meant_to_be_has_no_anchors(tmp_path: Path, head: str) -> None:
    (tmp_path / "a.yaml").write_text(f"{NAMESPACE.format('a')}---\n{head}{ANCHORED}---\n{NAMESPACE.format('b')}")
    result = manifests.load([tmp_path])
    line = 5 if "*" in head else 4 + head.count("\n") + 1
    assert [(p.line, p.message) for p in result.problems] == [
        (line, "anchors and aliases are not allowed (write the value out)")
    ]
    assert names(result.snapshot) == ["a", "b"]


@pytest.mark.parametrize("text", ["Kind: A", "apiversion: A", "metadata: {}", "spec: {}", "a", "[a]"])
def test_what_may_have_been_meant_as_an_object_is_not_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    assert len(manifests.load([tmp_path]).problems) == 1


def test_the_agent_passes_nothing_over(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("web: {port: 1}")
    (problem,) = directory.load(tmp_path, None).problems
    assert problem.message == "apiVersion and kind are required"


def test_what_one_may_think_is_read_below_a_directory(tmp_path: Path) -> None:
    below, elsewhere = tmp_path / "here" / "below", tmp_path / "elsewhere"
    (below / "empty").mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "b.yaml").write_text(NAMESPACE.format("b"))
    for name in ("a.yaml", "A.YAML", "b.Yml", ".C.YAML", "d.JSON.bak"):
        (below / name).write_text(NAMESPACE.format("a"))
    (below / "link").symlink_to(elsewhere)
    (below / ".hidden").symlink_to(elsewhere)
    (below / "nothing").symlink_to(below / "empty")
    (below / "empty" / "up").symlink_to(below)
    result = manifests.load([tmp_path / "here"])
    ending = "is not read: its name must end in .yaml, .yml or .json, in lower case"
    link = "is a link to a directory, which is not read (give it with a -f of its own)"
    assert (names(result.snapshot), result.problems) == (["a"], ())
    assert [str(a).removeprefix(f"{below}/") for a in result.advice] == [
        f"A.YAML: {ending}", f"b.Yml: {ending}", f"link: {link}", f"empty/up: {link}",
    ]  # fmt: skip
    assert names(manifests.load([tmp_path / "here", below / "link"]).snapshot) == ["a", "b"]


def told_of_policy(folder: Path, metadata: str, spec: str = "endpointSelector: {}") -> list[tuple[str, str]]:
    head = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n"
    (folder / "a.yaml").write_text(f"{head}metadata: {{{metadata}}}\nspec: {{ingress: [{{}}], {spec}}}\n")
    return [(problem.path, problem.message) for problem in manifests.load([folder]).problems]


@pytest.mark.parametrize("value", ["0x10", "0777", "1_000", "9" * 35])
@pytest.mark.parametrize(
    ("metadata", "spec", "path"),
    [
        ("name: p", "endpointSelector: {matchLabels: {v: %s}}", "spec.endpointSelector.matchLabels.v"),
        (
            "name: p",
            "endpointSelector: {matchExpressions: [{key: v, operator: In, values: [%s]}]}",
            "spec.endpointSelector.matchExpressions[0].values[0]",
        ),
        ("name: p", "endpointSelector: {}, description: %s", "spec.description"),
        ("name: p, labels: {v: %s}", "endpointSelector: {}", "metadata.labels.v"),
        ("name: p, annotations: {v: %s}", "endpointSelector: {}", "metadata.annotations.v"),
    ],
)
def test_words_that_others_take_for_numbers_are_in_quotes(
    tmp_path: Path, value: str, metadata: str, spec: str, path: str
) -> None:
    message = f'invalid "{value}" (others take it for a number: write it in quotes)'
    assert told_of_policy(tmp_path, metadata.replace("%s", value), spec.replace("%s", value)) == [(path, message)]
    assert told_of_policy(tmp_path, metadata.replace("%s", f"'{value}'"), spec.replace("%s", f"'{value}'")) == []


@pytest.mark.parametrize("name", ["0777", "0x10"])
def test_names_that_others_take_for_numbers_are_in_quotes(tmp_path: Path, name: str) -> None:
    problems = told_of_policy(tmp_path, f"name: {name}, namespace: {name}")
    assert [path for path, _ in problems] == ["metadata.name", "metadata.namespace"]
    assert told_of_policy(tmp_path, f"name: '{name}', namespace: '{name}'") == []


@pytest.mark.parametrize(
    ("key", "is_right"),
    [("a", True), ("A.b/C_d", True), ("a" * 64, False), ("bad key!", False), ("a/b/c", False), ("", False)],
)
def test_keys_of_annotations(tmp_path: Path, key: str, is_right: bool) -> None:
    problems = told_of_policy(tmp_path, f"name: p, annotations: {{'{key}': x}}")
    assert [message[:23] for _, message in problems] == ([] if is_right else ["invalid annotation key "])


def test_problems_are_told_in_the_order_of_their_lines(tmp_path: Path) -> None:
    first = POLICY.format("p", "fromEntities: [all]")
    (tmp_path / "a.yaml").write_text("---\n".join([first, first, POLICY.format("Q", "fromEntities: [al]"), "a: [\n"]))
    (tmp_path / "b.yaml").write_text("kind: Namespace\nmetadata: {name: 7}\napiVersion: v1\n")
    found = manifests.load([tmp_path]).problems
    assert [(Path(problem.file).name, problem.line) for problem in found] == [
        ("a.yaml", 6), ("a.yaml", 13), ("a.yaml", 14), ("a.yaml", 17), ("b.yaml", 2),
    ]  # fmt: skip
