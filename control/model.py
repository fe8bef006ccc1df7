"""What only Python sees: the objects that files declare, as frozen types. Nothing here reads, parses or decides.

Labels are written "source:key=value": `k8s:app=web` is the workload's own, `k8s:io.kubernetes.pod.namespace=shop` and
`k8s:io.cilium.k8s.namespace.labels.team=a` come from its namespace, `reserved:world` from us.
"""

import dataclasses
import enum
from collections.abc import Mapping
from typing import NamedTuple

from loader import abi

NAMESPACE_KEY = "io.kubernetes.pod.namespace"
NAMESPACE_LABEL_PREFIX = "io.cilium.k8s.namespace.labels."
SERVICE_ACCOUNT_KEY = "io.cilium.k8s.policy.serviceaccount"
CLUSTER_KEY = "io.cilium.k8s.policy.cluster"
CLUSTER_NAME = "default"
NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"  # Kubernetes puts it on every namespace


class TooMuch(ValueError):
    """Documents that are right, but ask for more than there is room for, or than could be worked out."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something that its author must mend; `str()` is the line that people read."""

    file: str
    path: str
    message: str
    line: int = 0
    effect: str = ""  # what is in force in the meantime

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        line = ": ".join(part for part in (place, self.path, self.message) if part)
        return f"{line}; {self.effect}" if self.effect else line


class Prefix(NamedTuple):
    """An address range; sorts by address, then by length, so that what a range contains comes right behind it."""

    version: int
    address: int
    length: int

    @property
    def last(self) -> int:
        """The highest address in the range."""
        return self.address | ((1 << ((32 if self.version == 4 else 128) - self.length)) - 1)

    def contains(self, other: "Prefix") -> bool:
        """Tell whether every address of other lies in this range."""
        return (
            self.version == other.version
            and self.length <= other.length
            and (self.address <= other.address <= self.last)
        )


@dataclasses.dataclass(frozen=True)
class ContainerPort:
    name: str
    port: int
    protocol: abi.Proto = abi.Proto.TCP


@dataclasses.dataclass(frozen=True)
class Workload:
    """A pod, or what stands for one: some addresses with an identity. `node` empty: it runs on this node."""

    namespace: str
    name: str
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    service_account: str = ""
    ips: tuple[str, ...] = ()
    netns: str = ""
    interface: str = ""
    cgroup: str = ""
    accelerate: bool = True
    ports: tuple[ContainerPort, ...] = ()
    node: str = ""
    source: str = ""
    kind: str = "Pod"  # what it is called in an answer: a pod template stands for the pods of its Deployment
    host_network: bool = False  # it has its node's addresses and identity, and no policy of its own

    def is_local(self, node: str) -> bool:
        return self.node in ("", node)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclasses.dataclass(frozen=True)
class Namespace:
    """`audit`: its policies only tell what they would refuse."""

    name: str
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    source: str = ""
    audit: bool = False


@dataclasses.dataclass(frozen=True)
class Node:
    """A machine of the cluster."""

    name: str
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ips: tuple[str, ...] = ()
    source: str = ""


@dataclasses.dataclass(frozen=True)
class CidrGroup:
    """Address ranges under a name, for rules to refer to."""

    name: str
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    prefixes: tuple[Prefix, ...] = ()
    source: str = ""


@dataclasses.dataclass(frozen=True)
class ServicePort:
    port: int
    name: str = ""
    target_port: int | str = 0  # a number, or the name of a container port; 0: same as `port`
    protocol: abi.Proto = abi.Proto.TCP


@dataclasses.dataclass(frozen=True)
class Service:
    """A virtual address. Backends are the workloads that `selector` selects, or `endpoints` where it has none."""

    namespace: str
    name: str
    cluster_ips: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    selector: Mapping[str, str] = dataclasses.field(default_factory=dict)
    endpoints: tuple[str, ...] = ()
    source: str = ""
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Endpoints:
    """Addresses behind `service`, as an object of its own lists them; `ports` have the names of the service's."""

    namespace: str
    name: str
    service: str
    ips: tuple[str, ...] = ()
    ports: tuple[ContainerPort, ...] = ()
    kind: str = "Endpoints"
    source: str = ""


class Operator(enum.Enum):
    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclasses.dataclass(frozen=True)
class Requirement:
    """One condition on labels. Source "any" matches a label of every source."""

    source: str
    key: str
    operator: Operator
    values: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Selector:
    """Conditions that must all hold; none at all selects everything."""

    requirements: tuple[Requirement, ...] = ()

    def with_requirements(self, *more: Requirement) -> "Selector":
        return Selector(self.requirements + more)


class Entity(enum.Enum):
    """Names for peers that no label of a pod can name."""

    ALL = "all"
    NONE = "none"
    WORLD = "world"
    WORLD_IPV4 = "world-ipv4"
    WORLD_IPV6 = "world-ipv6"
    HOST = "host"
    REMOTE_NODE = "remote-node"
    KUBE_APISERVER = "kube-apiserver"
    CLUSTER = "cluster"
    CLUSTER_MESH = "cluster-mesh"
    UNMANAGED = "unmanaged"
    HEALTH = "health"
    INIT = "init"
    INGRESS = "ingress"


@dataclasses.dataclass(frozen=True)
class CidrPeer:
    """An address range outside the cluster, without some ranges inside it. Never matches pods or nodes."""

    prefix: Prefix
    excepts: tuple[Prefix, ...] = ()


@dataclasses.dataclass(frozen=True)
class CidrGroupPeer:
    """The ranges of one CidrGroup by name, or of those whose labels a selector matches; without some ranges."""

    name: str = ""
    selector: Selector | None = None
    excepts: tuple[Prefix, ...] = ()


