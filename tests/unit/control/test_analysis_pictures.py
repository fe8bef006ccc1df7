"""Pictures: every connection is in them, wires lie apart, and the text is one that can be read."""

import itertools
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control import model
from control.analysis import connectivity, dot, proxied
from control.analysis.picture import arrange, bundle, route, svg
from control.analysis.picture.bundle import Bundle, Item, Opened
from tests.unit.control import test_analysis_beside as rules
from tests.unit.control import test_compile_random as world
from tests.unit.control.test_analysis_connectivity import Doc, snapshot, workload

DB_ONLY = {"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress", "Egress"],
           "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 5432}]}]}  # fmt: skip


def shop(*names: str) -> connectivity.Connectivity:
    return connectivity.analyse(snapshot([workload(name, "Deployment") for name in names], DB_ONLY))


def test_the_graph_has_a_box_a_namespace_and_one_arrow_for_both_directions() -> None:
    assert "".join(dot.graph(shop("web", "api", "db"))).splitlines() == [
        "digraph connectivity {",
        "  rankdir=LR;",
        "  node [shape=box, style=rounded];",
        "  compound=true;",
        "  subgraph cluster_0 {",
        '    label="shop";',
        '    "Deployment shop/api" [label="api\\nDeployment"];',
        '    "Deployment shop/db" [label="db\\nDeployment"];',
        '    "Deployment shop/web" [label="web\\nDeployment"];',
        "  }",
        '  "Deployment shop/api" -> "Deployment shop/db" [label="TCP 5432"];',
        '  "Deployment shop/api" -> "Deployment shop/web" [label="all", dir=both];',
        '  "Deployment shop/api" -> "0.0.0.0/0 ::/0" [label="all", dir=both];',
        '  "Deployment shop/web" -> "Deployment shop/db" [label="TCP 5432"];',
        '  "Deployment shop/web" -> "0.0.0.0/0 ::/0" [label="all", dir=both];',
        '  "0.0.0.0/0 ::/0" [label="the outside", shape=ellipse];',
        "}",
    ]


def test_names_cannot_steer_a_picture() -> None:
    found = connectivity.analyse(model.Snapshot((model.Workload('n<&"', 'a"\\N<script>', {}, "default"),)))
    assert '[label="a\\"\\\\N<script>"]' in "".join(dot.graph(found))
    drawn = svg.picture(found)
    assert "<script>" not in drawn
    assert "".join(ET.fromstring(drawn).itertext()).count("script") == 3  # the node's name, its title and its wire's


def test_what_is_cut_is_whole_in_a_title() -> None:
    namespace = "a-namespace-with-a-name-that-is-longer-than-its-box"
    spec = {"podSelector": {}, "policyTypes": ["Egress"],
            "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}]}  # fmt: skip
    one = snapshot([workload("web", namespace=namespace)], spec, namespace=namespace)
    titles = {
        title.text for title in ET.fromstring(svg.picture(connectivity.analyse(one))).iter() if "title" in title.tag
    }
    assert {namespace, "10.0.0.0/8 except 10.1.0.0/16"} <= titles


def test_no_range_of_a_node_is_hidden_behind_what_another_lacks() -> None:
    blocks = [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}, {"ipBlock": {"cidr": "fd00::/8"}}]
    spec = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": blocks}]}
    drawn = ET.fromstring(svg.picture(connectivity.analyse(snapshot([workload("web")], spec))))
    texts = {"".join(each.itertext()) for each in drawn.iter() if each.tag.endswith("text")}
    assert {"10.0.0.0/8, fd00::/8", "except 10.1.0.0/16"} <= texts


def test_replicas_are_one_node_and_arrows_that_say_the_same_one_net() -> None:
    pods = [model.Workload("shop", f"web-{i}", {"app": "web"}, "default") for i in range(3)]
    shown = bundle.bundle(connectivity.analyse(snapshot([*pods, workload("api"), workload("db")], DB_ONLY)))
    assert [[str(end) for end in node.ends] for node in shown.nodes] == [
        ["shop/api"], ["shop/db"], ["shop/web-0", "shop/web-1", "shop/web-2"], ["the outside"],
    ]  # fmt: skip
    assert [(net.senders, net.receivers, str(net.ports), net.is_mutual) for net in shown.nets] == [
        ((Item(0), Item(2)), (Item(1),), "TCP 5432", False),
        ((Item(0), Item(2), Item(3)), (Item(0), Item(2), Item(3)), "all", True),
    ]


def spelled_out(shown: Bundle) -> dict[tuple[int, int], Opened]:
    """Return what nets say, pair by pair; each pair must be said once."""

    def nodes(item: Item) -> list[int]:
        return [item.node] if item.node >= 0 else [n for n, node in enumerate(shown.nodes) if node.box == item.box]

    out: dict[tuple[int, int], Opened] = {}
    for box, ports in shown.among.items():
        out.update((pair, ports) for pair in itertools.permutations(nodes(Item(-1, box)), 2))
    for net in shown.nets:
        ways = [(net.senders, net.receivers)]
        if net.is_mutual and net.senders != net.receivers:
            ways.append((net.receivers, net.senders))
        for senders, receivers in ways:
            for a, b in itertools.product(senders, receivers):
                for pair in itertools.product(nodes(a), nodes(b)) if a != b else ():
                    assert pair not in out
                    out[pair] = net.ports
    return out


