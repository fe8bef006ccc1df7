"""What may be said of them: selectors, peers, ports, requests, and the policies made of these."""

import dataclasses
import enum
import functools
from collections.abc import Mapping

from control.model.base import Prefix
from loader import abi


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

    @functools.cached_property
    def named(self) -> Mapping[tuple[str, str], list[frozenset[str]]]:
        """The values of which each label, by source and key, must have one, condition by condition."""
        out: dict[tuple[str, str], list[frozenset[str]]] = {}
        for asked in self.requirements:
            if asked.operator is Operator.IN:
                out.setdefault((asked.source, asked.key), []).append(frozenset(asked.values))
        return out

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


KINDS = ("http", "dns", "server_names")  # of bytes: a port speaks one


@dataclasses.dataclass(frozen=True)
class L7Rules:
    """What a connection's bytes must say, of exactly one kind; any one rule that matches is enough.

    `http` of one empty HttpRule lets every request through. A kind that is given and empty lets nothing through: that
    is what a rule in a protocol that is not served here comes to. No kind at all lets anything through.
    """

    http: tuple[HttpRule, ...] | None = None
    dns: tuple[NamePeer, ...] | None = None
    server_names: tuple[str, ...] | None = None  # names or patterns of the TLS client's hello

    @property
    def kind(self) -> str:
        """The kind of bytes of which some are let through, one of KINDS; empty where none or any are."""
        given = zip(KINDS, (self.http, self.dns, self.server_names), strict=True)
        return next((name for name, rules in given if rules), "")

    @property
    def is_anything(self) -> bool:
        """Tell whether the bytes may say anything, in whatever protocol."""
        return self.http is None and self.dns is None and self.server_names is None

    @property
    def is_nothing(self) -> bool:
        """Tell whether nothing that the bytes could say is let through."""
        return not (self.is_anything or self.http or self.dns or self.server_names)


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
