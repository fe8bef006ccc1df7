"""What cannot work is refused in one sentence, and nothing is half done."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from loader import abi
from tests.hosts import Node, Pod
from tests.hosts.wait import PATIENCE, wait_until
from tests.kernel.street import Json, Street, nobody, policy

ROOT = Path(__file__).parents[2]
LIMIT = abi.MAP_BY_NAME["policy"].max_entries
CIDRS, PORTS = 1638, 40


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Node("bad") as made:
        (made.directory / "config").mkdir()
        yield made


def agent(node: Node, *args: str, before: tuple[str, ...] = (), **given: Any) -> str:
    """Run an agent that must not start; return its one sentence."""
    options = {"--config": str(node.directory / "config"), "--run-dir": str(node.directory / "run")}
    options |= {"--pin-dir": str(node.pins), "--metrics": ""}
    options |= dict(zip(args[::2], args[1::2], strict=True))
    command = [*before, sys.executable, "-m", "control.cli.main", "agent", "--no-self-test"]
    for name, value in options.items():
        command += [name, value]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=20 * PATIENCE, check=False, **given
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    (line,) = str(done.stderr).splitlines()
    assert line.startswith("sockmesh: ")
    assert not list(node.pins.glob("links/*"))
    assert not list(node.pins.glob("progs/*"))
    return line


def test_a_config_directory_that_is_none(node: Node) -> None:
    nowhere = str(node.directory / "nowhere")
    assert f"--config {nowhere}: there is no such directory: make it first" in agent(node, "--config", nowhere)
    assert "/etc/passwd: not a directory" in agent(node, "--config", "/etc/passwd")


def test_not_root(node: Node) -> None:
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    # The directories of the others are root's alone: it would be those that it may not read.
    said = agent(node, "--config", str(ROOT), "--run-dir", "/run/sockmesh-nobody", before=nobody)
    assert "root" in said


def test_without_bcc(node: Node, tmp_path: Path) -> None:
    (tmp_path / "bcc.py").write_text('raise ImportError("No module named bcc")\n')
    said = agent(node, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert "apt-get install python3-bpfcc" in said


def test_with_the_wrong_bcc(node: Node, tmp_path: Path) -> None:
    (tmp_path / "bcc.py").write_text("")
    said = agent(node, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert "pip uninstall bcc" in said


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--pin-dir", "/tmp/pins", "not on a BPF file system"),
        ("--metrics", "nonsense", "--metrics nonsense: an address and a port are needed"),
        ("--metrics", "127.0.0.1:99999", "an address and a port are needed"),
        ("--run-dir", "/proc/nowhere", "/proc/nowhere"),
        ("--node-ip", "10.0.0.999", "10.0.0.999"),
        ("--cluster-cidr", "10.0.0.0/99", "10.0.0.0/99"),
        ("--cluster-cidr", "10.0.0.0", "--cluster-cidr 10.0.0.0: not an address range (such as 10.0.0.0/8"),
        ("--flow-log", "/nowhere/flows.json", "--flow-log /nowhere/flows.json: /nowhere is not a directory"),
        ("--run-dir", "/etc/passwd", "/etc/passwd: cannot make the directory"),
        ("--pin-dir", "/sys/fs/bpf/no.dot", "/sys/fs/bpf/no.dot"),
    ],
)
def test_options_that_cannot_be(node: Node, option: str, value: str, said: str) -> None:
    assert said in agent(node, option, value)


def test_a_run_directory_without_room(node: Node, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(tmp_path)], check=True)
    try:
        said = agent(node, "--run-dir", str(tmp_path / "run"))
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert "No space left on device" in said and str(tmp_path) in said


# --- a running agent -------------------------------------------------------------------------------------------------


def reported(street: Street, file: str, *documents: Json) -> str:
    """Write a file that has one problem; return it as `status` says it."""
    street.mesh.apply(file, *documents)
    (problem,) = street.mesh.call("reconcile")["problems"]
    assert problem == street.mesh.call("status")["problems"][0]
    assert "Traceback" not in street.mesh.log.read_text()
    return str(problem)


def workload(**spec: Any) -> Json:
    return {
        "apiVersion": "sockmesh.io/v1",
        "kind": "Workload",
        "metadata": {"name": "odd", "namespace": "default", "labels": {"app": "odd"}},
        "spec": {"ips": ["10.244.0.200"], **spec},
    }


@pytest.fixture
def ghost(street: Street) -> Iterator[Pod]:
    pod = street.node.pod("ghost")
    yield pod
    if "ghost" in street.node.pods:
        street.node.remove(pod)


def hooked(street: Street, pod: Pod) -> bool:
    """Tell whether both filters are on a pod's interface."""
    words = ["tc", "filter", "show", "dev", pod.interface]
    ways = (("ingress", "progs/from_pod"), ("egress", "progs/to_pod"))
    return all(program in street.node.run([*words, way]).stdout for way, program in ways)


