"""What is measured of the policy engine. Times are of one process and one core."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator

from bench.scale import cluster
from control import identity, model
from control.policy import engine, meaning, refer, resolve
from control.policy_set import Meaning, compile_set

SMALL, LARGE = 1_000, 10_000
EVENTS = ("added, new labels", "added, known labels", "relabelled", "removed")


@dataclasses.dataclass(frozen=True)
class Full:
    """Everything resolved from nothing. `entries` are those of every distinct policy set, as a node would hold them."""

    pods: int
    identities: int
    policies: int
    sets: int
    entries: int
    resolve_s: float
    compile_s: float


def full(pods: int, policies: int = 1000, stateful: float = 0.1) -> Full:
    """Resolve a whole cluster, and compile the policy of every identity."""
    given = cluster.snapshot(pods, policies=policies, stateful=stateful)
    start = time.perf_counter()
    snapshot = refer.written_out(given)
    allocation = identity.allocate(identity.Allocation(), snapshot)
    identities = identity.Identities(snapshot, allocation)
    resolved = resolve.resolve(snapshot, identities, identities.pods)
    middle = time.perf_counter()
    known = Meaning(identities, meaning.named_ports(snapshot, identities), allocation.rules)
    sets: dict[str, int] = {}
    compiled: dict[int, str] = {}  # policies that many identities share are compiled once
    for policy in resolved.values():
        if id(policy) not in compiled:
            found = compile_set(policy, (), known)
            compiled[id(policy)] = found.digest
            sets[found.digest] = len(found.entries)
    end = time.perf_counter()
    return Full(
        pods, len(resolved), policies, len(sets), sum(sets.values()), round(middle - start, 3), round(end - middle, 3)
    )  # fmt: skip


def kept(pods: int) -> engine.Engine:
    """Return an engine that has taken in a whole cluster, every policy resolved."""
    numbers: dict[engine.Labels, int] = {}
    out = engine.Engine(lambda labels: numbers.setdefault(labels, 256 + len(numbers)))
    snapshot = cluster.snapshot(pods)
    for group in (snapshot.namespaces, snapshot.workloads, snapshot.policies):
        for obj in group:
            out.put(obj)
    for number in out.identities():
        out.policy(number)
    return out


def events(there: engine.Engine, rounds: int) -> dict[str, float]:
    """Return the median microseconds of each event at an engine, the new policy of the pod included."""
    taken: dict[str, list[float]] = {name: [] for name in EVENTS}
    for number in range(rounds):
        for name, event in _events(there, number):
            start = time.perf_counter()
            event()
            taken[name].append((time.perf_counter() - start) * 1e6)
    return {name: statistics.median(values) for name, values in taken.items()}


def _events(there: engine.Engine, number: int) -> Iterator[tuple[str, Callable[[], object]]]:
    namespace = number * 37 % 200
    fresh = cluster.pod(namespace, 1_000_000 + number, alone=True)
    known = dataclasses.replace(cluster.pod(namespace, 1 + number % 3), name=f"extra-{number}")
    other = dataclasses.replace(fresh, labels={**fresh.labels, "app": f"app-{(number + 3) % cluster.APPS}"})

    def put(pod: model.Workload) -> Callable[[], object]:
        def step() -> object:
            there.put(pod)
            return there.policy(there.number(pod))

        return step

    yield EVENTS[0], put(fresh)
    yield EVENTS[1], put(known)
    yield EVENTS[2], put(other)
    yield EVENTS[3], lambda: there.remove(other)
    there.remove(known)


def ratios(rounds: int = 5, each: int = 200) -> dict[str, dict[str, float]]:
    """Return, for each event, its price at the small and at the large cluster, taken in turns, and their ratio."""
    small, large = kept(SMALL), kept(LARGE)
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in EVENTS}
    events(small, each), events(large, each)  # warm
    for _ in range(rounds):
        at_small, at_large = events(small, each), events(large, each)
        for name in EVENTS:
            samples[name].append((at_small[name], at_large[name]))
    return {
        name: {
            f"{SMALL} pods (us)": round(statistics.median(s for s, _ in found), 1),
            f"{LARGE} pods (us)": round(statistics.median(large for _, large in found), 1),
            "ratio": round(statistics.median(large / small for small, large in found), 2),
        }
        for name, found in samples.items()
    }
