"""What a change opens to whom no pair shows: nodes, what has their network, and pods that no file declares."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from control.cli.main import cli


def pod(name: str, more: str = "", labels: str = "", namespace: str = "x", status: str = "") -> str:
    about = f"name: {name}, namespace: {namespace}, labels: {{{labels or f'app: {name}'}}}"
    return (
        f"---\napiVersion: v1\nkind: Pod\nmetadata: {{{about}}}\nspec: {{containers: []{more}}}\nstatus: {{{status}}}\n"
    )


def node(name: str, address: str) -> str:
    return (
        f"---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n"
        f"status: {{addresses: [{{type: InternalIP, address: {address}}}]}}\n"
    )


def namespace(name: str, labels: str) -> str:
    return f"---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n"


def network(spec: str, name: str = "np") -> str:
    kind = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy"
    return f"---\n{kind}\nmetadata: {{name: {name}, namespace: x}}\nspec: {{{spec}}}\n"


def cilium(
    spec: str, kind: str = "CiliumNetworkPolicy", name: str = "p", subject: str = "matchLabels: {app: a}"
) -> str:
    group = "sockmesh.io/v1" if "Mesh" in kind else "cilium.io/v2"
    where = "" if "Clusterwide" in kind else ", namespace: x"
    spec = f"{{endpointSelector: {{{subject}}}, {spec}}}"
    return f"---\napiVersion: {group}\nkind: {kind}\nmetadata: {{name: {name}{where}}}\nspec: {spec}\n"


def diff(tmp_path: Path, old: str, new: str) -> tuple[int, str]:
    for name, text in (("old", old), ("new", new)):
        (tmp_path / f"{name}.yaml").write_text(text)
    files = [str(tmp_path / f"{name}.yaml") for name in ("old", "new")]
    found = CliRunner().invoke(cli, ["policy", "diff", *files, "--no-new-access"])
    assert found.exit_code in (0, 1), found.output
    return found.exit_code, found.stdout


A, B = pod("a"), pod("b")
ON_HOST = pod("h", ", hostNetwork: true")
BASE = A + B + ON_HOST
OUT = "egress: [{toEntities: [world]}, {toEndpoints: [{}]}]"
IN = "ingress: [{fromEntities: [world]}, {fromEndpoints: [{}]}]"
EVERYWHERE = '{ipBlock: {cidr: 0.0.0.0/0}}, {ipBlock: {cidr: "::/0"}}'
TO_ALL = f"podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{{podSelector: {{}}}}, {EVERYWHERE}]}}]"
NODES_IN = "ingress: [{fromEntities: [remote-node]}]"
CLOSED = cilium("ingress: [{}]")


def named(port: int) -> str:
    return ON_HOST.replace("containers: []", f"containers: [{{name: c, ports: [{{name: m, containerPort: {port}}}]}}]")


def placed(name: str, where: str) -> str:
    return pod(name, f", nodeName: {where}" + (", hostNetwork: true" if name == "h" else ""))


NODES = [
    (BASE + network(TO_ALL), BASE),
    (BASE + cilium(OUT), BASE),
    (BASE + cilium(OUT), BASE + cilium(OUT + ", enableDefaultDeny: {egress: false}")),
    (BASE + cilium(OUT), BASE + cilium("egress: [{toEntities: [all]}]")),
    (BASE + cilium(OUT), BASE + cilium('egress: [{toPorts: [{ports: [{port: "0", protocol: ANY}]}]}]')),
    (BASE + cilium(IN), BASE),
    (BASE + network(TO_ALL), BASE + network("podSelector: {}, policyTypes: [Egress], egress: [{}]")),
    (BASE + network(TO_ALL), BASE + network("podSelector: {}, policyTypes: [Ingress], ingress: [{}]")),
    (BASE + cilium(OUT, "MeshNetworkPolicy"), BASE + cilium(f"audit: true, {OUT}", "MeshNetworkPolicy")),
    (BASE + cilium(OUT), BASE + cilium(OUT, subject="matchLabels: {app: z}")),
    (BASE + cilium(f"{NODES_IN}, ingressDeny: [{{fromEntities: [all]}}]"), BASE + cilium(NODES_IN)),
    (
        BASE + cilium(f"{NODES_IN}, ingressDeny: [{{fromEntities: [all]}}]"),
        BASE + cilium(f"{NODES_IN}, ingressDeny: [{{fromEntities: [world]}}]"),
    ),
    (placed("h", "n2") + placed("a", "n1") + CLOSED, placed("h", "n1") + placed("a", "n1") + CLOSED),
    (placed("h", "n2") + placed("a", "n1") + CLOSED, placed("h", "n2") + placed("a", "n2") + CLOSED),
    (placed("a", "n1") + CLOSED, placed("a", "n1") + node("n1", "10.1.1.1") + CLOSED),
]
PORT_M = "egress: [{toEntities: [remote-node], toPorts: [{ports: [{port: m, protocol: TCP}]}]}]"
TO_NODES = cilium("egress: [{toEntities: [remote-node]}]")
SHUT = cilium("egress: [{}]", name="d", subject="")
EVERYONE = cilium("egress: [{toEntities: [remote-node]}], ingress: [{}]", "CiliumClusterwideNetworkPolicy", subject="")
NODES += [
    (pod("a", labels="app: z") + ON_HOST + SHUT + TO_NODES, A + ON_HOST + SHUT + TO_NODES),
    (A + ON_HOST + EVERYONE, A + B + ON_HOST + EVERYONE),
]


def of_controller(*nodes: str, on_host: bool = False) -> str:
    """Return a controller and a pod of it on each of some nodes; "": on one that is not known."""
    network = ", hostNetwork: true" if on_host else ""
    kind, name = ("DaemonSet", "h") if on_host else ("Deployment", "a")
    made = "pod-template-hash: abc"
    owner = "ReplicaSet, name: a-abc" if kind == "Deployment" else "DaemonSet, name: h"
    template = f"{{metadata: {{labels: {{app: {name}}}}}, spec: {{containers: []{network}}}}}"
    head = f"---\napiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: x}}\n"
    return f"{head}spec: {{template: {template}}}\n" + "".join(
        pod(
            f"{name}-abc-{where or 0}", (f", nodeName: {where}" if where else "") + network, f"app: {name}, {made}"
        ).replace("labels:", f"ownerReferences: [{{kind: {owner}, controller: true}}], labels:")
        for where in nodes
    )


N1, N2 = node("n1", "10.9.0.1"), node("n2", "10.9.0.2")
OTHERS_ONLY = cilium(f"{NODES_IN}, ingressDeny: [{{fromEntities: [host]}}]")
NODES += [
    (of_controller("n1") + N2 + CLOSED, of_controller("n2") + N2 + CLOSED),
    (of_controller("n1") + N2 + CLOSED, of_controller("n1", "n2") + N2 + CLOSED),
    (of_controller() + N2 + CLOSED, of_controller("n2") + N2 + CLOSED),
    (of_controller("n1", "n2") + N2 + CLOSED, of_controller("n1", "n2") + N1 + N2 + CLOSED),
    # One whose node is not known is on another one, or on any.
    (of_controller("n2") + N2 + OTHERS_ONLY, of_controller("n2", "") + N2 + OTHERS_ONLY),
    (of_controller("") + N2 + CLOSED, of_controller("n2", "") + N2 + CLOSED),
    (of_controller("n1") + N1 + OTHERS_ONLY, of_controller("n1", "n2") + N1 + OTHERS_ONLY),
    (
        placed("a", "n1") + of_controller("n2", on_host=True) + CLOSED,
        placed("a", "n1") + of_controller("n1", "n2", on_host=True) + CLOSED,
    ),
]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (of_controller("n1", "n2") + N1 + N2 + CLOSED, of_controller("n2") + N1 + N2 + CLOSED),
        (of_controller("n1", "n2") + N1 + N2 + OTHERS_ONLY, of_controller("n2") + N1 + N2 + OTHERS_ONLY),
        (of_controller("n1", "n2") + N1 + OTHERS_ONLY, of_controller("n1") + N1 + OTHERS_ONLY),
        (of_controller("n1", "") + N1 + OTHERS_ONLY, of_controller("n1", "n2") + N1 + OTHERS_ONLY),
        (of_controller() + N1 + OTHERS_ONLY, of_controller("") + N1 + OTHERS_ONLY),
    ],
)
def test_fewer_pods_of_a_controller_open_nothing(tmp_path: Path, old: str, new: str) -> None:
    assert diff(tmp_path, old, new)[0] == 0


def test_what_has_its_nodes_network_has_no_port_by_name(tmp_path: Path) -> None:
    old, new = (A + named(port) + cilium(PORT_M) for port in (9100, 22))
    assert diff(tmp_path, old, new) == (0, "nothing is opened, nothing is closed\n")
    assert diff(tmp_path, old, A + named(9100) + cilium(PORT_M.replace("port: m", "port: '22'")))[0] == 1


@pytest.mark.parametrize(("old", "new"), NODES)
def test_nodes_and_what_has_their_network(tmp_path: Path, old: str, new: str) -> None:
    status, said = diff(tmp_path, old, new)
    assert (status, "may open, seen in no pair" in said or "+  " in said) == (1, True)
    assert diff(tmp_path, old, old) == diff(tmp_path, new, new) == (0, "nothing is opened, nothing is closed\n")


def test_who_it_is_opened_to_is_told(tmp_path: Path) -> None:
    _, said = diff(tmp_path, pod("a", labels="app: z") + SHUT + TO_NODES, A + SHUT + TO_NODES)
    assert f"may open, seen in no pair: everything to other nodes (Pod x/a, {tmp_path}/new.yaml:" in said
    _, said = diff(tmp_path, BASE + cilium(OUT), BASE + cilium(f"{OUT[:-1]}, {{toEntities: [ingress]}}]"))
    assert "may open, seen in no pair: egress to entity ingress, all ports (CiliumNetworkPolicy x/p" in said


TEAM_Q = network("podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: q}}}]}]")


@pytest.mark.parametrize("workloads", [A, ""])
def test_labels_of_a_namespace_whose_pods_are_not_declared(tmp_path: Path, workloads: str) -> None:
    given = workloads + TEAM_Q
    without, other, asked = given, given + namespace("y", "team: r"), given + namespace("y", "team: q")
    for old in (without, other):
        status, said = diff(tmp_path, old, asked)
        assert (status, "undeclared pods of namespace y" in said) == (1, True)
        assert diff(tmp_path, asked, old)[0] == 0
    assert diff(tmp_path, without, other)[0] == 0
    assert diff(tmp_path, asked, given + namespace("y", "team: q, owner: me"))[0] == 0


def let_in(*peers: str, subject: str = "") -> str:
    return network(f"podSelector: {{{subject}}}, policyTypes: [Ingress], ingress: [{{from: [{', '.join(peers)}]}}]")


def block(cidr: str) -> str:
    return f"{{ipBlock: {{cidr: {cidr}}}}}"


def denying(*peers: str) -> str:
    return cilium(
        f"ingress: [{{fromEntities: [all]}}], ingressDeny: [{{fromEndpoints: [{', '.join(peers)}]}}]", subject=""
    )


APP_A = "matchLabels: {app: a}"
APP_A_B = "matchExpressions: [{key: app, operator: In, values: [a, b]}]"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (let_in("{podSelector: {matchLabels: {app: b}}}", subject=APP_A), let_in("{podSelector: {}}", subject=APP_A)),
        (let_in("{podSelector: {}}"), let_in("{namespaceSelector: {}}")),
        (let_in("{podSelector: {}}", EVERYWHERE), ""),
        (let_in("{podSelector: {}}"), let_in("{podSelector: {}}", subject=APP_A_B)),
        (denying("{}"), denying("{matchExpressions: [{key: app, operator: Exists}]}")),
        # Only a pod with both labels was denied and is not any more.
        (
            cilium("ingress: [{fromEndpoints: [{matchLabels: {app: c}}]}]")
            + cilium("ingressDeny: [{fromEndpoints: [{matchLabels: {tier: d}}]}]", name="d"),
            cilium("ingress: [{fromEndpoints: [{matchLabels: {app: c}}]}]"),
        ),
        (let_in("{podSelector: {matchLabels: {app: c}}}"), let_in("{namespaceSelector: {matchLabels: {app: c}}}")),
    ],
)  # fmt: skip
def test_pods_that_nobody_declares_though_some_are(tmp_path: Path, old: str, new: str) -> None:
    for workloads in (A + B, A, ""):
        assert diff(tmp_path, workloads + old, workloads + new)[0] == 1
        assert diff(tmp_path, workloads + new, workloads + new)[0] == 0


def test_addresses_that_are_outside_now(tmp_path: Path) -> None:
    rule = cilium("egress: [{toCIDR: [10.0.0.0/8]}]")
    status, said = diff(tmp_path, A + pod("b", status="podIP: 10.0.0.5") + rule, A + B + rule)
    assert (status, "10.0.0.5, which was x/b's" in said) == (1, True)
    assert (
        diff(tmp_path, A + pod("b", status="podIP: 10.0.0.5") + rule, A + pod("b", status="podIP: 10.0.0.6") + rule)[0]
        == 0
    )
    for workloads in (A, ""):
        assert diff(tmp_path, workloads + node("n", "10.0.0.5") + rule, workloads + rule)[0] == 1


WEB = "{podSelector: {matchLabels: {app: b}}}"
ON_80 = 'toPorts: [{ports: [{port: "80", protocol: TCP}]}]'
NETWORK_80 = let_in(WEB, subject=APP_A).replace("}}}]}]", "}}}], ports: [{port: 80}]}]")
FROM_B = "{fromEndpoints: [{matchLabels: {app: b}}], %s}"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (let_in(WEB) + cilium(OUT), cilium(OUT) + let_in(WEB)),
        (cilium(OUT), cilium(OUT, name="other")),
        (cilium(OUT), cilium("egress: [{toEndpoints: [{}]}]")),
        (cilium(OUT), cilium("egress: [{toEntities: [world]}, {toEndpoints: [{matchLabels: {app: b}}]}]")),
        (cilium(OUT), cilium(OUT) + cilium("egressDeny: [{toEntities: [world]}]", name="d")),
        (cilium(OUT), cilium(f"{OUT}, egressDeny: [{{toEntities: [host, remote-node]}}]")),
        (cilium(OUT), cilium("egress: [{toEntities: [world]}]") + cilium("egress: [{toEndpoints: [{}]}]", name="q")),
        (cilium("egress: [{toEntities: [world]}]") + cilium("egress: [{toEndpoints: [{}]}]", name="q"), cilium(OUT)),
        (cilium(OUT), cilium(OUT) + cilium(OUT, name="q")),
        (cilium(OUT).replace("spec: {", "specs: [{").replace("]}\n", "]}]\n"), cilium(OUT)),
        (
            let_in("{podSelector: {matchExpressions: [{key: app, operator: In, values: [b, c]}]}}"),
            let_in(WEB, "{podSelector: {matchLabels: {app: c}}}"),
        ),
        (
            let_in(WEB, "{podSelector: {matchLabels: {app: c}}}"),
            let_in("{podSelector: {matchExpressions: [{key: app, operator: In, values: [c, b]}]}}"),
        ),
        (let_in(block("10.0.0.0/9"), block("10.128.0.0/9")), let_in(block("10.0.0.0/8"))),
        (cilium(f"ingress: [{FROM_B % ON_80}]"), NETWORK_80),
        (NETWORK_80, cilium(f"ingress: [{FROM_B % ON_80}]")),
        (
            cilium("ingress: [" + FROM_B % 'toPorts: [{ports: [{port: "80", endPort: 90, protocol: TCP}]}]' + "]"),
            cilium(
                "ingress: ["
                + FROM_B % 'toPorts: [{ports: [{port: "80", endPort: 85, protocol: TCP}]}]'
                + ", "
                + FROM_B % 'toPorts: [{ports: [{port: "86", endPort: 90, protocol: TCP}]}]'
                + "]"
            ),
        ),
        (let_in(WEB), let_in(WEB) + cilium("egress: [{toEndpoints: [{}]}]")),
        (let_in(WEB), let_in(WEB) + cilium("ingress: [{}]")),
    ],
)  # fmt: skip
def test_what_opens_nothing(tmp_path: Path, old: str, new: str) -> None:
    for workloads in (BASE, A + B, ""):
        status, said = diff(tmp_path, workloads + old, workloads + new)
        assert (status, said.partition("may open")[2]) == (0, "")


def test_workloads_that_open_nothing(tmp_path: Path) -> None:
    closed = network("podSelector: {}, policyTypes: [Ingress, Egress]")
    assert diff(tmp_path, A + closed, A + B + closed)[0] == 0
    for rules in (closed, let_in(WEB), cilium(OUT)):
        assert diff(tmp_path, A + B + rules, A + rules)[0] == 0
        assert diff(tmp_path, A + B + rules, A + pod("b", labels="app: b, extra: label") + rules)[0] == 0
        assert diff(tmp_path, A + B + rules, B + rules + namespace("y", "team: q") + A)[0] == 0


def test_more_kinds_of_pods_than_can_be_looked_at(tmp_path: Path) -> None:
    """Then what is not plain to see counts as opened; what is, does not."""
    keys = [f"k{i}" for i in range(12)]
    many = "".join(cilium("ingress: [{fromEndpoints: [{}]}]", name=k, subject=f"matchLabels: {{{k}: v}}") for k in keys)
    ports = [ON_80.replace("80", str(port)) for port in (80, 81)]
    both = ON_80.replace("protocol: TCP}", "endPort: 81, protocol: TCP}")
    apart = [cilium(f"ingress: [{', '.join(FROM_B % each for each in order)}]") for order in (ports, ports[::-1])]
    together = cilium(f"ingress: [{FROM_B % both}]")
    assert diff(tmp_path, A + B + apart[0], A + B + together)[0] == 0
    status, said = diff(tmp_path, A + B + many + apart[0], A + B + many + together)
    assert (status, "may open, seen in no pair: ingress from app=b namespace=x, TCP 80-81" in said) == (1, True)
    assert diff(tmp_path, A + B + many + apart[0], A + B + many + apart[1])[0] == 0
    status, said = diff(tmp_path, A + B + many, A + pod("b", labels="app: b, k1: v") + many)
    assert (status, "more kinds of these than could be looked at" in said) == (1, True)


def calling(name: str, port: int, labels: str = "") -> str:
    return pod(name, labels=labels).replace(
        "containers: []", f"containers: [{{name: c, ports: [{{name: web, containerPort: {port}}}]}}]"
    )


BY_NAME = "toPorts: [{ports: [{port: web, protocol: TCP}]}]"
OF_C = "matchLabels: {app: c}"
FROM_C = cilium(f"ingress: [{{fromEndpoints: [{{{OF_C}}}], {BY_NAME}}}]")
TO_A = cilium(f"egress: [{{toEndpoints: [{{{APP_A}}}], {BY_NAME}}}]", subject=OF_C)
TO_ANYBODY = cilium(f"egress: [{{{BY_NAME}}}]", subject=OF_C)
NOT_TO_A = cilium(
    f"enableDefaultDeny: {{egress: false}}, egressDeny: [{{toEndpoints: [{{{APP_A}}}], {BY_NAME}}}]", subject=OF_C
)


@pytest.mark.parametrize("rules", [FROM_C, TO_A, TO_ANYBODY, NOT_TO_A])
def test_a_port_name_that_is_another_number_for_pods_that_nobody_declares(tmp_path: Path, rules: str) -> None:
    old, new = calling("a", 80) + rules, calling("a", 8080) + rules
    status, said = diff(tmp_path, old, new)
    port = 80 if rules is NOT_TO_A else 8080
    assert (status, f"TCP {port} from undeclared pods of namespace x with app=c" in said) == (1, True)
    assert diff(tmp_path, A + pod("b") + rules, A + calling("b", 81) + rules)[0] == (1 if rules is TO_ANYBODY else 0)
    if rules is not NOT_TO_A:
        assert diff(tmp_path, old, A + rules)[0] == 0


def test_a_port_name_of_a_pod_that_is_gone(tmp_path: Path) -> None:
    """What pods with the same labels call so is denied at all of them."""
    old = calling("a", 80) + calling("b", 8080, "app: a") + NOT_TO_A
    status, said = diff(tmp_path, old, calling("a", 80) + NOT_TO_A)
    assert (status, "TCP 8080 from undeclared pods of namespace x with app=c" in said) == (1, True)
    assert diff(tmp_path, calling("a", 80) + calling("b", 80, "app: a") + NOT_TO_A, calling("a", 80) + NOT_TO_A)[0] == 0


@pytest.mark.parametrize("types", ["Ingress", "Egress", "Ingress, Egress"])
def test_a_new_pod_on_its_nodes_network_where_policies_only_refuse(tmp_path: Path, types: str) -> None:
    closed = network(f"podSelector: {{}}, policyTypes: [{types}]")
    status, said = diff(tmp_path, A + closed, A + ON_HOST + closed)
    assert (status, "on the network of its node, where no policy of pods holds (Pod x/h" in said) == (1, True)
    assert diff(tmp_path, A + ON_HOST + closed, A + closed)[0] == 0


def test_a_port_name_that_is_denied_to_pods_of_a_namespace_with_other_labels(tmp_path: Path) -> None:
    team_q = "{matchLabels: {io.cilium.k8s.namespace.labels.team: q}}"
    rules = A + cilium(f"enableDefaultDeny: {{egress: false}}, egressDeny: [{{toEndpoints: [{team_q}], {BY_NAME}}}]")
    denied, free = rules + namespace("y", "team: q"), rules + namespace("y", "team: r")
    status, said = diff(tmp_path, denied, free)
    assert (status, "to undeclared pods of namespace y" in said) == (1, True)
    assert diff(tmp_path, free, denied)[0] == diff(tmp_path, free, rules + namespace("y", "team: s"))[0] == 0


def api_server(ip: str) -> str:
    about = "metadata: {name: kubernetes, namespace: default}"
    return (
        f"---\napiVersion: v1\nkind: Service\n{about}\nspec: {{ports: [{{port: 443}}]}}\n"
        f"---\napiVersion: v1\nkind: Endpoints\n{about}\n"
        f"subsets: [{{addresses: [{{ip: {ip}}}], ports: [{{port: 6443}}]}}]\n"
    )


@pytest.mark.parametrize(
    "peer", ["toEntities: [kube-apiserver]", 'toEndpoints: [{matchLabels: {"reserved:kube-apiserver": ""}}]']
)
def test_an_api_server_elsewhere_for_pods_that_nobody_declares(tmp_path: Path, peer: str) -> None:
    rules = A + cilium(f"enableDefaultDeny: {{egress: false}}, egressDeny: [{{{peer}}}]", subject=OF_C)
    old, new = rules + api_server("10.2.0.1"), rules + api_server("10.2.0.2")
    status, said = diff(tmp_path, old, new)
    assert (status, "10.2.0.1" in said) == (1, True)
    assert diff(tmp_path, rules, old)[0] == 0


def test_a_node_with_other_labels_for_pods_that_nobody_declares(tmp_path: Path) -> None:
    peer = 'toEndpoints: [{matchLabels: {"reserved:remote-node": "", "k8s:role": db}}]'
    rules = A + cilium(f"enableDefaultDeny: {{egress: false}}, egressDeny: [{{{peer}}}]", subject=OF_C)
    db = node("n1", "10.9.0.1").replace("name: n1", "name: n1, labels: {role: db}")
    status, said = diff(tmp_path, rules + db, rules + db.replace("db", "web"))
    assert (status, "10.9.0.1" in said) == (1, True)
    assert diff(tmp_path, rules + db.replace("db", "web"), rules + db)[0] == 0


def test_an_address_that_is_outside_now_for_pods_that_nobody_declares(tmp_path: Path) -> None:
    rules = A + cilium("enableDefaultDeny: {egress: false}, egressDeny: [{toEndpoints: [{}]}]", subject=OF_C)
    old = rules + pod("b", status="podIP: 10.0.0.5")
    status, said = diff(tmp_path, old, rules + B)
    assert (status, "10.0.0.5, which was x/b's" in said) == (1, True)
    assert diff(tmp_path, rules + B, old)[0] == 0


def test_a_port_name_of_other_pods_with_the_same_labels(tmp_path: Path) -> None:
    """Whoever calls a pod may call what any pod with its labels calls so, and the pod itself need not."""
    shut = cilium(
        f"egress: [{{toEndpoints: [{{}}], {BY_NAME}}}], ingress: [{{fromEndpoints: [{{}}], {BY_NAME}}}]", subject=""
    )
    free = cilium(f"egress: [{{toEndpoints: [{{}}], {BY_NAME}}}], ingress: [{{fromEndpoints: [{{}}]}}]", subject="")
    for workloads in (A + calling("b", 80), A, ""):
        assert diff(tmp_path, workloads + shut, workloads + free)[0] == 1
        assert diff(tmp_path, workloads + free, workloads + shut)[0] == 0


@pytest.mark.parametrize(
    ("rules", "before", "after", "opens"),
    [
        (TO_A, "app: a, tier: t", "app: a", True),
        (TO_A, "app: b", "app: a", True),
        (TO_A, "app: a", "app: b", False),
        (NOT_TO_A, "app: a", "app: a, tier: t", True),
        (NOT_TO_A, "app: a", "app: b", True),
        (NOT_TO_A, "app: b", "app: a", False),
        (TO_ANYBODY, "app: a", "app: b", True),
        (FROM_C, "app: a, tier: t", "app: a", False),  # at ingress a name is what the pod itself calls so
        (TO_A.replace("port: web", "port: '80'"), "app: a, tier: t", "app: a", False),
    ],
)
def test_other_labels_and_the_port_names_of_undeclared_pods_with_these(
    tmp_path: Path, rules: str, before: str, after: str, opens: bool
) -> None:
    """Who has the same labels may call ports so, and no file need declare it."""
    status, said = diff(tmp_path, pod("a", labels=before) + rules, pod("a", labels=after) + rules)
    told = "may open, seen in no pair: ports that undeclared pods with its labels may call so: egress" in said
    assert (status, told) == (int(opens), opens)
    same = pod("a", labels=after) + rules
    assert diff(tmp_path, same, same)[0] == 0


def test_a_port_name_and_the_labels_of_a_namespace(tmp_path: Path) -> None:
    """All its pods have these, so those that had the same labels have them still."""
    old, new = (namespace("x", f"team: {team}") + A + TO_A for team in "ab")
    assert diff(tmp_path, old, new)[0] == 0


def test_a_pod_without_an_address_that_a_port_name_was_denied_for(tmp_path: Path) -> None:
    old, new = pod("a", status="podIP: 10.0.0.5") + NOT_TO_A, A + NOT_TO_A
    assert "undeclared pods with its labels may call so: egress to app=a" in diff(tmp_path, old, new)[1]
