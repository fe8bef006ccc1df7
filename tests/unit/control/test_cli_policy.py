"""`sockmesh policy`: files in, answers and exit statuses out."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from click import testing

from control.cli.main import cli
from control.source import directory, kinds
from tests.unit.control.test_analysis_connectivity import pod, tcp

WORKLOADS = """
apiVersion: sockmesh.io/v1
kind: Workload
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {ips: [10.0.0.1], node: elsewhere}
---
apiVersion: sockmesh.io/v1
kind: Workload
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {ips: [10.0.0.2], node: elsewhere}
"""
POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: all, namespace: shop}
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
  egress: [{to: [{podSelector: {}}]}]
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: PORT}]}]
"""
OPEN_80 = [{"from": pod("web"), "to": pod("db"), "allowed": tcp(80)}]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return manifests(tmp_path / "old", "80")


def manifests(directory: Path, port: str) -> Path:
    directory.mkdir()
    (directory / "workloads.yaml").write_text(WORKLOADS)
    (directory / "policy.yaml").write_text(POLICY.replace("PORT", port))
    return directory


def run(*args: object) -> testing.Result:
    return testing.CliRunner().invoke(cli, ["policy", *map(str, args)])


def test_connectivity_in_every_form(old: Path) -> None:
    as_json = run("connectivity", "-f", old, "-o", "json")
    assert (as_json.exit_code, json.loads(as_json.stdout)) == (0, {"connections": OPEN_80})
    table = run("connectivity", "-f", old).stdout.splitlines()
    assert [line.split() for line in table] == [["FROM", "TO", "ALLOWED"], ["shop/web", "shop/db", "TCP", "80"]]
    assert run("connectivity", "-f", old, "-o", "dot").stdout.startswith("digraph")
    drawn = run("connectivity", "-f", old, "-o", "svg").stdout
    assert drawn.startswith("<svg") and "proxied" not in drawn.partition("</style>")[2] and "Dashed" not in drawn
    files = run("connectivity", "-f", old / "workloads.yaml", "-f", old / "policy.yaml", "-o", "json")
    assert files.stdout == as_json.stdout


def test_only_what_is_asked_about(old: Path) -> None:
    whole = json.loads(run("connectivity", "-f", old, "-o", "json").stdout)["connections"]

    def asked(*args: str) -> list[Any]:
        found: list[Any] = json.loads(run("connectivity", "-f", old, "-o", "json", *args).stdout)["connections"]
        return found

    assert asked("--to", "shop/db") == [each for each in whole if each["to"].get("name") == "db"] != []
    assert asked("--from", "shop") == [each for each in whole if each["from"].get("namespace") == "shop"] != []
    assert asked("--from", "shop/web", "--to", "shop/db") == [
        each for each in whole if (each["from"].get("name"), each["to"].get("name")) == ("web", "db")
    ]
    refused = run("connectivity", "-f", old, "--to", "shop/nobody")
    assert refused.exit_code == 2
    assert "--to shop/nobody: no workload or namespace is called so (shop)" in refused.stderr
    assert run("connectivity", "-f", old, "--to", "shop", "-o", "svg").exit_code == 2


def test_nobody_may_talk_to_anybody(old: Path) -> None:
    (old / "workloads.yaml").unlink()
    assert (
        run("connectivity", "-f", old).stdout == "no pairs: the files declare no workloads (Pods, Deployments, ...)\n"
    )
    assert json.loads(run("connectivity", "-f", old, "-o", "json").stdout) == {"connections": []}


def test_a_file_that_is_wrong_ends_it_before_anything_is_said(old: Path) -> None:
    (old / "wrong.yaml").write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: 7}\n")
    for args in (("connectivity", "-f", old), ("diff", old, old)):
        result = run(*args)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "wrong.yaml:3: metadata.name: must be a string" in result.stderr
    missing = run("connectivity", "-f", old / "nowhere")
    assert missing.exit_code == 2
    assert "nowhere" in missing.stderr


