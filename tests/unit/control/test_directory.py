"""The directory source: broken files of every kind, what they leave in force, and names claimed twice."""

import os
import random
import time
from pathlib import Path

import pytest
from click import testing

from control import identity, model
from control.cli.main import cli
from control.policy import field
from control.source import content, directory, kinds, listing, objects
from loader import abi

CORPUS = Path(__file__).parent / "corpus"

NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {}}}\n"
WORKLOAD = "apiVersion: sockmesh.io/v1\nkind: Workload\nmetadata: {{name: {}}}\nspec: {{ips: [{}], node: far}}\n"
POLICY = (
    "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: {}}}\n"
    "spec: {{endpointSelector: {{}}, ingress: [{{{}}}]}}\n"
)

KINDS = (
    "(CiliumCIDRGroup, CiliumClusterwideNetworkPolicy, CiliumNetworkPolicy, ClusterMeshNetworkPolicy, EndpointSlice, "
    "Endpoints, MeshNetworkPolicy, Namespace, NetworkPolicy, Node, Service, Workload)"
)
LABEL_RULE = "at most 63 lower-case letters, digits and dashes, beginning and ending with a letter or digit"
# What each file of the corpus must be answered with, whole lines.
EXPECTED: dict[str, list[str]] = {
    "not-yaml.yaml": ["line 3: not YAML: did not find expected ',' or ']'"],
    "tabs.yaml": ["line 4: not YAML: a tab, where only spaces can be: indent with spaces"],
    "duplicate-key.yaml": ['line 3: key "name" is given twice'],
    "alias-bomb.yaml": ["line 1: anchors and aliases are not allowed (write the value out)"],
    "merge-key.yaml": ["line 1: anchors and aliases are not allowed (write the value out)"],
    "scalar.yaml": ["line 1: must be a mapping, is a string"],
    "list.yaml": ["line 1: must be a mapping, is a list"],
    "no-kind.yaml": ["line 1: apiVersion and kind are required"],
    "unknown-kind.yaml": [f'line 1: unknown kind "apps/v1 Deployment"{kinds.TAKEN_ELSEWHERE} {KINDS}'],
    "wrong-version.yaml": ['line 1: apiVersion: unknown "cilium.io/v1" of kind CiliumNetworkPolicy (cilium.io/v2)'],
    "list-of-nothing.yaml": ["items: must be a list, is a number"],
    "bad-item.yaml": [
        'items[1].metadata.name: invalid "Not-Fine" (at most 253 lower-case letters, digits, dashes and dots)'
    ],
    "workload-spoof.yaml": [
        "line 1: metadata.labels: io.kubernetes.pod.namespace is set by sockmesh, not by a workload"
    ],
    "workload-no-ips.yaml": ["spec.ips: must have at least one address"],
    "workload-twice.yaml": [
        "line 6: address 10.0.0.1 is given twice (workload-twice.yaml:1, workload-twice.yaml:6)",
        "line 6: interface v0 is given twice (workload-twice.yaml:1, workload-twice.yaml:6)",
    ],
    "policy-operator.yaml": [
        'spec.ingress[0].from[1].podSelector.matchExpressions[0].operator: unknown "IsIn" '
        "(In, NotIn, Exists, DoesNotExist)"
    ],
    "trailing-comma.json": [
        "line 1: not JSON: a key in double quotes was expected (column 42)",
    ],
    "scalar.json": ["line 1: must be a mapping, is a number"],
    "latin1.yaml": ["line 3: not UTF-8 at byte 51"],
    "utf16.yaml": ["line 1: not UTF-8 at byte 0"],
    "deep.yaml": ["line 1: nested too deeply (at most 48)"],
}


def write(path: Path, **files: str) -> None:
    for name, text in files.items():
        (path / f"{name}.yaml").write_text(text)


def lines(result: model.LoadResult) -> list[str]:
    """Return what is wrong, and where: a path, or a line where there is none."""
    places = [(p.file, p.path or (f"line {p.line}" if p.line else ""), p.message) for p in result.problems]
    return [": ".join(part for part in place if part) for place in places]


@pytest.mark.parametrize("file", sorted(p.name for p in CORPUS.iterdir()))
def test_corpus(file: str, tmp_path: Path) -> None:
    (tmp_path / file).write_bytes((CORPUS / file).read_bytes())
    write(tmp_path, good=NAMESPACE.format("good"))
    result = directory.load(tmp_path, None)
    assert "good" in [n.name for n in result.snapshot.namespaces]
    assert not result.snapshot.services
    assert all(policy.invalid for policy in result.snapshot.policies)
    assert result.problems and all(problem.file == file for problem in result.problems)
    assert all(line.isprintable() and len(line) < 400 for line in lines(result))
    if file in EXPECTED:
        assert lines(result) == [f"{file}: {line}" for line in EXPECTED[file]]


