"""What only Python sees: the objects that files declare, as frozen types. Nothing here reads, parses or decides.

base.py, then objects.py and rules.py, then snapshot.py: each knows of those before it only.

Labels are written "source:key=value": `k8s:app=web` is the workload's own, `k8s:io.kubernetes.pod.namespace=shop` and
`k8s:io.cilium.k8s.namespace.labels.team=a` come from its namespace, `reserved:world` from us.
"""

from control.model.base import (
    CLUSTER_KEY,
    CLUSTER_NAME,
    NAMESPACE_KEY,
    NAMESPACE_LABEL_PREFIX,
    NAMESPACE_NAME_LABEL,
    SERVICE_ACCOUNT_KEY,
    Prefix,
    Problem,
    TooMuch,
)
from control.model.objects import (
    CidrGroup,
    ContainerPort,
    Endpoints,
    Namespace,
    Node,
    Service,
    ServicePort,
    Workload,
)
from control.model.rules import (
    CidrGroupPeer,
    CidrPeer,
    Entity,
    HeaderMatch,
    HttpRule,
    L7Rules,
    Mismatch,
    NamePeer,
    NodePeer,
    Operator,
    Peer,
    Policy,
    PortSpec,
    Requirement,
    Rule,
    Section,
    Selector,
    ServicePeer,
)
from control.model.snapshot import (
    FileState,
    LoadResult,
    Object,
    Refused,
    Snapshot,
)

__all__ = [
    "CLUSTER_KEY",
    "CLUSTER_NAME",
    "NAMESPACE_KEY",
    "NAMESPACE_LABEL_PREFIX",
    "NAMESPACE_NAME_LABEL",
    "SERVICE_ACCOUNT_KEY",
    "CidrGroup",
    "CidrGroupPeer",
    "CidrPeer",
    "ContainerPort",
    "Endpoints",
    "Entity",
    "FileState",
    "HeaderMatch",
    "HttpRule",
    "L7Rules",
    "LoadResult",
    "Mismatch",
    "NamePeer",
    "Namespace",
    "Node",
    "NodePeer",
    "Object",
    "Operator",
    "Peer",
    "Policy",
    "PortSpec",
    "Prefix",
    "Problem",
    "Refused",
    "Requirement",
    "Rule",
    "Section",
    "Selector",
    "Service",
    "ServicePeer",
    "ServicePort",
    "Snapshot",
    "TooMuch",
    "Workload",
]
