"""Rules for requests that another rule makes void: who decides then, and what is told of it."""

import copy
import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest
from click import testing

from control import model
from control.analysis import trace, world
from control.analysis.call import Call
from control.cli.main import cli
from control.policy import looking, request
from control.source import manifests
from loader import abi
from tests.unit.control.test_unserved import MISSING, POLICY, RULE, WEB, advice

ASKING = "{%stoPorts: [{ports: [{port: '80', protocol: TCP}%s], rules: {http: [{method: GET}]}}]}"
PLAIN = "{%stoPorts: [{ports: [{port: '80', protocol: TCP}]}]}"
DB = WEB.replace("web", "db")
FREED = "rules.http has no effect: spec.ingress[1] lets the same peers and ports through whatever is sent"


def rules(*items: str) -> str:
    return f"ingress: [{', '.join(items)}]"


def run(*args: object) -> testing.Result:
    return testing.CliRunner().invoke(cli, ["policy", *map(str, args)])


@pytest.mark.parametrize("peer", ["", "fromEndpoints: [{matchLabels: {app: db}}], "])
def test_the_rule_that_lets_a_request_through_is_named(tmp_path: Path, peer: str) -> None:
    told = advice(tmp_path, POLICY % ("p", "web", rules(ASKING % (peer, ""), PLAIN % peer)), WEB, DB)
    assert told == [f"{RULE}ingress[0]: {FREED} (ask for it there, too, or remove that)"]
    call = ("trace", "-f", tmp_path, "--from", "shop/db", "--to", "shop/web", "--port", "80", "-o", "json")
    for method in ("GET", "POST"):
        found = run(*call, "--method", method)
        assert (found.exit_code, json.loads(found.stdout)["ingress"]["rule"]) == (0, "spec.ingress[1]")
    explained = json.loads(run("explain", "-f", tmp_path, "shop/web", "-o", "json").stdout)
    assert {row["rule"].split()[-1] for row in explained["entries"] if row["rank"] > 1} == {"spec.ingress[1]"}
    assert [rule["freed_by"]["rule"] for rule in explained["rules"] if rule["freed_by"]] == ["spec.ingress[1]"]
    assert "for CiliumNetworkPolicy shop/p spec.ingress[1] lets" in run("explain", "-f", tmp_path, "shop/web").stdout
    # Nothing that the pairs show needs the proxy, or is for some requests only.
    pairs = run("connectivity", "-f", tmp_path)
    assert "proxy" not in pairs.output and "for which requests" not in pairs.output


def test_a_rule_of_which_something_is_left_has_an_effect(tmp_path: Path) -> None:
    more = ", {port: '81', protocol: TCP}"
    told = advice(tmp_path, POLICY % ("p", "web", rules(ASKING % ("", more), PLAIN % "")), WEB)
    why = FREED.replace("no effect", "no effect on 80/TCP")
    assert told == [
        f"{RULE}ingress[0]: {why} (ask for it there, too, or remove that)",
        f"{RULE}ingress[0]: rules.http {MISSING}",
    ]
    others = PLAIN % "fromEntities: [world], "
    told = advice(tmp_path, POLICY % ("p", "web", rules(ASKING % ("", ""), others)), WEB)
    assert told == [f"{RULE}ingress[0]: rules.http {MISSING}"]


def test_a_spec_that_refuses_nothing_looks_at_nothing(tmp_path: Path) -> None:
    spec = rules(ASKING % ("", "")) + ", enableDefaultDeny: {ingress: false}"
    assert advice(tmp_path, POLICY % ("p", "web", spec), WEB) == [
        f"{RULE}ingress[0]: rules.http has no effect: this spec refuses nothing at ingress (leave enableDefaultDeny on)"
    ]


def port(*numbers: int) -> str:
    return f"ports: [{', '.join(f'{{port: {number!r}, protocol: TCP}}' for number in map(str, numbers))}]"


def looking_at(*numbers: int) -> str:
    return f"{{{port(*numbers)}, rules: {{http: [{{method: GET}}]}}}}"


def asked(peer: str, *numbers: int) -> str:
    return f"{{{peer}toPorts: [{looking_at(*numbers)}]}}"