def test_every_mistake_of_a_workload_is_told(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_bytes((CORPUS / "workload-wrong.yaml").read_bytes())
    assert [line.removeprefix("w.yaml: ") for line in lines(directory.load(tmp_path, None))] == [
        f'metadata.namespace: invalid "a b" ({LABEL_RULE})',
        "metadata.labels.app: must be a string (in quotes), is a number",
        "metadata.labels.bad key: invalid label key (an optional DNS name and /, then at most 63 letters, digits, - _ "
        "and ., beginning and ending with a letter or digit)",
        "spec.ips[1]: 10.0.0.1 is given twice",
        'spec.ips[2]: invalid "10.0.0.300" (an IPv4 or IPv6 address)',
        'spec.ips[3]: invalid "::ffff:10.0.0.2" (neither IPv4-mapped nor with a scope)',
        'spec.interface: invalid "this-name-is-much-too-long" (an interface name)',
        'spec.acceleration: unknown "fast" (on, off)',
        'spec.ports[0].port: invalid "70000" (a number from 1 to 65535)',
        "spec.ports[1]: name is missing",
        "spec.node: must be a string (in quotes), is a number",
        "spec.netns: must be a string (in quotes), is a number",
        "spec.image: unknown key (acceleration, cgroup, interface, ips, netns, node, ports, serviceAccount)",
    ]


def test_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, a=WORKLOAD.format("web", "10.0.0.1") + "---\n" + POLICY.format("p", "fromEntities: [all]"))
    first = directory.load(tmp_path, None)
    assert first.problems == ()
    for broken in (
        "",
        "---\n# nothing\n",
        "{",
        "a: [",
        POLICY.format("p", "nonsense: 1"),
        POLICY.format("q", "nonsense: 1"),
    ):
        write(tmp_path, a=broken)
        second = directory.load(tmp_path, first.snapshot)
        assert second.problems
        assert (second.snapshot.workloads, second.snapshot.policies) == (
            first.snapshot.workloads,
            first.snapshot.policies,
        )
        third = directory.load(tmp_path, second.snapshot)
        assert third == second  # and it is told again
    write(tmp_path, a=WORKLOAD.format("web", "10.0.0.9"))
    fourth = directory.load(tmp_path, third.snapshot)
    assert (fourth.problems, fourth.snapshot.policies) == ((), ())
    assert fourth.snapshot.workloads[0].ips == ("10.0.0.9",)


def test_who_deletes_a_file_takes_away_what_it_gave_and_who_empties_it_does_not(tmp_path: Path) -> None:
    write(tmp_path, a=WORKLOAD.format("web", "10.0.0.1"), b=POLICY.format("p", "fromEntities: [all]"))
    first = directory.load(tmp_path, None)
    write(tmp_path, b="")
    emptied = directory.load(tmp_path, first.snapshot)
    assert [str(p) for p in emptied.problems] == [
        "b.yaml: holds no document any more (delete the file, to take away what it gave); what the file gave before "
        "stays in force"
    ]
    assert emptied.snapshot.policies == first.snapshot.policies
    (tmp_path / "b.yaml").unlink()
    deleted = directory.load(tmp_path, emptied.snapshot)
    assert (deleted.problems, deleted.snapshot.policies) == ((), ())


def test_a_directory_without_files_is_taken_for_one_that_is_not_mounted(tmp_path: Path) -> None:
    write(tmp_path, a=WORKLOAD.format("web", "10.0.0.1") + "---\n" + POLICY.format("p", "fromEntities: [all]"))
    first = directory.load(tmp_path, None)
    (tmp_path / "a.yaml").unlink()
    gone = directory.load(tmp_path, first.snapshot)
    assert gone.snapshot == first.snapshot
    assert [str(p) for p in gone.problems] == [
        f"{tmp_path}: holds no configuration any more (a file with a List without items takes away what there was); "
        "what was in force stays in force"
    ]
    write(tmp_path, nothing="{apiVersion: v1, kind: List, items: []}")
    after = directory.load(tmp_path, gone.snapshot)
    assert (after.problems, after.snapshot.workloads, after.snapshot.policies) == ((), (), ())


def test_a_deny_that_stands_in_for_a_broken_file_stays_when_the_file_is_emptied(tmp_path: Path) -> None:
    write(tmp_path, a=POLICY.format("p", "nonsense: 1"))
    first = directory.load(tmp_path, None)
    write(tmp_path, a="")
    emptied = directory.load(tmp_path, first.snapshot)
    assert [(p.name, p.invalid) for p in emptied.snapshot.policies] == [("p", True)]
    assert [p.effect for p in emptied.problems] == [directory.CLOSES]


