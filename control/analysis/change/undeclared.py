"""Pods that no file declares, as examples of all that policies could take them for: pure.

A rule may be about pods of whom the files know nothing, so a change is judged for them, too. Of labels only the answers
to selectors count: an example is made of each mix of answers that a pod could give to the selectors around a change.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from control import identity, model
from control.policy import selectors

MAX_EXAMPLES = 1000  # each with each is compared: some ten seconds where no two are alike
KIND = "undeclared"
ELSEWHERE = "another namespace"  # no namespace can be called so
_OTHER = "another-value"
_MARK = "port names"  # no label can be called so: with it an example is nobody whom files declare
_FIXED = (model.NAMESPACE_KEY, model.CLUSTER_KEY, model.NAMESPACE_LABEL_PREFIX + model.NAMESPACE_NAME_LABEL)
_WITH_VALUES = (model.Operator.IN, model.Operator.NOT_IN)


class Around(NamedTuple):
    """Where a change is: `about` are those whom it may be about, `asking` whatever else tells such pods apart, `ports`
    what is allowed and denied around there.
    """

    about: frozenset[model.Selector]
    asking: frozenset[model.Selector]
    ports: frozenset[model.PortSpec] = frozenset()


def examples(around: Around, snapshots: Sequence[model.Snapshot]) -> tuple[model.Workload, ...] | None:
    """Return a pod for each mix of answers; None where these are too many. Nobody where the change is about no pods."""
    asking = around.about | around.asking
    found: list[model.Workload] = []
    # A port name may stand for any number, or for none; to whoever calls a pod, also for what others with its labels
    # call so.
    called = _called(around.ports)
    kinds = [(False, ()), *([(True, called), (True, ())] if called else [])]
    for name in sorted(_named(asking, snapshots)) if around.about else ():
        told = _choices(name, asking, snapshots)
        if math.prod(map(len, told.values())) * len(kinds) > MAX_EXAMPLES:
            return None
        for workload in _of_namespace(name, told, kinds):
            if any(selectors.fulfils(about, each) for each in seen(workload, snapshots) for about in around.about):
                found.append(workload)
        if len(found) > MAX_EXAMPLES:
            return None
    return tuple(found)


def seen(workload: model.Workload, snapshots: Iterable[model.Snapshot]) -> list[dict[tuple[str, str], set[str]]]:
    """Return the values of a workload's labels in each snapshot: those of its namespace may differ."""
    declared = ({namespace.name: namespace for namespace in each.namespaces} for each in snapshots)
    return [selectors.values_of(identity.labels_of(workload, each)) for each in declared]


def words(workload: model.Workload) -> str:
    labels = {key.removeprefix(model.NAMESPACE_LABEL_PREFIX): value for key, value in workload.labels.items()}
    if workload.service_account:
        labels["service account"] = workload.service_account
    having = ", ".join(f"{key}={value}" for key, value in labels.items() if value != _OTHER and key != _MARK)
    where = workload.namespace if workload.namespace == ELSEWHERE else f"namespace {workload.namespace}"
    return f"undeclared pods of {where}" + (f" with {having}" if having else "")


def _named(asking: Iterable[model.Selector], snapshots: Iterable[model.Snapshot]) -> set[str]:
    """Return the namespaces that anything names, and one that nothing does."""
    names = {ELSEWHERE}
    for snapshot in snapshots:
        names.update(namespace.name for namespace in snapshot.namespaces)
        names.update(workload.namespace for workload in snapshot.workloads)
    by_name = (model.NAMESPACE_KEY, model.NAMESPACE_LABEL_PREFIX + model.NAMESPACE_NAME_LABEL)
    for selector in asking:
        names.update(value for r in selector.requirements if r.key in by_name for value in r.values)
    return names


def _of_namespace(
    name: str, told: Mapping[str, list[str | None]], kinds: Sequence[tuple[bool, tuple[model.ContainerPort, ...]]]
) -> Iterator[model.Workload]:
    """Yield the pods of one namespace by the labels that they may differ in, and by their ports; `kinds`: whether any
    pod with the same labels has some, and those of this one.
    """
    for chosen in itertools.product(*told.values()):
        labels = {key: value for key, value in zip(told, chosen, strict=True) if value is not None}
        account = labels.pop(model.SERVICE_ACCOUNT_KEY, "")
        for has_some, ports in kinds:
            marked = labels | {_MARK: "some" if has_some else "none"}
            shown = ",".join(
                f"{key}={value}" for key, value in [*marked.items(), ("", account), ("ports", bool(ports))]
            )
            yield model.Workload(name, shown, marked, account, ports=ports, kind=KIND)


def _called(ports: Iterable[model.PortSpec]) -> tuple[model.ContainerPort, ...]:
    """Return each name for ports as every number at which something else begins or ends."""
    edges = {edge for spec in ports for edge in (spec.first, spec.last, spec.last + 1) if not spec.name}
    numbers = sorted({edge for edge in edges if 0 < edge <= 65535} | {65535})
    named = sorted((spec.name, spec.proto) for spec in ports if spec.name)
    return tuple(model.ContainerPort(name, number, proto) for name, proto in named for number in numbers)


def _choices(
    name: str, asking: Iterable[model.Selector], snapshots: Sequence[model.Snapshot]
) -> dict[str, list[str | None]]:
    """Return the values of each label that pods of a namespace may differ in; None: they do not have it."""
    plain = seen(model.Workload(name, ""), snapshots)
    is_declared = any(namespace.name == name for each in snapshots for namespace in each.namespaces)

    def is_fixed(key: str) -> bool:
        return key in _FIXED or (is_declared and key.startswith(model.NAMESPACE_LABEL_PREFIX))

    asked: dict[str, set[model.Requirement]] = {}
    for selector in asking:
        fixed = model.Selector(tuple(r for r in selector.requirements if is_fixed(r.key)))
        if any(selectors.fulfils(fixed, each) for each in plain):
            for r in selector.requirements:
                if not is_fixed(r.key) and r.source in ("any", "k8s"):
                    asked.setdefault(r.key, set()).add(r)
    return {key: _values(asked[key]) for key in sorted(asked)}


def _values(asked: Iterable[model.Requirement]) -> list[str | None]:
    """Return the values of one label that the conditions tell apart: of those that are in the same lists, one."""
    lists = sorted({r.values for r in asked if r.operator in _WITH_VALUES})
    listed: dict[str, list[int]] = {}  # the numbers of the lists that a value is in: most are in few of many
    for number, each in enumerate(lists):
        for value in set(each):
            listed.setdefault(value, []).append(number)
    alike: dict[tuple[int, ...], str] = {}
    for value in sorted(listed):
        alike.setdefault(tuple(listed[value]), value)
    # Whether a label is there at all is another question than which value it has.
    other = [_OTHER] if any(r.operator not in _WITH_VALUES for r in asked) else []
    return [None, *alike.values(), *other]