def let(peer: str, *numbers: int) -> str:
    return f"{{{peer}toPorts: [{{{port(*numbers)}}}]}}"


A, B, TIER = (f"fromEndpoints: [{{matchLabels: {{{label}}}}}], " for label in ("app: a", "app: b", "tier: b"))
THROUGH = "the same peers and ports through whatever is sent (ask for it there, too, or remove that)"


@pytest.mark.parametrize(
    ("items", "told"),
    [
        # Each port by who decides there.
        (
            (asked("", 80, 81, 82), let("", 80), let("", 82)),
            [("[0]", " on 80/TCP", "[1]"), ("[0]", " on 82/TCP", "[2]")],
        ),
        ((asked("", 80, 81), let("", 80), let("", 81)), [("[0]", " on 80/TCP", "[1]"), ("[0]", " on 81/TCP", "[2]")]),
        # Two items of one rule, of which one sees something.
        ((f"{{toPorts: [{looking_at(80)}, {looking_at(81)}]}}", let("", 81)), [("[0]", " on 81/TCP", "[1]")]),
        # For [0] nobody looks at what [2] would look at: [2] is without effect, [0] is not.
        ((asked("", 80), let("", 80), asked(A, 80)), [("[2]", "", "[1]")]),
        # Of other peers it lets nothing through.
        ((asked(A, 80), let(A, 80), asked(B, 80)), [("[0]", "", "[1]")]),
        # Somebody may be both.
        ((asked(A, 80), let(A, 80), asked(TIER, 80)), []),
    ],
)
def test_each_port_and_who_decides_there(
    tmp_path: Path, items: tuple[str, ...], told: list[tuple[str, str, str]]
) -> None:
    pods = (WEB.replace("web", "a"), WEB.replace("web", "b").replace("app: b", "app: b, tier: b"))
    found = advice(tmp_path, POLICY % ("p", "web", rules(*items)), WEB, *pods)
    assert [line for line in found if "no effect" in line] == [
        f"{RULE}ingress{rule}: rules.http has no effect{where}: spec.ingress{by} lets {THROUGH}"
        for rule, where, by in told
    ]


def test_each_direction_is_by_itself(tmp_path: Path) -> None:
    """What is asked of anybody at ingress frees nothing at egress, and hides nothing that is freed there."""
    to_tier, world = TIER.replace("from", "to"), "toEntities: [world], "
    wide = asked("", 80).replace("'80'", "'80', endPort: 90")
    for ingress, egress, told in (
        ((asked("", 80), let("", 80)), (asked("", 82), asked(world, 80)), ["ingress"]),
        ((asked("", 82),), (asked(to_tier, 80), let(to_tier, 80)), ["egress"]),
        ((asked("", 82),), (asked(to_tier, 80), let(to_tier, 80), wide), []),
    ):
        spec = f"ingress: [{', '.join(ingress)}], egress: [{', '.join(egress)}]"
        found = advice(tmp_path, POLICY % ("p", "web", spec), WEB)
        assert [line for line in found if "no effect" in line] == [
            f"{RULE}{way}[0]: rules.http has no effect: spec.{way}[1] lets {THROUGH}" for way in told
        ]


def test_a_deny_decides_where_there_is_one(tmp_path: Path) -> None:
    spec = f"{rules(asked('', 80), let('', 80))}, ingressDeny: [{let('', 80)}]"
    assert advice(tmp_path, POLICY % ("p", "web", spec), WEB) == [
        f"{RULE}ingress[0]: rules.http has no effect: spec.ingressDeny[0] denies the same peers and ports"
    ]