def test_with_nothing_before_a_broken_file_closes(tmp_path: Path) -> None:
    write(tmp_path, a=POLICY.format("p", "nonsense: 1") + "---\n" + POLICY.format("q", ""))
    result = directory.load(tmp_path, None)
    assert [(p.name, p.invalid) for p in result.snapshot.policies] == [("p", True), ("q", True)]
    assert [problem.effect for problem in result.problems] == [directory.CLOSES]
    # Even less can be read of it now: it closes all the more.
    write(tmp_path, a="]")
    again = directory.load(tmp_path, result.snapshot)
    assert [(p.name, p.invalid) for p in again.snapshot.policies] == [("invalid:a.yaml", True)]
    write(tmp_path, a=POLICY.format("q", ""))
    mended = directory.load(tmp_path, again.snapshot)
    assert [(p.name, p.invalid) for p in mended.snapshot.policies] == [("q", False)]
    assert mended.problems == ()


@pytest.mark.parametrize(
    "text",
    [
        "]",
        POLICY.format("p", "") + "---\n]",
        POLICY.format("p", "").replace("{}, ingress", "{matchLabels: 1}, ingress"),
        POLICY.format("p", "").replace("CiliumNetworkPolicy", "CiliumNetworkPolcy"),
        NAMESPACE.format("Not-a-name"),
        "apiVersion: v1\nkind: List\nitems: 1\n",
    ],
)
def test_what_could_select_anybody_closes_everybody(tmp_path: Path, text: str) -> None:
    """At the first start, when there is nothing that could stay."""
    write(tmp_path, a=text, b=WORKLOAD.format("web", "10.0.0.1"))
    result = directory.load(tmp_path, None)
    (policy,) = result.snapshot.policies
    (section,) = policy.sections
    assert (policy.kind, policy.invalid) == ("CiliumClusterwideNetworkPolicy", True)
    assert section.subject == model.Selector()
    assert {(rule.direction, rule.verdict, rule.peers) for rule in section.rules} == {
        (direction, abi.Verdict.DENY, None) for direction in abi.Direction
    }
    assert {problem.effect for problem in result.problems} == {f"{directory.CLOSES_ALL}; {directory.UNKNOWN}"}


def test_the_pods_of_a_broken_file_are_closed_by_its_policies(tmp_path: Path) -> None:
    """At the first start they would be open otherwise: nobody would know them."""
    workloads = WORKLOAD.format("web", "10.0.0.1") + "---\n" + WORKLOAD.format("db", "wrong") + "---\n"
    write(tmp_path, a=workloads + POLICY.format("p", "nonsense: 1"))
    first = directory.load(tmp_path, None)
    assert [w.name for w in first.snapshot.workloads] == ["web"]
    assert [p.invalid for p in first.snapshot.policies] == [True]
    assert {problem.effect for problem in first.problems} == {f"{directory.CLOSES}; {directory.UNKNOWN}"}
    write(tmp_path, a="]")  # what could be read before is still meant
    second = directory.load(tmp_path, first.snapshot)
    assert [w.name for w in second.snapshot.workloads] == ["web"]
    assert [p.name for p in second.snapshot.policies] == ["invalid:a.yaml"]


def on(app: str, name: str = "p", rules: str = "") -> str:
    """Return a policy that selects one app."""
    return POLICY.format(name, rules).replace("{}, ", f"{{matchLabels: {{app: {app}}}}}, ", 1)


def closed(snapshot: model.Snapshot) -> list[str]:
    """Return the apps that denies select which stand in for something."""
    sections = [section for policy in snapshot.policies if policy.invalid for section in policy.sections]
    return [section.subject.requirements[0].values[0] for section in sections]


@pytest.mark.parametrize("good", ["a", "c"])
@pytest.mark.parametrize("later", [False, True])
def test_a_policy_takes_nothing_from_the_deny_that_stands_in_for_one_of_its_name(
    tmp_path: Path, good: str, later: bool
) -> None:
    write(tmp_path, b=on("x", rules="nonsense: 1"))
    first = directory.load(tmp_path, None)
    write(tmp_path, **{good: on("y")})
    found = directory.load(tmp_path, first.snapshot if later else None)
    assert closed(found.snapshot) == ["x"]
    assert sorted((p.name, p.invalid, p.source) for p in found.snapshot.policies) == [
        ("p", False, f"{good}.yaml:1"), ("p", True, "b.yaml:1"),
    ]  # fmt: skip
    assert [problem.effect for problem in found.problems] == [directory.CLOSES]
    keys = [key for policy in found.snapshot.policies for key in identity.rule_keys(policy)]
    assert len(keys) == len(set(keys))
    assert directory.load(tmp_path, found.snapshot) == found


def test_at_the_first_start_the_policy_that_lost_its_name_closes_what_it_selects(tmp_path: Path) -> None:
    write(tmp_path, a=on("y"), b=on("x"))
    assert closed(directory.load(tmp_path, None).snapshot) == ["x"]


