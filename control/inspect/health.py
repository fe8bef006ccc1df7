"""The state of one node in one record: what the agent says while it lives, what the maps tell when it is dead."""

import dataclasses
import enum
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from control.flow.summary import accel_word, counted
from control.inspect import inforce, node_proxy
from control.inspect.endpoints import ON, EndpointRow
from loader import abi, numbers
from loader.programs import PROGRAMS, Target

Json = Mapping[str, Any]
SOCKET_HOOKS = sum(spec.target is Target.CGROUP for spec in PROGRAMS)


class State(enum.StrEnum):
    """Of an agent. A starting one compiles its programs or takes over, and does not answer yet; a dead one is gone.
    One that is elsewhere lives, with another run directory than that in which it was looked for.
    """

    ALIVE = "alive"
    STARTING = "starting"
    SILENT = "silent"  # it is there, and does not answer though it should
    ELSEWHERE = "elsewhere"
    DEAD = "dead"


@dataclasses.dataclass(frozen=True)
class Agent:
    """What could be learned of an agent: its own words, or why there are none."""

    state: State
    words: Json | None = None
    why_silent: str = ""


@dataclasses.dataclass(frozen=True)
class MapFill:
    name: str
    entries: int | None  # None: it has none that can be counted
    max_entries: int
    memory_bytes: int


@dataclasses.dataclass(frozen=True)
class Acceleration:
    """Whether new connections may take the short cut; `why` says what stands in the way and what to do."""

    on: bool
    why: str


@dataclasses.dataclass(frozen=True)
class Health:
    """Everything that `sockmesh status` shows."""

    alive: bool
    state: State
    why_silent: str  # why there are no words of the agent
    agent: Json | None  # the agent's own words
    in_force: bool  # an agent has put a configuration in force here, this one or one before
    node: str
    policy_revision: int | None  # None: unknown, for no agent says it and none left its names here
    endpoints: tuple[EndpointRow, ...]
    problems: tuple[str, ...]
    acceleration: Acceleration
    connections: int
    short_cut: Mapping[str, int]  # receiving sides of open connections, by AccelReason in words
    redirected_bytes: int
    refused_calls: int  # connect and sendmsg that got EPERM: no packet was made, so none was dropped
    dropped_packets: int
    lost_events: Mapping[str, int]  # by where they were lost
    maps: tuple[MapFill, ...]
    proxy: node_proxy.NodeProxy = node_proxy.OFF
    edition: str = abi.EditionState.NOW.name.lower()  # which edition counts
    edition_word: str = ""  # what that means, if it is not the usual one

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what the agent takes for a possible slip; it is in force as written, so it is no problem."""
        return tuple(map(str, (self.agent or {}).get("warnings", ())))

    @property
    def memory_bytes(self) -> int:
        """Return what the maps take of the kernel's memory."""
        return sum(each.memory_bytes for each in self.maps)

    @property
    def is_well(self) -> bool:
        """Return whether nobody need look: policy is in force and nothing is wrong, though an agent may be starting."""
        return self.in_force and not self.problems


def acceleration(config: abi.Config, found: Agent) -> Acceleration:
    """Tell whether the short cut is on, or the first of its conditions that is not met."""
    agent, starts = found.words, found.state is State.STARTING
    if not config.generation:
        return Acceleration(False, "the agent is starting" if starts else "no agent has begun its work here yet")
    if not config.acceleration:
        return Acceleration(
            False, "the kill switch is off: no new connection takes the short cut until "
            "`sockmesh bpf config set acceleration on`",
        )  # fmt: skip
    if config.self_test:
        return Acceleration(True, "")
    if starts:
        return Acceleration(False, "the agent is starting, and has yet to test it on this kernel")
    if agent is None:
        return Acceleration(
            False, "the self-test has not passed on this kernel, or the kernel lacks something: "
            "`sockmesh check` and the agent's log say what",
        )  # fmt: skip
    if agent.get("acceleration_off"):
        return Acceleration(False, str(agent["acceleration_off"]))
    if failed := _failed_cases(agent):
        return Acceleration(False, f"the self-test found this kernel unsafe for it: {'; '.join(failed)}")
    return Acceleration(False, "the self-test has not passed on this kernel; the agent's log says more")


def effective(rows: Iterable[EndpointRow], of_node: Acceleration) -> tuple[EndpointRow, ...]:
    """Return endpoints with what becomes of their short cut: where it is off on the whole node, none of them has it."""
    off = f"off on this node: {of_node.why}"
    return tuple(
        dataclasses.replace(row, acceleration=off) if row.acceleration == ON and not of_node.on else row for row in rows
    )


def _failed_cases(agent: Json) -> list[str]:
    return [f"{case}: {result}" for case, result in (agent.get("self_test") or {}).items() if result != "ok"]


def is_of_self_test(conn: abi.Conn) -> bool:
    """Return whether a connection is between the self-test's own pods, which are nobody's business."""
    return any(numbers.is_reserved(end.endpoint) for end in conn.end)


