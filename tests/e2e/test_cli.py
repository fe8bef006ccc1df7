"""Every inspecting command on a live agent, on a dead one and where there is none; as users run it, by its name."""

import dataclasses
import fcntl
import itertools
import json
import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.hosts import Mesh, Node, Pod
from tests.hosts.wait import wait_until

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "web-ingress", "namespace": "default"},
    "spec": {
        "podSelector": {"matchLabels": {"app": "web"}},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}], "ports": [{"port": 6379}]}],
    },
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {"clusterIP": "10.96.0.10", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 6379}]},
}


@dataclasses.dataclass(frozen=True)
class Site:
    """A node with a mesh, redis in `web`, and a client with open connections to it."""

    node: Node
    mesh: Mesh
    web: Pod
    client: Pod
    guest: Pod

    def cli(self, *words: str, status: int = 0) -> str:
        """Run the command in the node's namespace; return what it printed, after checking its exit status.

        Of one that fails that is its complaint; `status` answers on standard output all the same.
        """
        answer = self.try_cli(*words)
        assert answer.returncode == status, answer
        assert "Traceback" not in answer.stdout + answer.stderr
        return answer.stdout if status == 0 or words[0] == "status" else answer.stderr

    def try_cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        places = ["--pin-dir", str(self.node.pins), "--run-dir", str(self.mesh.run_dir)]
        return self.node.run(
            [sys.executable, "-m", "control.cli.main", *words, *places], check=False, cwd=ROOT, timeout=60
        )

    def ensure(self, alive: bool) -> None:
        """Kill or start the agent, if need be."""
        if alive and self.mesh.agent is None:
            self.mesh.start()
        elif not alive and self.mesh.agent is not None:
            self.mesh.kill()

    def json(self, *words: str, status: int = 0) -> Any:
        return json.loads(self.cli(*words, "-o", "json", status=status))

    def problems(self) -> list[str]:
        return list(json.loads(self.try_cli("status", "-o", "json").stdout)["problems"])


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Node("cli") as node:
        web, client, guest = (node.pod(name) for name in ("web", "client", "guest"))
        with Mesh(node, policies=[POLICY, SERVICE]) as mesh:
            web.popen(
                ["redis-server", "--port", "6379", "--bind", web.ip, "--save", "", "--protected-mode", "no"],
                stdout=subprocess.DEVNULL,
            )
            web.wait_listening(6379)
            assert client.run(["redis-cli", "-h", web.ip, "ping"]).stdout == "PONG\n"
            refused = guest.run(["redis-cli", "-h", web.ip, "ping"], check=False)
            assert "not permitted" in refused.stdout + refused.stderr
            client.popen(
                ["redis-benchmark", "-h", web.ip, "-c", "2", "-t", "get", "-n", "100000000", "-q"],
                stdout=subprocess.DEVNULL,
            )
            made = Site(node, mesh, web, client, guest)
            wait_until(
                lambda: sum(r["there"]["short_cut"] for r in made.json("bpf", "sock", "list")) >= 2,
                "two connections take the short cut", 30,
            )  # fmt: skip
            yield made