@dataclasses.dataclass(frozen=True)
class NamePeer:
    """Addresses outside the cluster, by the DNS names that they were learned under. One of the two is given.

    `pattern`: "*" stands for any characters of one label, a leading "**." for one label or more.
    """

    name: str = ""
    pattern: str = ""


@dataclasses.dataclass(frozen=True)
class NodePeer:
    """Other nodes, by their labels."""

    selector: Selector


@dataclasses.dataclass(frozen=True)
class ServicePeer:
    """What services lead to: the pods that they select, else the addresses behind them. `namespace` empty: any."""

    namespace: str = ""
    name: str = ""
    selector: Selector | None = None


Peer = Selector | CidrPeer | CidrGroupPeer | Entity | NamePeer | NodePeer | ServicePeer


@dataclasses.dataclass(frozen=True)
class PortSpec:
    """Ports first to last of one protocol (0 to 65535: all of them), or a named port. An ICMP type is a port here."""

    proto: abi.Proto
    first: int = 0
    last: int = 65535
    name: str = ""


class Mismatch(enum.Enum):
    """What becomes of a request whose header is not as a rule says."""

    FAIL = ""
    LOG = "LOG"
    ADD = "ADD"
    DELETE = "DELETE"
    REPLACE = "REPLACE"


@dataclasses.dataclass(frozen=True)
class HeaderMatch:
    """A header that a request must have; `value` None: with any value. `secret`: "namespace/name" that holds it."""

    name: str
    value: str | None = None
    mismatch: Mismatch = Mismatch.FAIL
    secret: str = ""


@dataclasses.dataclass(frozen=True)
class HttpRule:
    """Requests that a rule lets through. Method, path and host are regular expressions for the whole; empty: any."""

    method: str = ""
    path: str = ""
    host: str = ""
    headers: tuple[HeaderMatch, ...] = ()


@dataclasses.dataclass(frozen=True)
class L7Rules:
    """What a connection's bytes must say, of exactly one kind; any one rule that matches is enough.

    `http` of one empty HttpRule lets every request through. A kind that is given and empty lets nothing through: that
    is what a rule in a protocol that is not served here comes to.
    """

    http: tuple[HttpRule, ...] | None = None
    dns: tuple[NamePeer, ...] | None = None
    server_names: tuple[str, ...] | None = None  # names or patterns of the TLS client's hello


@dataclasses.dataclass(frozen=True)
class Rule:
    """Peers and ports that one policy allows or denies. None means any; an empty tuple means nothing.

    `l7` goes with the verdict PROXY only. One item of `ingress` is several rules with one path where its `toPorts`
    differ in `l7`.
    """

    direction: abi.Direction
    verdict: abi.Verdict
    peers: tuple[Peer, ...] | None
    ports: tuple[PortSpec, ...] | None
    path: str
    source: str = ""
    l7: L7Rules | None = None


@dataclasses.dataclass(frozen=True)
class Section:
    """One `spec`: whom it selects, in which directions it takes part, where it switches default deny on."""

    path: str
    subject: Selector
    directions: frozenset[abi.Direction]
    default_deny: frozenset[abi.Direction]
    rules: tuple[Rule, ...]
    audit: bool = False
    source: str = ""
    of_nodes: bool = False  # `subject` selects nodes: a host policy


@dataclasses.dataclass(frozen=True)
class Policy:
    """A policy object of any kind, in one language.

    `invalid`: it stands for one that could not be read, and has no name that it could take from one of another file.
    """

    kind: str
    namespace: str  # empty: cluster-wide
    name: str
    sections: tuple[Section, ...]
    source: str = ""
    labels: tuple[str, ...] = ()
    invalid: bool = False

    @property
    def key(self) -> str:
        key = f"{self.kind}/{self.namespace}/{self.name}"
        return f"invalid:{self.source.rpartition(':')[0]}:{key}" if self.invalid else key


Object = Workload | Namespace | Service | Endpoints | Policy | Node | CidrGroup


@dataclasses.dataclass(frozen=True)
class FileState:
    """What one file gave. `good`: it was read whole at least once, so these are its last good objects, and `digest` is
    empty while it is broken; otherwise they are what closes in its place.
    """

    digest: str
    objects: tuple[Object, ...]
    good: bool


@dataclasses.dataclass(frozen=True)
class Refused:
    """A content of a file that is wrong, and why: it need not be read again."""

    digest: str
    problems: tuple[Problem, ...]


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """All that is declared at one moment, each group sorted by name."""

    workloads: tuple[Workload, ...] = ()
    namespaces: tuple[Namespace, ...] = ()
    services: tuple[Service, ...] = ()
    policies: tuple[Policy, ...] = ()
    nodes: tuple[Node, ...] = ()
    cidr_groups: tuple[CidrGroup, ...] = ()
    learned: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)  # DNS name -> addresses
    folded: Mapping[str, str] = dataclasses.field(default_factory=dict)  # "namespace/name" -> that of who stands for it
    files: Mapping[str, FileState] = dataclasses.field(default_factory=dict)
    refused: Mapping[str, Refused] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class LoadResult:
    """A snapshot that can be used as it is, and everything that is wrong with what was left out of it.

    `is_read`: the directory could be read, whatever is in it. `is_whole`: so could every file, none is empty, and
    no two are at odds.
    """

    snapshot: Snapshot
    problems: tuple[Problem, ...] = ()
    advice: tuple[Problem, ...] = ()  # of what was taken and does not do all that it says, where it is told apart
    skipped: Mapping[str, int] = dataclasses.field(default_factory=dict)  # kind -> how many that mean nothing here
    is_read: bool = True
    is_whole: bool = True
