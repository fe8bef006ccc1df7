"""Everything that a snapshot allows, as pairs: who may open connections to whom, and on which ports.

A pair may talk on the ports that the sender's egress and the receiver's ingress both allow. Workloads with one label
set are judged once, and so are those that no policy tells apart: they are one class, and a class is spelled out as
workloads only where pairs are asked for, one sender at a time. So memory grows with classes, not with pairs.

Left out: pairs that may not talk at all, a workload and itself, the outside and itself, and workloads on the network of
their node (`hostNetwork`), whose traffic is the node's: no policy of a pod is theirs.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from control import identity, model
from control.analysis import outside, portset, sides
from control.analysis.classes import Classes, Contents, Subject, classes
from control.analysis.portset import PortSet
from control.policy import meaning, refer, resolve
from loader import abi

Progress = Callable[[int, int], None]  # senders done, of how many
Among = tuple[frozenset[int] | None, frozenset[int] | None]  # senders and receivers, as numbers of ends; None: all

_KEPT_ROWS = 64  # the workloads of one class, and of one namespace, follow each other


class End(NamedTuple):
    """A workload, or addresses outside: of the kind IPBlock, with nothing but `cidrs`."""

    kind: str
    namespace: str = ""
    name: str = ""
    cidrs: tuple[str, ...] = ()

    @property
    def is_outside(self) -> bool:
        return bool(self.cidrs)

    def __str__(self) -> str:
        if self.is_outside:
            return outside.words(self.cidrs)
        return f"{self.namespace}/{self.name}" + (f" ({self.kind})" if self.kind != "Pod" else "")

    def jsonable(self) -> dict[str, Any]:
        if self.is_outside:
            return {"kind": self.kind, "cidrs": list(self.cidrs)}
        return {"kind": self.kind, "namespace": self.namespace, "name": self.name}


class Connection(NamedTuple):
    source: End
    destination: End
    allowed: PortSet


class Connectivity:
    """What a snapshot allows. Built once, then only asked.

    `ends` are sorted, workloads by namespace, name and kind, then the outside by address; the numbers of ends are their
    places there.
    """

    def __init__(self, workloads: Iterable[End], classes: Classes, others: Mapping[End, int]) -> None:
        """`others`: ends that are in no pair, by identity; their classes may be asked for."""
        blocks = sorted((held, number) for number, held in classes.blocks.items())
        self.addresses = tuple(held for held, _ in blocks)
        self.blocks = tuple(number for _, number in blocks)  # the class of each of these
        self.workloads = tuple(workloads)
        self.ends = (*self.workloads, *(End("IPBlock", cidrs=outside.cidrs(held)) for held, _ in blocks))
        self.class_of = (*classes.of_workloads, *self.blocks)
        self._members: dict[int, list[int]] = {}
        for end, number in enumerate(self.class_of):
            self._members.setdefault(number, []).append(end)
        self._egress = classes.egress
        self._ingress = classes.ingress
        self._whole = classes.whole
        self.others = {end: classes.others[known] for end, known in others.items()}
        self._outside = sum(1 << number for number in {*classes.blocks, *classes.others.values()})
        self._rows = functools.lru_cache(_KEPT_ROWS)(self.row)
        self._receivers = functools.lru_cache(_KEPT_ROWS)(self._receivers_of)

    def class_at(self, address: int) -> int:
        """Return the class of an address, given as its place on the line of `outside`."""
        held = zip(self.addresses, self.blocks, strict=True)
        return next(number for spans_, number in held if any(first <= address <= last for first, last in spans_))

    def row(self, sender: int) -> dict[int, PortSet]:
        """Return what a class may open, by the class of the receiver."""
        own = 1 << sender
        egress = ((self._whole, ~self._outside),) if self._outside & own else self._egress[sender]
        out: dict[int, PortSet] = {}
        for let_in, receivers in self._ingress.items():
            for entering, senders in let_in:
                if senders & own:
                    self._add(out, egress, receivers, entering)
                    break
        self._add(out, egress, self._outside, self._whole)
        return out

    @staticmethod
    def _add(out: dict[int, PortSet], egress: sides.Parts, receivers: int, entering: sides.Let) -> None:
        for leaving, reached in egress:
            if (both := reached & receivers) and (ports := leaving.beside(entering)):
                out.update((number, ports) for number in _bits(both))

    def allowed(self, sender: int, receiver: int) -> PortSet:
        """Return what one end may open to another one, given as numbers of ends."""
        return self._rows(self.class_of[sender]).get(self.class_of[receiver], portset.NONE)

    def receivers(self, sender: int) -> list[tuple[int, PortSet]]:
        """Return the ends that one end may open connections to, in order; itself is among them where its class is."""
        return self._receivers(self.class_of[sender])

    def _receivers_of(self, sender: int) -> list[tuple[int, PortSet]]:
        row = self._rows(sender)
        return sorted(
            ((end, ports) for number, ports in row.items() for end in self._members.get(number, ())), key=_end
        )

    def called(self, name: str) -> frozenset[int]:
        """Return the numbers of the workloads of a namespace, or of those called NAMESPACE/NAME."""
        return frozenset(
            number
            for number, end in enumerate(self.workloads)
            if name in (end.namespace, f"{end.namespace}/{end.name}")
        )

    def pairs(self, progress: Progress | None = None, among: Among | None = None) -> Iterator[tuple[int, int, PortSet]]:
        """Yield every pair that may talk, as numbers of ends, in order; `among`: only these senders and receivers."""
        senders, receivers = among or (None, None)
        for sender in range(len(self.ends)):
            for receiver, ports in self.receivers(sender) if senders is None or sender in senders else ():
                if receiver != sender and (receivers is None or receiver in receivers):
                    yield sender, receiver, ports
            if progress is not None:
                progress(sender + 1, len(self.ends))

    def connections(self, progress: Progress | None = None) -> Iterator[Connection]:
        """Yield every pair that may talk, in order."""
        for sender, receiver, ports in self.pairs(progress):
            yield Connection(self.ends[sender], self.ends[receiver], ports)


def _end(item: tuple[int, PortSet]) -> int:
    return item[0]


def _bits(mask: int) -> Iterator[int]:
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def analyse(
    snapshot: model.Snapshot,
    view: portset.View = portset.ONLY_PORTS,
    others: Callable[[identity.Identities], Mapping[End, int]] = lambda identities: {},
    without_proxy: bool = False,
) -> Connectivity:
    """Work out what a snapshot allows: on ports, or by all protocols; `without_proxy`: without what needs one.

    `others`: ends without a policy of their own, by identity, that are in no pair and may be asked for by their class.
    """
    wanted = sorted((w for w in snapshot.workloads if not w.host_network), key=lambda w: (w.namespace, w.name, w.kind))
    snapshot = refer.written_out(dataclasses.replace(snapshot, workloads=tuple(map(unique, snapshot.workloads))))
    identities = identity.Identities(snapshot, identity.allocate(identity.Allocation(), snapshot))
    subjects = [Subject(identities.of_workload[str(unique(w))], w.ports) for w in wanted]
    contents = _contents(snapshot, identities, dict.fromkeys(subjects), view, without_proxy)
    ends = [End(w.kind, w.namespace, w.name) for w in wanted]
    regions = outside.regions(identities.addresses.items())
    more = others(identities)
    return Connectivity(ends, classes(subjects, contents, regions, more.values(), view.whole), more)


def _contents(
    snapshot: model.Snapshot,
    identities: identity.Identities,
    subjects: Iterable[Subject],
    view: portset.View,
    without_proxy: bool,
) -> Contents:
    """Return what each subject's policy says; those that the same policies select and whose ports have the same names
    are read once.
    """
    named = meaning.named_ports(snapshot, identities)
    resolved = resolve.resolve(snapshot, identities, dict.fromkeys(subject.identity for subject in subjects))
    read: dict[tuple[int, tuple[model.ContainerPort, ...]], Mapping[abi.Direction, sides.Content]] = {}
    out: Contents = {}
    for subject in subjects:
        policy = resolved[subject.identity]
        key = id(policy), subject.ports
        if key not in read:
            meant = functools.partial(meaning.meant, ports=subject.ports, identities=identities, named=named)
            read[key] = sides.contents(policy, meant, view, without_proxy)
        out[subject] = read[key]
    return out


def unique(workload: model.Workload) -> model.Workload:
    """Return a workload under a name that no one of another kind has; a name has no slash."""
    if workload.kind == "Pod":
        return workload
    return dataclasses.replace(workload, name=f"{workload.kind}/{workload.name}")