@pytest.mark.parametrize(
    ("allowed", "denied", "is_void"),
    [
        (asked(A, 80), let(A, 80), True),
        (asked(A, 80), let("", 80), True),
        (asked(A, 80), f"{{{A[:-2]}}}", True),
        (asked("", 80), let(A, 80), False),
        (asked(A, 80), let(B, 80), False),
        (asked(A, 80), let(A, 81), False),
        # Peers in wider words; in ranges, too, and in none that cuts out what is asked about.
        (asked(A, 80), let("fromEndpoints: [{}], ", 80), True),
        (asked("fromEndpoints: [{}], ", 80), let(A, 80), False),
        (asked(A, 80), let("fromEntities: [all], ", 80), True),
        (asked("fromCIDR: [10.1.0.0/16], ", 80), let("fromCIDR: [192.0.2.0/24, 10.0.0.0/8], ", 80), True),
        (asked("fromCIDR: [10.1.0.0/16], ", 80), let("fromCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.1.0/24]}], ", 80),
         False),
    ],
)  # fmt: skip
def test_a_deny_alone_decides_too(tmp_path: Path, allowed: str, denied: str, is_void: bool) -> None:
    pods = (WEB.replace("web", "a"), WEB.replace("web", "b"))
    found = advice(tmp_path, POLICY % ("p", "web", f"{rules(allowed)}, ingressDeny: [{denied}]"), WEB, *pods)
    void = f"{RULE}ingress[0]: rules.http has no effect: spec.ingressDeny[0] denies the same peers and ports"
    assert [line for line in found if "no effect" in line] == ([void] if is_void else [])


AB = "fromEndpoints: [{matchLabels: {app: a}}, {matchLabels: {app: b}}], "
RANGE = "ports: [{port: '80', endPort: 90, protocol: TCP}]"
FIRST, LAST, GAP = (RANGE.replace("80", first).replace("90", last) for first, last in
                    (("1", "84"), ("85", "90"), ("86", "90")))  # fmt: skip


@pytest.mark.parametrize(
    ("allowed", "denied", "named"),
    [
        (asked(AB, 80), (let(A, 80), let(B, 80)), (0, 1)),
        (asked(AB, 80), (let(A, 80), let(TIER, 80), let(B, 81, 80)), (0, 2)),
        (asked(AB, 80), (let(A, 80), let(AB, 80)), (1,)),
        (asked(AB, 80), (let(A, 80), let(B, 81)), ()),
        (asked(AB, 80), (let(A, 80), let(A, 80)), ()),
        (asked("", 80), (let(A, 80), let(B, 80)), ()),
        # A range of ports, by all of its peers or by each.
        *(
            (f"{{{AB}toPorts: [{{{RANGE}, rules: {{http: [{{method: GET}}]}}}}]}}",
             tuple(f"{{{peer}toPorts: [{{{at}}}]}}" for peer, at in denied), named)
            for denied, named in (
                (((AB, FIRST), (AB, LAST)), (0, 1)),
                ((("", LAST), (AB, FIRST)), (0, 1)),
                (((A, FIRST), (B, FIRST), ("", LAST)), (0, 1, 2)),
                (((A, FIRST), ("", LAST), (B, RANGE)), (0, 1, 2)),
                (((AB, FIRST), (AB, GAP)), ()),
                (((A, FIRST), (B, LAST)), ()),
            )
        ),
    ],
)  # fmt: skip
def test_denies_decide_together(tmp_path: Path, allowed: str, denied: tuple[str, ...], named: tuple[int, ...]) -> None:
    pods = (WEB.replace("web", "a"), WEB.replace("web", "b"))
    found = advice(tmp_path, POLICY % ("p", "web", f"{rules(allowed)}, ingressDeny: [{', '.join(denied)}]"), WEB, *pods)
    by = " and ".join(f"spec.ingressDeny[{number}]" for number in named)
    void = (
        f"{RULE}ingress[0]: rules.http has no effect: {by} {'deny' if named[1:] else 'denies'} the same peers and ports"
    )
    assert [line for line in found if "no effect" in line] == ([void] if named else [])


@pytest.mark.parametrize("app", ["web", "db"])
def test_a_rule_of_another_policy_for_the_same_pods(tmp_path: Path, app: str) -> None:
    pods = (WEB, DB, WEB.replace("web", "a"))
    head = f"{RULE}ingress[0]: rules.http has no effect: CiliumNetworkPolicy shop/other spec.ingress[0] lets"
    other = POLICY % ("other", app, rules(let("", 80)))
    found = advice(tmp_path, POLICY % ("p", "web", rules(asked("", 80))), other, *pods)
    assert found == [f"{head} {THROUGH}" if app == "web" else f"{RULE}ingress[0]: rules.http {MISSING}"]
    # What refuses nothing lets through what another policy would look at.
    other = POLICY % ("other", app, rules(asked("", 80)) + ", enableDefaultDeny: {ingress: false}")
    found = advice(tmp_path, POLICY % ("p", "web", rules(asked(A, 80))), other, *pods)
    why = "for that spec refuses nothing (leave enableDefaultDeny on)"
    void = [f"{head} {THROUGH.partition(' (')[0]}, {why}"]
    assert [line for line in found if line.startswith(head)] == (void if app == "web" else [])


