"""What a verdict costs with 10 and with 10,000 policy entries, and how soon 10,000 are in force after an edit.

The two sizes take turns on the same pods by edits of one file, so each round also loads 10,000 entries once.
"""

import time

import yaml

from bench import load
from bench.ground import CLIENT_CPU, Ground, policy
from bench.result import MESH, PLAIN, Goal, Result
from loader import abi, maps, record
from tests.hosts.wait import wait_until

FEW, MANY = 10, 10_000
FEW_SIDE = "10 entries"
_FIRST_PORT = 10_000
_PORTS_PER_RULE = 40  # the CRD's limit
_FILE = "many-entries"


def results() -> tuple[Result, Result]:
    return (
        Result("verdict", "a verdict, 10,000 policy entries against 10", "ns", [Goal(1.1, FEW_SIDE, most=True)]),
        Result("load", "10,000 policy entries: from the edit until in force", "s", [Goal(1.0, most=True)]),
    )


def document(entries: int) -> str:
    """Return a policy for the target that lets the client in on so many UDP ports, as YAML."""
    ports = [{"port": str(_FIRST_PORT + number), "protocol": "UDP"} for number in range(entries)]
    rules = [{"ports": ports[at : at + _PORTS_PER_RULE]} for at in range(0, entries, _PORTS_PER_RULE)]
    peers = [{"matchLabels": {"app": "client"}}]
    wanted = policy(_FILE, "target", {"ingress": [{"fromEndpoints": peers, "toPorts": rules}]})
    return str(yaml.dump(wanted, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper)))


def _set_id(opened: maps.Maps, ip: str) -> int:
    ref = opened.endpoint_ips.get(abi.AddrKey(record.pack_addr(ip)))
    assert ref is not None, f"{ip} is no endpoint"
    endpoint = opened.endpoints.get(abi.EndpointKey(ref.id))
    assert endpoint is not None
    return int(endpoint.set_id)


def put(ground: Ground, text: str, entries: int) -> float:
    """Replace the policy file and return how long it took until its entries were in force."""
    mesh, ip = ground.mesh, ground.pairs[MESH].target.ip
    draft = mesh.config / f".{_FILE}.new"
    draft.write_text(text)
    with mesh.open_maps() as opened:
        before = _set_id(opened, ip)
        start = time.monotonic()
        draft.rename(mesh.config / f"{_FILE}.yaml")
        wait_until(lambda: _set_id(opened, ip) != before, f"{entries} policy entries are in force", 60, pause=0.002)
        elapsed = time.monotonic() - start
        now = _set_id(opened, ip)
        found = sum(1 for key, _ in opened.policy.items() if key.set_id == now and key.port)
    assert found == entries, f"{found} entries in the policy map, not {entries}"
    return elapsed


def _ask(ground: Ground, side: str, seconds: float) -> float:
    pair = ground.pairs[side]
    where = ["--connect", pair.target.ip, "--port", _FIRST_PORT, "--ports", FEW, "--cpu", CLIENT_CPU]
    return float(load.pingpong(pair.client, "ask", seconds, *where)["ns_each"])


class Sizes:
    """The two policy files, made once."""

    def __init__(self) -> None:
        self._few, self._many = document(FEW), document(MANY)
        self.verdict, self.load = results()

    def measure(self, ground: Ground, seconds: float) -> None:
        """One round: what the same calls cost beyond those of a pod without a mesh, with either size."""
        put(ground, self._few, FEW)
        ground.mesh.settle()
        plain = [_ask(ground, PLAIN, seconds)]
        few = _ask(ground, MESH, seconds)
        self.load.add(MESH, put(ground, self._many, MANY))
        ground.mesh.settle()  # the agent is at rest again
        many = _ask(ground, MESH, seconds)
        plain.append(_ask(ground, PLAIN, seconds))
        self.verdict.add(FEW_SIDE, few - min(plain))
        self.verdict.add(MESH, many - min(plain))
        self.verdict.notes.setdefault("whole_call_ns", []).append(
            {"plain": plain, FEW_SIDE: few, "10,000 entries": many}
        )

    def end(self, ground: Ground) -> None:
        """Leave few entries behind, so that the other rows have them."""
        put(ground, self._few, FEW)
