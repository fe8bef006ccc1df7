"""README.md and docs/ name what exists, and explain all of it: commands, options, fields, metrics, reasons, files."""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from control import metrics, model
from control.cli.main import cli
from control.flow import requests
from control.flow.summary import accel_word
from control.policy import field
from control.source import directory, document, objects, services
from loader import abi
from loader.programs import PROGRAMS
from loader.selftest import cases
from tests.e2e.pages import DOCS, PAGES, PROSE, PROSES, README, ROOT, written_in

pytestmark = pytest.mark.e2e
CODE = re.findall(r"`([^`\n]+)`", PROSE)
SOURCES = (".py", ".c", ".sh", ".yaml")
# By what the pages tell to run.
MADE = {"mesh/shop.yaml", "bench/out/bench.json", "bench/out/bench.md", "bench/out/bench.png", "tests/.build"}


def words_of(pattern: str) -> set[str]:
    """Return the whole inline words that look like pattern."""
    return {code for code in CODE if re.fullmatch(pattern, code)}


def commands() -> Iterator[list[str]]:
    """Yield each use of the command, split in words."""
    lines = [*CODE, *(line for block in written_in("bash") for line in block.splitlines())]
    for line in lines:
        for found in re.finditer(r"(?:^|[\s;|(])(sockmesh(?: [^;|&)#>]+)?)", line):
            yield shlex.split(found[1])[1:]


def problem(words: list[str]) -> str:
    """Return what is wrong with one use of the command, or ""."""
    command: click.Command = cli
    rest = list(words)
    with click.Context(cli) as context:
        while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            found = command.get_command(context, rest.pop(0))
            if found is None:
                return f"no such command: {words}"
            command = found
        flags = {flag for p in command.params for flag in (*p.opts, *p.secondary_opts)} | {
            "--help",
            "-h",
            "--version",
            "-",
        }  # "-": a file
    return "; ".join(f"{word} is no option of {words}" for word in rest if word.startswith("-") and word not in flags)


def test_every_command_and_option_exists() -> None:
    used = list(commands())
    assert len(used) > 40
    assert [wrong for wrong in map(problem, used) if wrong] == []
    named = ("agent", "proxy", "observe", "status", "policy trace", "policy diff")
    known = {flag for words in named for flag in flags_of(words)}
    assert words_of(r"--[a-z-]+") - known - {"--help", "--system-site-packages"} == set()


def flags_of(words: str) -> set[str]:
    command: click.Command | None = cli
    with click.Context(cli) as context:
        for word in words.split():
            assert isinstance(command, click.Group)
            command = command.get_command(context, word)
        assert command is not None
        return {flag for p in command.params for flag in p.opts}


def test_a_wrong_command_would_be_noticed() -> None:
    assert problem(["nonsense"]) and problem(["bpf", "sock", "lost"]) and problem(["status", "--bref"])
    assert problem(["observe", "--from-pood", "x"]) and not problem(["observe", "--from-pod", "x"])


def test_every_command_is_shown() -> None:
    groups = ("bpf", "cert", "policy")
    used = {" ".join(words[:2] if words[0] in groups else words[:1]) for words in commands() if words}
    with click.Context(cli) as context:
        every = {name for name in cli.list_commands(context) if name not in groups}
        for name in groups:
            group = cli.get_command(context, name)
            assert isinstance(group, click.Group)
            every |= {f"{name} {inner}" for inner in group.list_commands(context)}
    assert every - used == set()


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = {shlex.split(code)[1] for code in CODE if code.startswith("make ")}
    assert len(used) > 7 and used <= targets
    variables = {word.partition("=")[0] for code in CODE if "_ARGS=" in code for word in shlex.split(code)[-1:]}
    assert variables and all(f"$({name})" in (ROOT / "Makefile").read_text() for name in variables)


def test_every_file_exists() -> None:
    files = words_of(r"\.?[A-Za-z0-9_]+(/[A-Za-z0-9_.-]+)*/?") & {c for c in CODE if "/" in c or c.isupper()}
    files |= words_of(r"[\w/]+\.(py|c|h|md|sh|yaml)")
    paths = {f for f in files if "/" in f or (ROOT / f).exists()}
    paths -= {code for code in paths if code.count("/") == 1 and "." not in code and not code.endswith("/")}
    paths -= {path for path in paths if path.startswith("bench/out/")}  # what the bench writes
    assert len(paths) > 40
    assert {path for path in paths - MADE if not (ROOT / path).exists()} == set()


def links() -> Iterator[tuple[Path, str, str]]:
    """Yield each link within the checkout: its page, the file that it leads to, the heading in that ("": none)."""
    for page, prose in PROSES.items():
        for link in re.findall(r"\]\(([^)]+)\)", prose):
            if not link.startswith("https://"):
                file, _, anchor = link.partition("#")
                yield page, os.path.normpath(page.parent / file) if file else str(page), anchor


