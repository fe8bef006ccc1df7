"""The order in which maps change: after every single write two ends let through no more than in one of the states."""

import dataclasses
import random
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from control import compile as compiler
from control import editions, evaluate
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
        out["edition"] = {abi.EndpointKey(0): abi.Edition(abi.EditionState.NOW)}
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
                id, identity, number, int(abi.EndpointFlag.ENROLLED), bits[0], bits[1], ifindex=10 + index
            )
            out["ipcache"][abi.IpcacheKey(128, pack_addr(ip))] = abi.IpcacheValue(identity)
            out["endpoint_ips"][abi.AddrKey(pack_addr(ip))] = abi.EndpointRef(id)
            out["endpoint_ifaces"][abi.IfaceKey(10 + index)] = abi.EndpointRef(id)
            out["endpoint_netns"][abi.NetnsKey(50 + index)] = abi.EndpointRef(id)
        if len(out["endpoint_netns"]) > 1 and r.random() < 0.1:  # two endpoints in one namespace, or files say so
            one, other = r.sample(sorted(out["endpoint_netns"], key=repr), 2)
            out["endpoint_netns"][one], out["endpoint_netns"][other] = (out["endpoint_netns"][k] for k in (other, one))
        out["hung"] = dict(out["endpoint_ifaces"])
        return out


def answers(state: State) -> dict[Question, bool]:
    """Return what the hooks of both ends say together, as a packet or a call meets them."""
    (edition,) = (e.state for e in state["edition"].values())  # type: ignore[attr-defined]
    views = {next: ranges.Ranges(_edition_of(state["ipcache"], next)) for next in (False, True)}
    sets = {next: _edition_of(state["endpoints"], next) for next in (False, True)}
    editions = {abi.EditionState.NOW: (False,), abi.EditionState.BOTH: (False, True), abi.EditionState.NEXT: (True,)}
    cache: dict[Any, bool] = {}

    def ask(next: bool, ref: Any, direction: int, peer: int, port: int) -> bool:
        endpoint: Any = sets[next].get(abi.EndpointKey(ref.id)) if ref else None
        if endpoint is None:
            return ref is None  # the packet hook drops what it knows no record for
        key = endpoint.set_id, direction, peer, port
        if key not in cache:
            plens = endpoint.egress_plens if direction else endpoint.ingress_plens
            cache[key] = evaluate.lookup(state["policy"], endpoint.set_id, plens, direction, peer, 6, port).allowed  # type: ignore[arg-type]
        return cache[key]

    def at(name: str, key: Record) -> Any:
        return state[name].get(key)

    def hooked(key: Record) -> Any:
        """Return whom a packet hook takes for the pod at an interface, nobody's number if it does not know; None where
        none hangs."""
        return at("endpoint_ifaces", key) or abi.EndpointRef(0) if key in state["hung"] else None

    def addressed(ip: str) -> Any:
        return at("endpoint_ips", abi.AddrKey(pack_addr(ip)))

    def identity(next: bool, ip: str, ref: Any) -> int:
        record: Any = sets[next].get(abi.EndpointKey(ref.id)) if ref else None
        return record.identity if record else views[next].identity(pack_addr(ip))

    out: dict[Question, bool] = {}
    for index, pod in enumerate(PODS):
        sender, caller = hooked(abi.IfaceKey(10 + index)), at("endpoint_netns", abi.NetnsKey(50 + index))
        for other in (*PODS, *OUTSIDE):
            if other == pod:
                continue
            number = PODS.index(other) if other in PODS else -1
            receiver = hooked(abi.IfaceKey(10 + number)) if number >= 0 else None
            called = addressed(other)
            for port in PORTS:
                for source in PODS:  # whatever a pod says that its address is
                    owned = addressed(source) == sender if sender else source == pod
                    takes = receiver is None or called is None or called == receiver
                    out[f"tc as {source}", pod, other, port] = (
                        owned
                        and takes
                        and all(
                            ask(next, sender, 1, views[next].identity(pack_addr(other)), port)
                            and ask(next, receiver, 0, views[next].identity(pack_addr(source)), port)
                            for next in editions[edition]
                        )
                    )
                out["call", pod, other, port] = all(
                    ask(next, caller, 1, identity(next, other, called), port)
                    and ask(next, called, 0, identity(next, pod, caller), port)
                    for next in editions[edition]
                )
                out["from outside", OUTSIDE[0], pod, port] = all(
                    ask(next, sender, 0, views[next].identity(pack_addr(OUTSIDE[0])), port)
                    for next in editions[edition]
                )
    return out


