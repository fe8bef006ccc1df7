"""Looks after local workloads: what the host knows of each, and its hooks."""

import contextlib
import os
import socket
from collections.abc import Iterable

from control import compile as compiler
from control import model
from loader import mesh, netns
from loader.errors import AttachFailed

Key = tuple[str, str]


class Workloads:
    """Facts of local workloads, remembered while nothing about them changed, and what is attached."""

    def __init__(self, loaded: mesh.Mesh) -> None:
        self._mesh = loaded
        self._facts: dict[Key, tuple[tuple[str, str, str, int], compiler.EndpointFacts]] = {}
        self._attached: dict[int, tuple[str, int, str]] = {}  # endpoint id -> interface, ifindex, cgroup

    def facts(
        self, workloads: Iterable[model.Workload]
    ) -> tuple[dict[Key, compiler.EndpointFacts], list[model.Problem]]:
        """Return the facts of each workload that is really here, and a problem for each that is not."""
        found: dict[Key, compiler.EndpointFacts] = {}
        problems: list[model.Problem] = []
        remembered: dict[Key, tuple[tuple[str, str, str, int], compiler.EndpointFacts]] = {}
        for workload in workloads:
            key = (workload.namespace, workload.name)
            try:
                facts = self._one(workload, remembered, key)
            except AttachFailed as error:
                problems.append(_problem(workload, str(error)))
                continue
            if facts is None:
                continue
            found[key] = facts
            if workload.cgroup and not facts.has_cgroup:
                problems.append(
                    _problem(
                        workload,
                        f"cgroup {workload.cgroup}: No such file or directory: is the workload still there? Its "
                        "packets are under policy, but it gets no short cut and no error at connect",
                    )
                )
        self._facts = remembered
        return found, problems

    def _one(
        self,
        workload: model.Workload,
        remembered: dict[Key, tuple[tuple[str, str, str, int], compiler.EndpointFacts]],
        key: Key,
    ) -> compiler.EndpointFacts | None:
        if not workload.netns or not workload.interface:
            return None
        inode = 0
        with contextlib.suppress(OSError):
            inode = os.stat(netns.path_of(workload.netns)).st_ino
        cgroup = workload.cgroup if workload.cgroup and os.path.isdir(workload.cgroup) else ""
        signature = (workload.netns, workload.interface, cgroup, inode)
        old = self._facts.get(key)
        if old and old[0] == signature and inode and _index(workload.interface) == old[1].ifindex:
            remembered[key] = old
            return old[1]
        pod = netns.facts(workload.netns, workload.interface)
        facts = compiler.EndpointFacts(pod.netns_cookie, pod.ifindex, pod.nsid, bool(cgroup))
        remembered[key] = (signature, facts)
        return facts

    def attach(self, wanted: dict[int, tuple[str, int, str]], force: bool = False) -> list[tuple[int, AttachFailed]]:
        """Attach the hooks of endpoints (id -> interface, ifindex, cgroup), detach those of others; return failures."""
        failures: list[tuple[int, AttachFailed]] = []
        for id, where in wanted.items():
            if not force and self._attached.get(id) == where:
                continue
            try:
                self._mesh.attach(id, *where)
                self._attached[id] = where
            except AttachFailed as error:
                failures.append((id, error))
        return failures

    def detach(self, gone: dict[int, int]) -> None:
        """Detach endpoints (id -> ifindex)."""
        for id, ifindex in gone.items():
            self._mesh.detach(id, ifindex)
            self._attached.pop(id, None)


def _problem(workload: model.Workload, message: str) -> model.Problem:
    file, _, _ = workload.source.partition(":")
    return model.Problem(file, f"Workload {workload}", message)


def _index(interface: str) -> int:
    with contextlib.suppress(OSError):
        return socket.if_nametoindex(interface)
    return 0