def test_every_link_leads_to_a_file_and_a_heading() -> None:
    anchors = {
        str(page): {
            re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-")
            for heading in re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
        }
        for page, prose in PROSES.items()
    }
    found = list(links())
    assert len(found) > 30
    assert {link for link in found if not (ROOT / link[1]).exists()} == set()
    assert {link for link in found if link[2] and link[2] not in anchors.get(link[1], ())} == set()


def test_the_readme_leads_to_every_page() -> None:
    linked = {file for page, file, _ in links() if page == README}
    assert DOCS and set(map(str, DOCS)) <= linked


@pytest.mark.parametrize("page", DOCS, ids=str)
def test_a_page_begins_with_what_it_is_for(page: Path) -> None:
    title, first = PAGES[page].split("\n\n")[:2]
    assert title.startswith("# ") and first.startswith("This page is for ") and first.endswith(".")


def test_every_metric_exists_and_is_explained() -> None:
    text = metrics.render(metrics.MetricsSnapshot(node="n")).decode()
    real = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    named = set(re.findall(r"sockmesh_[a-z_]+", PROSE))
    assert named == real
    reasons = {s.label[1] for s in metrics.SERIES.values() if s.metric == "shortcut_passes" and s.label}
    row = next(line for line in PROSE.splitlines() if "sockmesh_shortcut_passes_total" in line)
    assert set(re.findall(r"`([a-z_]+)`", row)) - {"reason", "sockmesh_shortcut_passes_total"} == reasons