def test_denies_of_files_that_look_alike_close_what_each_of_them_selects(tmp_path: Path) -> None:
    for index, app in enumerate("xy"):
        (tmp_path / os.fsdecode(b"odd%c.yaml" % (0xFE + index))).write_text(on(app, rules="nonsense: 1"))
    found = directory.load(tmp_path, None)
    assert len({policy.key for policy in found.snapshot.policies}) == len(found.snapshot.policies)
    assert sorted(closed(found.snapshot)) == ["x", "y"]


@pytest.mark.parametrize("text", ["]", POLICY.format("p", "nonsense: 1"), WORKLOAD.format("web", "10.0.0.1")])
def test_a_file_that_comes_broken_changes_nothing(tmp_path: Path, text: str) -> None:
    """Broken, or because it claims what another has."""
    write(tmp_path, b=WORKLOAD.format("web", "10.0.0.1"))
    first = directory.load(tmp_path, None)
    write(tmp_path, c=text)
    second = directory.load(tmp_path, first.snapshot)
    assert second.snapshot.files == first.snapshot.files and second.snapshot.policies == ()
    assert second.snapshot.workloads == first.snapshot.workloads
    assert {problem.effect for problem in second.problems} == {directory.NOTHING}
    assert directory.load(tmp_path, second.snapshot) == second


def test_a_problem_names_file_line_path_and_what_is_in_force(tmp_path: Path) -> None:
    write(tmp_path, a=POLICY.format("p", ""))
    first = directory.load(tmp_path, None)
    write(tmp_path, a="\n\n" + POLICY.format("p", "nonsense: 1"))
    (problem,) = directory.load(tmp_path, first.snapshot).problems
    assert str(problem).startswith("a.yaml:6: spec.ingress[0].nonsense: unknown key (")
    assert str(problem).endswith("); what the file gave before stays in force")


def test_the_file_that_claims_a_taken_name_is_the_broken_one(tmp_path: Path) -> None:
    write(tmp_path, b=WORKLOAD.format("web", "10.0.0.1"))
    first = directory.load(tmp_path, None)
    write(tmp_path, a=WORKLOAD.format("other", "10.0.0.1") + "---\n" + POLICY.format("p", ""))
    second = directory.load(tmp_path, first.snapshot)
    assert lines(second) == [
        "a.yaml: line 1: address 10.0.0.1 of Workload default/other is already declared in b.yaml:1, "
        "of Workload default/web"
    ]
    assert second.snapshot.workloads == first.snapshot.workloads
    assert second.snapshot.policies == ()
    # Once the name is free, the other file is right without having been touched.
    write(tmp_path, b=WORKLOAD.format("web", "10.0.0.2"))
    third = directory.load(tmp_path, second.snapshot)
    assert third.problems == ()
    assert [(w.name, w.ips) for w in third.snapshot.workloads] == [("other", ("10.0.0.1",)), ("web", ("10.0.0.2",))]
    assert [p.invalid for p in third.snapshot.policies] == [False]


def test_a_copy_is_told_of_once_for_each_object(tmp_path: Path) -> None:
    """By its name, though it has the addresses and the interface of the other, too; a second cause is another line."""
    pods = "---\n".join(WORKLOAD.format(name, ip) for name, ip in (("db", "10.0.0.1"), ("web", "10.0.0.2")))
    write(tmp_path, a=pods)
    first = directory.load(tmp_path, None)
    write(tmp_path, b=pods)
    copied = [
        "Workload default/db is already declared in a.yaml:1",
        "Workload default/web is already declared in a.yaml:",
    ]
    for found in (directory.load(tmp_path, first.snapshot), directory.load(tmp_path, None)):
        assert [p.message.rstrip("0123456789") for p in found.problems] == [c.rstrip("0123456789") for c in copied]
    write(tmp_path, b=WORKLOAD.format("db", "10.0.0.2"))
    assert [p.message.partition(" is")[0] for p in directory.load(tmp_path, first.snapshot).problems] == [
        "Workload default/db", "address 10.0.0.2 of Workload default/db",
    ]  # fmt: skip
    (tmp_path / "b.yaml").unlink()
    write(tmp_path, a=pods + "---\n" + pods)
    twice = directory.load(tmp_path, first.snapshot).problems
    assert [p.message.partition(" (")[0] for p in twice] == [
        "Workload default/db is given twice", "Workload default/web is given twice",
    ]  # fmt: skip