LONG = "x" * 5000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"netns": "/run/netns/nowhere"}, "/run/netns/nowhere"),
        ({"interface": "vh-nowhere"}, "vh-nowhere"),
        ({"interface": "a-name-of-more-than-fifteen"}, "a-name-of-more-than-fifteen"),
        ({"netns": "/run/netns/" + LONG}, "spec.netns: is 5011 characters long"),
        ({"netns": "/etc/passwd"}, "/etc/passwd"),
        ({"cgroup": "/sys/fs/cgroup/nowhere"}, "/sys/fs/cgroup/nowhere"),
        ({"cgroup": "/sys/fs/cgroup/" + LONG}, "spec.cgroup: is 5015 characters long"),
        ({"cgroup": "/etc"}, "/etc"),
    ],
    ids=["no netns", "no interface", "long interface", "long netns", "no namespace", "no cgroup", "long cgroup", "dir"],
)
def test_a_workload_that_is_not_there(street: Street, ghost: Pod, change: dict[str, str], said: str) -> None:
    street.enforce(nobody("closed", "server", "ingress"))
    there = {"netns": ghost.netns, "interface": ghost.interface, "cgroup": ghost.cgroup}
    problem = reported(street, "policy-odd", workload(**{**there, **change}))
    assert problem.startswith("policy-odd.yaml:")
    assert said in problem
    assert "\n" not in problem
    assert street.connect("client", street.ip("server"), 4601) == "EPERM"


@pytest.mark.parametrize("where", ["metadata", "label", "policy"])
def test_overlong_names(street: Street, where: str) -> None:
    street.enforce(nobody("closed", "server", "ingress"))
    odd = workload()
    if where == "metadata":
        odd["metadata"]["name"] = LONG
    elif where == "label":
        odd["metadata"]["labels"] = {"app": LONG}
    else:
        odd = nobody(LONG, "server", "egress")
    problem = reported(street, "policy-odd", odd)
    assert re.match(r"policy-odd.yaml:\d+: metadata", problem)
    assert len(problem) < 400
    assert street.connect("client", street.ip("server"), 4602) == "EPERM"


def test_an_interface_that_vanishes(street: Street, ghost: Pod) -> None:
    street.mesh.apply("policy-ghost", ghost.workload_yaml())
    street.enforce(nobody("closed", "ghost", "ingress"))
    assert street.connect("client", ghost.ip, 4603) == "EPERM"
    street.node.run(["ip", "link", "del", ghost.interface])
    street.enforce_with_problems(nobody("closed", "server", "ingress"))
    (problem,) = street.mesh.call("status")["problems"]
    assert problem.startswith("policy-ghost.yaml:1: ")
    assert ghost.interface in problem
    assert street.connect("client", street.ip("server"), 4604) == "EPERM"


@pytest.mark.parametrize("lost", ["interface", "cgroup", "namespace"])
def test_what_vanishes_is_noticed_without_an_edit(street: Street, ghost: Pod, lost: str) -> None:
    street.mesh.apply("policy-ghost", ghost.workload_yaml())
    street.enforce(nobody("closed", "ghost", "ingress"))
    if lost == "interface":
        street.node.run(["ip", "link", "del", ghost.interface])
    elif lost == "cgroup":
        ghost.kill_all()
        Path(ghost.cgroup).rmdir()
    else:
        street.node.remove(ghost)
    named = {"interface": ghost.interface, "cgroup": ghost.cgroup, "namespace": Path(ghost.netns).name}[lost]

    def problems() -> list[str]:
        return [
            p for p in street.mesh.call("status")["problems"] if p.startswith("policy-ghost.yaml:1: ") and named in p
        ]

    wait_until(problems, f"the missing {lost} is a problem", 5)


def test_an_interface_that_is_made_anew_is_under_policy_again(street: Street, ghost: Pod) -> None:
    street.mesh.apply("policy-ghost", ghost.workload_yaml())
    street.enforce(nobody("closed", "ghost", "ingress"))
    before = street.mesh.call("status")["problems"]
    street.node.run(["ip", "link", "del", ghost.interface])
    street.node.plug(ghost)

    wait_until(lambda: hooked(street, ghost), "the new interface has its hooks", 5)
    assert street.connect("stranger", ghost.ip, 4605, wait=1.0) == "timeout"
    assert street.mesh.call("status")["problems"] == before


