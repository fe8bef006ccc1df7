"""README.md tells the truth: what it names exists, what it tells people to run runs, what it prints is what is printed.

Three marks in it, invisible on the page: `<!-- run -->` before a block that is run, all of them in one shell;
`<!-- file: PATH -->` before the content of a file that those blocks need; `<!-- form: demo -->` or `<!-- form: run -->`
before real output, whose lines must look like those of today, figures and times apart.
"""

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from control import metrics
from control.cli.main import cli
from control.flow.summary import accel_word
from control.policy import field, peers
from control.source import directory, document, objects, services
from loader import abi
from loader.programs import PROGRAMS
from loader.selftest import cases
from tests.hosts import Node, cgroups, namespaces

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"(?:<!-- (run|file|form)(?:: (\S+))? -->\n)?```(\w+)\n(.*?)\n```$", re.DOTALL | re.MULTILINE)
PROSE = BLOCK.sub("", TEXT)
CODE = re.findall(r"`([^`\n]+)`", PROSE)
SHELL = [text for _, _, language, text in BLOCK.findall(TEXT) if language == "bash"]
CGROUPS, EXPORT = "/sys/fs/cgroup", 'export PATH="$PWD/.venv/bin:$PATH"'
SOURCES = (".py", ".c", ".sh", ".yaml")
# By what the README tells to run.
MADE = {"mesh/shop.yaml", "bench/out/bench.json", "bench/out/bench.md", "bench/out/bench.png", "tests/.build"}


def marked(mark: str, argument: str = "") -> list[str]:
    return [text for kind, given, _, text in BLOCK.findall(TEXT) if kind == mark and given == argument]


def words_of(pattern: str) -> set[str]:
    """Return the whole inline words that look like pattern."""
    return {code for code in CODE if re.fullmatch(pattern, code)}


# --- what it names exists ---------------------------------------------------------------------------------------------


def commands() -> Iterator[list[str]]:
    """Yield each use of the command, split in words."""
    lines = [*CODE, *(line for block in SHELL for line in block.splitlines())]
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
        flags = {flag for p in command.params for flag in (*p.opts, *p.secondary_opts)} | {"--help", "-h", "--version"}
    return "; ".join(f"{word} is no option of {words}" for word in rest if word.startswith("-") and word not in flags)


def test_every_command_and_option_exists() -> None:
    used = list(commands())
    assert len(used) > 40
    assert [wrong for wrong in map(problem, used) if wrong] == []
    known = {flag for word in ("agent", "observe") for flag in flags_of(word)}
    assert words_of(r"--[a-z-]+") - known - {"--help", "--system-site-packages"} == set()


def flags_of(name: str) -> set[str]:
    with click.Context(cli) as context:
        command = cli.get_command(context, name)
        assert command is not None
        return {flag for p in command.params for flag in p.opts}


def test_a_wrong_command_would_be_noticed() -> None:
    assert problem(["nonsense"]) and problem(["bpf", "sock", "lost"]) and problem(["status", "--bref"])
    assert problem(["observe", "--from-pood", "x"]) and not problem(["observe", "--from-pod", "x"])


def test_every_command_is_shown() -> None:
    used = {" ".join(words[:2] if words[:1] == ["bpf"] else words[:1]) for words in commands()}
    with click.Context(cli) as context:
        bpf = cli.get_command(context, "bpf")
        assert isinstance(bpf, click.Group)
        every = {name for name in cli.list_commands(context) if name != "bpf"}
        every |= {f"bpf {name}" for name in bpf.list_commands(context)}
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
    assert len(paths) > 40
    assert {path for path in paths - MADE if not (ROOT / path).exists()} == set()
    links = re.findall(r"\]\(([^)#]+)\)", PROSE)
    assert {link for link in links if not link.startswith("https://") and not (ROOT / link).exists()} == set()