@pytest.mark.parametrize("newcomer", ["a", "c"])
@pytest.mark.parametrize("also", [False, True])
def test_an_edit_of_the_file_that_has_a_name_gives_it_to_nobody(tmp_path: Path, newcomer: str, also: bool) -> None:
    """Whether the other came before the edit or with it."""
    write(tmp_path, b=on("x"), w=WORKLOAD.format("web", "10.0.0.1"))
    result = directory.load(tmp_path, None)
    write(tmp_path, **{newcomer: on("y") + "---\n" + WORKLOAD.format("web", "10.0.0.2")})
    if not also:
        result = directory.load(tmp_path, result.snapshot)
    write(tmp_path, b="# seen\n" + on("x"), w=WORKLOAD.format("web", "10.0.0.3"))
    for _ in range(2):
        result = directory.load(tmp_path, result.snapshot)
        assert [p.source for p in result.snapshot.policies] == ["b.yaml:2"]
        assert [w.ips for w in result.snapshot.workloads] == [("10.0.0.3",)]
        assert {(p.file, p.message, p.effect) for p in result.problems} == {
            (f"{newcomer}.yaml", "CiliumNetworkPolicy default/p is already declared in b.yaml:2", directory.NOTHING),
            (f"{newcomer}.yaml", "Workload default/web is already declared in w.yaml:1", directory.NOTHING),
        }
    (tmp_path / "b.yaml").unlink()
    (tmp_path / "w.yaml").unlink()
    after = directory.load(tmp_path, result.snapshot)
    assert ([p.source for p in after.snapshot.policies], after.problems) == ([f"{newcomer}.yaml:1"], ())


def test_a_file_that_is_refused_keeps_all_that_it_gave(tmp_path: Path) -> None:
    """Also what its new content lets go of, and another already asks for."""
    write(tmp_path, b=on("x"), c=on("z", "q"))
    first = directory.load(tmp_path, None)
    write(tmp_path, a=on("y"), b=on("x", "q"))  # b lets go of p, which a takes, and wants what c has
    second = directory.load(tmp_path, first.snapshot)
    assert second.snapshot.policies == first.snapshot.policies
    assert {(p.file, p.effect) for p in second.problems} == {
        ("a.yaml", directory.NOTHING),
        ("b.yaml", directory.STAYS),
    }
    write(tmp_path, c=on("z", "r"))
    third = directory.load(tmp_path, second.snapshot)
    assert [(p.name, p.source) for p in third.snapshot.policies] == [
        ("p", "a.yaml:1"), ("q", "b.yaml:1"), ("r", "c.yaml:1"),
    ]  # fmt: skip
    assert third.problems == ()


