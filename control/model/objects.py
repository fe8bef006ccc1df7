"""What there is in a cluster: workloads, namespaces, nodes, services and named address ranges."""

import dataclasses
from collections.abc import Mapping

from control.model.base import Prefix
from loader import abi


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