def check(found: connectivity.Connectivity) -> None:
    shown = bundle.bundle(found)
    assert spelled_out(shown) == shown.pairs
    grid = arrange.arrange(shown)
    cells = [(area.row, area.column) for area in grid.cells]
    assert len(set(cells)) == len(cells) == len(shown.nodes)
    top = min((area.row for area in grid.boxes.values()), default=grid.rows)
    for (row, column), node in zip(cells, shown.nodes, strict=True):
        box = grid.boxes[node.box] if node.box is not None else arrange.Area(0, 0, top, grid.columns)
        assert box.row <= row < box.row + box.rows
        assert box.column <= column < box.column + box.columns
    routes = route.route(shown, grid)
    for runs in ([each.rows for each in routes.routes], [each.columns for each in routes.routes]):
        for one, other in itertools.combinations(itertools.chain(*runs), 2):
            is_apart = one.last < other.first or other.last < one.first
            assert is_apart or (one.channel, one.track) != (other.channel, other.track)
    for each in routes.routes:
        assert {pin.item for pin in each.pins} == {*each.net.senders, *each.net.receivers}
        assert {pin.item for pin in each.pins if pin.head} >= set(each.net.receivers)
    drawn = svg.picture(found)
    ET.fromstring(drawn)
    assert drawn == svg.picture(found)


@pytest.mark.timeout(600)
@settings(max_examples=60, deadline=None)
@given(st.lists(world.policies(), max_size=4))
def test_random_pictures_say_what_is_allowed_and_wires_lie_apart(docs: list[Doc]) -> None:
    docs = [{**doc, "metadata": {**doc["metadata"], "name": f"p{i}"}} for i, doc in enumerate(docs)]
    check(connectivity.analyse(world.read(docs)))


def test_small_worlds() -> None:
    check(shop())
    check(shop("web"))
    check(shop("web", "db"))
    check(shop(*(f"w{i}" for i in range(40)), "db"))


def test_many_workloads_are_shown_by_namespace_and_very_many_as_squares() -> None:
    def namespaces(count: int) -> connectivity.Connectivity:
        names = [(f"n{n:03}", f"w{i}") for n in range(count) for i in range(3)]
        workloads = [model.Workload(n, w, {"app": w, "in": n}, "default", kind="Deployment") for n, w in names]
        policies = tuple(
            policy
            for n in range(count)
            for policy in snapshot(
                [],
                *({"podSelector": {"matchLabels": {"app": f"w{i}"}}, "policyTypes": ["Ingress"],
                   "ingress": [{"ports": [{"port": i + 1}]}]} for i in range(3)),
                namespace=f"n{n:03}",
            ).policies
        )  # fmt: skip
        return connectivity.analyse(model.Snapshot(tuple(workloads), policies=policies))

    by_namespace = bundle.bundle(namespaces(21))
    assert by_namespace.is_by_namespace
    assert {str(node.among) for node in by_namespace.nodes[:-1]} == {"TCP 1-3"}
    assert len(by_namespace.nodes) == 22
    assert {str(ports) for ports in by_namespace.pairs.values()} == {"TCP 1-3", "all"}
    assert not bundle.bundle(namespaces(70)).nets
    assert "Rows may open to columns" in svg.picture(namespaces(70))


def test_of_alike_workloads_those_that_need_the_proxy_are_apart() -> None:
    """Also where nodes are namespaces, and in the squares."""
    tcp = {"ports": [{"port": "80", "protocol": "TCP"}]}
    rule: Doc = {"fromEntities": ["all"], "toPorts": [tcp | {"rules": {"http": [{"method": "GET"}]}}]}
    policies = [
        rules.snapshot({"ingress": [each]}, name=name, endpointSelector={"matchLabels": {"app": name}}).policies
        for name, each in (("a", rule), ("b", {**rule, "toPorts": [tcp]}))
    ]
    for count in (1, 70):
        pods = [model.Workload("shop", f"w-{i}{app}", {"app": app}, "default") for app in "ab" for i in range(2)]
        pods += [
            model.Workload(f"n{n:02}", f"x{i}{n}", {"n": str(n), "i": str(i)}) for n in range(count - 1) for i in "01"
        ]
        world_ = model.Snapshot(tuple(pods), policies=tuple(itertools.chain(*policies)))
        found = connectivity.analyse(world_)
        shown = bundle.bundle(found, proxied.Proxied(world_, found))
        told = {" ".join(map(str, shown.nodes[b].ends)): str(o.proxied) for (_, b), o in shown.pairs.items()}
        if count == 1:
            assert (told["shop/w-0a shop/w-1a"], told["shop/w-0b shop/w-1b"]) == ("TCP 80", "nothing")
        else:
            assert told["shop/w-0a shop/w-0b shop/w-1a shop/w-1b"] == "TCP 80" and set(told.values()) == {
                "TCP 80",
                "nothing",
            }
            assert "with a hole" in svg.picture(found, proxied.Proxied(world_, found))
            assert "with a hole" not in svg.picture(found)


def test_long_names_leave_room_for_what_a_namespace_may_do_itself() -> None:
    name = "team-00-payments-production-eu-central-1"
    pods = [workload(each, namespace=name) for each in ("web", "db")]
    inside = {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": {}}]}]}
    to_web = {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"], "ingress": [{}]}
    drawn = svg.picture(connectivity.analyse(snapshot(pods, inside, to_web, namespace=name)))
    assert ">each other: all<" in re.sub(r"<title>[^<]*</title>", "", drawn)
    assert re.search(r">team-00[^<]*…[^<]*-1<", drawn)
