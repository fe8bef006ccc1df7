"""A real agent with --mtls: its certificates come, are renewed, outlive it and its CA, and proxies hear of it all."""

import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from control import proxy_feed
from control.agent import kept
from control.certificates import certificate, leaf, roots, store, verify
from tests.hosts import Mesh, Node
from tests.hosts.mesh import ROOT
from tests.hosts.subscriber import subscriber
from tests.hosts.wait import wait_until

pytestmark = pytest.mark.e2e
Json = dict[str, Any]
CLI = [sys.executable, "-m", "control.cli.main"]
LIFETIME = 60
DOMAIN = "cluster.local"


def id(name: str) -> str:
    return f"spiffe://{DOMAIN}/ns/default/sa/{name}"


def far(name: str, ip: str, node: str) -> Json:
    """A pod of another node."""
    return {
        "apiVersion": "sockmesh.io/v1",
        "kind": "Workload",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"ips": [ip], "node": node, "serviceAccount": name},
    }


def node_document(name: str, ip: str) -> Json:
    addresses = [
        {"type": "ExternalIP", "address": ip.replace("192.0.2", "203.0.113")},
        {"type": "InternalIP", "address": ip},
    ]
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"addresses": addresses}}


@dataclass
class Place:
    node: Node
    mesh: Mesh
    ca: Path

    @property
    def certs(self) -> Path:
        return self.mesh.run_dir / kept.DIRECTORY

    def cert(self, *words: str, status: int = 0) -> str:
        done = self.node.run([*CLI, "cert", *words], check=False, cwd=ROOT)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def rows(self) -> list[Json]:
        words = ["list", "--run-dir", str(self.mesh.run_dir), "-o", "json"]
        found: list[Json] = json.loads(self.node.run([*CLI, "cert", *words], cwd=ROOT).stdout)
        return found

    def inspect(self, which: str, status: int = 0) -> str:
        return self.cert("inspect", which, "--run-dir", str(self.mesh.run_dir), status=status)

    def problems(self) -> list[str]:
        return [str(each) for each in self.mesh.call("status")["problems"]]

    def metrics(self, name: str) -> dict[str, float]:
        text = self.node.run(["curl", "-sS", "127.0.0.1:9965/metrics"]).stdout
        return {labels: float(value) for labels, value in re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", text, re.M)}


@pytest.fixture
def place() -> Iterator[Place]:
    with Node("certs") as node:
        node.pod("client", service_account="client")
        node.pod("server", service_account="server")
        ca = node.directory / "ca"
        more = [
            node_document("certs", "192.0.2.1"),
            node_document("there", "192.0.2.2"),
            far("db", "10.9.0.1", "there"),
        ]
        args = ["--proxy", "--mtls", "strict", "--ca-dir", str(ca), "--leaf-lifetime", str(LIFETIME)]
        with Mesh(node, more, args=args) as mesh:
            yield Place(node, mesh, ca)


def trusted(mesh: proxy_feed.Mesh) -> bool:
    """Tell whether all leaves prove what they are there for, against the roots beside them."""
    known = certificate.read_pem(mesh.roots)
    for name, pem in mesh.leaves.items():
        chain = [each.der for each in leaf.read(pem).chain]
        if str(verify.peer(chain, known, DOMAIN, time.time())) != name:
            return False
    return True


def serials(mesh: proxy_feed.Mesh | None) -> dict[str, int]:
    leaves = mesh.leaves.items() if mesh else ()
    return {id: leaf.read(pem).chain[0].parsed.serial_number for id, pem in leaves}


def test_proxies_are_told_who_owns_what_before_the_kernel_is(place: Place) -> None:
    mesh = place.mesh
    with subscriber(mesh.run_dir) as heard:
        wait_until(lambda: heard.mesh and len(heard.mesh.leaves) == 2, "leaves are told")
        told = heard.mesh
        assert told and (told.mode, told.trust_domain, told.port, told.address) == ("strict", DOMAIN, 4743, "192.0.2.1")
        assert told.leaves.keys() == {id("client"), id("server")} and trusted(told)
        client, server = (place.node.pods[name] for name in ("client", "server"))
        assert told.owners == {
            client.ip: (id("client"), ""), client.ip6: (id("client"), ""),
            server.ip: (id("server"), ""), server.ip6: (id("server"), ""),
            "10.9.0.1": (id("db"), "192.0.2.2"),
        }  # fmt: skip
        assert place.problems() == []
        where = ["--run-dir", str(mesh.run_dir), "--pin-dir", str(place.node.pins)]
        shown = place.node.run([*CLI, "status", *where], check=False, cwd=ROOT).stdout
        assert re.search(r"^mTLS +strict: 2 certificates, the first ends at \S+Z$", shown, re.M), shown

        before = len(heard.said)
        mesh.settle()
        assert len(heard.said) == before, "nothing has changed, so nothing is said"

        mesh.apply("more", far("cache", "10.9.0.2", "there"), far("lost", "10.9.1.1", "nowhere"))
        wait_until(lambda: heard.mesh and "10.9.1.1" in heard.mesh.owners, "the new ones are told")
        mesh.settle()
        kinds = [type(each).__name__ for each in heard.said[before:]]
        assert kinds[:2] == ["Mesh", "Sets"], "who has taken up the sets has taken up the owners"
        assert heard.mesh and heard.mesh.owners["10.9.0.2"] == (id("cache"), "192.0.2.2")
        assert heard.mesh.owners["10.9.1.1"] == (id("lost"), proxy_feed.UNKNOWN_NODE)
        (problem,) = place.problems()
        assert problem.startswith("Node nowhere: its address is not known")
        wait_until(lambda: problem in mesh.log.read_text(), "it is in the log")

        place.node.pods["server"].service_account = "renamed"
        mesh.apply("workload-server", place.node.pods["server"].workload_yaml())
        wait_until(lambda: heard.mesh and id("renamed") in heard.mesh.leaves, "the new account has a certificate")
        wait_until(lambda: heard.mesh and id("server") not in heard.mesh.leaves, "the old one has none")
        wait_until(lambda: len(list(place.certs.glob("?" * 64 + ".pem"))) == 2, "nor a file")
        first = next(each for each in heard.meshes if id("renamed") in str(each.owners))
        assert id("renamed") in first.leaves, "an owner has a certificate when proxies hear of it"

        counts = {"worker": 7, "ok": 4, "refused": {"expired": 2}, "pool_open": 3, "pool_idle": 1, "seconds_sum": 0.5}
        heard.say("handshakes", counts)
        heard.say("handshakes", ["nonsense"])
        heard.say("workers", 1)
        wait_until(lambda: place.mesh.call("status")["proxy"]["workers"] == 1, "it is heard")
        assert place.metrics("sockmesh_mtls_handshakes_total") == {
            'reason="",result="ok"': 4, 'reason="expired",result="refused"': 2,
        }  # fmt: skip
        assert place.metrics("sockmesh_mtls_pool_connections") == {'state="open"': 3, 'state="idle"': 1}
        assert place.metrics("sockmesh_mtls_handshake_seconds_sum") == {"": 0.5}
    wait_until(lambda: place.metrics("sockmesh_mtls_pool_connections")['state="open"'] == 0, "its connections are gone")
    assert place.metrics("sockmesh_mtls_handshakes_total")['reason="",result="ok"'] == 4


def test_they_are_renewed_at_half_of_their_life_and_outlive_agent_and_ca(place: Place) -> None:
    mesh = place.mesh
    with subscriber(mesh.run_dir) as heard:
        wait_until(lambda: heard.mesh and len(heard.mesh.leaves) == 2, "leaves are told")
        began = time.time()
        first = serials(heard.mesh)
        for how in (mesh.stop, mesh.kill):
            how()
            rows = place.rows()
            assert [row["id"] for row in rows] == sorted(first) and all(row["problem"] == "" for row in rows)
            mesh.start()
    with subscriber(mesh.run_dir) as heard:
        wait_until(lambda: heard.mesh and heard.mesh.leaves, "leaves are told")
        if time.time() - began < LIFETIME * 0.35:  # else they were due
            assert serials(heard.mesh) == first, "a restart signs nothing anew"
        wait_until(lambda: not first.items() & serials(heard.mesh).items(), "all are renewed", LIFETIME)
        assert LIFETIME * 0.35 < time.time() - began < LIFETIME
        assert all(len(each.leaves) == 2 and trusted(each) for each in heard.meshes), "there was always a valid one"
        ends = place.metrics("sockmesh_certificate_not_after_seconds")
        assert {f'spiffe_id="{name}"' for name in first} == ends.keys() and min(ends.values()) > began + LIFETIME
        assert place.metrics("sockmesh_certificate_renewals_total")['result="ok"'] >= 2

        second = serials(heard.mesh)
        place.ca.rename(away := place.ca.with_name("away"))
        wait_until(lambda: place.problems(), "the missing CA is told of", 20)
        assert f"{place.ca / store.BUNDLE}: it is gone" in place.problems()[0]
        mesh.kill()
        mesh.start()
    with subscriber(mesh.run_dir) as heard:
        wait_until(lambda: heard.mesh and heard.mesh.leaves and place.problems(), "an agent goes on without a CA", 20)
        assert serials(heard.mesh) == second and heard.mesh and trusted(heard.mesh)
        failed = 'result="failed"'
        wait_until(lambda: place.metrics("sockmesh_certificate_renewals_total")[failed], "renewal fails", LIFETIME)
        assert serials(heard.mesh) == second and not place.ca.exists()
        wait_until(lambda: all("it is gone" in row["problem"] for row in place.rows()), "the list says so", LIFETIME)
        assert "certificates are not renewed" in mesh.log.read_text()
        wait_until(lambda: heard.mesh and not heard.mesh.leaves, "those that ended are taken back", LIFETIME)
        assert any("no valid certificate" in problem for problem in place.problems())
        assert "NO: expired" in place.inspect(id("client"), status=1)
        away.rename(place.ca)
        wait_until(lambda: heard.mesh and len(heard.mesh.leaves) == 2, "the CA is back", 20)
        wait_until(lambda: place.problems() == [], "nothing is wrong any more")


def test_roots_rotate_as_a_union(place: Place) -> None:
    where = ["--ca-dir", str(place.ca)]
    with subscriber(place.mesh.run_dir) as heard:
        wait_until(lambda: heard.mesh and len(heard.mesh.leaves) == 2, "leaves are told")
        assert heard.mesh
        old = certificate.read_pem(heard.mesh.roots)
        assert "it signs from" in place.cert("rotate", "begin", *where)
        assert "finish that first" in place.cert("rotate", "begin", *where, status=1)
        assert "seconds more" in place.cert("rotate", "finish", *where, status=1)
        wait_until(lambda: heard.mesh and heard.mesh.roots.count(b"BEGIN") == 2, "both roots are told", 20)
        both = certificate.read_pem(heard.mesh.roots)
        assert both[:1] == old and trusted(heard.mesh)

        # As if the hours between had passed.
        bundle = roots.from_json((place.ca / store.BUNDLE).read_bytes())
        now = time.time()
        (place.ca / store.BUNDLE).write_text(roots.TrustBundle(DOMAIN, both[0], both[1], now, now + 1e6).to_json())
        assert bundle.roots == both

        def issuers() -> set[Any]:
            return {leaf.read(pem).chain[0].issuer for pem in heard.mesh.leaves.values()} if heard.mesh else set()

        wait_until(lambda: issuers() == {both[1].subject}, "all are of the new root", LIFETIME)
        (place.ca / store.BUNDLE).write_text(roots.TrustBundle(DOMAIN, both[0], both[1], now, now).to_json())
        assert "trusted alone" in place.cert("rotate", "finish", *where)
        wait_until(lambda: heard.mesh and certificate.read_pem(heard.mesh.roots) == both[1:], "the old one is gone", 20)
        assert all(len(each.leaves) == 2 and trusted(each) for each in heard.meshes)
    assert "there is none" in place.cert("rotate", "begin", "--ca-dir", str(place.node.directory), status=1)


def test_people_see_certificates(place: Place, tmp_path: Path) -> None:
    place.mesh.stop()
    table = place.cert("list", "--run-dir", str(place.mesh.run_dir))
    head, *lines = table.splitlines()
    assert head.split("  ")[0] == "SPIFFE ID" and [line.split()[0] for line in lines] == [id("client"), id("server")]
    told = place.inspect("default/client")
    again = place.inspect(id("client"))
    assert re.sub(r" \(.* left\)", "", told) == re.sub(r" \(.* left\)", "", again), "but for the time between the two"
    for word in (id("client"), "EC secp256r1", "trusted     yes, by CN=sockmesh root", " left)", "serial"):
        assert word in told, told
    file = kept.path_of(place.certs, leaf.load(next(place.certs.glob("?" * 64 + ".pem"))).id)
    shown = place.inspect(str(file))
    assert "PRIVATE" not in shown + table and "yes, by" in shown
    row = json.loads(place.cert("inspect", str(file), "--run-dir", str(place.mesh.run_dir), "-o", "json"))
    assert row["trusted"] and row["chain"] == [] and row["id"] in (id("client"), id("server"))
    assert "NO: no root is known" in place.cert("inspect", str(file), "--run-dir", str(tmp_path), status=1)
    assert "no certificate of that id" in place.inspect("default/nobody", status=1)
    assert "NO: self-signed" in place.cert(
        "inspect",
        str(place.ca / "root-1.pem"),
        "--run-dir",
        str(tmp_path),
        "--roots",
        str(place.certs / kept.ROOTS),
        status=1,
    ) or "not a leaf" in place.inspect(str(place.ca / "root-1.pem"), status=1)
    (tmp_path / "x.pem").write_text("nothing")
    assert "x.pem: there is no certificate" in place.inspect(str(tmp_path / "x.pem"), status=1)
    where = ["--run-dir", str(place.mesh.run_dir), "--pin-dir", str(place.node.pins)]
    place.node.run([*CLI, "uninstall", "--pins", *where], cwd=ROOT)
    assert not place.certs.exists(), "no key stays behind"
    assert "no certificates are kept in" in place.cert("list", "--run-dir", str(tmp_path))
