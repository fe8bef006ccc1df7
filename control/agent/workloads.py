"""Finds local workloads on this host: what it knows of each, and what is wrong."""

import contextlib
import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping

from control import compile as compiler
from control import model, names
from control.agent import cgroups, host
from control.source import remarks
from loader import abi, links, mesh, netns, queues
from loader.errors import AttachFailed
from loader.interception import inner

Key = tuple[str, str]
_MEETS_PROXY = (
    f"its pod takes ports below {inner.FIRST_OF_PODS} for its calls, which the node proxy calls from in its name: "
    f"two on one port time out; set net.ipv4.ip_local_port_range in the pod to {inner.FIRST_OF_PODS} or above"
)
_NOT_UNDER_POLICY = "; the workload is NOT under policy, and what traffic it has passes"
_NOT_ENTERED = (0, 0)  # in place of the file of a namespace


class _NotItsOwn(AttachFailed):
    """A Workload names what is not the pod's."""


@dataclasses.dataclass(frozen=True)
class Found:
    """A workload that is here: where it was found, and the facts. `file` is its namespace's, as host.file tells."""

    netns: str
    interface: str
    file: tuple[int, int]
    facts: compiler.EndpointFacts
    first_port: int = 0  # from which its kernel takes ports for calls; 0: not known

    @property
    def has_sockets(self) -> bool:
        """Whether the namespace's sockets can be its own; not where it was adopted as one that had none."""
        return self.facts.netns_cookie != 0

    def is_unchanged(self) -> bool:
        """Tell whether a look would find the same."""
        return self.file != _NOT_ENTERED and self.has_interface() and self._is_same_namespace()

    def _is_same_namespace(self) -> bool:
        file = host.file(netns.path_of(self.netns))
        if file == self.file:
            return True
        # Mounted somewhere, the file stays as it is; under /proc it is made anew for each look. The cookie tells, at
        # the price of a thread.
        with contextlib.suppress(OSError):
            return file[0] == self.file[0] and netns.inside(self.netns, netns.cookie) == self.facts.netns_cookie
        return False

    def has_interface(self) -> bool:
        """Tell whether the facts hold, even where the namespace can no longer be entered: its file can be unmounted
        while processes live in it, but the interface of one that is gone is gone, too."""
        return self.facts.ifindex != 0 and host.index(self.interface) == self.facts.ifindex


@dataclasses.dataclass(eq=False)
class _Here:
    """A workload of a survey. `stays`: it is not where its file says. `has_sockets`: its namespace's are its own."""

    workload: model.Workload
    found: Found
    stays: bool = False
    has_sockets: bool = True


@dataclasses.dataclass(frozen=True)
class Survey:
    """The facts of each workload that is here, the workloads as they were found, a problem for each that is wrong, and
    the cgroups that take hooks, with their inodes: one that is made again under its path is another."""

    facts: dict[Key, compiler.EndpointFacts]
    workloads: dict[Key, model.Workload]
    problems: list[model.Problem]
    cgroups: dict[str, int] = dataclasses.field(default_factory=dict)