Json = dict[str, Any]
REQUESTS = (None, request.Request("GET", "/", "", ()), request.Request("POST", "/", "", ()))


def span(first: int, last: int) -> Json:
    return {"port": str(first), "endPort": last, "protocol": "TCP"}


def some_policies(chance: random.Random) -> list[Json]:
    """Return policies in which rules meet often: few peers, few ports."""
    out: list[Json] = []
    for number in range(chance.randint(1, 2)):
        spec: Json = {"endpointSelector": chance.choice([{}, {"matchLabels": {"app": "web"}}])}
        for key in chance.sample(("ingress", "ingress", "ingress", "ingressDeny"), chance.randint(2, 4)):
            everybody: list[Json] = [{}]
            peers = chance.choice([None, everybody, *([{"matchLabels": {"app": app}}] for app in "ab")])
            items: list[Json] = []
            for ends in chance.sample([(80, 80), (81, 81), (80, 81)], chance.randint(1, 2)):
                item: Json = {"ports": [span(*ends)]}
                if key == "ingress" and chance.random() < 0.6:
                    item["rules"] = {"http": [{"method": chance.choice(["GET", "POST"])}]}
                items.append(item)
            spec.setdefault(key, []).append({"toPorts": items} | ({"fromEndpoints": peers} if peers else {}))
        if chance.random() < 0.2:
            spec["enableDefaultDeny"] = {"ingress": False}
        head = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy"}
        out.append({**head, "metadata": {"name": f"p{number}", "namespace": "shop"}, "spec": spec})
    return out


def pod(name: str) -> Json:
    metadata = {"name": name, "namespace": "shop", "labels": {"app": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": []}}


def read(path: Path, policies: list[Json]) -> model.Snapshot:
    items = [*policies, *map(pod, ("web", "a", "b"))]
    (path / "a.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    found = manifests.load([path / "a.json"])
    assert found.problems == ()
    return found.snapshot


def answers(snapshot: model.Snapshot) -> list[str]:
    known = world.World(snapshot, "default")
    web = known.end("shop/web")
    calls = itertools.product(("shop/a", "shop/b", "192.0.2.1"), (80, 81), REQUESTS)
    return [
        trace.trace(known, Call(known.end(caller), web, abi.Proto.TCP, number, asking)).verdict
        for caller, number, asking in calls
    ]


def plain_at(policies: list[Json], name: str, path: str, at: model.PortSpec) -> list[Json]:
    """Return policies of which one has no rules for requests at a port any more: anything may be sent there."""
    out = copy.deepcopy(policies)
    (spec,) = (each["spec"] for each in out if each["metadata"]["name"] == name)
    for item in spec["ingress"][int(path.partition("[")[2][:-1])]["toPorts"]:
        if item["ports"] == [span(at.first, at.last)]:
            item.pop("rules", None)
    return out


def test_what_is_without_effect_changes_nothing_where_it_is_left_out(tmp_path: Path) -> None:
    chance, told, freeing = random.Random(7), 0, 0
    for _ in range(150):
        policies = some_policies(chance)
        snapshot = read(tmp_path, policies)
        looks, before = looking.looks(snapshot, frees=True), answers(snapshot)
        for policy, rule in ((p, r) for p in snapshot.policies for s in p.sections for r in s.rules):
            for look in looks.get(id(rule), ()):
                freeing += look.frees
                if look.by and not look.frees:
                    told += 1
                    without = plain_at(policies, policy.name, rule.path, look.spec)
                    assert answers(read(tmp_path, without)) == before, (look, policies)
    assert told > 30 and freeing > 10
