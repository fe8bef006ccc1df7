"""Reads one agent's maps, names and own words into the record that `status` shows and `dump` contains."""

from control.cli.bpf import endpoint as endpoint_command
from control.cli.place import Place
from control.inspect import health, inforce, node_proxy, pins
from control.names import Names
from loader import abi

# Maps whose filling up hurts; the others are fixed, or forget what is oldest.
COUNTED = (
    "endpoints", "endpoint_ips", "policy", "ipcache", "conns", "ct", "services", "backends", "socks",
)  # fmt: skip
_FORGETFUL = ("lru_hash",)


def gather(place: Place) -> health.Health:
    """Return the node's state; raises MeshError where nothing is pinned."""
    found = place.agent_status()
    agent = found.words
    names = place.names()
    with place.maps() as opened:
        config, edition = opened.config.get_at(0), inforce.state(opened)
        acceleration = health.acceleration(config, found)
        endpoints = health.effective(endpoint_command.rows(place), acceleration)
        connections, sides = health.short_cut_sides(conn for _, conn in opened.conns.items())
        kernel_lost = opened.counter(abi.Metric.EVENTS_LOST)
        redirected = opened.counter(abi.Metric.REDIRECT_BYTES)
        refused = opened.counter(abi.Metric.REFUSED_CALLS)
        dropped = sum(value.packets for _, value in opened.traffic.items())
        proxy = node_proxy.read(config, node_proxy.entries(opened.policy.items()), agent)
        fills = tuple(
            health.MapFill(path.name, pins.entries(opened, path.name), _limit(path.name), int(info.get("memlock", 0)))
            for kind, path in pins.pinned(place.pin_dir)
            if kind == "maps"
            for info in [pins.describe(path)]
        )
    filling = [fill for fill in fills if fill.name in COUNTED and abi.MAP_BY_NAME[fill.name].type not in _FORGETFUL]
    return health.Health(
        alive=agent is not None,
        state=found.state,
        why_silent=found.why_silent,
        agent=agent,
        in_force=config.generation != 0,
        node=(agent or {}).get("node") or names.node,
        policy_revision=_revision(agent, names, config.generation != 0),
        endpoints=endpoints,
        problems=health.problems(found, endpoints, filling, config.generation != 0, edition, proxy),
        acceleration=acceleration,
        connections=connections,
        short_cut=sides,
        redirected_bytes=redirected,
        refused_calls=refused,
        dropped_packets=dropped,
        lost_events=health.lost_events(kernel_lost, agent),
        maps=fills,
        proxy=proxy,
        edition=edition.name.lower(),
        edition_word=inforce.WORDS.get(edition, ""),
    )


def _revision(agent: health.Json | None, known: Names, in_force: bool) -> int | None:
    """Return the agent's, or what the one before wrote down; before the first there is none in force, which is 0."""
    if agent is not None:
        return int(agent["policy_revision"])
    return known.revision if known.node or not in_force else None


def _limit(name: str) -> int:
    spec = abi.MAP_BY_NAME.get(name)
    return spec.max_entries if spec else 0