def test_advice_does_not_end_it(old: Path) -> None:
    (old / "workloads.yaml").write_text(WORKLOADS.replace(", node: elsewhere", "", 1))
    result = run("connectivity", "-f", old, "-o", "json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"connections": OPEN_80})
    assert "netns and interface are missing" in result.stderr


def test_policies_with_a_problem_are_not_counted_as_good(old: Path, tmp_path: Path) -> None:
    good = run("validate", "-f", old)
    assert (good.exit_code, good.stdout.splitlines()[-1]) == (0, "no problem in 1 policy")
    bad = tmp_path / "bad.yaml"
    bad.write_text(NAMES.replace("toFQDNs", "toFQDN"))
    both = run("validate", "-f", old, "-f", bad)
    assert (both.exit_code, both.stderr) == (1, "1 problem; 1 policy is good\n")
    assert run("validate", "-f", bad).stderr == "1 problem; 0 policies are good\n"


def test_diff_and_its_exit_status(old: Path, tmp_path: Path) -> None:
    new = manifests(tmp_path / "new", "81")
    result = run("diff", old, new, "-o", "json")
    opened = [{"from": pod("web"), "to": pod("db"), "allowed": tcp(81)}]
    assert (result.exit_code, json.loads(result.stdout)) == (
        0, {"opened": opened, "closed": OPEN_80, "beside": [], "beside_closed": []}
    )  # fmt: skip
    refused = run("diff", old, new, "--no-new-access")
    assert refused.exit_code == 1
    assert [line.split() for line in refused.stdout.splitlines()[1:]] == [
        ["-", "shop/web", "shop/db", "TCP", "80"],
        ["+", "shop/web", "shop/db", "TCP", "81"],
    ]
    assert refused.stderr == "sockmesh: the change opens what was closed before\n"
    same = run("diff", old, old, "--no-new-access")
    assert (same.exit_code, same.stdout) == (0, "nothing is opened, nothing is closed\n")


NAMES = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: names, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  egress: [{toFQDNs: [{matchName: api.example.com}], toPorts: [{ports: [{port: "443", protocol: TCP}]}]}]
"""


def test_names_are_in_no_pair_but_are_told_of_and_checked(old: Path, tmp_path: Path) -> None:
    new = manifests(tmp_path / "new", "80")
    (new / "names.yaml").write_text(NAMES)
    found = run("connectivity", "-f", new, "-o", "json")
    assert (found.exit_code, json.loads(found.stdout)) == (0, {"connections": OPEN_80})
    assert "not among these: what rules for DNS names open (api.example.com)" in found.stderr
    assert run("diff", old, new).exit_code == 0
    refused = run("diff", old, new, "--no-new-access")
    assert refused.exit_code == 1
    assert refused.stderr.splitlines()[-1] == "sockmesh: the change may open what no pair shows"
    assert "may open, seen in no pair: egress, DNS name api.example.com, TCP 443" in refused.stdout
    assert run("diff", new, old, "--no-new-access").exit_code == 0
    assert run("diff", new, new, "--no-new-access").exit_code == 0


def test_a_picture_is_utf_8_whatever_the_terminal_is(old: Path) -> None:
    for i in range(30):  # so many that a picture has an ellipsis
        name = f"web-{i:03}-{'x' * 30}"
        (old / f"{i}.yaml").write_text(
            WORKLOADS.split("---")[0].replace("web", name).replace("10.0.0.1", f"10.1.0.{i}")
        )
    command = [sys.executable, "-m", "control.cli.main", "policy", "connectivity", "-f", str(old), "-o"]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    found = subprocess.run([*command, "svg"], capture_output=True, env=ascii_only, check=True)
    assert "…" in found.stdout.decode()
    with Path("/dev/full").open("wb") as full:
        for form in ("svg", "table", "json", "dot"):
            refused = subprocess.run([*command, form], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
            assert refused.returncode == 3
            assert refused.stderr.startswith("sockmesh: the answer could not be written: No space left")


def test_standard_input_cannot_be_both_sides() -> None:
    refused = run("diff", "-", "-")
    assert refused.exit_code == 2
    assert "standard input can be read once only" in refused.stderr


def test_pings_are_told_of_and_in_the_pairs_of_a_difference(old: Path, tmp_path: Path) -> None:
    new = manifests(tmp_path / "new", "80")
    ping = NAMES.replace("egress: [", "egress: [{toEntities: [world], icmps: [{fields: [{type: 8}]}]}, ")
    (old / "names.yaml").write_text(NAMES)
    (new / "names.yaml").write_text(ping)
    assert "the pairs do not show what rules say of ICMP" in run("connectivity", "-f", new).stderr
    changed = run("diff", old, new, "--no-new-access", "-o", "json")
    assert changed.exit_code == 1
    found = json.loads(changed.stdout)
    assert [each["without_ports"] for each in found["opened"]] == [[{"protocol": "ICMP", "types": [[8, 8]]}]]
    assert found["beside"] == []
    assert run("diff", new, old, "--no-new-access").exit_code == 0


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "many.yaml").write_text(
        "\n---\n".join(
            f"apiVersion: sockmesh.io/v1\nkind: Workload\nmetadata: {{name: w{i}, namespace: n}}\n"
            f"spec: {{ips: [10.0.{i // 250}.{i % 250 + 1}], node: elsewhere}}"
            for i in range(300)
        )
    )
    command = [sys.executable, "-m", "control.cli.main", "policy", "connectivity", "-f", str(tmp_path), "-o", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "{\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 0


def test_validate_says_what_it_passed_over(tmp_path: Path) -> None:
    kinds = ["v1 ConfigMap", "networking.k8s.io/v1 Ingress", "networking.k8s.io/v1 Ingress", "x.io/v1 Ingress"]
    text = "---\n".join("apiVersion: {}\nkind: {}\n".format(*kind.split()) for kind in kinds)
    (tmp_path / "a.yaml").write_text(text)
    assert run("validate", "-f", tmp_path).stdout == ("passed over: 3 Ingress, 1 ConfigMap\nno problem in 0 policies\n")
    assert json.loads(run("validate", "-f", tmp_path, "-o", "json").stdout)["skipped"] == {
        "networking.k8s.io/v1 Ingress": 2, "v1 ConfigMap": 1, "x.io/v1 Ingress": 1,
    }  # fmt: skip


def test_the_namespace_of_what_names_none(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text((WORKLOADS + "---" + POLICY.replace("PORT", "80")).replace(", namespace: shop", ""))
    with_kinds = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: team}\n---\napiVersion: sockmesh.io/v1\n"
    file.write_text(file.read_text() + with_kinds + "kind: Workload\nmetadata: {name: x, namespace: own}\nspec: {}\n")
    file.write_text(file.read_text().replace("spec: {}", "spec: {ips: [10.0.0.3], node: n}"))
    found = run("connectivity", "-f", file, "-n", "team")
    assert [line.split()[:2] for line in found.stdout.splitlines()[1:]] == [
        ["own/x", "the"], ["team/web", "team/db"], ["the", "outside"],
    ]  # fmt: skip
    assert "default/web" in run("connectivity", "-f", file).stdout
    traced = run("trace", "-f", file, "--namespace", "team", "--from", "web", "--to", "team/db", "--port", "80")
    assert traced.exit_code == 0 and traced.stdout.startswith("team/web -> team/db")
    assert run("explain", "db", "-f", file, "-n", "team").stdout.startswith("team/db: ")
    assert run("validate", "-f", file, "-n", "team").exit_code == 0
    assert run("diff", "-n", "team", file, file).exit_code == 0
    bad = run("validate", "-f", file, "-n", "No")
    assert bad.exit_code == 2 and "No is no namespace (at most 63" in bad.stderr


def test_columns_are_as_wide_as_what_is_shown(old: Path) -> None:
    name = "a-workload-with-a-name-that-nobody-asked-about"
    more = WORKLOADS.partition("---")[0].replace("name: web, namespace: shop", f"name: {name}, namespace: other")
    (old / "more.yaml").write_text(more.replace("10.0.0.1]", "10.0.0.9]"))
    assert run("connectivity", "-f", old, "--from", "shop").stdout.splitlines() == [
        "FROM      TO       ALLOWED", "shop/web  shop/db  TCP 80",
    ]  # fmt: skip
    assert name in run("connectivity", "-f", old).stdout


def test_validate_says_what_an_agent_will_do(old: Path) -> None:
    good = run("validate", "--agent", "-f", old)
    assert (good.exit_code, good.stdout.splitlines()[-1]) == (0, "no problem in 1 policy")
    (old / "map.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")
    (old / "below").mkdir()
    (old / "below" / "more.yaml").write_text(POLICY)
    assert run("validate", "-f", old / "map.yaml").exit_code == 0
    found = run("validate", "--agent", "-f", old)
    assert found.exit_code == 1
    below, config = found.stdout.splitlines()
    assert below == f"below: {directory.UNREAD_BELOW}"
    assert config.startswith(f'map.yaml:1: unknown kind "v1 ConfigMap"{kinds.TAKEN_ELSEWHERE} (')
    effect = f"{directory.CLOSES_ALL}; {directory.UNKNOWN}"
    assert config.endswith(f"; {effect}")
    assert found.stderr == "2 problems; 1 policy is good\n"
    as_json = json.loads(run("validate", "--agent", "-f", old, "-o", "json").stdout)
    assert [each.get("effect") for each in as_json["problems"]] == [None, effect]
    told = [str(problem) for problem in directory.load(old, None).problems]
    assert found.stdout.splitlines() == told


def test_json_has_the_path_inside_the_document(tmp_path: Path) -> None:
    """Whatever else of documents and objects people read in front of it."""
    good = POLICY.replace("PORT", "nobody-has")
    wrong = POLICY.replace("PORT", "-1").replace("name: all", "name: wrong")
    pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop}\nspec: {containers: []}\n"
    (tmp_path / "a.yaml").write_text(f"{pod}---{good}---{wrong}")
    found = json.loads(run("validate", "-f", tmp_path, "-o", "json").stdout)
    assert {each["path"]: each["field"] for kind in ("problems", "warnings") for each in found[kind]} == {
        "documents[2].spec.ingress[0].ports[0].port": "spec.ingress[0].ports[0].port",
        "NetworkPolicy shop/all spec.ingress[0]": "spec.ingress[0]",
    }


def test_what_an_agent_only_remarks_is_a_warning(old: Path) -> None:
    (old / "names.yaml").write_text(NAMES)
    found = run("validate", "--agent", "-f", old)
    assert found.exit_code == 0 and found.stdout.startswith("warning: names.yaml:7: ")


def test_an_agent_has_one_directory_and_no_namespace_of_its_own(old: Path) -> None:
    for args, words in (
        (("-f", old, "-f", old), "an agent reads one directory"),
        (("-f", "-"), "an agent reads one directory"),
        (("-f", old, "-n", "shop"), "an agent knows no -n shop"),
    ):
        refused = run("validate", "--agent", *args)
        assert refused.exit_code == 2 and words in refused.stderr
    file = run("validate", "--agent", "-f", old / "policy.yaml")
    assert file.exit_code == 1 and "cannot be read: Not a directory" in file.stdout


def test_manifests_are_named_with_an_option_or_without(old: Path) -> None:
    for verb in ("validate", "connectivity"):
        with_option, without = run(verb, "-f", old), run(verb, old)
        assert (without.exit_code, without.stdout) == (0, with_option.stdout)
        nothing = run(verb)
        assert nothing.exit_code == 2 and "name a file or a directory, as in -f DIR" in nothing.stderr
    both = run("validate", "-f", old / "policy.yaml", old / "workloads.yaml")
    assert (both.exit_code, both.stdout) == (0, "no problem in 1 policy\n")
    for args in (("-f", old, "-f", old), ("-f", old, old)):
        refused = run("diff", *args)
        assert refused.exit_code == 2 and "without -f: sockmesh policy diff OLD NEW" in refused.stderr


def test_what_is_wrong_with_a_value_is_told_alone(old: Path) -> None:
    calls: list[tuple[tuple[object, ...], str]] = [
        (("trace", "-f", old, "--from", "shop/web", "--to", "shop/db", "--port", "80/x"), "--port 80/x: unknown proto"),
        (("trace", "-f", old, "--from", "fqdn:a", "--to", "shop/db", "--port", "80"), "--from fqdn:a: nobody calls by"),
        (("explain", "shop/nobody", "-f", old), "no workload is called shop/nobody"),
        (("validate", "-n", "No", old), "Invalid value for '-n' / '--namespace': No is no namespace"),
        (("connectivity", "-o", "xml", old), "Invalid value for '-o' / '--output': 'xml' is not one of"),
        (("connectivity", old, "--to", "x", "-o", "dot"), "--from and --to are for -o table and -o json"),
        (("diff", "-", "-"), "standard input can be read once only"),
    ]
    for args, words in calls:
        found = run(*args)
        assert (found.exit_code, found.stdout) == (2, "")
        (line,) = found.stderr.splitlines()
        assert line.startswith(f"sockmesh: {words}")
    long = run("trace", "-f", old, "--from", "shop/web", "--to", "x" * 100_000, "--port", "80")
    assert long.exit_code == 2 and len(long.stderr) < 2100 and "(shop/db, shop/web)" in long.stderr
    # How a command is called is shown where that is what is wrong.
    assert run("trace", "-f", old).stderr.startswith("Usage: ")


def test_warnings_are_summed_up_where_something_else_was_asked_for(old: Path, tmp_path: Path) -> None:
    new = manifests(tmp_path / "new", "80")
    for side in (old, new):
        (side / "workloads.yaml").write_text(WORKLOADS.replace(", node: elsewhere", ""))
    assert run("connectivity", "-f", old).stderr == (
        f"sockmesh: 2 warnings: `sockmesh policy validate -f {old}` tells them\n"
    )
    assert run("diff", old, old).stderr == f"sockmesh: 2 warnings: `sockmesh policy validate -f {old}` tells them\n"
    one_each = (f"`sockmesh policy validate -f {side}`" for side in (old, new))
    assert run("diff", old, new).stderr == f"sockmesh: 2 warnings: {' and '.join(one_each)} tell them\n"
    for side in (old, new):
        told = run("validate", "-f", side)
        assert (told.exit_code, told.stdout.count("warning: ")) == (0, 2)
    (new / "workloads.yaml").write_text(WORKLOADS)
    assert run("diff", old, new).stderr == f"sockmesh: 2 warnings: `sockmesh policy validate -f {old}` tells them\n"
    refused = run("trace", "-f", old, "-n", "shop", "--from", "web", "--to", "nobody", "--port", "80")
    first, *_, last = refused.stderr.splitlines()
    assert first == f"sockmesh: 2 warnings: `sockmesh policy validate -n shop -f {old}` tells them"
    assert "no workload is called nobody" in last


def test_pairs_that_need_the_proxy_are_told_of(old: Path) -> None:
    assert run("connectivity", "-f", old).stderr == ""
    rule = "toEntities: [all], toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{}]}}]"
    (old / "http.yaml").write_text(NAMES.partition("  egress:")[0] + f"  egress: [{{{rule}}}]\n")
    told = run("connectivity", "-f", old).stderr
    where = f"CiliumNetworkPolicy shop/names spec.egress[0], {old}/http.yaml:7"
    assert f"among these, and only where the node has the proxy: what {where} allow\n" in told


AUDIT = """
apiVersion: sockmesh.io/v1
kind: MeshNetworkPolicy
metadata: {name: NAME, namespace: shop}
spec: {audit: true, endpointSelector: {matchLabels: {app: APP}}, egress: [{toFQDNs: [{matchName: audited.example}]}]}
"""


def test_what_is_told_beside_pairs_is_of_the_pairs_that_are_shown(old: Path) -> None:
    rules = (
        "{toEndpoints: [{matchLabels: {app: db}}], "
        "toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{}]}}]}",
        "{toFQDNs: [{matchName: a.example}]}",
        "{toEntities: [world], icmps: [{fields: [{type: 8}]}]}",
    )
    (old / "more.yaml").write_text(NAMES.partition("  egress:")[0] + f"  egress: [{', '.join(rules)}]\n")
    (old / "audit.yaml").write_text(AUDIT.replace("NAME", "maybe").replace("APP", "web"))
    words = {
        "bytes": "only where the node has the proxy", "names": "rules for DNS names", "requests": "for which requests",
        "protocols": "what rules say of ICMP", "audit": "policies in audit mode",
    }  # fmt: skip

    def told(*args: str) -> set[str]:
        said = run("connectivity", "-f", old, *args).stderr
        return {what for what, part in words.items() if part in said}

    assert told() == told("--from", "shop") == told("--from", "shop/web") == set(words)
    assert told("--to", "shop/db") == {"bytes", "requests", "audit"}
    assert told("--to", "shop/web") == {"audit"}  # whom it selects, it would keep from calling whomever
    assert told("--from", "shop/db") == set()


def test_policies_in_audit_mode_are_named(old: Path) -> None:
    assert "audit" not in run("connectivity", "-f", old).stderr
    names = [f"p{number}" for number in range(6)]
    (old / "audit.yaml").write_text("---".join(AUDIT.replace("NAME", n).replace("APP", "web") for n in names))
    found = run("connectivity", "-f", old, "-o", "json")
    shown = ", ".join(f"MeshNetworkPolicy shop/{name}" for name in names[:5])
    line = f"not among these: what policies in audit mode ({shown}, ...) would allow or refuse"
    assert json.loads(found.stdout) == {"connections": OPEN_80} and line in found.stderr
    assert "audited.example" not in found.stderr
    assert line in run("connectivity", "-f", old, "--from", "shop/web").stderr
    assert "in audit mode" not in run("connectivity", "-f", old, "--from", "shop/db").stderr
    # Who asks about nobody is told no more than that, besides what the files are warned of.
    warned, *said = run("connectivity", "-f", old, "--from", "nope").stderr.splitlines()
    assert "policy validate" in warned
    assert said == ["sockmesh: --from nope: no workload or namespace is called so (shop)"]


def test_who_has_the_network_of_its_node_is_in_no_pair(old: Path) -> None:
    host = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: h, namespace: shop}\nspec: {hostNetwork: true, containers: []}\n"
    )
    (old / "host.yaml").write_text(host)
    refused = run("connectivity", "-f", old, "--to", "shop/h")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.endswith(
        "--to shop/h: it has its node's network: no policy of pods is asked, so it is in no pair\n"
    )
    annotated = "metadata: {name: shop, annotations: {sockmesh.io/audit: 'true'}}"
    (old / "audit.yaml").write_text(f"apiVersion: v1\nkind: Namespace\n{annotated}\n")
    assert "(NetworkPolicy shop/all) would" in run("connectivity", "-f", old).stderr


HTTP = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: http, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: db}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: web}}]
    toPorts: [{ports: [{port: "81", protocol: TCP}], rules: {http: [{method: GET}]}}]
  - fromCIDR: [192.0.2.0/24]
    toPorts: [{ports: [{port: "81", protocol: TCP}], rules: {http: [{method: GET}]}}]
  - fromCIDR: [198.51.100.0/24]
    toPorts: [{ports: [{port: "81", protocol: TCP}]}]
  - fromCIDR: [203.0.113.0/24]
    toPorts: [{ports: [{port: "82", protocol: TCP}]}]
"""


def test_requests_that_are_no_longer_let_through_are_told_of(old: Path, tmp_path: Path) -> None:
    new = manifests(tmp_path / "new", "80")
    (old / "http.yaml").write_text(HTTP.replace("http: [{method: GET}]", "http: [{method: GET}, {method: PUT}]"))
    (new / "http.yaml").write_text(HTTP)
    fewer = run("diff", old, new, "--no-new-access")
    assert fewer.exit_code == 0
    assert fewer.stdout.splitlines() == [
        f"may close, seen in no pair: http requests PUT, ingress from {who}, TCP 81 "
        f"(CiliumNetworkPolicy shop/http, {old}/http.yaml:{line})"
        for who, line in (("app=web namespace=shop", 8), ("192.0.2.0/24", 10))
    ]
    found = json.loads(run("diff", old, new, "-o", "json").stdout)
    assert [each["where"] for each in found.pop("beside_closed")] == ["CiliumNetworkPolicy shop/http"] * 2
    assert found == {"opened": [], "closed": [], "beside": []}
    more = run("diff", new, old, "--no-new-access")
    assert more.exit_code == 1 and more.stdout == fewer.stdout.replace("may close", "may open")


def test_what_needs_the_proxy_of_a_pair_is_marked(old: Path) -> None:
    (old / "http.yaml").write_text(HTTP)
    (old / "policy.yaml").write_text(POLICY.replace("PORT", "80").replace("policyTypes: [Ingress, Egress]", "") + "\n")
    found = json.loads(run("connectivity", "-f", old, "--to", "shop/db", "-o", "json").stdout)["connections"]
    both = {"kind": "IPBlock", "cidrs": ["192.0.2.0/24", "198.51.100.0/24"]}  # of one of these it is served
    assert found == [
        {**OPEN_80[0], "allowed": [{"protocol": "TCP", "ports": [[80, 81]]}], "needs_proxy": tcp(81)},
        {"from": both, "to": pod("db"), "allowed": tcp(81), "needs_proxy": tcp(81)},
        {"from": {"kind": "IPBlock", "cidrs": ["203.0.113.0/24"]}, "to": pod("db"), "allowed": tcp(82)},
    ]
    graph = run("connectivity", "-f", old, "-o", "dot").stdout
    assert 'label="TCP 80-81  (needs the proxy: TCP 81)"' in graph and 'label="TCP 82"' in graph
    drawn = run("connectivity", "-f", old, "-o", "svg").stdout
    titles = {each.text for each in ET.fromstring(drawn).iter() if each.tag.endswith("title")}
    dashed = [each for each in drawn.splitlines() if '<g class="wire proxied"' in each]
    assert len(dashed) == 2 and all("(needs the proxy" in each for each in dashed)
    assert "shop/web → shop/db: TCP 80-81  (needs the proxy: TCP 81)" in titles
    assert ">TCP 80-81 *</text>" in drawn and "Dashed, or with *: needs the node proxy" in drawn
    lines = run("connectivity", "-f", old, "--to", "shop/db").stdout.splitlines()[1:]
    assert [line.split("shop/db  ")[1] for line in lines] == [
        "TCP 80-81  (needs the proxy: TCP 81)", "TCP 81  (needs the proxy)", "TCP 82",
    ]  # fmt: skip


KIND = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: NAME, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: APP}}
  WAY: [{toPorts: [{ports: [{port: "81", protocol: TCP}], ASKS}]}]