def _edition_of(content: dict[Record, Record], next: bool) -> dict[Record, Record]:
    """Return the records as the kernel takes them in one edition."""
    if not next:
        return {key: editions.settled(abi.EditionState.NOW, value) for key, value in content.items()}
    return {key: editions.settled(abi.EditionState.NEXT, value) for key, value in content.items()}


def writes(state: State, steps: list[plan.Step | plan.Turn | plan.Hang]) -> Iterator[str]:
    """Do the steps, one write at a time."""
    for step in steps:
        if isinstance(step, plan.Hang):
            state["hung"] = dict(state["endpoint_ifaces"])
            yield "hang"
            continue
        if isinstance(step, plan.Turn):
            state["edition"] = {abi.EndpointKey(0): abi.Edition(step.state)}
            yield f"turn to {step.state.name}"
            continue
        for key, value in step.puts.items():
            state[step.map][key] = value
            yield f"put {key} {value}"
        for key in step.deletes:
            del state[step.map][key]
            yield f"delete {key}"


def recovered(state: State) -> State:
    """Return what an agent goes on from that finds this, as apply.current does."""
    (edition,) = (e.state for e in state["edition"].values())  # type: ignore[attr-defined]
    out = copy(state)
    for name in editions.MAPS:
        out[name] = {key: editions.settled(abi.EditionState(edition), value) for key, value in out[name].items()}
    out["edition"] = {abi.EndpointKey(0): abi.Edition(abi.EditionState.NOW)}
    return out


def passing(old: State, new: State) -> bool:
    """Tell whether an address, an interface or a network namespace has another owner."""
    return any(old[name] != new[name] for name in ("endpoint_ips", "endpoint_netns", "endpoint_ifaces"))


def copy(state: State) -> State:
    return {name: dict(content) for name, content in state.items()}


@pytest.mark.parametrize("part", range(8))
@pytest.mark.parametrize("crowded", [False, True])
def test_two_ends_never_let_through_what_both_states_refuse(part: int, crowded: bool) -> None:
    exact = 0
    for seed in range(part * 25, part * 25 + 25):
        world = World(seed)
        sets = [world.a_set() for _ in range(3)]
        old = world.state(None, sets)
        new = world.state(old, sets if seed % 3 == 0 else [*sets, *(world.a_set() for _ in range(2))])
        want = compiler.Desired(new)
        steps = list(plan._Change(old, want).crowded_steps()) if crowded else plan.plan(old, want)
        before, after, now = answers(old), answers(new), copy(old)
        is_exact = not crowded and not passing(old, new)
        exact += is_exact
        for write in writes(now, steps):
            for question, said in answers(now).items():
                was, will = before[question], after[question]
                assert not said or was or will, f"{seed}: {question} after {write}"
                assert not is_exact or said or not (was and will), f"{seed}: {question} shut after {write}"
        assert now == new
    assert crowded or exact


@pytest.mark.parametrize("part", range(4))
def test_an_agent_that_died_on_the_way_is_succeeded_by_one_with_other_plans(part: int) -> None:
    found: set[int] = set()
    for seed in range(1000 + part * 20, 1020 + part * 20):
        world = World(seed)
        old = world.state(None, [world.a_set() for _ in range(3)])
        never = world.state(old, [world.a_set() for _ in range(3)])
        steps = plan.plan(old, compiler.Desired(never))
        count = sum(1 for _ in writes(copy(old), steps))
        now = copy(old)
        for _ in zip(range(world.random.randrange(count + 1)), writes(now, steps), strict=False):
            pass
        found.update(e.state for e in now["edition"].values())  # type: ignore[attr-defined]
        was, planned = answers(old), answers(never)
        now = recovered(now)
        before = answers(now)
        for question, said in before.items():
            assert not said or was[question] or planned[question], f"{seed}: {question} after the start"
        new = world.state(now, [world.a_set() for _ in range(3)])
        after = answers(new)
        for write in writes(now, plan.plan(now, compiler.Desired(new))):
            for question, said in answers(now).items():
                assert not said or before[question] or after[question], f"{seed}: {question} after {write}"
        assert now == new
    assert found == set(abi.EditionState)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("addresses are exchanged", ((0, 100, 1), (1, 200, 2)), ((1, 100, 1), (0, 200, 2))),
        ("and both become others", ((0, 100, 1), (1, 200, 2)), ((1, 101, 1), (0, 201, 2))),
        ("a deny moves to the other end", ((0, 100, 3), (1, 200, 1)), ((0, 100, 1), (1, 200, 3))),
    ],
)
def test_what_both_states_refuse(name: str, old: tuple[Any, ...], new: tuple[Any, ...]) -> None:
    """Of two pods: (address, identity, set). Set 1 allows all, 2 what is 200 or 201, 3 nothing."""
    states = [_of_two(each) for each in (old, new)]
    before, after, now = answers(states[0]), answers(states[1]), copy(states[0])
    for write in writes(now, plan.plan(now, compiler.Desired(states[1]))):
        for question, said in answers(now).items():
            assert not said or before[question] or after[question], f"{name}: {question} after {write}"


