"""What README.md tells people to run runs, and what it shows is what is printed; pages.py tells of its marks."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from control.demo import stage
from control.source import directory
from tests.e2e.pages import ROOT, files, marked, written_in
from tests.hosts import Node, cgroups, namespaces

pytestmark = pytest.mark.e2e
EXPORT = 'export PATH="$PWD/.venv/bin:$PATH"'
FIND_CGROUPS = "findmnt -nt cgroup2 -o TARGET | head -n1"


def write_files(where: Path) -> None:
    for path, text in files().items():
        (where / path).parent.mkdir(exist_ok=True)
        (where / path).write_text(text + "\n")


def test_the_example_is_right_to_the_letter(tmp_path: Path) -> None:
    write_files(tmp_path)
    found = directory.load(tmp_path / "mesh", None)
    assert found.problems == ()
    snapshot = found.snapshot
    assert [str(w) for w in snapshot.workloads] == ["shop/db", "shop/guest", "shop/web"]
    assert snapshot.namespaces and snapshot.services
    assert {p.kind for p in snapshot.policies} == {"CiliumNetworkPolicy", "NetworkPolicy"}


def test_the_example_finds_cgroup_v2() -> None:
    mounted = cgroups.root()
    done = subprocess.run(["bash", "-c", FIND_CGROUPS], capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == mounted, done


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
            f"\ncg=$({FIND_CGROUPS})\n": f"\ncg={base}\n",
            "\nmkdir mesh\n": f"\nmkdir mesh; cp {tmp_path}/mesh/shop.yaml mesh/\n",
            '\ncd "$OLDPWD"; rm': f'\ncp flows.json {tmp_path}/; cd "$OLDPWD"; rm',
        }
        for written, ours in here.items():
            assert script.count(written) == 1, written
            script = script.replace(written, ours)
        write_files(tmp_path)
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
    (record,) = map(json.loads, written_in("json"))
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
    r"\b[A-Z][a-z]{2} +# #": "when",
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
    # Said where it is so, which the load on the machine decides.
    compare([line for line in shown.splitlines() if line != stage.TAIL], done.stdout)
    assert stage.TAIL in shown.splitlines()
