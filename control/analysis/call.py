"""What is asked of policies, and who answers: one call, and the policy and rule that say something of it."""

import dataclasses

from control.analysis import world
from control.policy import request


@dataclasses.dataclass(frozen=True)
class Call:
    """What is asked about. `port`: of ICMP the type, 0 for what has no ports. Nothing of `http`, `server_name` (of a
    TLS client) and `query` (of DNS): only whether a connection may be opened.
    """

    source: world.End
    destination: world.End
    proto: int
    port: int
    http: request.Request | None = None
    server_name: str = ""
    query: str = ""

    @property
    def is_within_a_pod(self) -> bool:
        """Tell whether a pod calls itself; what stands for many pods may call another one of them."""
        workload = self.source.workload
        return workload is not None and workload is self.destination.workload and workload.kind == "Pod"


@dataclasses.dataclass(frozen=True)
class Author:
    """Who says something: a policy, its rule ("" where selecting the pod is all it does), and where that is written."""

    kind: str
    namespace: str
    name: str
    rule: str
    source: str

    def __str__(self) -> str:
        name = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return " ".join(filter(None, (self.kind, name, self.rule)))


def author(known: world.World, key: str) -> Author | None:
    """Return who says what is kept under a rule's key."""
    if not key:
        return None
    policy, path, source = known.sources[key]
    if policy is None:
        return Author("Reserved", "", key.removeprefix("Reserved//").removesuffix("#"), "", "")
    return Author(policy.kind, policy.namespace, policy.name, path if path.endswith("]") else "", source)
