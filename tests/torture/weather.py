"""What happens around the connections: policies come and go, and the agent is killed and started again."""

import random
import threading
from collections import Counter
from types import TracebackType
from typing import Any, Self

from tests.hosts import Mesh, Pod

Json = dict[str, Any]


def _policy(name: str, pod: Pod, direction: str, peer: Pod) -> Json:
    """Return a policy that selects a pod, hence denies by default, and allows one peer."""
    way = {"Ingress": ("ingress", "from"), "Egress": ("egress", "to")}[direction]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": pod.namespace},
        "spec": {
            "podSelector": {"matchLabels": pod.labels},
            "policyTypes": [direction],
            way[0]: [{way[1]: [{"podSelector": {"matchLabels": peer.labels}}]}],
        },
    }


class Weather:
    """Bad weather for the length of a `with` block, made in a thread. No policy ever forbids what the client does."""

    def __init__(self, mesh: Mesh, client: Pod, server: Pod, bystander: Pod, seed: int, kills: bool) -> None:
        self.seen: Counter[str] = Counter()
        self._mesh, self._kills = mesh, kills
        self._rng = random.Random(seed)
        self._policies = {
            "unrelated": _policy("unrelated", bystander, "Ingress", client),
            "ingress": _policy("ingress", server, "Ingress", client),
            "egress": _policy("egress", client, "Egress", server),
        }
        self._applied: set[str] = set()
        self._over = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="weather")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        for name in sorted(self._applied):
            self._mesh.delete(name)
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            first = [False, self._kills]  # of each some, however short it is
            while not self._over.wait(self._rng.uniform(0.1, 1.0)):
                if first.pop(0) if first else self._kills and self._rng.random() < 0.2:
                    self._kill()
                else:
                    self._turn(self._rng.choice(sorted(self._policies)))
        except BaseException as error:
            self._error = error

    def _turn(self, name: str) -> None:
        """Apply the policy, or take it away."""
        if name in self._applied:
            self._mesh.delete(name)
            self._applied.discard(name)
        else:
            self._mesh.apply(name, self._policies[name])
            self._applied.add(name)
        self.seen["policy changes"] += 1

    def _kill(self) -> None:
        self._mesh.kill()
        if self._rng.random() < 0.5:
            self._turn(self._rng.choice(sorted(self._policies)))  # found at the next start
        self._over.wait(self._rng.uniform(0, 2))
        self._mesh.start()
        self.seen["agents killed"] += 1