def test_filters_that_somebody_takes_off_are_put_back(street: Street, ghost: Pod) -> None:
    street.mesh.apply("policy-ghost", ghost.workload_yaml())
    street.enforce(nobody("closed", "ghost", "ingress"))
    assert street.connect("stranger", ghost.ip, 4606, wait=1.0) == "timeout"
    before = street.mesh.call("status")["hooks_restored"]
    street.node.run(["tc", "qdisc", "del", "dev", ghost.interface, "clsact"])
    wait_until(lambda: street.mesh.call("status")["hooks_restored"] == before + 1, "the loss is noticed", 5)
    wait_until(lambda: hooked(street, ghost), "the hooks are back", 5)
    assert street.connect("stranger", ghost.ip, 4607, wait=1.0) == "timeout"
    street.node.run(["tc", "filter", "del", "dev", ghost.interface, "ingress"])
    wait_until(lambda: street.mesh.call("status")["hooks_restored"] == before + 2, "the loss is noticed", 5)
    wait_until(lambda: hooked(street, ghost), "the hooks are back", 5)


def test_a_second_agent_cannot_have_a_pod_of_the_first(street: Street, ghost: Pod, tmp_path: Path) -> None:
    street.mesh.apply("policy-ghost", ghost.workload_yaml())
    street.enforce(nobody("closed", "ghost", "ingress"))
    (tmp_path / "config").mkdir()
    (tmp_path / "config/ghost.yaml").write_text(yaml.safe_dump(ghost.workload_yaml()))
    pins = street.node.pins.with_name(street.node.pins.name + "-second")
    street.node.run_record.note("pin", str(pins))
    place = ["--run-dir", str(tmp_path / "run"), "--pin-dir", str(pins)]
    words = ["agent", "--config", str(tmp_path / "config"), "--metrics", "", "--no-self-test", *place]
    second = street.node.popen([sys.executable, "-m", "control.cli.main", *words], stderr=subprocess.PIPE, text=True)
    assert second.stderr is not None
    told = next(line for line in second.stderr if ghost.interface in line)
    assert f"under the policy of another agent, whose pins are in {street.node.pins}" in told
    assert any(line.endswith(": 0 workloads under policy\n") for line in second.stderr)
    second.terminate()
    second.wait(20 * PATIENCE)
    # It has hung no filter, so nothing tells that its pods are here.
    street.node.run([sys.executable, "-m", "control.cli.main", "uninstall", "--pins", "--force", *place])
    assert not pins.exists()
    assert street.connect("stranger", ghost.ip, 4608, wait=1.0) == "timeout", "the first agent's hooks are still there"


def wide(cidrs: int, ports: int, more: int, first_port: int = 1) -> Json:
    """Return a policy of about cidrs * ports + more entries."""
    ranges = [f"198.18.{i // 256}.{i % 256}/32" for i in range(cidrs)]
    rules = [{"toCIDR": ranges, "toPorts": [{"ports": [port(first_port + p) for p in range(ports)]}]}]
    rules += [{"toCIDR": ranges[:1], "toPorts": [{"ports": [port(30000 + 2 * p)]}]} for p in range(more)]
    return policy("wide", "client", egress=rules)


def port(number: int) -> Json:
    return {"port": str(number), "protocol": "TCP"}


def entries(street: Street) -> int:
    with street.mesh.open_maps() as maps:
        return maps.policy.count()


def test_the_65537th_policy_entry_is_refused_and_the_old_policy_stays(street: Street) -> None:
    room = LIMIT - entries(street) - CIDRS * PORTS - 2  # a set's two defaults; the empty set stays for other pods
    street.enforce(wide(CIDRS, PORTS, room))
    assert entries(street) == LIMIT
    assert street.connect("client", street.ip("server"), 4610) == "EPERM"  # not in any range
    problem = reported(street, "policy", wide(CIDRS, PORTS, room + 1))
    assert "map policy takes 65,536 entries" in problem
    assert "65,537" in problem
    assert "\n" not in problem
    assert entries(street) == LIMIT
    assert street.connect("client", street.ip("server"), 4611) == "EPERM"
    # One full set after another: both do not fit side by side, and nothing may open meanwhile.
    street["client"].do("tried = hammer(lambda: connect(ip, 4612)[0])", ip=street.ip("server"))
    since = time.monotonic()
    street.enforce(wide(CIDRS, PORTS, room, first_port=100))
    print(f"{LIMIT} entries exchanged in {time.monotonic() - since:.1f} s")
    assert entries(street) == LIMIT
    assert street["client"].do("result = tried()").keys() == {"EPERM"}