@pytest.mark.parametrize("seed", range(60))
def test_whatever_is_edited_stays_means_all_of_it_and_no_name_is_lost(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    before = directory.load(tmp_path, None)
    for _ in range(12):
        for file in chance.sample("abcde", chance.randint(1, 4)):
            names = chance.sample("pqrst", chance.randint(1, 3))
            text = "---\n".join(on("x", name) for name in names)
            write(tmp_path, **{file: chance.choice((text, text, text, text + "---\n]", "# seen\n" + text))})
        found = directory.load(tmp_path, before.snapshot)
        names = [p.key for p in found.snapshot.policies]
        assert len(names) == len(set(names))
        files = {policy.source.partition(":")[0] for policy in found.snapshot.policies if not policy.invalid}
        for problem in found.problems:
            if problem.effect == directory.STAYS:
                kept, had = (
                    {p for p in each.snapshot.policies if p.source.startswith(f"{problem.file}:")}
                    for each in (found, before)
                )
                assert kept == had
            elif problem.effect == directory.NOTHING:
                assert problem.file not in files
        told = {problem.file for problem in found.problems}
        for policy in before.snapshot.policies:  # who claims what it had has it still
            file = policy.source.partition(":")[0]
            if not policy.invalid and file not in told and f"name: {policy.name}}}" in (tmp_path / file).read_text():
                (now,) = (p for p in found.snapshot.policies if p.key == policy.key)
                assert now.source.startswith(file)
        for file, state in found.snapshot.files.items():
            if state.good:
                assert set(state.objects) <= set(found.snapshot.policies), file
        before = found


def test_an_object_may_move_to_another_file(tmp_path: Path) -> None:
    write(tmp_path, a=WORKLOAD.format("web", "10.0.0.1"), b=WORKLOAD.format("db", "10.0.0.2"))
    first = directory.load(tmp_path, None)
    write(tmp_path, a=WORKLOAD.format("db", "10.0.0.2"), b=WORKLOAD.format("web", "10.0.0.1"))
    second = directory.load(tmp_path, first.snapshot)
    assert second.problems == ()
    assert [w.source for w in second.snapshot.workloads] == ["a.yaml:1", "b.yaml:1"]


def test_only_what_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, a=NAMESPACE.format("a"), b=NAMESPACE.format("b"))
    first = directory.load(tmp_path, None)
    seen: list[str] = []
    real = objects.read_documents

    def spy(nodes: list[field.Node], report: field.Report) -> list[objects.Parsed]:
        seen.append(report.file)
        return real(nodes, report)

    monkeypatch.setattr(objects, "read_documents", spy)
    write(tmp_path, b=NAMESPACE.format("c"))
    second = directory.load(tmp_path, first.snapshot)
    assert seen == ["b.yaml"]
    assert [n.name for n in second.snapshot.namespaces] == ["a", "c"]
    write(tmp_path, a="kind: 1", c="kind: 1")
    third = directory.load(tmp_path, second.snapshot)
    assert seen == ["b.yaml", "a.yaml", "c.yaml"]
    assert directory.load(tmp_path, third.snapshot) == third and third.problems
    assert seen == ["b.yaml", "a.yaml", "c.yaml"]  # broken files neither: they may be large


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that the names of all files go into that are opened from now on."""
    seen: list[str] = []
    real = content.bytes_of

    def spy(path: str) -> bytes:
        seen.append(os.path.basename(path))
        return real(path)

    monkeypatch.setattr(content, "bytes_of", spy)
    return seen


def test_what_stat_says_is_the_same_is_not_even_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, digests = reads(monkeypatch), content.Digests()
    write(tmp_path, a=NAMESPACE.format("a"), b="kind: 1", c=NAMESPACE.format("c"), d=NAMESPACE.format("d"))
    monkeypatch.setattr(content, "_FRESH_NS", 0)
    time.sleep(0.05)
    first = directory.load(tmp_path, None, digests=digests)
    assert directory.load(tmp_path, first.snapshot, digests=digests).snapshot == first.snapshot
    assert seen == ["a.yaml", "b.yaml", "c.yaml", "d.yaml"]
    (tmp_path / "a.yaml").write_text(NAMESPACE.format("e"))  # as long as it was
    (tmp_path / "new").write_text(NAMESPACE.format("f"))
    os.utime(tmp_path / "new", ns=(0, (tmp_path / "c.yaml").stat().st_mtime_ns))
    (tmp_path / "new").rename(tmp_path / "c.yaml")
    (tmp_path / "d.yaml").unlink()
    second = directory.load(tmp_path, first.snapshot, digests=digests)
    assert seen[4:] == ["a.yaml", "c.yaml"]
    assert [n.name for n in second.snapshot.namespaces] == ["e", "f"] and second.problems == first.problems
    write(tmp_path, a="kind: 2")
    broken = directory.load(tmp_path, second.snapshot, digests=digests)
    write(tmp_path, a=NAMESPACE.format("g"))
    assert [n.name for n in directory.load(tmp_path, broken.snapshot, digests=digests).snapshot.namespaces] == [
        "f",
        "g",
    ]


def test_a_file_that_has_just_changed_may_do_so_once_more_and_look_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "identity", lambda _: (1,))
    digests = content.Digests()
    write(tmp_path, a=NAMESPACE.format("a"))
    first = directory.load(tmp_path, None, digests=digests)
    write(tmp_path, a=NAMESPACE.format("b"))
    assert [n.name for n in directory.load(tmp_path, first.snapshot, digests=digests).snapshot.namespaces] == ["b"]


def test_a_subdirectory_with_files_like_ours_is_told_of(tmp_path: Path) -> None:
    """As `sockmesh policy -f` reads them. Not those that mean nothing there either, nor what a link leads to."""
    for place in ("sub", "far/..data", "..data", ".git", "deep/er", "other"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / ("notes.txt" if place == "other" else "p.yaml")).write_text("]")
    (tmp_path / "link").symlink_to("sub")
    write(tmp_path, a=NAMESPACE.format("a"))
    told = [f"deep: {directory.UNREAD_BELOW}", f"sub: {directory.UNREAD_BELOW}"]
    first = directory.load(tmp_path, None)
    assert [str(p) for p in first.problems] == told and first.is_whole
    (tmp_path / "a.yaml").rename(tmp_path / "other" / "a.yaml")
    moved = directory.load(tmp_path, first.snapshot)
    assert [str(p) for p in moved.problems][1:] == [told[0], f"other: {directory.UNREAD_BELOW}", told[1]]
    assert moved.snapshot == first.snapshot


def test_a_file_of_another_spelling_is_told_of(tmp_path: Path) -> None:
    write(tmp_path, a=NAMESPACE.format("a"))
    before = listing.state(tmp_path)
    for name in ("b.YAML", "c.Json", "notes.TXT", ".hidden.YAML"):
        (tmp_path / name).write_text("]")
    assert listing.state(tmp_path) != before
    found = directory.load(tmp_path, None)
    assert lines(found) == [f"{name}: {listing.OTHER_ENDING}" for name in ("b.YAML", "c.Json")]
    assert found.is_whole and [each.name for each in found.snapshot.namespaces] == ["a"]
    told = testing.CliRunner().invoke(cli, ["policy", "validate", "--agent", "-f", str(tmp_path)])
    assert told.exit_code == 1 and told.stdout.splitlines() == lines(found)


def test_strange_files(tmp_path: Path) -> None:
    (tmp_path / "dir.yaml").mkdir()
    (tmp_path / "dangling.yaml").symlink_to("nowhere")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "null.yaml").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * (content.MAX_FILE + 1))
    (tmp_path / "empty.yaml").touch()
    (tmp_path / "empty.json").touch()
    (tmp_path / "notes.txt").write_text("not ours: [")
    (tmp_path / ".web.yaml.swp.yaml").write_text("not ours: [")
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbf" + NAMESPACE.format("bom").encode())
    (tmp_path / os.fsdecode(b"odd\xff\n.yaml")).write_text("[")
    real = tmp_path / "sub"
    real.mkdir()
    (real / "ns").write_text(NAMESPACE.format("linked"))
    (real / "below.yaml").write_text(NAMESPACE.format("below"))
    (tmp_path / "link.yaml").symlink_to("sub/ns")
    result = directory.load(tmp_path, None)
    assert [n.name for n in result.snapshot.namespaces] == ["bom", "linked"]
    assert lines(result) == [
        f"sub: {directory.UNREAD_BELOW}",
        "dangling.yaml: cannot be read: No such file or directory",
        "dir.yaml: is not a regular file",
        "fifo.yaml: is not a regular file",
        f"large.yaml: is larger than {content.MAX_FILE} bytes",
        "loop.yaml: cannot be read: Too many levels of symbolic links",
        "null.yaml: is not a regular file",
        "odd??.yaml: line 2: not YAML: did not find expected node content",
    ]


def test_a_missing_directory_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, a=NAMESPACE.format("a"))
    first = directory.load(tmp_path, None)
    gone = directory.load(tmp_path / "gone", first.snapshot)
    assert gone.snapshot == first.snapshot
    assert lines(gone) == [f"{tmp_path}/gone: cannot be read: No such file or directory"]


def test_json_and_lists(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        '{"apiVersion": "v1", "kind": "List", "items": ['
        '{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}},'
        '\t{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "b"}}]}'
    )
    result = directory.load(tmp_path, None)
    assert result.problems == ()
    assert [n.name for n in result.snapshot.namespaces] == ["a", "b"]


def test_problems_of_a_garbage_file_are_bounded_and_it_stays_broken(tmp_path: Path) -> None:
    documents = "---\n".join("kind: 1\n" for _ in range(500)) + "---\n" + POLICY.format("p", "nonsense: 1")
    write(tmp_path, a=documents)
    result = directory.load(tmp_path, None)
    assert len(result.problems) == 100
    assert [p.invalid for p in result.snapshot.policies] == [True]


def local(name: str, number: int, **spec: str) -> str:
    more = "".join(f", {key}: {value}" for key, value in spec.items())
    return (
        f"apiVersion: sockmesh.io/v1\nkind: Workload\nmetadata: {{name: {name}}}\n"
        f"spec: {{ips: [10.0.1.{number}]{more}}}\n---\n"
    )


def test_two_files_at_odds_at_the_first_start_leave_no_pod_open(tmp_path: Path) -> None:
    """A deny closes nobody whom nobody knows: what does not clash counts, whoever lost."""
    x, y = WORKLOAD.format("x", "10.0.0.1"), WORKLOAD.format("y", "10.0.0.2")
    write(tmp_path, a=x, b="---\n".join((x, y, NAMESPACE.format("n"), POLICY.format("p", ""))), c=NAMESPACE.format("c"))
    first = directory.load(tmp_path, None)
    assert [(w.name, w.source) for w in first.snapshot.workloads] == [("x", "a.yaml:1"), ("y", "b.yaml:6")]
    assert [n.name for n in first.snapshot.namespaces] == ["c", "n"]
    assert [(p.name, p.invalid) for p in first.snapshot.policies] == [("p", True)]
    assert {problem.effect for problem in first.problems} == {f"{directory.CLOSES}; {directory.KEPT}"}
    again = directory.load(tmp_path, first.snapshot)
    assert again == first
    (tmp_path / "a.yaml").unlink()
    mended = directory.load(tmp_path, again.snapshot)
    assert ([w.source for w in mended.snapshot.workloads], mended.problems) == (["b.yaml:1", "b.yaml:6"], ())
    assert [p.invalid for p in mended.snapshot.policies] == [False]


def test_what_counts_of_a_file_at_odds_takes_nothing_from_one_that_is_right(tmp_path: Path) -> None:
    x, y = WORKLOAD.format("x", "10.0.0.1"), WORKLOAD.format("y", "10.0.0.2")
    write(tmp_path, a=x, b=f"{x}---\n{y}", c=f"{y}---\n{POLICY.format('q', '')}")
    first = directory.load(tmp_path, None)
    assert [w.source for w in first.snapshot.workloads] == ["a.yaml:1", "c.yaml:1"]
    assert [(p.name, p.invalid) for p in first.snapshot.policies] == [("q", False)]
    assert {(p.file, p.effect) for p in first.problems} == {("b.yaml", directory.NOTHING)}
    assert directory.load(tmp_path, first.snapshot) == first


@pytest.mark.parametrize(
    ("field", "first", "second"),
    [
        ("netns", "web", "web"),
        ("netns", "web", "/run/netns/web"),
        ("cgroup", "/sys/fs/cgroup/web", "/sys/fs/cgroup/web"),
    ],
)
def test_two_that_share_a_netns_or_cgroup_are_both_under_policy_whenever_they_came(
    tmp_path: Path, field: str, first: str, second: str
) -> None:
    """The host's side sees to what they share, and tells (agent/workloads.py)."""
    write(tmp_path, a=local("a", 1, **{field: first}))
    before = directory.load(tmp_path, None)
    write(tmp_path, b=local("b", 2, **{field: second}) + POLICY.format("p", ""))
    later = directory.load(tmp_path, before.snapshot)
    assert [w.name for w in later.snapshot.workloads] == ["a", "b"]
    assert [p.invalid for p in later.snapshot.policies] == [False]
    assert later.is_whole and not any(p.effect for p in later.problems)
    assert directory.load(tmp_path, None) == later
    (tmp_path / "b.yaml").unlink()
    in_one = local("a", 1, **{field: first}) + local("b", 2, **{field: second}) + POLICY.format("p", "")
    write(tmp_path, a=in_one)
    assert directory.load(tmp_path, None).is_whole


