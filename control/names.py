"""What the numbers in the maps and events are called: written by the agent, read by every command.

The agent keeps one `Names` for the state that is in force and writes it into its run directory as `names.json`, so that
`sockmesh bpf ...` can put names beside numbers while the agent is dead.
"""

import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any

INVALID = "invalid:"  # in front of what a policy that cannot be read is called, as policy/parse.py has it


@dataclasses.dataclass(frozen=True)
class EndpointName:
    """A workload behind an endpoint id or an address. `labels` are "source:key=value"; id 0: not on this node."""

    id: int
    namespace: str
    name: str
    identity: int
    labels: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()
    service_account: str = ""
    netns: str = ""
    interface: str = ""
    cgroup: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def rule_words(kind: str, namespace: str, name: str, rule: str) -> str:
    """Return what a rule is called; that of what stands in for a policy that cannot be read has its name in it.

    >>> rule_words("NetworkPolicy", "shop", "db", "spec.ingress[0]")
    'NetworkPolicy shop/db spec.ingress[0]'
    >>> rule_words("NetworkPolicy", "shop", "db", "invalid:shop/db")
    'NetworkPolicy invalid:shop/db'
    """
    owner = "" if rule.startswith(INVALID) else "/".join(filter(None, (namespace, name)))
    return " ".join(filter(None, (kind, owner, rule)))


@dataclasses.dataclass(frozen=True)
class RuleName:
    """A rule that can decide: `rule` is the path in the document ("spec.ingress[0]"), `source` is "file:line"."""

    kind: str
    namespace: str
    name: str
    rule: str = ""
    source: str = ""
    labels: tuple[str, ...] = ()

    @property
    def policy(self) -> str:
        """Return what its policy is called."""
        return rule_words(self.kind, self.namespace, self.name, "")

    def __str__(self) -> str:
        return rule_words(self.kind, self.namespace, self.name, self.rule)


@dataclasses.dataclass(frozen=True)
class ServiceName:
    """A service behind its number, which is that of one port and family; `ips` are its addresses of that family."""

    id: int
    namespace: str
    name: str
    ips: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Names:
    """Every lookup answers None for what it does not know; nothing here raises on a strange number."""

    node: str = ""
    endpoints: Mapping[int, EndpointName] = dataclasses.field(default_factory=dict)
    remote: Mapping[str, EndpointName] = dataclasses.field(default_factory=dict)  # by IP, workloads of other nodes
    identities: Mapping[int, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    rules: Mapping[int, RuleName] = dataclasses.field(default_factory=dict)
    services: Mapping[int, ServiceName] = dataclasses.field(default_factory=dict)
    revision: int = 0

    def endpoint(self, id: int) -> EndpointName | None:
        return self.endpoints.get(id)

    def endpoint_by_ip(self, ip: str) -> EndpointName | None:
        return self._local_by_ip.get(ip) or self.remote.get(ip)

    @functools.cached_property
    def _local_by_ip(self) -> Mapping[str, EndpointName]:
        return {ip: endpoint for endpoint in reversed(list(self.endpoints.values())) for ip in endpoint.ips}

    def labels(self, identity: int) -> tuple[str, ...]:
        return self.identities.get(identity, ())

    def rule(self, id: int) -> RuleName | None:
        return self.rules.get(id)

    def to_json(self) -> str:
        # Not asdict: it copies each label on the way.
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return json.dumps(fields, default=vars, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Names":
        """Return the Names that `to_json` wrote; raises ValueError on anything else."""
        try:
            raw: dict[str, Any] = json.loads(text)
            return cls(
                node=raw["node"],
                endpoints={int(k): EndpointName(**_tuples(v)) for k, v in raw["endpoints"].items()},
                remote={k: EndpointName(**_tuples(v)) for k, v in raw["remote"].items()},
                identities={int(k): tuple(v) for k, v in raw["identities"].items()},
                rules={int(k): RuleName(**_tuples(v)) for k, v in raw["rules"].items()},
                services={int(k): ServiceName(**_tuples(v)) for k, v in raw["services"].items()},
                revision=raw["revision"],
            )
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"not a names file: {error!r}") from error


def _tuples(raw: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
