"""Objects of many files to one `Snapshot`: sorted, and what belongs to each other joined."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from control import model
from control.source import services

T = TypeVar("T")


def snapshot(everything: Iterable[model.Object]) -> model.Snapshot:
    """Return what all objects together declare."""
    given = list(everything)
    return model.Snapshot(
        workloads=_sorted(given, model.Workload, lambda o: (str(o), o.kind)),
        namespaces=_sorted(given, model.Namespace, lambda o: o.name),
        services=tuple(
            services.with_endpoints(
                _sorted(given, model.Service, lambda o: (o.namespace, o.name)),
                _sorted(given, model.Endpoints, lambda o: (o.namespace, o.name, o.kind)),
            )
        ),
        policies=_sorted(given, model.Policy, lambda o: o.key),
        nodes=_sorted(given, model.Node, lambda o: o.name),
        cidr_groups=_sorted(given, model.CidrGroup, lambda o: o.name),
    )


def _sorted(given: list[model.Object], kind: type[T], key: Callable[[T], Any]) -> tuple[T, ...]:
    return tuple(sorted((obj for obj in given if isinstance(obj, kind)), key=key))
