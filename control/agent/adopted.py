"""What a predecessor left in force, for as long as nobody can tell what it followed from.

Its policy stays as it is in the kernel. Its pods are looked after all the same: by what they were called, they are
found where they are now, so that one whose interface is made again is not without hooks.
"""

import dataclasses
from collections.abc import Mapping, Set

from control import compile as compiler
from control import model, names
from control.agent import hooks, host, plan, workloads
from loader import abi, mesh
from loader.record import Record

# Flags that follow from what is on the host.
_FACTS = int(abi.EndpointFlag.HAS_CGROUP | abi.EndpointFlag.DIRECT | abi.EndpointFlag.UNSHAPED)


class Adopted:
    """The endpoints of the maps as they were taken over. `snapshot`: those whose name is known, as workloads."""

    def __init__(self, loaded: mesh.Mesh, have: plan.Content, known: names.Names) -> None:
        self._known = known
        held = {id: value for id, value in _endpoints(have).items() if not known.endpoint(id)}
        self._mesh = loaded
        self._lost: Set[int] = frozenset()
        # That an interface is a pod's, without any name, only our own filters on it can tell.
        self._nameless = {
            id: hooks.Where(host.name(value.ifindex), value.ifindex, None)
            for id, value in held.items()
            if loaded.is_ours(value.ifindex)
        }
        self._bare = {id: value.ifindex for id, value in held.items() if id not in self._nameless}
        named = (known.endpoint(id) for id in _endpoints(have))
        self.snapshot = model.Snapshot(
            workloads=tuple(
                model.Workload(
                    name.namespace, name.name, netns=name.netns, interface=name.interface, cgroup=name.cgroup
                )
                for name in named
                if name
            )
        )

    def moved(self, have: plan.Content, survey: workloads.Survey) -> compiler.Desired:
        """Return what the maps are to hold, that each endpoint is where its workload is found now. One that is not
        found stays."""
        want: dict[str, dict[Record, Record]] = {name: dict(have[name]) for name in compiler.MAP_NAMES}
        for id, old in _endpoints(have).items():
            name = self._known.endpoint(id)
            facts = survey.facts.get((name.namespace, name.name)) if name else None
            if facts is None:
                continue
            flags = old.flags & ~_FACTS
            flags |= abi.EndpointFlag.HAS_CGROUP if facts.has_cgroup else 0
            flags |= abi.EndpointFlag.DIRECT if facts.direct else 0
            flags |= abi.EndpointFlag.UNSHAPED if facts.unshaped else 0
            want["endpoints"][abi.EndpointKey(id)] = dataclasses.replace(
                old, netns_cookie=facts.netns_cookie, ifindex=facts.ifindex, nsid=facts.nsid, mac=facts.mac,
                inlet=facts.inlet, flags=int(flags),
            )  # fmt: skip
            ref = abi.EndpointRef(id)
            _refer(want["endpoint_ifaces"], ref, abi.IfaceKey(old.ifindex), abi.IfaceKey(facts.ifindex))
            if facts.netns_cookie:
                _refer(want["endpoint_netns"], ref, abi.NetnsKey(old.netns_cookie), abi.NetnsKey(facts.netns_cookie))
        return compiler.Desired(want)

    def places(self, have: plan.Content, survey: workloads.Survey) -> dict[int, hooks.Where]:
        """Return where the hooks of each endpoint hang, as far as anybody can tell."""
        self.has_renamed()
        found = places(have, self._known)
        for id, where in found.items():
            name = self._known.endpoint(id)
            if name and (workload := survey.workloads.get((name.namespace, name.name))):
                found[id] = where._replace(interface=workload.interface)
        return self._nameless | found

    def has_renamed(self) -> bool:
        """Follow the interfaces of those without a name to what they are called now; tell whether any has another."""
        renamed = {
            id: where._replace(interface=host.name(where.ifindex))
            for id, where in self._nameless.items()
            if host.index(where.interface) != where.ifindex and self._mesh.is_ours(where.ifindex)
        }
        self._nameless |= renamed
        return bool(renamed)

    def lost(self, have: plan.Content) -> dict[int, abi.Endpoint]:
        """Return the endpoints that have lost their interfaces since this was asked before."""
        gone = {id: value for id, value in _endpoints(have).items() if not host.name(value.ifindex)}
        new = {id: value for id, value in gone.items() if id not in self._lost}
        self._lost = gone.keys()
        return new

    def problems(self) -> list[model.Problem]:
        """Return a problem for each endpoint of which nobody can tell where its pod is now."""
        gone = {
            id: where.ifindex for id, where in self._nameless.items() if host.index(where.interface) != where.ifindex
        }
        words = (
            "is not there, or has no packet filters of ours, and its pod's name is lost: its pod is NOT under policy"
        )
        return [
            model.Problem("", f"endpoint {id}", f"interface number {ifindex} {words}, wherever it is now")
            for id, ifindex in sorted((self._bare | gone).items())
        ]


def places(want: plan.Content | compiler.Desired, known: names.Names) -> dict[int, hooks.Where]:
    """Return where the hooks of each endpoint hang that has a name."""
    out: dict[int, hooks.Where] = {}
    for id, value in _endpoints(want).items():
        if name := known.endpoint(id):
            has_cgroup = value.flags & abi.EndpointFlag.HAS_CGROUP
            out[id] = hooks.Where(name.interface, value.ifindex, name.cgroup if has_cgroup else "")
    return out


def _endpoints(content: plan.Content | compiler.Desired) -> Mapping[int, abi.Endpoint]:
    return {key.id: value for key, value in content["endpoints"].items()}  # type: ignore[attr-defined,misc]


def _refer(table: dict[Record, Record], ref: abi.EndpointRef, old: Record, new: Record) -> None:
    """Let a table lead to an endpoint from another key than before, if it is another."""
    if new == old:
        return
    if table.get(old) == ref:
        del table[old]
    table[new] = ref
