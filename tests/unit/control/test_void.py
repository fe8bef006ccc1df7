"""Rules for requests that another rule makes void: who decides then, and what is told of it."""

import json
from pathlib import Path

import pytest
from click import testing

from control.cli.main import cli
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
    assert told == [f"{RULE}ingress[0]: rules.http {MISSING}"]
    others = PLAIN % "fromEntities: [world], "
    told = advice(tmp_path, POLICY % ("p", "web", rules(ASKING % ("", ""), others)), WEB)
    assert told == [f"{RULE}ingress[0]: rules.http {MISSING}"]
    # A deny frees nothing.
    denied = rules(ASKING % ("", "")) + f", ingressDeny: [{PLAIN % ''}]"
    assert not [line for line in advice(tmp_path, POLICY % ("p", "web", denied), WEB) if "no effect" in line]


def test_a_spec_that_refuses_nothing_looks_at_nothing(tmp_path: Path) -> None:
    spec = rules(ASKING % ("", "")) + ", enableDefaultDeny: {ingress: false}"
    assert advice(tmp_path, POLICY % ("p", "web", spec), WEB) == [
        f"{RULE}ingress[0]: rules.http has no effect: this spec refuses nothing at ingress (leave enableDefaultDeny on)"
    ]