class Workloads:
    """Facts of local workloads, remembered while nothing about them changed."""

    def __init__(self, loaded: mesh.Mesh, known: names.Names, is_led: bool = False) -> None:
        """`is_led`: a node proxy calls in their names, from ports below those that are the pods' own."""
        self._mesh, self._is_led = loaded, is_led
        self._found: dict[Key, Found] = {}
        # What a predecessor had in force, once. It had a name for one, too, that did not get the interface it named.
        self._before = {(e.namespace, e.name): e for e in known.endpoints.values() if self._adopted(e)}
        # Those that had the sockets of their network namespaces at the last survey, or in the maps of a predecessor.
        self._callers = {key for key, name in self._before.items() if (old := self._adopted(name)) and old.has_sockets}
        self._cgroups = cgroups.Cgroups(loaded)
        self._links = links.Watch()
        self._inodes: dict[str, int] = {}  # of the cgroups of the last survey
        self._roots: dict[int, queues.Root] = {}  # what queues the interfaces had then

    def survey(self, workloads: Iterable[model.Workload]) -> Survey:
        """Look at each workload.

        One that is edited to what does not exist, whose namespace can no longer be entered, or whose interface is
        renamed, stays as it was for as long as that interface is there, under a new name, too: none of this takes the
        hooks off a running pod.
        """
        out = Survey({}, {}, [])
        here: list[_Here] = []
        workloads = list(workloads)
        named = {_key(workload) for workload in workloads}
        for workload in workloads:
            try:
                here.append(_Here(workload, self._named(_key(workload), workload)))
            except (AttachFailed, OSError, ValueError) as error:  # whatever one is, it never stops the others
                kept = self._kept(workload, named, isinstance(error, _NotItsOwn))
                words = _until_then(str(error)) if kept else str(error)
                if not kept:
                    words += _NOT_UNDER_POLICY
                if kept or _is_placed(workload):  # else the file's own problem says it
                    more = self._more(workload, words, bool(kept))
                    out.problems.extend(_problem(workload, each) for each in (words, *more))
                if kept:
                    here.append(_Here(workload, kept, stays=True))
        self._share_out(here, out.problems)
        out.problems.extend(_problem(each.workload, _MEETS_PROXY) for each in here if self._may_meet_proxy(each.found))
        self._roots, ends = queues.roots(), links.host_ends()
        filtered = queues.filtered(each.found.facts.ifindex for each in here)
        usable, wrong = self._cgroups.usable(each.workload for each in here if each.has_sockets)
        out.problems.extend(_problem(workload, words) for workload, words in wrong)
        self._inodes = {path: host.inode(path) for path in usable.values()}
        out.cgroups.update(self._inodes)
        for each in here:
            workload, found, key = each.workload, each.found, _key(each.workload)
            facts = found.facts if each.has_sockets else found.facts.without_sockets()
            root, end = self._roots.get(facts.ifindex), ends.get(facts.ifindex, links.HostEnd(False, 0))
            out.facts[key] = dataclasses.replace(
                facts,
                has_cgroup=key in usable,
                direct=end.is_plain,
                inlet=end.inlet,
                unshaped=not (root and root.shapes) and facts.ifindex not in filtered,
            )
            out.workloads[key] = dataclasses.replace(workload, netns=found.netns, interface=found.interface)
        self._found, self._before = {_key(each.workload): each.found for each in here}, {}
        return out

    def _more(self, workload: model.Workload, told: str, is_kept: bool) -> Iterator[str]:
        """Yield what else is wrong with a workload that cannot be looked at: whoever mends it should do so once.
        `is_kept`: its cgroup is looked at with those of the others.
        """
        is_of_namespace = told.startswith(("network namespace ", "spec.netns: "))
        if is_of_namespace and not host.index(workload.interface):
            yield f"interface {workload.interface}: not in the agent's network namespace"
        if not is_kept and (wrong := self._cgroups.wrong(workload.cgroup)):
            yield f"spec.cgroup: {wrong}"

    def _share_out(self, here: list["_Here"], problems: list[model.Problem]) -> None:
        """Leave each interface, and the sockets of each network namespace, to one: files can give them to two under
        different spellings.

        Who is where its file says has the right before one that only stays, who was there before it, then names decide.
        No interface is without policy by that.
        """
        interfaces: dict[int, model.Workload] = {}
        spaces: dict[int, model.Workload] = {}
        lost: list[tuple[_Here, str]] = []
        for each in sorted(here, key=lambda each: (each.stays, not self._held(each))):
            workload, facts = each.workload, each.found.facts
            other = interfaces.setdefault(facts.ifindex, workload)
            if other is not workload:
                words = f"spec.interface: {each.found.interface} is that of Workload {other}, whose policy is in force"
                lost.append((each, words))
                here.remove(each)
        for each, words in lost:  # the interface that one had before is nobody's else
            kept = self._last_good(_key(each.workload))
            if kept and interfaces.setdefault(kept.facts.ifindex, each.workload) is each.workload:
                here.append(_Here(each.workload, kept, stays=True))
                words = _until_then(words)
            problems.append(_problem(each.workload, words))
        for each in sorted(here, key=lambda each: (each.stays, _key(each.workload) not in self._callers)):
            workload, facts = each.workload, each.found.facts
            if not each.found.has_sockets:
                each.has_sockets = False
                continue
            other = spaces.setdefault(facts.netns_cookie, workload)
            if other is not workload:
                each.has_sockets = False
                words = f"spec.netns: {each.found.netns} is that of Workload {other}, too, for which its calls count"
                problems.append(_problem(workload, f"{words} {cgroups.NO_HOOKS}"))
        self._callers = {_key(workload) for workload in spaces.values()}

    def _may_meet_proxy(self, found: Found) -> bool:
        return self._is_led and 0 < found.first_port < inner.FIRST_OF_PODS

    def _held(self, each: "_Here") -> bool:
        """Tell whether a workload had its interface at the last survey, or when the predecessor ended."""
        key, ifindex = _key(each.workload), each.found.facts.ifindex
        old, name = self._found.get(key), self._before.get(key)
        if old is None and name:
            old = self._adopted(name)
        return old is not None and old.facts.ifindex == ifindex

    def refuse(self, refused: Mapping[tuple[str, int], str]) -> None:
        """Take it that these cgroups (path and inode -> why) take no hooks, for a while."""
        for (path, inode), why in refused.items():
            self._cgroups.refuse(path, inode, why)

    def all_there(self) -> bool:
        """Tell, cheaply, whether every workload of the last survey is what and where it was; not for sure, where any
        interface of the host has changed."""
        if self._links.has_changed():
            return False
        roots = queues.roots()
        return all(
            found.is_unchanged() and roots.get(found.facts.ifindex) == self._roots.get(found.facts.ifindex)
            for found in self._found.values()
        ) and all(host.inode(path) == inode for path, inode in self._inodes.items())

    def _named(self, key: Key, workload: model.Workload) -> Found:
        if not _is_placed(workload):
            raise AttachFailed("names no network namespace, or no interface")
        return self._look(key, workload.netns, workload.interface)

    def _look(self, key: Key, where: str, interface: str) -> Found:
        old = self._found.get(key)
        is_same = old and (old.netns, old.interface) == (where, interface) and not self._may_meet_proxy(old)
        if old and is_same and old.is_unchanged():
            return old
        file = host.file(netns.path_of(where))
        pod = netns.facts(where, interface)
        _require_its_own(where, interface, pod)
        facts = compiler.EndpointFacts(pod.netns_cookie, pod.ifindex, pod.nsid, mac=pod.mac)
        return Found(where, interface, file, facts, pod.first_port)

    def _kept(self, workload: model.Workload, named: Collection[Key], is_anothers: bool) -> Found | None:
        """Return what was in force at a workload's interface, unless that is another's; else under its name, else in
        its namespace under a name that is no more: it may have got another name together with the mistake.
        """
        was = {key: old for key, name in self._before.items() if (old := self._adopted(name))} | self._found
        own, ifindex = _key(workload), 0 if is_anothers else host.index(workload.interface)
        there = next((key for key, old in was.items() if old.facts.ifindex == ifindex != 0), own)
        within = (key for key, old in was.items() if key not in named and old.netns == workload.netns)
        return next(filter(None, map(self._last_good, (there, own, *within))), None)

    def _last_good(self, key: Key) -> Found | None:
        old, name = self._found.get(key), self._before.get(key)
        if old is None and name and name.netns and name.interface:
            with contextlib.suppress(AttachFailed, OSError, ValueError):
                old = self._look(key, name.netns, name.interface)
            old = old or self._adopted(name)
        if old and not old.has_interface():
            old = self._renamed(old)
        return old

    def _renamed(self, old: Found) -> Found | None:
        """Return a workload under the name that its interface has by now. That it is the same one our filters tell, or,
        where somebody took them off, that it leads to the pod: one that is made anew does neither, and may have got the
        number of one that is gone."""
        name = host.name(old.facts.ifindex)
        is_same = name and (self._mesh.is_ours(old.facts.ifindex) or _leads_to(old, name))
        return dataclasses.replace(old, interface=name) if is_same else None

    def _adopted(self, name: names.EndpointName) -> Found | None:
        """Return a workload as the predecessor put it in force, which needs no way into its namespace."""
        held = self._mesh.maps.endpoints.get(abi.EndpointKey(name.id))
        if held is None:
            return None
        facts = compiler.EndpointFacts(held.netns_cookie, held.ifindex, held.nsid, mac=held.mac)
        return Found(name.netns, name.interface, _NOT_ENTERED, facts)


