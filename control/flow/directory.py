"""Names as a flow record writes them: endpoints, identities and rules, looked up once until Names changes."""

import collections
import contextlib
from typing import Any

from control import names
from loader import abi, record

Json = dict[str, Any]

# An endpoint or rule that is gone still closes its connections: so many of each keep their names.
DEPARTED = 4096
# Sides are remembered by (endpoint, identity, address); strangers from the world would fill memory otherwise.
_SIDES = 65536


def reserved_label(identity: int) -> str | None:
    """Return the label of a reserved identity, or None for any other.

    >>> reserved_label(2), reserved_label(6), reserved_label(256)
    ('reserved:world', 'reserved:remote-node', None)
    """
    try:
        return "reserved:" + abi.ReservedIdentity(identity).name.lower().replace("_", "-")
    except ValueError:
        return None


def _service(known: names.ServiceName) -> Json:
    return {key: text for key, text in (("name", known.name), ("namespace", known.namespace)) if text}


class Directory:
    """The Names in force as ready-made JSON parts. The dicts it returns are shared: read them, do not change them."""

    def __init__(self, known: names.Names, departed_from: "Directory | None" = None) -> None:
        self.names = known
        self.node = known.node
        self._sides: dict[tuple[int, int, str], Json] = {}
        self._policies: dict[int, Json | None] = {}
        self._rules: dict[int, str] = {}
        self._by_ip = dict(known.remote)
        self._by_ip.update((ip, endpoint) for endpoint in known.endpoints.values() for ip in endpoint.ips)
        self._services = {ip: _service(service) for service in known.services.values() for ip in service.ips}
        self._gone: collections.OrderedDict[int, names.EndpointName] = collections.OrderedDict()
        self._gone_rules: collections.OrderedDict[int, names.RuleName] = collections.OrderedDict()
        if departed_from is not None:
            self._remember(departed_from)

    def _remember(self, before: "Directory") -> None:
        for id, endpoint in [*before._gone.items(), *before.names.endpoints.items()]:
            if id not in self.names.endpoints:
                self._gone[id] = endpoint
        for id, rule in [*before._gone_rules.items(), *before.names.rules.items()]:
            if id not in self.names.rules:
                self._gone_rules[id] = rule
        while len(self._gone) > DEPARTED:
            self._gone.popitem(last=False)
        while len(self._gone_rules) > DEPARTED:
            self._gone_rules.popitem(last=False)

    def side(self, endpoint: int, identity: int, ip: str) -> Json:
        """Return Hubble's Endpoint message for one end of a flow: as much of it as is known."""
        key = (endpoint, identity, ip)
        found = self._sides.get(key)
        if found is None:
            if len(self._sides) >= _SIDES:
                self._sides.clear()
            found = self._sides[key] = self._side(endpoint, identity, ip)
        return found

    def _side(self, endpoint: int, identity: int, ip: str) -> Json:
        name = self._endpoint(endpoint, identity, ip)
        identity = identity or (name.identity if name else 0)
        labels = self.names.labels(identity) or (name.labels if name else ())
        if not labels and (reserved := reserved_label(identity)):
            labels = (reserved,)
        side: Json = {}
        if id := endpoint or (name.id if name else 0):
            side["ID"] = id
        if identity:
            side["identity"] = identity
        if name and name.namespace:
            side["namespace"] = name.namespace
        if labels:
            side["labels"] = list(labels)
        if name and name.name:
            side["pod_name"] = name.name
        return side

    def service(self, ip: str) -> Json | None:
        """Return Hubble's Service message of the service that has this address, if one has."""
        return self._services.get(ip)

    def source(self, endpoint: int, destination: bytes) -> bytes:
        """Return the address from which an endpoint would have called: a refused connect has none of its own yet."""
        name = self._endpoint(endpoint, 0, "")
        family = ":" in record.unpack_addr(destination)
        for ip in name.ips if name else ():
            with contextlib.suppress(ValueError):  # a names file holds any text
                address = record.pack_addr(ip)
                if (":" in ip) == family:
                    return address
        return bytes(16)

    def _endpoint(self, endpoint: int, identity: int, ip: str) -> names.EndpointName | None:
        if endpoint:
            # Never by address here: the address of a pod that is gone may already be another pod's.
            return self.names.endpoint(endpoint) or self._gone.get(endpoint)
        name = self._by_ip.get(ip)
        # An address whose identity the kernel saw otherwise has changed hands since.
        return name if name and identity in (0, name.identity) else None

    def rule(self, id: int) -> names.RuleName | None:
        """Return a rule's name, also one that was removed a while ago; None for 0 and for an unknown number."""
        return (self.names.rule(id) or self._gone_rules.get(id)) if id else None

    def policy(self, id: int) -> Json | None:
        """Return Hubble's Policy message of a rule; None where no rule decided. An unknown rule has its number."""
        if not id:
            return None
        if id not in self._policies:
            self._policies[id] = self._policy(id)
        return self._policies[id]

    def _policy(self, id: int) -> Json:
        rule = self.rule(id)
        if rule is None:
            return {"name": f"unknown rule {id}"}
        policy: Json = {"name": rule.name}
        if rule.namespace:
            policy["namespace"] = rule.namespace
        if rule.labels:
            policy["labels"] = list(rule.labels)
        if self.names.revision:
            policy["revision"] = str(self.names.revision)
        if rule.kind:
            policy["kind"] = rule.kind
        return policy