def test_a_policy_given_twice_in_a_broken_file_closes_all_that_either_selects(tmp_path: Path) -> None:
    write(tmp_path, a="---\n".join(on(app) for app in "ab"))
    (policy,) = directory.load(tmp_path, None).snapshot.policies
    assert [section.subject.requirements[0].values for section in policy.sections] == [("a",), ("b",)]


@pytest.mark.parametrize("list_", ["items: [1, {}]", "item: [{}]\nitems: [{}]", "items: {{a: {}}}"])
def test_a_list_of_which_a_part_cannot_be_read_closes_everybody(tmp_path: Path, list_: str) -> None:
    policy = "{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: p}, spec: {endpointSelector: {}}}"
    write(tmp_path, a="apiVersion: v1\nkind: List\n" + list_.replace("{{", "{").replace("{}", policy, 1))
    assert [p.name for p in directory.load(tmp_path, None).snapshot.policies] == ["invalid:a.yaml"]


@pytest.mark.parametrize("field", ["netns", "interface", "cgroup", "serviceAccount", "node"])
@pytest.mark.parametrize("text", ["x\\ud800", "x\\u0000", "x\\u001b"])
def test_what_nobody_could_look_up_is_named_by_its_path(tmp_path: Path, field: str, text: str) -> None:
    (tmp_path / "a.json").write_text(
        '{"apiVersion": "sockmesh.io/v1", "kind": "Workload", "metadata": {"name": "w"}, '
        f'"spec": {{"ips": ["10.0.0.1"], "{field}": "{text}"}}}}'
    )
    write(tmp_path, b=WORKLOAD.format("web", "10.0.0.9"))
    found = directory.load(tmp_path, None)
    assert [w.name for w in found.snapshot.workloads] == ["web"]
    assert [p.path for p in found.problems if p.effect] == [f"spec.{field}"]
    assert all(str(p).isprintable() for p in found.problems)