"""
REQUESTS, SERVER_NAMES = "rules: {http: [{method: GET}]}", "serverNames: [shop.org]"


def kind(name: str, way: str, asks: str) -> str:
    app = "web" if way == "egress" else "db"
    return KIND.replace("NAME", name).replace("APP", app).replace("WAY", way).replace("ASKS", asks)


@pytest.mark.parametrize("way", ["ingress", "egress"])
def test_what_rules_of_two_kinds_of_bytes_shut_is_open_when_one_is_gone(tmp_path: Path, way: str) -> None:
    """Be they of one end, or of both."""
    old, new = (manifests(tmp_path / name, "80") for name in ("old", "new"))
    for each in (old, new):
        (each / "policy.yaml").write_text(kind("requests", "ingress", REQUESTS))
    (old / "names.yaml").write_text(kind("names", way, SERVER_NAMES))
    found = json.loads(run("connectivity", "-f", old, "-o", "json").stdout)["connections"]
    assert [each for each in found if (each["from"], each["to"]) == (pod("web"), pod("db"))] == []
    assert "81" not in [line.split()[-1] for line in run("connectivity", "-f", old, "-o", "dot").stdout.splitlines()]
    refused = run("diff", old, new, "--no-new-access")
    opened = [line.split() for line in refused.stdout.splitlines() if line.startswith("+")]
    assert refused.exit_code == 1
    assert ["+", "shop/web", "shop/db", "TCP", "81"] in [line[:5] for line in opened]
    shut = run("diff", new, old, "--no-new-access")
    assert (shut.exit_code, "-  shop/web" in shut.stdout) == (0, True), shut.output