def _of_two(pods: Iterable[tuple[int, int, int]]) -> State:
    out: State = {name: {} for name in compiler.MAP_NAMES}
    out["edition"] = {abi.EndpointKey(0): abi.Edition(abi.EditionState.NOW)}
    for number, allowed in {1: None, 2: (200, 201), 3: ()}.items():
        for direction in (0, 1):
            verdict = int(allowed is None)
            key = abi.PolicyKey(number, 0, 0, 0, direction, 0)
            out["policy"][key] = abi.PolicyValue(verdict, int(abi.Rank.DEFAULT), 0, 0, 1, 0, 1, 0)
            for peer in allowed or ():
                key = abi.PolicyKey(number, peer, 0, 0, direction, 0)
                out["policy"][key] = abi.PolicyValue(1, int(abi.Rank.ALLOW), 0, 0, 1, 0, 1, 0)
    for index, (address, identity, number) in enumerate(pods):
        flags = int(abi.EndpointFlag.ENROLLED)
        out["endpoints"][abi.EndpointKey(index + 1)] = abi.Endpoint(
            index + 1, identity, number, flags, ifindex=10 + index
        )
        out["ipcache"][abi.IpcacheKey(128, pack_addr(PODS[address]))] = abi.IpcacheValue(identity)
        out["endpoint_ips"][abi.AddrKey(pack_addr(PODS[address]))] = abi.EndpointRef(index + 1)
        out["endpoint_ifaces"][abi.IfaceKey(10 + index)] = abi.EndpointRef(index + 1)
        out["endpoint_netns"][abi.NetnsKey(50 + index)] = abi.EndpointRef(index + 1)
    out["hung"] = dict(out["endpoint_ifaces"])
    return out


def test_nothing_to_do() -> None:
    world = World(1)
    state = world.state(None, [world.a_set()])
    steps = plan.plan(state, compiler.Desired(copy(state)))
    assert not any(not isinstance(step, plan.Step) or step.puts or step.deletes for step in steps)


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
    plan.plan(old, compiler.Desired(new))
    assert time.monotonic() - since < 2.0


def test_who_spoke_for_somebody_else_does_no_more_when_an_edit_is_settled() -> None:
    flags = abi.EndpointFlag.ENROLLED | abi.EndpointFlag.NEXT_HAS_AUDIT | abi.EndpointFlag.PASSING
    left = abi.Endpoint.blank(set_id=5, next_set_id=6, flags=int(flags))
    enrolled, audit = abi.EndpointFlag.ENROLLED, abi.EndpointFlag.HAS_AUDIT
    for state, set_id, kept in (
        (abi.EditionState.NOW, 5, enrolled),
        (abi.EditionState.BOTH, 0, enrolled),
        (abi.EditionState.NEXT, 6, enrolled | audit),
    ):
        assert editions.settled(state, left) == abi.Endpoint.blank(set_id=set_id, flags=int(kept))


@pytest.mark.parametrize("since", [0, 1])
def test_a_mark_of_either_edition_counts_in_both(since: int) -> None:
    """Of an address that passes to a pod of another node, or from one: it is never without for a moment."""
    world = World(3)
    old = world.state(None, [world.a_set()])
    key, new = abi.IpcacheKey(128, pack_addr("10.9.9.9")), copy(old)
    for state, flags in ((old, since), (new, 1 - since)):
        state["ipcache"][key] = abi.IpcacheValue(300 + flags, flags=flags)
    steps = plan.plan(old, compiler.Desired(new))
    both, last = [step.puts[key] for step in steps if isinstance(step, plan.Step) and key in step.puts]
    assert (both, last) == (abi.IpcacheValue(300 + since, 301 - since, 1), new["ipcache"][key])
    assert [editions.settled(state, both).flags for state in abi.EditionState] == [1, 1, 1]  # type: ignore[attr-defined]