def _key(workload: model.Workload) -> Key:
    return workload.namespace, workload.name


def _is_placed(workload: model.Workload) -> bool:
    return bool(workload.netns and workload.interface)


def _problem(workload: model.Workload, message: str) -> model.Problem:
    return remarks.problem_at(workload.source, "", message, f"Workload {workload}")


def _require_its_own(where: str, interface: str, pod: netns.PodFacts) -> None:
    """Raise _NotItsOwn for what hooks would cut off others at, and its own pod would pass by."""
    if pod.is_host:
        raise _NotItsOwn(
            f"spec.netns: {where} is the network namespace of the host, or of the agent (allowed: the pod's)"
        )
    if pod.is_loopback:
        raise _NotItsOwn(
            f"spec.interface: {interface} is a loopback interface (allowed: the host's end of the pod's veth)"
        )
    if pod.leads_there is False:
        raise _NotItsOwn(
            f"spec.interface: {interface} is the end of a veth whose other end is not in network namespace {where} "
            "(allowed: the one whose other end is)"
        )


def _leads_to(old: Found, interface: str) -> bool:
    """Tell whether an interface is the end of a veth whose other end is in the namespace that a workload had."""
    with contextlib.suppress(AttachFailed, OSError, ValueError):
        pod = netns.facts(old.netns, interface)
        found = (pod.netns_cookie, pod.ifindex) == (old.facts.netns_cookie, old.facts.ifindex)
        return found and bool(pod.leads_there)
    return False


def _until_then(words: str) -> str:
    return f"{words}; until it is mended, the last good values stay"