# Of the module, so that all tests of one state run in a row: the agent is killed once, not before every test.
@pytest.fixture(scope="module", params=["alive", "dead"])
def state(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def any_site(site: Site, state: str) -> Site:
    """The site with its agent alive, then with it killed."""
    site.ensure(alive=state == "alive")
    return site


@pytest.fixture
def living(site: Site) -> Site:
    """The site with its agent alive."""
    site.ensure(alive=True)
    return site


def test_sock(any_site: Site) -> None:
    rows = any_site.json("bpf", "sock", "list", "--endpoint", "web")
    busy = [r for r in rows if r["there"]["short_cut"] and r["back"]["short_cut"]]
    assert len(busy) >= 2
    for row in busy:
        assert (row["source"]["name"], row["destination"]["name"]) == ("default/client", "default/web")
        assert row["destination"]["port"] == 6379
        assert row["there"]["redirected_bytes"] > 0 and row["back"]["redirected_bytes"] > 0
        assert row["ingress_rule"] == "NetworkPolicy default/web-ingress spec.ingress[0]"
    (held,) = {row["destination"]["endpoint"] for row in busy}
    assert len(any_site.json("bpf", "sock", "list", "--endpoint", str(held))) >= 2
    wrong = any_site.cli("bpf", "sock", "list", "--endpoint", "nosuch", status=1)
    assert wrong.startswith("sockmesh: no endpoint nosuch on this node; here are default/") and "default/web" in wrong
    assert "connections of 9.9.9.9\n" in any_site.cli("bpf", "sock", "list", "--endpoint", "9.9.9.9")
    assert "default: no policy selects the endpoint" in any_site.cli("bpf", "sock", "get", "web:6379")
    text = any_site.cli("bpf", "sock", "list")
    assert "default/client:" in text and "default/web:6379" in text and "both ways" in text
    assert "short cut: bytes go straight" in any_site.cli("bpf", "sock", "get", f"{any_site.web.ip}:6379")
    assert "no open TCP connection has 1.2.3.4:9" in any_site.cli("bpf", "sock", "get", "1.2.3.4:9", status=1)
    assert "no endpoint wbe on this node; did you mean default/web (" in any_site.cli(
        "bpf", "sock", "get", "wbe:6379", status=1
    )
    full = any_site.cli("bpf", "sock", "get", "web")
    assert "short cut: bytes go straight" in full and "web-ingress spec.ingress[0] (policy-0.yaml:" in full


# A call carries its own size and the answer's. Who is called ends its side once asked to, so that its FIN is there too.
_CALLED = """
import select, socket, sys
host, port, blocking = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "blocking"
server = socket.create_server((host, port))
conn, _ = server.accept()
conn.setblocking(blocking)
def read(n):
    got = b""
    while len(got) < n:
        select.select([conn], [], [])
        got += conn.recv(n - len(got))
    return got
while True:
    head = read(16)
    asked, wanted = int(head[:8]), int(head[8:])
    read(asked - 16)
    if not wanted:
        break
    conn.sendall(b"x" * wanted)
conn.shutdown(socket.SHUT_WR)
select.select([], [], [])
"""
_CALLER = """
import select, socket, sys
host, port, blocking = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "blocking"
calls, asked, wanted = map(int, sys.argv[4:])
conn = socket.create_connection((host, port))
conn.setblocking(blocking)
for _ in range(calls):
    conn.sendall((f"{asked:8}{wanted:8}").encode().ljust(asked, b"x"))
    got = 0
    while got < wanted:
        select.select([conn], [], [])
        got += len(conn.recv(wanted - got))
print("answered", flush=True)
sys.stdin.readline()
conn.sendall((f"{16:8}{0:8}").encode())
print(conn.recv(1) if select.select([conn], [], []) else "", flush=True)
select.select([], [], [])
"""


_PORTS = itertools.count(7001)


def _way(row: Any, name: str) -> tuple[int, int, bool]:
    """Return the bytes by both ways, those over TCP, and whether some took the short cut."""
    way = row[name]
    return way["redirected_bytes"] + way["tcp_bytes"], way["tcp_bytes"], way["redirected_bytes"] > 0


@pytest.mark.parametrize(("mode", "who"), [("blocking", "client"), ("non-blocking", "client"), ("blocking", "node")])
def test_sock_counts_every_byte(any_site: Site, mode: str, who: str) -> None:
    """A blocking program stays on TCP, the other is taken to the short cut after some calls; both ends stay open.

    The node is no pod: both ways are told by the pod's end alone.
    """
    site, calls, asked, wanted = any_site, 100, 321, 1234
    port = str(next(_PORTS))
    called = site.guest.popen([sys.executable, "-c", _CALLED, site.guest.ip, port, mode])
    site.guest.wait_listening(int(port))
    words = [site.guest.ip, port, mode, str(calls), str(asked), str(wanted)]
    pod = site.client if who == "client" else site.node
    caller = pod.popen([sys.executable, "-c", _CALLER, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert caller.stdin and caller.stdout
    try:
        assert caller.stdout.readline() == b"answered\n"
        (row,) = site.json("bpf", "sock", "get", port)
        (there, there_tcp, there_cut), (back, back_tcp, back_cut) = _way(row, "there"), _way(row, "back")
        assert (there, back) == (calls * asked, calls * wanted)
        assert (there_cut, back_cut) == (mode == "non-blocking", mode == "non-blocking")
        assert there_tcp > 0 and back_tcp > 0  # the first calls always go over TCP
        for said in (site.cli("bpf", "sock", "get", port), site.cli("bpf", "sock", "list")):
            assert "unknown" not in said and "*" not in said
        caller.stdin.write(b"end\n")
        caller.stdin.flush()
        assert caller.stdout.readline() == b"b''\n"
        (row,) = site.json("bpf", "sock", "get", port)
        assert (_way(row, "there")[0], _way(row, "back")[0]) == (calls * asked + 16, calls * wanted)
    finally:
        for program in (caller, called):
            program.kill()
            program.communicate()


def test_sock_says_unknown_where_it_cannot_look(any_site: Site) -> None:
    """Without the right to enter the pods: the maps may be read, the kernel's own counts may not."""
    site = any_site
    answer = site.node.run(
        ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", sys.executable, "-m", "control.cli.main",
         "bpf", "sock", "list", "-o", "json", "--pin-dir", str(site.node.pins), "--run-dir", str(site.mesh.run_dir)],
        check=False, cwd=ROOT, timeout=60,
    )  # fmt: skip
    assert answer.returncode == 0, answer
    rows = json.loads(answer.stdout)
    assert rows and {row[way]["tcp_bytes"] for row in rows for way in ("there", "back")} == {None}
    assert all(row["there"]["redirected_bytes"] for row in rows if row["there"]["short_cut"])


def test_policy(any_site: Site) -> None:
    rows = any_site.json("bpf", "policy", "get", "web")
    told = [(r["direction"], r["verdict"], r["peer_word"], r["proto"], r["ports"], r["rule"]) for r in rows]
    assert (
        "ingress", "allow", "default app=client", "TCP", "6379", "NetworkPolicy default/web-ingress spec.ingress[0]",
    ) in told  # fmt: skip
    assert ("egress", "allow", "any", "any", "any", "default: no policy selects the endpoint") in told
    assert [t for t in told if t[:3] == ("ingress", "deny", "any")]
    text = any_site.cli("bpf", "policy", "get", "default/web")
    assert "spec.ingress[0] (policy-0.yaml:" in text
    assert "default/client, default/guest" in any_site.cli("bpf", "policy", "list")
    assert "no endpoint nobody on this node" in any_site.cli("bpf", "policy", "get", "nobody", status=1)


def test_ipcache(any_site: Site) -> None:
    row = any_site.json("bpf", "ipcache", "get", any_site.web.ip)
    assert (row["prefix"], row["name"]) == (f"{any_site.web.ip}/32", "default/web")
    assert any_site.json("bpf", "ipcache", "get", "9.9.9.9")["identity_word"] == "world,world-ipv4"
    assert row in any_site.json("bpf", "ipcache", "list")
    assert "app=web" in any_site.cli("bpf", "ipcache", "list")
    assert "'web' is not an IP address" in any_site.cli("bpf", "ipcache", "get", "web", status=2)
    told = "10.96.0.10 is the address of service default/web; its backends: `sockmesh bpf lb get 10.96.0.10`\n"
    for address, wanted in (("10.96.0.10", told), ("9.9.9.9", "")):
        assert any_site.try_cli("bpf", "ipcache", "get", address).stderr == wanted


def test_endpoint(any_site: Site) -> None:
    rows = {r["name"]: r for r in any_site.json("bpf", "endpoint", "list")}
    assert set(rows) == {"default/web", "default/client", "default/guest"}
    web = rows["default/web"]
    assert (web["policy"], web["ingress"], web["egress"], web["acceleration"]) == (
        "enforced", "default deny", "open", "on",
    )  # fmt: skip
    assert web["ips"] == [any_site.web.ip, any_site.web.ip6] and "sockops" in web["hooks"]
    for wanted in (str(web["id"]), "default/web", any_site.web.ip6):
        assert any_site.json("bpf", "endpoint", "get", wanted) == web
    assert any_site.web.interface in any_site.cli("bpf", "endpoint", "get", "web")


def test_ct(any_site: Site) -> None:
    rows = any_site.json("bpf", "ct", "get", "client")
    redis = [r for r in rows if r["destination"]["name"] == "default/web" and r["destination"]["port"] == 6379]
    assert redis and all(r["direction"] == "egress" and r["proto"] == "TCP" for r in redis)
    assert all(r["sent_packets"] > 0 for r in redis)  # later ones of an open connection are not counted
    row = redis[0]
    tuple_ = [f"default/client:{row['source']['port']}", f"{any_site.web.ip}:6379"]
    assert [r["source"] for r in any_site.json("bpf", "ct", "get", "client", *tuple_)] == [row["source"]]
    assert "tracks nothing from 1.2.3.4:5 to" in any_site.cli("bpf", "ct", "get", "web", "1.2.3.4:5", "web", status=1)
    assert "ENDPOINT FROM TO" in any_site.cli("bpf", "ct", "get", "client", "web:6379", status=2)
    text = any_site.cli("bpf", "ct", "list")
    assert "NetworkPolicy default/web-ingress spec.ingress[0] (policy-0.yaml:" in text


def test_lb(any_site: Site) -> None:
    (row,) = any_site.json("bpf", "lb", "list")
    assert (row["name"], row["address"], row["proto"]) == ("default/web", "10.96.0.10:80", "TCP")
    assert [(b["name"], b["port"]) for b in row["backends"]] == [("default/web", 6379)]
    assert any_site.json("bpf", "lb", "get", "web") == [row]
    assert "no service x" in any_site.cli("bpf", "lb", "get", "x", status=1)


def test_metrics_and_stats(any_site: Site) -> None:
    rows = {(r["outcome"], r["direction"]): r for r in any_site.json("bpf", "metrics", "list")}
    assert rows["forwarded", "egress"]["packets"] > 0
    assert rows["refused", ""]["calls"] >= 1  # of guest
    assert re.search(r"^refused +- +\d+ calls? +-$", any_site.cli("bpf", "metrics", "list"), re.M)
    (out, into) = any_site.json("bpf", "metrics", "get", "forwarded")
    assert {out["direction"], into["direction"]} == {"egress", "ingress"} and out["packets"] and into["packets"]
    never = any_site.json("bpf", "metrics", "get", "drop-frag-not-found")
    assert [(r["outcome"], r["packets"], r["bytes"]) for r in never] == [("DROP_FRAG_NOT_FOUND", 0, 0)] * 2
    assert "no outcome nothing (forwarded, " in any_site.cli("bpf", "metrics", "get", "nothing", status=1)
    counted = {r["name"]: r for r in any_site.json("bpf", "stats", "list", "-i", "0.2")}
    redirected = counted["redirect_bytes"]
    assert redirected["total"] == sum(redirected["per_cpu"]) > 0 and redirected["rate"] > 0
    assert counted["refused_calls"]["total"] >= 1  # of guest
    hidden = any_site.cli("bpf", "stats", "list", "-i", "0").splitlines()[-1]
    assert re.fullmatch(r"\d+ counters? .*zero.*--all.*", hidden), hidden
    assert "--all" not in any_site.cli("bpf", "stats", "list", "-i", "0", "--all")
    assert "/s" in any_site.cli("bpf", "stats", "get", "redirect-bytes", "-i", "0.2")
    assert "no counter x" in any_site.cli("bpf", "stats", "get", "x", status=1)


def test_config_is_shown_and_set(any_site: Site) -> None:
    site = any_site
    assert site.json("bpf", "config", "get", "acceleration")["word"] == "on"
    assert site.cli("bpf", "config", "set", "acceleration", "off") == "acceleration: on -> off\n"
    with site.mesh.open_maps() as opened:
        assert opened.config.get_at(0).acceleration == 0
    status = site.json("status", status=0 if site.mesh.agent else 1)
    assert not status["acceleration"]["on"] and "kill switch" in status["acceleration"]["why"]
    (web,) = (row for row in site.json("bpf", "endpoint", "list") if row["name"] == "default/web")
    assert web["acceleration"] == f"off on this node: {status['acceleration']['why']}"
    assert web in status["endpoints"] and site.json("bpf", "endpoint", "get", "default/web") == web
    assert site.json("bpf", "config", "set", "acceleration", "on") == {"name": "acceleration", "before": 0, "value": 1}
    assert "neither on nor off" in site.cli("bpf", "config", "set", "acceleration", "maybe", status=1)
    for name in ("self_test", "generation"):  # `list` shows them
        assert f"{name} cannot be set" in site.cli("bpf", "config", "set", name, "1", status=1)
    assert "unknown switch" in site.cli("bpf", "config", "set", "speed", "on", status=1)
    assert {r["name"] for r in site.json("bpf", "config", "list")} > {"acceleration", "udp_timeout_s"}


def test_config_is_not_set_behind_the_back_of_an_agent_that_does_not_answer(living: Site) -> None:
    living.mesh.kill()
    with (living.mesh.run_dir / "agent.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "does not answer, so nothing was set" in living.cli(
            "bpf", "config", "set", "acceleration", "off", status=1
        )
    assert living.json("bpf", "config", "get", "acceleration")["value"] == 1


def test_fs(any_site: Site) -> None:
    rows = {(r["kind"], r["name"]): r for r in any_site.json("bpf", "fs", "list")}
    policy, sockops = rows["map", "policy"], rows["program", "sockops"]
    assert 0 < policy["entries"] < policy["max_entries"] and policy["memory_bytes"] > 0
    assert len(sockops["tag"]) == 16
    links = [r for r in rows.values() if r["kind"] == "link" and r["name"].endswith("-sockops")]
    assert {link["program_id"] for link in links} == {sockops["id"]}
    assert {link["target"] for link in links} == {f"cgroup of default/{n}" for n in ("web", "client", "guest")}
    assert "sockops" in any_site.cli("bpf", "fs", "get", "sockops")


def test_status_of_a_living_agent(living: Site) -> None:
    found = living.json("status")
    entries = {each["name"]: each["entries"] for each in found["maps"]}
    assert entries["events"] is None
    assert (entries["config"], entries["endpoints"], entries["endpoint_ifaces"], entries["endpoint_netns"]) == (
        1,
        3,
        3,
        3,
    )
    assert found["alive"] and found["node"] == "cli" and found["problems"] == []
    assert found["acceleration"] == {"on": True, "why": ""}
    assert found["refused_calls"] >= 1 and found["short_cut"]["active"] >= 4 and found["redirected_bytes"] > 0
    text = living.cli("status")
    assert f"; {found['refused_calls']} call" in text and re.search(r" refused, \d+ packets? dropped\n", text)
    assert "alive on node cli" in text and "default/web" in text and "problems      none" in text
    assert living.cli("status", "--brief").startswith("node cli: agent alive, revision ")


def test_status_in_another_run_directory_calls_nobody_dead(living: Site, tmp_path: Path) -> None:
    words = ["status", "--pin-dir", str(living.node.pins), "--run-dir", str(tmp_path)]

    def status() -> str:
        run = [sys.executable, "-m", "control.cli.main", *words]
        found = living.node.run(run, check=False, cwd=ROOT, timeout=60)
        assert found.returncode == 1
        return found.stdout

    text = status()
    assert f"no agent answers at {tmp_path}/agent.sock; the agent of {living.node.pins} (pid " in text
    assert "NOT FOUND on this node" in text and "DEAD" not in text
    living.mesh.kill()
    assert "DEAD on this node" in status()


def test_status_of_a_dead_agent_is_loud_and_fails(living: Site) -> None:
    living.mesh.kill()
    found = living.json("status", status=1)
    assert not found["alive"] and "not running any more" in found["why_silent"]
    assert found["node"] == "cli" and found["policy_revision"] >= 1 and len(found["endpoints"]) == 3
    text = living.cli("status", status=1)
    assert "DEAD on node cli" in text and "problems      1\n  - nobody looks " in text
    assert [problem.partition(":")[0] for problem in found["problems"]] == [
        "nobody looks whether files and pods are as they should be"
    ]
    assert "agent DEAD (policy stays in force)" in living.cli("status", "--brief", status=1)


def test_status_of_an_agent_that_starts_is_not_that_of_a_dead_one(living: Site) -> None:
    """The next one has the lock, and does not answer before it has compiled."""
    living.mesh.kill()
    with (living.mesh.run_dir / "agent.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = living.json("status")
        assert (found["alive"], found["state"], found["in_force"], found["problems"]) == (False, "starting", True, [])
        assert living.cli("status", "--brief").startswith("node cli: agent starting (policy stays in force), revision ")
        assert living.cli("status").startswith("agent         starting on node cli: it compiles its programs, or takes")
    assert living.json("status", status=1)["state"] == "dead"


def test_status_waits_for_an_agent_that_is_yet_to_start(living: Site) -> None:
    living.ensure(alive=False)
    places = ["--pin-dir", str(living.node.pins), "--run-dir", str(living.mesh.run_dir)]
    waiting = living.node.popen(
        [sys.executable, "-m", "control.cli.main", "status", "--wait", "--brief", *places],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    living.ensure(alive=True)
    said, complaint = waiting.communicate(timeout=60)
    assert (waiting.returncode, complaint) == (0, "") and said.startswith("node cli: agent alive, revision ")


def test_status_of_a_first_start_has_no_word_of_death_and_counts_no_pod_of_the_self_test() -> None:
    with Node("start") as node:
        web = node.pod("web")
        mesh, told = Mesh(node, self_test=True), list[str]()
        site = Site(node, mesh, web, web, web)
        starting = threading.Thread(target=mesh.__enter__)
        starting.start()
        try:
            while starting.is_alive():
                answer = site.try_cli("status", "--brief")
                if answer.stdout:  # else there are no maps yet
                    told.append(answer.stdout)
                    assert answer.returncode == ("no policy is in force yet" in answer.stdout), answer
        finally:
            starting.join()
            mesh.stop()
    assert told[0] == (
        "node ?: agent starting (no policy is in force yet), revision 0, 0 endpoints, 0 connections, short cut OFF "
        "(the agent is starting)\n"
    )
    assert told[-1].startswith("node start: agent alive, revision 1, 1 endpoint, 0 connections, short cut ")
    assert {words for line in told for words in re.findall(r"\d+ endpoints?|\d+ connections?|DEAD|problem", line)} == {
        "0 endpoints", "1 endpoint", "0 connections",
    }  # fmt: skip


def test_status_reports_what_the_agent_could_not_take(living: Site) -> None:
    (living.mesh.config / "broken.yaml").write_text("kind: Nothing\n")
    try:
        wait_until(living.problems, "the broken file is reported")
        assert "broken.yaml" in living.cli("status", status=1)
        assert ", 1 problem\n" in living.cli("status", "--brief", status=1)
    finally:
        living.mesh.delete("broken")
        wait_until(lambda: not living.problems(), "the problem is gone")


def test_numbers_without_names_are_told_of_once_and_the_environment_may_say_where_they_are(
    living: Site, tmp_path: Path
) -> None:
    run = [sys.executable, "-m", "control.cli.main"]
    pins = {"SOCKMESH_PIN_DIR": str(living.node.pins)}

    def asked(words: Sequence[str], run_dir: Path) -> subprocess.CompletedProcess[str]:
        env = os.environ | pins | {"SOCKMESH_RUN_DIR": str(run_dir)}
        return living.node.run([*run, *words], env=env, check=False, cwd=ROOT, timeout=60)

    nouns = ("sock", "policy", "endpoint", "ct", "lb", "ipcache", "fs")
    for words in [["bpf", noun, "list"] for noun in nouns] + [["bpf", "endpoint", "get", "1"], ["status"]]:
        answer = asked(words, tmp_path)
        assert answer.stdout, answer
        assert answer.stderr == (
            f"sockmesh: no names for what is pinned under {living.node.pins}: {tmp_path} holds no names.json of an "
            "agent, so numbers stand alone (its directory is --run-dir)\n"
        ), words
        assert asked(words, living.mesh.run_dir).stderr == ""
    assert asked(["bpf", "config", "list"], tmp_path).stderr == ""  # nothing there has a name
    assert "default/web" in asked(["bpf", "lb", "list"], living.mesh.run_dir).stdout
    there, nowhere = (asked(["observe", "--last", "1"], directory) for directory in (living.mesh.run_dir, tmp_path))
    assert there.returncode == 0 and (not there.stderr or there.stderr.startswith("no flows yet"))  # started anew
    assert nowhere.returncode != 0 and nowhere.stderr


def test_a_get_that_finds_nothing_fails_and_prints_nothing(living: Site) -> None:
    for words in (
        ["sock", "get", "1.2.3.4:9"], ["policy", "get", "nobody"], ["endpoint", "get", "nobody"],
        ["ct", "get", "nobody"], ["ct", "get", "web", "1.2.3.4:5", "web"], ["lb", "get", "nobody"],
        ["metrics", "get", "nothing"], ["config", "get", "nothing"], ["stats", "get", "nothing"],
        ["fs", "get", "nothing"],
    ):  # fmt: skip
        answer = living.try_cli("bpf", *words, "-o", "json")
        assert (answer.returncode, answer.stdout) == (1, ""), answer
        assert answer.stderr.startswith("sockmesh: ") and answer.stderr.count("\n") == 1, answer


def test_status_warns_of_a_selector_that_no_workload_fulfils(living: Site) -> None:
    (source,) = POLICY["spec"]["ingress"][0]["from"]  # type: ignore[index]
    assert living.json("status")["agent"]["warnings"] == []
    misspelt = json.loads(
        json.dumps(POLICY).replace(json.dumps(source), '{"podSelector": {"matchLabels": {"app": "x"}}}')
    )
    misspelt["metadata"]["name"] = "misspelt"
    living.mesh.apply("misspelt", misspelt)
    living.mesh.settle()
    try:
        (warning,) = living.json("status")["agent"]["warnings"]
        assert warning.startswith("misspelt.yaml:") and "no workload of these files has app=x" in warning
        assert f"problems      none\nwarnings      1\n  - {warning}\n" in living.cli("status")
    finally:
        living.mesh.delete("misspelt")
        living.mesh.settle()


def test_status_tells_of_rules_that_need_the_proxy(living: Site) -> None:
    rule = {"ports": [{"port": "8080", "protocol": "TCP"}], "rules": {"http": [{"method": "GET"}]}}
    policy = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "l7", "namespace": "default"},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": "guest"}},
            "ingress": [{"fromEndpoints": [{}], "toPorts": [rule]}],
        },
    }
    living.mesh.apply("l7", policy)
    living.mesh.settle()
    try:
        count = living.json("status")["proxy"][
            "entries"
        ]  # no problem: what was asked for is refused, and nothing is broken
        assert count and f"\nnode proxy    off: {count} entr" in living.cli("status")
        assert "REFUSED" in living.cli("status", "--brief")
        assert "rules.http needs the node proxy" in living.json("status")["agent"]["warnings"][0]
        assert "WARNING l7.yaml:" in living.mesh.log.read_text()
    finally:
        living.mesh.delete("l7")
        living.mesh.settle()
    assert living.json("status")["proxy"]["entries"] == 0


def test_what_a_monitor_asks_over_http(living: Site) -> None:
    def asked(path: str, *options: str) -> str:
        return living.node.run(["curl", "-sS", *options, f"127.0.0.1:9965{path}"]).stdout

    wait_until(lambda: asked("/healthz") == "ok\n", "the loop turns")
    entries = dict(re.findall(r'^sockmesh_bpf_map_entries{map="(\w+)"} (\S+)$', asked("/metrics"), re.M))
    assert set(entries) >= {"policy", "conns", "ct", "endpoint_ips", "reverse", "frags"} and "socks" not in entries
    assert float(entries["endpoint_ips"]) == 2 * 3  # three pods, IPv4 and IPv6
    assert asked("/metrics", "--head").startswith("HTTP/1.0 200 OK")


def test_dump(any_site: Site, tmp_path: Path) -> None:
    target = tmp_path / "dump.json"
    any_site.cli("dump", "--file", str(target), "-o", "json")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    found = json.loads(target.read_text())
    assert {key: part["error"] for key, part in found.items() if isinstance(part, dict) and "error" in part} == {}
    assert set(found["maps"]) >= {"config", "endpoints", "policy", "ipcache", "conns", "ct", "services", "counters"}
    assert found["maps"]["conns"]["rows"][0]["destination"]["name"] == "default/web"
    assert found["versions"]["kernel"] == os.uname().release
    assert {f["name"] for f in found["features"]} and found["names"]["node"] == "cli"
    assert json.loads(any_site.cli("dump", "--max-entries", "1"))["maps"]["policy"]["cut"] is True
    assert "cannot write the dump" in any_site.cli("dump", "-f", str(tmp_path / "no" / "x"), status=1)


def test_where_nothing_is_pinned_every_command_says_so_in_one_sentence(living: Site, tmp_path: Path) -> None:
    places = ["--pin-dir", "/sys/fs/bpf/sockmesh-test-none", "--run-dir", str(tmp_path)]
    commands: Sequence[Sequence[str]] = [
        ["status"], ["bpf", "sock", "list"], ["bpf", "policy", "list"], ["bpf", "policy", "get", "web"],
        ["bpf", "ipcache", "list"], ["bpf", "endpoint", "list"], ["bpf", "ct", "list"], ["bpf", "lb", "list"],
        ["bpf", "metrics", "list"], ["bpf", "config", "list"], ["bpf", "config", "set", "acceleration", "on"],
        ["bpf", "stats", "list"], ["bpf", "fs", "list"],
    ]  # fmt: skip
    for words in commands:
        answer = living.node.run(
            [sys.executable, "-m", "control.cli.main", *words, *places], check=False, cwd=ROOT, timeout=60
        )
        assert answer.returncode == 1, answer
        assert len(answer.stderr.splitlines()) == 1 and "pinned" in answer.stderr, answer


def test_check_tells_of_every_feature(living: Site) -> None:
    answer = living.node.run([sys.executable, "-m", "control.cli.main", "check", "-o", "json"], cwd=ROOT, timeout=60)
    found = json.loads(answer.stdout)
    assert found["ok"] and [f for f in found["features"] if f["needed_for"] == "policy" and not f["ok"]] == []


def test_without_root_maps_are_refused_in_one_sentence(living: Site) -> None:
    answer = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-m", "control.cli.main",
         "status", "--pin-dir", str(living.node.pins), "--run-dir", str(living.mesh.run_dir)],
        capture_output=True, text=True, cwd=ROOT, timeout=60, check=False,
    )  # fmt: skip
    assert answer.returncode == 1 and answer.stderr.endswith("run it as root\n"), answer
    assert len(answer.stderr.splitlines()) == 1


def test_check_without_root_says_what_it_could_not_see() -> None:
    answer = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all",
         sys.executable, "-m", "control.cli.main", "check"],
        capture_output=True, text=True, cwd=ROOT, timeout=60, check=False,
    )  # fmt: skip
    assert answer.returncode == 1 and "Traceback" not in answer.stderr, answer
    assert "not seen  links: cgroup" in answer.stdout and "for short cut; needs root" in answer.stdout
    assert answer.stdout.startswith("MISSING   privileges") and ": this user lacks the privileges; " in answer.stdout
    assert "could not be looked at; run it as root to look at them" in answer.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "control.cli.main", "completion", shell], capture_output=True, text=True, cwd=ROOT
    )
    assert answer.returncode == 0 and f"{shell}_complete" in answer.stdout and "_SOCKMESH_COMPLETE" in answer.stdout
