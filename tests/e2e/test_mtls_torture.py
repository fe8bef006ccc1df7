"""Hundreds of connections between two nodes, 40 at a time, while proxies are upgraded and policy changes.

SOCKMESH_TORTURE says how many connections; SOCKMESH_SEED which ones. A failure says which plans met it.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.e2e.test_mtls_life import Place, policy
from tests.hosts.site import meshed, nodes
from tests.torture import talks

pytestmark = pytest.mark.e2e

TOTAL = int(os.environ.get("SOCKMESH_TORTURE", "600"))
SEED = int(os.environ.get("SOCKMESH_SEED", "0")) or time.time_ns() % 1_000_000_007
_PIPE = subprocess.PIPE
_TURNS = ("far", "policy", "near", "policy")


@pytest.fixture
def place() -> Iterator[Place]:
    with (
        nodes() as (near, far),
        meshed(near, far, "strict", [policy()]) as site,
        contextlib.ExitStack() as stack,
    ):
        yield Place(site, stack)


def test_no_byte_is_wrong_and_none_waits_while_proxies_and_policy_come_and_go(place: Place) -> None:
    site, command = place.site, [sys.executable, talks.__file__]
    server = site.server.popen([*command, "server", "7000"], stdin=_PIPE, stdout=_PIPE)
    site.server.wait_listening(7000)
    client = site.client.popen(
        [*command, "client", site.server.ip, "7000", str(SEED), str(TOTAL)], stdin=_PIPE, stdout=_PIPE
    )
    began, turns = time.monotonic(), 0
    while client.poll() is None:
        match _TURNS[turns % len(_TURNS)]:
            case "far":
                place.upgrade(site.far, site.far_mesh, "--workers", "2")
            case "near":
                place.upgrade(site.near, site.near_mesh, "--workers", "2")
            case _:
                ports = ("7000", "7100", "7200") if turns % 4 == 1 else ("7000", "7100")
                for mesh in (site.near_mesh, site.far_mesh):
                    mesh.apply("policy-0", policy(*ports))
                    mesh.settle()
        turns += 1
        assert time.monotonic() - began < 60 + TOTAL / 2
    out, _ = client.communicate()
    theirs, _ = server.communicate(timeout=talks.STALL_S + 10)
    logs = [(node.directory / "proxy.log").read_text() for node in (site.near, site.far)]
    print(f"seed {SEED}: {turns} turns in {time.monotonic() - began:.0f} s", *logs, sep="\n")
    assert (json.loads(out), json.loads(theirs)) == ({}, {}), f"SOCKMESH_SEED={SEED} SOCKMESH_TORTURE={TOTAL}"
    assert not any("Traceback" in log or "exception" in log.lower() for log in logs), logs
