"""The order in which maps change: after every single write each answer is the old state's or the new one's."""

import dataclasses
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from control import compile as compiler
from control import evaluate
from control.agent import plan, ranges
from loader import abi
from loader.record import Record, pack_addr

PODS = [f"10.0.0.{n}" for n in range(1, 5)]
OUTSIDE = ["10.0.1.1", "10.9.0.1"]
PREFIXES = [(8, "10.0.0.0"), (24, "10.0.1.0"), (32, "10.0.1.1")]
IDENTITIES = [256, 257, 258, 259, 260, 1 << 24]
PORTS = [80, 81]
State = dict[str, dict[Record, Record]]
Question = tuple[str, str, str, int]  # hook, source, destination, port


class World:
    """Makes random states; a set's number follows from its content, as in the agent."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.numbers: dict[Any, int] = {}

    def a_set(self) -> Any:
        r = self.random
        entries: dict[Any, tuple[int, int]] = {}
        for direction in (0, 1):
            entries[direction, 0, 0, 0, 0] = (int(abi.Rank.DEFAULT), r.choice((0, 1)))
            for _ in range(r.choice((0, 1, 3))):
                rank, verdict = r.choice(((int(abi.Rank.ALLOW), 1), (int(abi.Rank.DENY), 0)))
                where = r.choice(((0, 0, 0), (6, 80, 16), (6, 80, 15)))
                entries[direction, r.choice((0, *IDENTITIES)), *where] = (rank, verdict)
        return frozenset(entries.items())

    def state(self, like: State | None, sets: list[Any]) -> State:
        r = self.random
        out: State = {name: {} for name in compiler.MAP_NAMES}
        out["ipcache"][abi.IpcacheKey(96, pack_addr("0.0.0.0"))] = abi.IpcacheValue(9)
        for length, first in PREFIXES:
            if r.random() < 0.6:
                out["ipcache"][abi.IpcacheKey(96 + length, pack_addr(first))] = abi.IpcacheValue(r.choice(IDENTITIES))
        for index, ip in enumerate(PODS):
            if r.random() < 0.15:
                continue
            content = r.choice(sets)
            number = self.numbers.setdefault(content, len(self.numbers) + 1)
            bits = [0, 0]
            for (direction, peer, proto, port, plen), (rank, verdict) in content:
                key = abi.PolicyKey(number, peer, port, proto, direction, plen)
                out["policy"][key] = abi.PolicyValue(verdict, rank, 0, 0, 1, 0, 1, 0)
                bits[direction] |= bool(proto) << plen
            id = index + 1 + (100 if like and r.random() < 0.05 else 0)  # another endpoint takes the interface
            identity = r.choice(IDENTITIES[:5])
            out["endpoints"][abi.EndpointKey(id)] = abi.Endpoint(
                identity, number, int(abi.EndpointFlag.ENROLLED), 10 + index, bits[0], bits[1], 0, 0
            )
            out["ipcache"][abi.IpcacheKey(128, pack_addr(ip))] = abi.IpcacheValue(identity)
            out["endpoint_ips"][abi.AddrKey(pack_addr(ip))] = abi.EndpointRef(id)
            out["endpoint_ifaces"][abi.IfaceKey(10 + index)] = abi.EndpointRef(id)
            out["endpoint_netns"][abi.NetnsKey(50 + index)] = abi.EndpointRef(id)
        if len(out["endpoint_netns"]) > 1 and r.random() < 0.1:  # two endpoints in one namespace, or files say so
            one, other = r.sample(sorted(out["endpoint_netns"], key=repr), 2)
            out["endpoint_netns"][one], out["endpoint_netns"][other] = (out["endpoint_netns"][k] for k in (other, one))
        return out


def answers(state: State) -> dict[Question, bool | None]:
    """Return what the hooks say, None where an end has no say."""
    view = ranges.Ranges(state["ipcache"])
    cache: dict[Any, bool] = {}

    def ask(endpoint: Any, direction: int, peer: int, port: int) -> bool:
        key = endpoint.set_id, direction, peer, port
        if key not in cache:
            plens = endpoint.egress_plens if direction else endpoint.ingress_plens
            cache[key] = evaluate.lookup(state["policy"], endpoint.set_id, plens, direction, peer, 6, port).allowed  # type: ignore[arg-type]
        return cache[key]

    def by_ref(name: str, key: Record) -> Any:
        ref: Any = state[name].get(key)
        return state["endpoints"].get(abi.EndpointKey(ref.id)) if ref else None

    out: dict[Question, bool | None] = {}
    for index, pod in enumerate(PODS):
        at_interface = by_ref("endpoint_ifaces", abi.IfaceKey(10 + index))
        called = by_ref("endpoint_ips", abi.AddrKey(pack_addr(pod)))
        caller = by_ref("endpoint_netns", abi.NetnsKey(50 + index))
        for other in (*PODS, *OUTSIDE):
            if other == pod:
                continue
            peer = by_ref("endpoint_ips", abi.AddrKey(pack_addr(other)))
            seen = view.identity(pack_addr(other))
            for port in PORTS:
                for direction in (0, 1):
                    name = f"{direction}"
                    out["tc" + name, pod, other, port] = at_interface and ask(at_interface, direction, seen, port)
                    known = peer.identity if peer else seen
                    at_socket = caller if direction == abi.Direction.EGRESS else called
                    out["sock" + name, pod, other, port] = at_socket and ask(at_socket, direction, known, port)
    return out


def writes(state: State, steps: list[plan.Step]) -> Iterator[str]:
    """Do the steps, one write at a time."""
    for step in steps:
        for key, value in step.puts.items():
            state[step.map][key] = value
            yield f"put {key} {value}"
        for key in step.deletes:
            del state[step.map][key]
            yield f"delete {key}"


def is_shut(step: plan.Step) -> bool:
    return any(isinstance(v, abi.PolicyValue) and v.rank == abi.Rank.DENY and not v.rule_id for v in step.puts.values())


def copy(state: State) -> State:
    return {name: dict(content) for name, content in state.items()}


@pytest.mark.parametrize("part", range(8))
@pytest.mark.parametrize("crowded", [False, True])
def test_every_answer_is_the_old_or_the_new_one(part: int, crowded: bool) -> None:
    bridged = shut = 0
    for seed in range(part * 25, part * 25 + 25):
        world = World(seed)
        sets = [world.a_set() for _ in range(3)]
        old = world.state(None, sets)
        new = world.state(old, sets if seed % 3 == 0 else [*sets, *(world.a_set() for _ in range(2))])
        want = compiler.Desired(new)
        change = plan._Change(old, want)
        steps = list(change.crowded_steps()) if crowded else plan.plan(old, want)
        bridged += any(key.set_id >= plan.FIRST_BRIDGE for s in steps if s.map == "policy" for key in s.puts)  # type: ignore[attr-defined]
        shut += (closed := any(map(is_shut, steps)))
        closed |= bool(change.shut)
        before, after, now = answers(old), answers(new), copy(old)
        for write in writes(now, steps):
            for question, said in answers(now).items():
                was, will = before[question], after[question]
                assert not said or was or will or was is None or will is None, f"{seed}: {question} after {write}"
                exact = not (closed or crowded or was is None or will is None)
                assert not exact or said or not (was and will), f"{seed}: {question} shut after {write}"
        assert now == new
    assert crowded or bridged > shut


@pytest.mark.parametrize("part", range(4))
def test_an_agent_that_died_on_the_way_is_succeeded_by_one_with_other_plans(part: int) -> None:
    bridged = 0
    for seed in range(1000 + part * 15, 1015 + part * 15):
        world = World(seed)
        old = world.state(None, [world.a_set() for _ in range(3)])
        steps = plan.plan(old, compiler.Desired(world.state(old, [world.a_set() for _ in range(3)])))
        count = sum(1 for _ in writes(copy(old), steps))
        now = copy(old)
        for _ in zip(range(world.random.randrange(count)), writes(now, steps), strict=False):
            pass
        new = world.state(now, [world.a_set() for _ in range(3)])
        bridged += any(e.set_id >= plan.FIRST_BRIDGE for e in now["endpoints"].values())  # type: ignore[attr-defined]
        before, after = answers(now), answers(new)
        for write in writes(now, plan.plan(now, compiler.Desired(new))):
            for question, said in answers(now).items():
                was, will = before[question], after[question]
                assert not said or was or will or was is None or will is None, f"{seed}: {question} after {write}"
        assert now == new
    assert bridged


def test_nothing_to_do() -> None:
    world = World(1)
    state = world.state(None, [world.a_set()])
    assert not any(step.puts or step.deletes for step in plan.plan(state, compiler.Desired(copy(state))))


def test_a_relabelled_peer_of_a_large_set_is_quick() -> None:
    """The set of one pod with 10,000 entries, one peer of which changes its identity."""
    world = World(2)
    old = world.state(None, [world.a_set()])
    while not all(abi.AddrKey(pack_addr(ip)) in old["endpoint_ips"] for ip in PODS):
        old = world.state(None, [world.a_set()])
    new = copy(old)
    for state, number, identity in ((old, 900, 300), (new, 901, 301)):
        for key, value in list(state["endpoints"].items()):
            if key == abi.EndpointKey(2):
                state["endpoints"][key] = dataclasses.replace(value, identity=identity)  # type: ignore[type-var]
        state["ipcache"][abi.IpcacheKey(128, pack_addr(PODS[1]))] = abi.IpcacheValue(identity)
        endpoint: Any = state["endpoints"][abi.EndpointKey(1)]
        state["endpoints"][abi.EndpointKey(1)] = dataclasses.replace(endpoint, set_id=number)
        for port in range(10_000):
            key = abi.PolicyKey(number, identity if port == 7 else 5000, port, 6, 0, 16)
            state["policy"][key] = abi.PolicyValue(0, 254, 0, 0, 1, 0, 1, 0)
    since = time.monotonic()
    steps = plan.plan(old, compiler.Desired(new))
    assert time.monotonic() - since < 2.0
    assert any(key.set_id == plan.FIRST_BRIDGE for s in steps if s.map == "policy" for key in s.puts)  # type: ignore[attr-defined]