def rows_under(heading: str) -> dict[str, str]:
    """Return the tables of a section of the pages in docs/: the words in the first column, each with its row."""
    docs = "\n".join(PROSES[page] for page in DOCS)
    assert docs.count(f"# {heading}\n") == 1, heading
    section = docs.partition(f"# {heading}\n")[2].partition("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return {word: line for line in lines for word in re.findall(r"`([^`]+)`", line.split(" | ")[0])}


def test_every_reason_is_explained() -> None:
    assert set(rows_under("Why a connection is not short-cut")) == {accel_word(int(r)) for r in abi.AccelReason}
    used = set()
    for path in (ROOT / "bpf").glob("*.[ch]"):
        if path.name != "mesh_abi.h":
            used |= set(re.findall(r"\bDROP_REASON_([A-Z0-9_]+)", path.read_text()))
    named = words_of(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")
    assert used - {"NONE"} - named == set()
    assert {n for n in named if re.match(r"(DROP|POLICY|INVALID|UNSUPPORTED|SERVICE)_", n)} <= set(
        abi.DropReason.__members__
    )


def test_every_event_is_explained() -> None:
    kernel = {e.name.lower() for e in abi.EventType if e}
    assert set(rows_under("Flow records")) - {"event"} == kernel | {requests.EVENT}


def policy_words() -> list[list[str]]:
    """Return the rows of the table under "Policies", each as the words in it."""
    section = PROSES[README].partition("\n## Policies\n")[2].partition("\n## ")[0]
    return [re.findall(r"`([^`]+)`", line) for line in section.splitlines() if line.startswith("| `")]


def test_every_entity_is_listed() -> None:
    (row,) = [words for words in policy_words() if "fromEntities" in words]
    assert row[:2] == ["fromEntities", "toEntities"]
    assert set(row[2:]) == {entity.value for entity in model.Entity} and len(row) == 2 + len(model.Entity)


def test_every_field_of_a_policy_is_told_of() -> None:
    told = {word for row in policy_words() for word in row} | {"audit", "specs"}
    base = "endpointSelector: {}"
    for place, spec in {
        "spec.zzz": f"{{{base}, ingress: [{{}}], zzz: 1}}",
        "spec.ingress[0].zzz": f"{{{base}, ingress: [{{zzz: 1}}]}}",
        "spec.egress[0].zzz": f"{{{base}, egress: [{{zzz: 1}}]}}",
        "spec.egressDeny[0].zzz": f"{{{base}, egressDeny: [{{zzz: 1}}]}}",
        "spec.egress[0].toPorts[0].zzz": f"{{{base}, egress: [{{toPorts: [{{ports: [{{port: '1'}}], zzz: 1}}]}}]}}",
        "spec.ingress[0].fromCIDRSet[0].zzz": f"{{{base}, ingress: [{{fromCIDRSet: [{{cidr: 1.0.0.0/8, zzz: 1}}]}}]}}",
    }.items():
        # Gone from the language, and refused where anybody is named.
        assert fields_taken("MeshNetworkPolicy", place, spec) - {"fromRequires", "toRequires"} <= told, place


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("{endpointSelector: {}, ingress: [{}], nodeSelector: {}}", "cluster-wide kinds only"),
        ("{endpointSelector: {}, egressDeny: [{toFQDNs: [{matchName: a.b}]}]}", "MeshNetworkPolicy"),
        ("{endpointSelector: {}, egress: [{toEndpoints: [{}], toCIDR: [10.0.0.0/8]}]}", "use two rules"),
        ("{endpointSelector: {}, ingress: [{}], audit: true}", "unknown key"),
    ],
)
def test_one_field_that_is_not_taken_sets_its_file_aside(tmp_path: Path, spec: str, told: str) -> None:
    head = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: "
    ok = head + "good}\nspec: {endpointSelector: {}, ingress: [{}]}\n"
    (tmp_path / "x.yaml").write_text(ok)
    before = directory.load(tmp_path, None)
    (policy,) = before.snapshot.policies
    assert before.problems == () and policy.sections[0].rules[0].peers == ()  # `ingress: [{}]` names nobody
    (tmp_path / "y.yaml").write_text(ok.replace("good", "other") + "---\n" + head + f"bad}}\nspec: {spec}\n")
    after = directory.load(tmp_path, before.snapshot)
    assert after.snapshot.policies == before.snapshot.policies
    assert [told in problem.message for problem in after.problems] == [True]


def fields_taken(kind: str, place: str, spec: str) -> set[str]:
    """Return the fields that the reader of files names when one is wrong at a place of a document."""
    versions = {"Workload": "sockmesh.io/v1", "MeshNetworkPolicy": "sockmesh.io/v1", "Service": "v1"}
    report = field.Report("x.yaml")
    text = f"apiVersion: {versions[kind]}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n"
    nodes, failure = document.parse(text)
    assert failure is None
    objects.read_documents(nodes, report)
    (said,) = [p.message for p in report.problems if p.path == place]
    found = re.fullmatch(r"unknown key \((.*)\)", said)
    assert found, said
    return set(found[1].split(", "))


@pytest.mark.parametrize("kind", ["Workload", "Service"])
def test_every_field_of_a_document_is_explained(kind: str) -> None:
    rows = rows_under(kind)
    assert rows.keys() == fields_taken(
        kind, "spec.zzz", "{ips: [10.0.0.1], zzz: 1}" if kind == "Workload" else "{zzz: 1}"
    )
    inner = re.findall(r"`(\w+)`", rows["ports"].split(" | ")[1])
    assert set(inner) == fields_taken(
        kind, "spec.ports[0].zzz", "{ips: [10.0.0.1], ports: [{name: a, port: 1, zzz: 1}]}"
    )
    report = field.Report("x.yaml")
    nodes, _ = document.parse("apiVersion: sockmesh.io/v1\nkind: Workload\nmetadata: {name: x}\nspec: {node: y}\n")
    objects.read_documents(nodes, report)
    required = {word for word, row in rows_under("Workload").items() if "| required |" in row}
    assert {f"{word} is missing" for word in required} == {p.message for p in report.problems}
    types = re.findall(r"`(\w+)`", rows_under("Service")["type"].split(" | ")[1])
    assert types == list(services.SERVICE_TYPES)
    assert set(rows_under("Service")) >= set(services.SERVICE_NOISE)


def test_every_kind_that_the_directory_takes_is_listed(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n")
    (problem,) = directory.load(tmp_path, None).problems
    taken = re.search(r"\((.*)\)", problem.message)
    sentence = PROSE.partition("\n### Kinds\n")[2].partition(". ")[0]
    assert taken and sorted(re.findall(r"`(\w+)`", sentence)) == sorted(taken[1].split(", "))


def test_every_hook_and_map_is_explained() -> None:
    rows = rows_under("Hooks and maps")
    hooks = {spec.function if spec.file != "trace.c" else spec.tracepoint.rpartition("_enter_")[2] for spec in PROGRAMS}
    assert hooks <= set(CODE), hooks - set(CODE)
    assert {f"bpf/{spec.file}" for spec in PROGRAMS} <= set(rows)
    assert {spec.name for spec in abi.MAPS} <= set(rows)


def folders() -> set[str]:
    """Return the folders of the checkout that somebody may look for, without what building and running leave."""
    top = {
        d
        for d in ROOT.iterdir()
        if d.is_dir() and not d.name.startswith(".") and any(f.suffix in SOURCES for f in d.rglob("*"))
    }
    inner = {f.parent for name in ("control", "loader") for f in (ROOT / name).glob("*/__init__.py")}
    inner |= {f.parent for f in (ROOT / "tests").glob("*/**/test_*.py")}
    return {f"{d.relative_to(ROOT)}/" for d in top | inner if d.name not in ("build", "dist")}


def test_every_folder_is_on_the_map() -> None:
    rows = {**rows_under("Where things are"), **rows_under("Tests")}
    found = folders()
    assert {"bpf/", "control/agent/", "tests/kernel/"} <= found
    assert {f for f in found if not any(row.startswith(f) or f.startswith(row) for row in rows)} == set()


def test_figures_are_those_of_the_code() -> None:
    sizes = {spec.name: f"{spec.max_entries:,}" for spec in abi.MAPS}
    sentence = PROSE.partition("Maps have fixed sizes")[2].partition("\n\n")[0]
    found = re.findall(r"\d+,\d+", sentence)
    assert found == [sizes[name] for name in ("endpoints", "policy", "conns", "ct", "ipcache")]
    cases_found = re.search(r"self-test runs (\d+) cases", " ".join(PROSE.split()))
    assert cases_found and int(cases_found[1]) == len(cases.NAMES)
