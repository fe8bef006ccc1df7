"""What a document and the place in it say about a rule, whatever the rule says itself."""

import dataclasses

from loader import abi

# Keys of a `spec` that a kind of ours has and the others have not.
IN_OUR_KINDS = {
    "audit": "unknown key: a MeshNetworkPolicy or ClusterMeshNetworkPolicy has it, and for all policies of a namespace "
    'its annotation sockmesh.io/audit: "true"'
}


@dataclasses.dataclass(frozen=True)
class Context:
    """Where a rule stands. `own`: in a kind of ours, which may say more than the Cilium kinds."""

    namespace: str  # empty: cluster-wide
    cluster_wide: bool = False
    own: bool = False
    of_nodes: bool = False  # in a host policy
    direction: abi.Direction = abi.Direction.INGRESS
    verdict: abi.Verdict = abi.Verdict.ALLOW

    @property
    def way(self) -> str:
        """What the names of a rule's peers begin with."""
        return "from" if self.direction == abi.Direction.INGRESS else "to"

    @property
    def is_deny(self) -> bool:
        return self.verdict == abi.Verdict.DENY