def test_what_could_not_be_read_or_taken_whole_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For who must decide what a start goes by (agent/reconcile.py)."""
    write(tmp_path, a=WORKLOAD.format("web", "10.0.0.1"))
    first = directory.load(tmp_path, None)
    assert (first.is_read, first.is_whole) == (True, True)
    for text in ("]", WORKLOAD.format("web", "10.0.0.1")):
        write(tmp_path, b=text)
        for before in (None, first.snapshot):
            found = directory.load(tmp_path, before)
            assert (found.is_read, found.is_whole) == (True, False)
    for text in ("", "# nothing\n---\n"):
        write(tmp_path, b=text)
        for before in (None, first.snapshot, directory.load(tmp_path, None).snapshot):
            found = directory.load(tmp_path, before)
            assert (found.is_read, found.is_whole, found.problems) == (True, False, ())
            assert [str(p) for p in found.advice] == [f"b.yaml: {directory.EMPTY_FILE}"]
    write(tmp_path, b="{apiVersion: v1, kind: List, items: []}")
    assert directory.load(tmp_path, None).is_whole
    monkeypatch.setattr(directory, "MAX_FILES", 1)
    for place in (tmp_path, tmp_path / "gone", tmp_path / "a.yaml"):
        for before, effect in ((None, directory.UNREAD), (first.snapshot, directory.ALL_STAYS)):
            found = directory.load(place, before)
            assert (found.is_read, found.is_whole) == (False, False)
            assert [p.effect for p in found.problems] == [effect]
            assert found.snapshot == (before or model.Snapshot())