def test_every_link_leads_to_a_heading() -> None:
    headings = re.findall(r"^#+ (.*)$", PROSE, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", PROSE)) <= anchors


def test_every_metric_exists_and_is_explained() -> None:
    text = metrics.render(metrics.MetricsSnapshot(node="n")).decode()
    real = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    named = set(re.findall(r"sockmesh_[a-z_]+", PROSE))
    assert named == real
    reasons = {s.label[1] for s in metrics.SERIES.values() if s.metric == "shortcut_passes" and s.label}
    row = next(line for line in PROSE.splitlines() if "sockmesh_shortcut_passes_total" in line)
    assert set(re.findall(r"`([a-z_]+)`", row)) - {"reason", "sockmesh_shortcut_passes_total"} == reasons


def rows_under(heading: str) -> dict[str, str]:
    """Return the tables of a section: the words in the first column, each with its row."""
    section = PROSE.partition(f"# {heading}\n")[2].partition("\n#")[0]
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
    assert set(rows_under("Flow records")) - {"event"} == {e.name.lower() for e in abi.EventType if e}


def test_every_entity_is_listed() -> None:
    taken, refused = PROSE.partition("- Entities are ")[2].partition("\n- ")[0].split("Nobody is known by the others")
    assert re.findall(r"`([^`]+)`", taken) == list(peers.ENTITIES)
    assert set(re.findall(r"`([^`:]+)`", refused)) == set(peers.LATER_ENTITIES)


def fields_taken(kind: str, place: str, spec: str) -> set[str]:
    """Return the fields that the reader of files names when one is wrong at a place of a document."""
    versions = {"Workload": "sockmesh.io/v1", "Service": "v1"}
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


def test_every_hook_and_map_is_in_the_picture() -> None:
    rows = rows_under("How it works")
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
    rows = rows_under("Working on sockmesh")
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


# --- what it tells people to run runs ---------------------------------------------------------------------------------


def write_files(where: Path, cgroup: str) -> None:
    for path, text in {given: text for kind, given, _, text in BLOCK.findall(TEXT) if kind == "file"}.items():
        (where / path).parent.mkdir(exist_ok=True)
        (where / path).write_text(text.replace(CGROUPS, cgroup) + "\n")


def test_the_example_is_right_to_the_letter(tmp_path: Path) -> None:
    write_files(tmp_path, CGROUPS)
    found = directory.load(tmp_path / "mesh", None)
    assert found.problems == ()
    snapshot = found.snapshot
    assert [str(w) for w in snapshot.workloads] == ["shop/db", "shop/guest", "shop/web"]
    assert snapshot.namespaces and snapshot.services
    assert {p.kind for p in snapshot.policies} == {"CiliumNetworkPolicy", "NetworkPolicy"}


WRAPPER = """#!{python}
import sys
sys.path.insert(0, {root!r})
words = sys.argv[1:]
if words[0] == "observe":
    words += ["--run-dir", {run!r}]
elif words[0] in ("agent", "status", "bpf", "dump", "uninstall"):
    words += ["--pin-dir", {pins!r}, "--run-dir", {run!r}]
sys.argv = ["sockmesh", *words]
from control.cli.main import main
main()
"""


def test_the_example_runs(tmp_path: Path) -> None:
    """As written, but in a node of our own: with its pins and directory, and its cgroups below the tests' own."""
    bin_dir, checkout, temporary = (tmp_path / name for name in ("bin", "checkout", "tmp"))
    for made in (bin_dir, checkout, temporary):
        made.mkdir()
    with Node("readme") as node:
        wrapper = bin_dir / "sockmesh"
        wrapper.write_text(
            WRAPPER.format(python=sys.executable, root=str(ROOT), run=str(tmp_path / "run"), pins=str(node.pins))
        )
        wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
        base = Path(node.pod_cgroup)
        script = "\n".join(marked("run"))
        here = {
            EXPORT: f'export PATH="{bin_dir}:$PATH"',
            f"\ncg={CGROUPS}\n": f"\ncg={base}\n",
            "\nmkdir mesh\n": f"\nmkdir mesh; cp {tmp_path}/mesh/shop.yaml mesh/\n",
            '\ncd "$OLDPWD"; rm': f'\ncp flows.json {tmp_path}/; cd "$OLDPWD"; rm',
        }
        for written, ours in here.items():
            assert script.count(written) == 1, written
            script = script.replace(written, ours)
        write_files(tmp_path, str(base))
        try:
            env = os.environ | {"TMPDIR": str(temporary)}
            done = node.run(["bash", "-c", script], cwd=checkout, env=env, timeout=200, check=False)
            said = done.stdout + done.stderr
            assert "removed: hooks" in said and not node.pins.exists(), said
            assert not list(checkout.iterdir()) and not list(temporary.iterdir()), said
            assert not list(Path("/run/netns").glob("shop-*")) and not list(base.glob("shop-*")), said
        finally:
            for name in ("db", "web", "guest"):  # what stays when the script fails; the node's end takes the cgroups
                cgroups.remove(base / f"shop-{name}")
                namespaces.remove(f"shop-{name}")
    shown = [line for block in marked("form", "run") for line in block.splitlines()]
    compare(shown, said)
    (record,) = (json.loads(text) for _, _, language, text in BLOCK.findall(TEXT) if language == "json")
    lines = [json.loads(line) for line in (tmp_path / "flows.json").read_text().splitlines()]
    alike = [line for line in lines if keys(record) == keys(line)]
    assert steady(record) in [steady(line) for line in alike], alike


def keys(value: object, path: str = "") -> set[str]:
    """Return the paths of all members; those of a list count once."""
    if isinstance(value, dict):
        return {deep for name, inner in value.items() for deep in {f"{path}.{name}", *keys(inner, f"{path}.{name}")}}
    return {deep for inner in value for deep in keys(inner, path)} if isinstance(value, list) else set()


def steady(response: dict[str, Any]) -> list[Any]:
    """Return what is the same in each run: the ends, what was decided, and the rule with its file and line."""
    flow = response["flow"]
    ours = flow["extensions"]["value"]["sockmesh"]
    ends = [{key: flow[side][key] for key in ("namespace", "pod_name")} for side in ("source", "destination")]
    decided = [flow["verdict"], flow["ingress_allowed_by"], ours["rule"]]
    return [ours["event"], ours["short_cut"], *ends, flow["IP"], *decided]


# --- what it shows is what is shown -----------------------------------------------------------------------------------

LETTERS = str.maketrans("0123456789", "abcdefghij")
FORMS: Mapping[str, str] = {
    r"[█░]+": "|",
    r"Software caused connection abort|Connection reset by peer": "it was cut",
    r"\d+(?:[.,:]\d+)*": "#",
    r"# (?:[kMGT]?B|[mun]?s|min|h)\b(?: # (?:[mun]?s|min))?": "#",
    r"\b[A-Z][a-z]{2} # #": "when",
    r"\b(?:yes|no)\b": "yes or no",  # whether it must be yes is for test_demo.py
    r"\s+": " ",
}


def form(line: str) -> str:
    """Return a line without what differs from run to run. The line of a rule's file does not."""
    line = re.sub(r"(?<=\.yaml:)\d+", lambda found: found[0].translate(LETTERS), line)
    for pattern, stands_for in FORMS.items():
        line = re.sub(pattern, stands_for, line)
    return line.strip()


def compare(shown: list[str], real: str) -> None:
    """Each shown line has the form of a real one; "..." stands for lines, or for the rest of one."""
    forms = {form(line) for line in real.splitlines()}
    for line in filter(None, shown):
        wanted = form(line)
        if line.strip() == "...":
            continue
        if wanted.endswith("..."):
            assert any(f.startswith(wanted[:-3].strip()) for f in forms), (line, real)
        else:
            assert wanted in forms, (line, real)


def test_forms_tell_lines_apart() -> None:
    assert form("shop/web:80  open  1.1 MB 2.3 s") == form("shop/web:8080   open 7 B 12.0 us")
    assert form("[shop.yaml:39] 7 B") != form("[shop.yaml:48] 7 B")
    with pytest.raises(AssertionError):
        compare(["policy  revision 7"], "policies  revision 7")


def test_the_demo_prints_what_is_shown() -> None:
    sockmesh = shutil.which("sockmesh", path=str(Path(sys.executable).parent))
    assert sockmesh
    done = subprocess.run([sockmesh, "demo", "--seconds", "0.5"], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done
    (shown,) = marked("form", "demo")
    compare(shown.splitlines(), done.stdout)