def short_cut_sides(conns: Iterable[abi.Conn]) -> tuple[int, dict[str, int]]:
    """Return how many connections of pods are open, and their receiving sides on this node by why they are short-cut
    or not."""
    sides: Counter[str] = Counter()
    count = 0
    for conn in conns:
        if is_of_self_test(conn):
            continue
        ends = conn.open_ends
        count += bool(ends)
        sides.update(accel_word(end.marked or end.reason) for end in ends)
    return count, dict(sides.most_common())


def problems(
    found: Agent,
    endpoints: Sequence[EndpointRow],
    fills: Iterable[MapFill],
    in_force: bool = True,
    edition: abi.EditionState = abi.EditionState.NOW,
    proxy: node_proxy.NodeProxy = node_proxy.OFF,
) -> tuple[str, ...]:
    """Return everything that a person should look at, in sentences. That an agent is starting is none: it passes."""
    agent = found.words
    out = [str(problem) for problem in (agent or {}).get("problems", ())]
    if found.state is State.DEAD and not in_force:
        out.append(f"no policy is in force, for the agent ended before it had put one in force: {found.why_silent}")
    elif found.state is State.ELSEWHERE:
        out.append(f"what the agent would say is not known: {found.why_silent}")
    elif found.state in (State.DEAD, State.SILENT):
        out.append(f"nobody looks whether files and pods are as they should be: {found.why_silent}")
        if edition == abi.EditionState.BOTH:  # with an agent that lives, it passes
            out.append(f"{inforce.WORDS[edition]}; start the agent")
    if failed := _failed_cases(agent or {}):
        cases = counted(len(failed), "case")
        out.append(f"the self-test failed in {cases}, so no connection takes the short cut: `sockmesh dump`")
    for row in endpoints:
        if not row.in_force and not any(row.name in problem for problem in out):
            out.append(f"endpoint {row.name}: {row.policy}")
        is_told = any(f"{row.name}:" in problem for problem in out)  # it knows better why no hook is attached
        if "has-cgroup" in row.flags and len(row.hooks) < SOCKET_HOOKS and not is_told:
            out.append(
                f"endpoint {row.name}: {len(row.hooks)} of {SOCKET_HOOKS} socket hooks are attached; "
                "restart the agent (`sockmesh bpf endpoint get` names them)"
            )
    if proxy.is_missed:
        out.append(f"no node proxy is connected: {node_proxy.missed(proxy)}")
    for fill in fills:
        if fill.entries is not None and 0 < fill.max_entries * 0.9 <= fill.entries:
            out.append(f"map {fill.name} is nearly full: {fill.entries:,} of {fill.max_entries:,} entries")
    for sink in ((agent or {}).get("flow_log") or {}).get("sinks", ()):
        if sink.get("error"):
            out.append(f"flow log {sink['name']}: {sink['error']}")
    return tuple(out)


def lost_events(kernel: int, agent: Json | None) -> dict[str, int]:
    """Return how many flow events or lines were lost, by where."""
    flow_log = (agent or {}).get("flow_log") or {}
    return {
        "kernel": kernel,
        "conntrack": flow_log.get("ends_lost", 0),
        "sinks": sum(sink.get("lost", 0) for sink in flow_log.get("sinks", ())),
        "observers": flow_log.get("observers_lost", 0),
        "proxy": ((agent or {}).get("proxy") or {}).get("lost", 0),
    }


def endpoints_word(health: Health) -> str:
    """Return how many endpoints there are, and how many of them are not in force."""
    refused = sum(not row.in_force for row in health.endpoints)
    return counted(len(health.endpoints), "endpoint") + (f" ({refused} not in force)" if refused else "")


def revision_word(health: Health) -> str:
    """Return which revision of the policy is in the kernel."""
    return f"revision {'unknown' if health.policy_revision is None else health.policy_revision}"


def brief(health: Health) -> str:
    """Return one line for a shell prompt or a monitor."""
    stays = "policy stays in force" if health.in_force else "no policy is in force yet"
    state = {
        State.ALIVE: "alive",
        State.STARTING: f"starting ({stays})",
        State.SILENT: f"DOES NOT ANSWER ({stays})",
        State.ELSEWHERE: "NOT FOUND (it has another --run-dir)",
        State.DEAD: f"DEAD ({stays})",
    }[health.state]
    parts = [
        f"node {health.node or '?'}: agent {state}",
        revision_word(health),
        endpoints_word(health),
        counted(health.connections, "connection"),
        "short cut on"
        if health.acceleration.on
        else f"short cut OFF ({re.split('[:;] ', health.acceleration.why)[0]})",
    ]
    if health.problems:
        parts.append(counted(len(health.problems), "problem"))
    if health.warnings:
        parts.append(counted(len(health.warnings), "warning"))
    if told := node_proxy.brief(health.proxy):
        parts.append(told)
    if lost := sum(health.lost_events.values()):
        parts.append(counted(lost, "EVENT LOST", "EVENTS LOST"))
    return ", ".join(parts)
