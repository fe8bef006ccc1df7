"""The agent tests the short cut before anybody may use it, beside its work, and once for each kernel."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.agent import trial
from loader import abi, mounts, selftest
from loader.selftest import reserved
from tests.hosts import Mesh, Node
from tests.hosts.wait import wait_until
from tests.kernel.puppet import Puppet
from tests.kernel.street import nobody

PASSED = dict.fromkeys(selftest.NAMES, selftest.OK)
PATIENCE_S = 300.0 if os.environ.get("SOCKMESH_EMULATED") else 90.0


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Node("trial") as made:
        made.pod("client")
        made.pod("server")
        yield made


def is_on(mesh: Mesh) -> bool:
    with mesh.open_maps() as maps:
        return bool(maps.config.get_at(0).self_test)


def wait_done(mesh: Mesh) -> None:
    wait_until(lambda: mesh.call("status")["self_test"], "the self-test is done", PATIENCE_S)


def wait_at_work(mesh: Mesh) -> Path:
    """Return the cgroup of the agent's self-test, when that has written into the maps."""
    assert mesh.agent
    with mesh.open_maps() as maps:
        wait_until(lambda: maps.endpoint_ifaces.count() > 2, "the self-test is at work", PATIENCE_S)
    tasks = Path(f"/proc/{mesh.agent.pid}/task").glob("*/children")
    root = mounts.cgroup2()
    assert root
    (found,) = [root / f"{reserved.CGROUP_PREFIX}{pid}" for file in tasks for pid in file.read_text().split()]
    assert found.is_dir()
    return found


def left(mesh: Mesh) -> list[str]:
    """Return the maps that hold something of a self-test."""
    with mesh.open_maps() as maps:
        return [name for name, keys in reserved.entries(maps) if keys]


def short_cut_bytes(node: Node) -> float:
    text = node.run(["curl", "-s", "127.0.0.1:9965/metrics"]).stdout
    return float(text.partition("\nsockmesh_shortcut_bytes_total ")[2].partition("\n")[0])


def test_the_self_test_decides_once(node: Node) -> None:
    client, server = (Puppet(node.pods[name]) for name in ("client", "server"))
    with Mesh(node, [nobody("closed", "server", "ingress")], self_test=True, await_self_test=False) as mesh:
        order = "result = connect(ip, 4601, 0.5)[0]"
        refused, answered, told = [], [], set()
        assert not is_on(mesh)
        while mesh.call("status")["acceleration_off"] == trial.RUNNING:
            refused.append(client.do(order, ip=node.pods["server"].ip))
            answered.append(server.do(order, ip=node.pods["client"].ip))  # the client's own word: nobody listens
            told.add(short_cut_bytes(node))
        print(f"asked {len(refused)} times meanwhile")
        assert len(refused) > 3 and set(refused) == {"EPERM"}  # policy and agent do not wait for it
        status = mesh.call("status")
        assert (status["self_test"], status["acceleration_off"]) == (PASSED, "")
        assert is_on(mesh)
        assert told | {short_cut_bytes(node)} == {0.0}  # those of the self-test are nobody's business
        assert set(answered) == {"ECONNREFUSED"}
        with mesh.open_maps() as maps:  # each call of a pod meanwhile, and nothing else
            counted = {metric: maps.counter(metric) for metric in abi.Metric}
            assert list(maps.traffic.items()) == [] and maps.ct.count() == 2 * len(answered)
        assert counted.pop(abi.Metric.REFUSED_CALLS) == len(refused)
        assert counted.pop(abi.Metric.FAILED_CALLS) == len(answered)
        assert counted.pop(abi.Metric.POLICY_LOOKUPS) >= 4 * len(answered)
        packets = (abi.Metric.FORWARDED_INGRESS_PACKETS, abi.Metric.FORWARDED_EGRESS_PACKETS, abi.Metric.CT_CREATED)
        assert {counted.pop(metric) for metric in packets} == {2 * len(answered)}  # a SYN and its RST, two entries
        for metric in (abi.Metric.FORWARDED_INGRESS_BYTES, abi.Metric.FORWARDED_EGRESS_BYTES):
            assert 100 * len(answered) < counted.pop(metric) < 200 * len(answered)
        assert {metric.name: value for metric, value in counted.items() if value} == {}
        record = mesh.run_dir / "selftest.json"
        assert json.loads(record.read_text())["cases"] == PASSED
        ours = {node.pods[name].ip for name in node.pods}
        strangers = [f for f in mesh.flows() if "IP" in f and not ours & {f["IP"]["source"], f["IP"]["destination"]}]
        assert strangers == []

        before = record.stat().st_mtime_ns
        mesh.stop()
        assert is_on(mesh)
        mesh.start()
        status = mesh.call("status")  # from the first moment
        assert (status["self_test"], status["acceleration_off"]) == (PASSED, "")
        assert is_on(mesh) and record.stat().st_mtime_ns == before

        mesh.kill()
        record.write_text(json.dumps({"hash": "of another kernel", "cases": PASSED}))
        mesh.start()
        assert mesh.call("status")["acceleration_off"] == trial.RUNNING
        assert not is_on(mesh)
        wait_done(mesh)
        assert is_on(mesh) and json.loads(record.read_text())["hash"] != "of another kernel"


def begun_anew(mesh: Mesh) -> Path:
    """Start an agent that knows of no self-test, and return the cgroup of its own when that is at work."""
    mesh.kill()
    (mesh.run_dir / "selftest.json").unlink(missing_ok=True)
    mesh.start()
    return wait_at_work(mesh)


def test_an_agent_killed_during_its_self_test(node: Node) -> None:
    with Mesh(node, self_test=True, await_self_test=False) as mesh:
        cgroup = begun_anew(mesh)
        mesh.kill()
        wait_until(lambda: not any(file.read_text() for file in cgroup.glob("*/cgroup.procs")), "its pods are gone")
        mesh.start()
        assert not cgroup.exists()
        wait_done(mesh)
        assert mesh.call("status")["self_test"] == PASSED
        assert left(mesh) == []
        with mesh.open_maps() as maps:
            assert maps.endpoints.count() == 2


def test_an_agent_stopped_during_its_self_test_leaves_nothing_of_it(node: Node) -> None:
    with Mesh(node, self_test=True, await_self_test=False) as mesh:
        cgroup = begun_anew(mesh)
        mesh.stop()
        assert (left(mesh), cgroup.exists()) == ([], False)
        assert not (mesh.run_dir / "selftest.json").exists()


def test_without_it_the_short_cut_stays_off(node: Node) -> None:
    with Mesh(node, force_acceleration=False) as mesh:
        status = mesh.call("status")
        assert (status["self_test"], status["acceleration_off"]) == ({}, trial.SWITCHED_OFF)
        assert "--no-self-test" in trial.SWITCHED_OFF
        assert not is_on(mesh)


def test_a_kernel_that_fails_it_gets_no_short_cut(node: Node) -> None:
    """Here because no connection ever gets that far."""
    with Mesh(node, self_test=True, await_self_test=False, args=["--probation-packets", "1000000"]) as mesh:
        mesh.kill()
        (mesh.run_dir / "selftest.json").unlink(missing_ok=True)
        mesh.start()
        wait_done(mesh)
        status = mesh.call("status")
        assert "probation_packets is 1,000,000" in status["self_test"]["echo"]
        assert "the self-test found this kernel unsafe" in status["acceleration_off"]
        assert "echo: " in status["acceleration_off"]
        assert not is_on(mesh)
        assert not (mesh.run_dir / "selftest.json").exists()  # the next start tries again
