"""Each workload once: a pod is left out where the manifests have what made it, which then has its addresses.

Who made a pod is what its ownerReferences say. Between a Deployment and its pods is a ReplicaSet, and between a CronJob
and its pods a Job; where that one is not in the manifests, it is known by its name: the Deployment's with the hash that
the pod has as a label behind it, the CronJob's with a number. A pod that has not all labels of the template stays as
it is: somebody took it out of the set, or it is of an earlier template. So does one that policies tell from the
template: by a label that it has besides, as those of a StatefulSet have their name, by what it calls its ports, or
because one of the two is on its node's network.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Collection, Container, Iterable

from control import model

HASH_LABEL = "pod-template-hash"
MOST_OWNERS = 3  # one above the other
_OF_CRON_JOB = re.compile(r"(.+)-[0-9]+")
_FIELDS = tuple(f.name for f in dataclasses.fields(model.Workload))

Key = tuple[str, str, str]  # kind, namespace, name


@dataclasses.dataclass(frozen=True)
class Owned(model.Workload):
    """A workload as a document tells of it. `owner`: kind and name of the controller that made it, or nothing."""

    owner: tuple[str, str] = ("", "")
    is_generated: bool = False  # `name` is only how its names begin: several may be called so


class _Asked:
    """What policies ask of pods: of labels, whether they are there or have a value, and the names of ports."""

    def __init__(self, given: Collection[model.Object]) -> None:
        self._keys, self._ports = set[str](), set[str]()
        self._values: dict[str, set[str]] = {}
        services = set[str]()  # by name; "": of any
        for obj in given:
            for section in obj.sections if isinstance(obj, model.Policy) else ():
                self._take(section.subject)
                for rule in section.rules:
                    for peer in rule.peers or ():
                        self._take(peer)
                        if isinstance(peer, model.ServicePeer):
                            services.add(peer.name)
                    self._ports.update(spec.name for spec in rule.ports or () if spec.name)
        for obj in given if services else ():
            if isinstance(obj, model.Service) and not services.isdisjoint((obj.name, "")):
                for key, value in obj.selector.items():
                    self._values.setdefault(key, set()).add(value)

    def _take(self, peer: model.Peer) -> None:
        for asked in peer.requirements if isinstance(peer, model.Selector) else ():
            if asked.operator in (model.Operator.IN, model.Operator.NOT_IN):
                self._values.setdefault(asked.key, set()).update(asked.values)
            else:
                self._keys.add(asked.key)

    def are_alike(self, pod: Owned, template: Owned) -> bool:
        """Tell whether policies tell nothing of a pod from what is told of its template."""
        if pod.host_network != template.host_network or not template.labels.items() <= pod.labels.items():
            return False
        if any(self._tells(key, pod.labels[key]) for key in pod.labels.keys() - template.labels.keys()):
            return False
        asks_account = model.SERVICE_ACCOUNT_KEY in {*self._keys, *self._values}
        if asks_account and pod.service_account != template.service_account:
            return False
        # A call to a pod may be asked about by what the pod calls the port.
        names = self._ports | {port.name for port in template.ports}
        return not {port for port in {*pod.ports} ^ {*template.ports} if port.name in names}

    def _tells(self, key: str, value: str) -> bool:
        # To who asks for other values, a label is as good as none.
        return key in self._keys or value in self._values.get(key, ())


def alone(several: Iterable[Collection[model.Object]]) -> frozenset[Key]:
    """Return the pods that nobody else stands for in one of several sets of objects, given the policies of all: in the
    others they count by themselves, too, or what changes for them would be nobody's.
    """
    sets = [_told_apart(given) for given in several]
    asked = _Asked([obj for given in sets for obj in given])
    out = set[Key]()
    for given in sets:
        there = _there(given)
        for pod in (each for each in there.values() if each.kind == "Pod"):
            top = _top(pod, there)
            if top is None or not asked.are_alike(pod, top):
                out.add(_key(pod))
    return frozenset(out)


def settle(
    given: Iterable[model.Object], apart: Container[Key]
) -> tuple[list[model.Object], dict[str, str], dict[str, str]]:
    """Return the objects without the workloads that another one stands for, who does for each "namespace/name", and
    the node of each by that name and by its addresses: whom it stands for may be on several.

    Where that one shares its name with another kind, it is "namespace/KIND/name". `apart`: pods that count by
    themselves.
    """
    everything = _told_apart(given)
    there = _there(everything)
    ips: dict[Key, dict[str, None]] = {}
    folded: dict[str, Owned] = {}
    nodes: dict[str, str] = {}
    out: list[model.Object] = []
    for obj in everything:
        top = _top(obj, there) if isinstance(obj, Owned) and _key(obj) not in apart else None
        if isinstance(obj, Owned) and top is not None:
            ips.setdefault(_key(top), {}).update(dict.fromkeys(obj.ips))
            folded[str(obj)] = top
            nodes |= dict.fromkeys((str(obj), *obj.ips) if obj.node else (), obj.node)
        else:
            out.append(obj)
    settled = [_plain(obj, ips.get(_key(obj), {})) if isinstance(obj, Owned) else obj for obj in out]
    called = Counter(str(w) for w in {(w.kind, str(w)): w for w in settled if isinstance(w, model.Workload)}.values())
    names = {
        name: f"{top.namespace}/{top.kind}/{top.name}" if called[str(top)] > 1 else str(top)
        for name, top in folded.items()
    }
    return settled, names, nodes


def _there(given: Iterable[model.Object]) -> dict[Key, Owned]:
    return {_key(obj): obj for obj in given if isinstance(obj, Owned)}


def _told_apart(given: Iterable[model.Object]) -> list[model.Object]:
    """Return the objects, where those with only the beginning of a name have numbers behind it if it is taken."""
    everything = list(given)
    taken = {_key(obj) for obj in everything if isinstance(obj, Owned) and not obj.is_generated}
    numbers: Counter[Key] = Counter()
    out = []
    for obj in everything:
        if isinstance(obj, Owned) and obj.is_generated:
            key = begun = _key(obj)
            while key in taken:
                numbers[begun] += 1
                key = (*begun[:2], f"{begun[2]}-{numbers[begun] + 1}")
            taken.add(key)
            obj = dataclasses.replace(obj, name=key[2])
        out.append(obj)
    return out


def _key(workload: Owned) -> Key:
    return workload.kind, workload.namespace, workload.name


def _top(workload: Owned, there: dict[Key, Owned]) -> Owned | None:
    """Return who made it, or who made that one; None if nobody in the manifests did."""
    found = None
    at = workload
    for _ in range(MOST_OWNERS):
        kind, name = at.owner
        above = there.get((kind, at.namespace, name)) or there.get(_above((kind, name), workload))
        if above is workload:
            return None  # they made each other, as far as they say
        if above is None:
            break
        found = at = above
    return found


def _above(owner: tuple[str, str], pod: Owned) -> Key:
    """Return who must have made an owner that is not there."""
    kind, name = owner
    mark = "-" + pod.labels.get(HASH_LABEL, "")
    if kind == "ReplicaSet" and len(mark) > 1 and name.endswith(mark):
        return "Deployment", pod.namespace, name.removesuffix(mark)
    if kind == "Job" and (match := _OF_CRON_JOB.fullmatch(name)):
        return "CronJob", pod.namespace, match[1]
    return "", "", ""


def _plain(workload: Owned, more: Iterable[str]) -> model.Workload:
    values = {name: getattr(workload, name) for name in _FIELDS}
    values["ips"] = tuple(dict.fromkeys((*workload.ips, *more)))
    return model.Workload(**values)
