"""The self-test on this kernel: it passes on the mesh as it is, fails on one that is broken, and leaves nothing."""

import dataclasses
import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loader import abi, attach, bpf, features, mounts, selftest
from loader.bpf import exit_with
from loader.maps import possible_cpus
from loader.mesh import Mesh
from loader.programs import ProgType
from loader.selftest.cases import NAMES
from loader.selftest.reserved import CGROUP_PREFIX
from tests.hosts import Node
from tests.hosts.wait import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parents[2]
# An emulated processor is some fifty times slower.
TIMEOUT = 250.0 if os.environ.get("SOCKMESH_EMULATED") else 60.0
CONFIG = abi.Config(
    generation=1, probation_packets=16, udp_timeout_s=30, tcp_timeout_s=3600, tcp_close_timeout_s=10, icmp_timeout_s=30,
    acceleration=0, self_test=0,
)  # fmt: skip
MAPS = ("endpoints", "endpoint_ips", "endpoint_netns", "endpoint_ifaces", "ipcache", "policy", "conns", "caught")


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with Node("selftest") as node:
        loaded = Mesh.load(node.pins, node.directory / "run")
        assert loaded.loaded.acceleration == ""
        loaded.maps.config.put_at(0, CONFIG)
        yield loaded
        loaded.close()


def left_behind(mesh: Mesh, pid: int = 0) -> list[str]:
    """Return what is in the maps, and the cgroup of one self-test, or of all of them that have no process."""
    found = [f"{name}: {key}" for name in MAPS for key, _ in mesh.maps[name].items()]
    root = mounts.cgroup2()
    assert root
    for directory in root.glob(CGROUP_PREFIX + (str(pid) if pid else "*")):
        if not any(file.read_text() for file in directory.glob("*/cgroup.procs")):
            found.append(str(directory))
    return found


def test_every_case_passes_and_nothing_is_left(mesh: Mesh) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    assert selftest.run(mesh, TIMEOUT) == dict.fromkeys(NAMES, "ok")
    assert left_behind(mesh) == []
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("in_use", [False, True])
def test_it_leaves_all_figures_as_they_were(mesh: Mesh, in_use: bool) -> None:
    """Whether or not others may use the short cut meanwhile. None is lost, and none is put back: theirs move on."""
    written = {metric: [abi.Counter(10 * metric + cpu) for cpu in range(possible_cpus())] for metric in abi.Metric}
    for metric, values in written.items():
        raw = b"".join(value.pack() for value in values)
        bpf.update(mesh.maps.counters.fd, struct.pack("=I", metric), raw)
    mesh.maps.config.put_at(0, dataclasses.replace(CONFIG, acceleration=int(in_use), self_test=int(in_use)))
    try:
        assert set(selftest.run(mesh, TIMEOUT).values()) == {"ok"}
    finally:
        mesh.maps.config.put_at(0, CONFIG)
    assert {metric: mesh.maps.counters.cpus_at(int(metric)) for metric in abi.Metric} == written
    assert list(mesh.maps.traffic.items()) == []
    assert [mesh.maps[name].count() for name in ("ct", "conns", "frags", "reverse")] == [0, 0, 0, 0]


def test_a_short_cut_that_carries_nothing_is_found(mesh: Mesh) -> None:
    results = with_program(mesh, 1)
    assert results["echo"].startswith("not carried"), results
    assert results["16 MB down"].startswith("not carried"), results
    assert left_behind(mesh) == []


def test_a_program_that_loses_messages_is_found(mesh: Mesh) -> None:
    results = with_program(mesh, 0)
    assert "ok" not in (results["echo"], results["half-close by server"], results["IPv6"]), results


def with_program(mesh: Mesh, verdict: int) -> dict[str, str]:
    """Run the self-test with a message program that always answers verdict."""
    other = bpf.load_program(int(ProgType.SK_MSG), exit_with(verdict), 0, "sm_broken")
    try:
        attach.sockhash(mesh.maps.socks.fd, other)
        return selftest.run(mesh, TIMEOUT)
    finally:
        attach.sockhash(mesh.maps.socks.fd, mesh.program("skmsg"))
        os.close(other)


def test_a_probation_that_cannot_be_passed_is_named(mesh: Mesh) -> None:
    mesh.maps.config.put_at(0, dataclasses.replace(CONFIG, probation_packets=1_000_000))
    try:
        assert "probation_packets is 1,000,000" in selftest.run(mesh, TIMEOUT)["echo"]
    finally:
        mesh.maps.config.put_at(0, CONFIG)


def test_what_is_not_done_in_time_has_failed(mesh: Mesh) -> None:
    results = selftest.run(mesh, 0.01)
    assert list(results) == list(NAMES)
    assert set(results.values()) == {"not done: not finished after 0.01 s"}


def test_the_next_self_test_removes_what_a_killed_one_left(mesh: Mesh) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "loader.selftest", str(mesh.pin_dir)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert child.stdout and b'"ok"' in child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert mesh.maps.endpoints.count() == 2
    root = mounts.cgroup2()
    assert root
    directory = root / f"{CGROUP_PREFIX}{child.pid}"
    wait_until(lambda: not any(f.read_text() for f in directory.glob("*/cgroup.procs")), "its pods are gone")
    assert set(selftest.run(mesh, TIMEOUT).values()) == {"ok"}
    assert left_behind(mesh, child.pid) == []


def test_without_a_mesh_it_says_so() -> None:
    child = subprocess.run(
        [sys.executable, "-m", "loader.selftest", "/sys/fs/bpf/sockmesh-test-none"],
        cwd=ROOT, capture_output=True, text=True, timeout=60 * PATIENCE, check=False,
    )  # fmt: skip
    assert child.returncode == 2
    assert "no pinned map: start the agent" in json.loads(child.stdout)["error"]
    assert child.stderr == ""


def test_every_feature_is_there_and_the_probes_leave_nothing() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    found = features.probe()
    assert [f"{f.name}: {f.detail}" for f in found if not f.ok] == []
    assert sorted(os.listdir("/proc/self/fd")) == before
    root = mounts.cgroup2()
    assert root and not (root / f"sockmesh-probe-{os.getpid()}").exists()
