"""The loaded mesh of one agent: its maps, its programs and what they hang on. Six verbs: load, attach, detach, put,
delete, read.

Everything lies under the pin directory: `maps/`, `progs/` (the programs in force), `links/` (what keeps them attached),
`staging/` (programs being loaded). A dead agent leaves all of it in force; `load` adopts it.
"""

import contextlib
import dataclasses
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from loader import abi, attach, bpf, compiler, filters, headers, locking, maps, mounts, programs, shared
from loader.errors import AttachFailed, CgroupFailed, LayoutMismatch, MeshError, PrivilegeMissing
from loader.interception import ground

ATTACH_CAPABILITIES = ("CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "CAP_SYS_ADMIN")


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What `load` did: `compiled` is False when the programs of a predecessor were adopted as they are."""

    adopted: bool
    compiled: bool
    acceleration: str  # "" when the short cut's programs are all attached, else what stands in the way


def source_hash() -> str:
    """Return a hash of all that the programs are made of: their text, the layout, the offsets and the kernel."""
    digest = hashlib.sha256(abi.fingerprint().encode() + os.uname().release.encode() + os.uname().version.encode())
    for path in sorted(headers.bpf_dir().glob("*.[ch]")):
        digest.update(path.name.encode() + path.read_bytes())
    digest.update(repr(programs.PROGRAMS).encode() + repr(sorted(programs.OFFSETS.items())).encode())
    return digest.hexdigest()


class Mesh:
    """An open mesh. Use `Mesh.load` as the agent, `Mesh.inspect` to look at one that may be dead."""

    def __init__(
        self, pin_dir: Path, opened: maps.Maps, locks: Sequence[int] = (), run_dir: Path | None = None
    ) -> None:
        self.pin_dir = pin_dir
        self._run_dir = run_dir
        self.maps = opened
        self._locks = tuple(locks)
        self.loaded = Loaded(adopted=True, compiled=False, acceleration="not the agent")
        self._progs: dict[str, int] = {}
        self._filters: dict[programs.Target, int] = {}  # the ids of those that hang on interfaces
        self._ids: dict[str, int] = {}  # of all

    @classmethod
    def inspect(cls, pin_dir: Path) -> "Mesh":
        return cls(pin_dir, maps.open_all(pin_dir))

    @classmethod
    def load(
        cls,
        pin_dir: Path,
        run_dir: Path,
        is_ended: Callable[[], bool] = lambda: False,
        cache: Path | None = None,
    ) -> "Mesh":
        """Adopt or make maps and programs, and attach the machine-wide ones; raises MeshError, then nothing changed.
        So does what ends it: while it compiles it asks `is_ended`.

        Programs are replaced one by one in place, so packets and sockets are judged throughout.
        """
        _require_privileges()
        _require_bpffs(pin_dir)
        _make(run_dir)
        locks = [locking.take(run_dir, run_dir / "agent.lock", os.O_RDWR | os.O_CREAT)]
        adopted, is_ours = True, False
        try:
            locks.append(locking.take(pin_dir, pin_dir, os.O_RDONLY | os.O_DIRECTORY))
            adopted, is_ours = (pin_dir / "progs").is_dir(), True
            _require_layout(pin_dir, run_dir / "layout.sha256")
            mesh = cls(pin_dir, maps.create_all(pin_dir), locks, run_dir)
            for name in ("progs", "links"):
                (pin_dir / name).mkdir(mode=0o700, exist_ok=True)
            stamp, wanted = run_dir / "programs.sha256", source_hash()
            fresh = not (adopted and stamp.exists() and stamp.read_text() == wanted and mesh._all_pinned())
            if fresh:
                compiler.run(pin_dir, headers.prepare(run_dir / "headers"), cache, is_ended)
                mesh._promote()
                stamp.write_text(wanted)
            mesh._progs = {spec.function: bpf.get(pin_dir / "progs" / spec.function) for spec in programs.PROGRAMS}
            mesh._ids = {function: bpf.prog_info(fd)[1] for function, fd in mesh._progs.items()}
            mesh._filters = {target: mesh._ids[name] for target, name in programs.FILTERS.items()}
            why = shared.put(pin_dir, mesh.maps.socks.fd, mesh._progs, replace=fresh)
            mesh.loaded = Loaded(adopted, fresh, why)
            mesh._drop_strangers()
            return mesh
        except BaseException:
            if not adopted:
                _remove_pins(pin_dir)
            if is_ours:  # else what is there is what another agent is at
                shutil.rmtree(pin_dir / "staging", ignore_errors=True)
            for lock in locks:
                os.close(lock)
            raise

    def abandon(self) -> None:
        """Let go of a mesh that never came into force: what its start made is removed, what it adopted stays."""
        try:
            if not self.loaded.adopted and self._run_dir:
                uninstall(self.pin_dir, self._run_dir)
        finally:
            self.close()

    def _all_pinned(self) -> bool:
        return all((self.pin_dir / "progs" / spec.function).exists() for spec in programs.PROGRAMS)

    def _promote(self) -> None:
        """Make the staged programs the pinned ones, each in one rename."""
        for spec in programs.PROGRAMS:
            target = self.pin_dir / "progs" / spec.function
            with contextlib.suppress(FileNotFoundError):
                target.unlink()
            os.rename(self.pin_dir / "staging" / spec.function, target)
        (self.pin_dir / "staging").rmdir()

    def _drop_strangers(self) -> None:
        """Remove what another version pinned and this one does not know: nothing of it may stay attached."""
        known = {spec.function for spec in programs.PROGRAMS}
        for name in ("links", "progs"):
            for path in (self.pin_dir / name).iterdir():
                if path.name.rpartition("-")[2] not in known:
                    path.unlink()

    def attach(self, id: int, interface: str, ifindex: int, cgroup: str | None) -> None:
        """Attach one endpoint's hooks, or replace what hangs there. Without a cgroup ("") none of its hooks stay; where
        it is not known (None) they stay as they are.

        Raises AttachFailed; when it is a CgroupFailed the packet filters hang, and no hook of the cgroup does.
        """
        owner = f"endpoint-{id}"
        paths = {
            target: (self.pin_dir / "progs" / name, self._progs[name]) for target, name in programs.FILTERS.items()
        }
        filters.put(interface, ifindex, paths)
        if cgroup is None:
            return
        if not cgroup:
            attach.remove_links(self.pin_dir, owner)
            return
        try:
            for spec in programs.PROGRAMS:
                if spec.target is programs.Target.CGROUP:
                    attach.cgroup(self.pin_dir, owner, cgroup, spec, self._progs[spec.function])
        except CgroupFailed:
            attach.remove_links(self.pin_dir, owner)
            raise

    def refusal(self, cgroup: str) -> str:
        """Return why a cgroup takes no hooks, "" if there is room for them; nothing stays attached."""
        return attach.refusal(cgroup, (spec for spec in programs.PROGRAMS if spec.target is programs.Target.CGROUP))

    def detach(self, id: int, ifindex: int = 0) -> None:
        """Take one endpoint's hooks away, the filters of its interface too if given; what is gone is no error."""
        attach.remove_links(self.pin_dir, f"endpoint-{id}")
        if ifindex:
            self.release(ifindex)

    def release(self, ifindex: int) -> None:
        """Take our filters off an interface."""
        filters.remove([ifindex], self.pin_dir)

    def without_filters(self, ifindexes: Iterable[int]) -> list[int]:
        """Return the interfaces on which not both of our filters hang; cheap enough to be asked each second."""
        with filters.Channel() as channel:
            return [index for index in ifindexes if not filters.are_in_place(channel, index, self._filters)]

    def without_links(self, places: Iterable[tuple[int, int]]) -> list[int]:
        """Return the endpoints of (id, cgroup's id) on whose cgroup not all of our hooks hang; as cheap."""
        wanted = {s.function: self._ids[s.function] for s in programs.PROGRAMS if s.target is programs.Target.CGROUP}
        return [id for id, at in places if not attach.are_in_place(self.pin_dir, f"endpoint-{id}", wanted, at)]

    def put_back_shared(self) -> tuple[list[str], str]:
        """Attach those of the machine-wide hooks again that somebody took away; return them, and why they are not all
        back. Where they were not all attached at the start, nobody looks."""
        lost = [] if self.loaded.acceleration else shared.lost(self.pin_dir, self.maps.socks.fd, self._ids)
        return lost, shared.put(self.pin_dir, self.maps.socks.fd, self._progs, replace=False) if lost else ""

    def is_ours(self, ifindex: int) -> bool:
        """Tell whether a filter of ours hangs on an interface, of whatever version."""
        with filters.Channel() as channel:
            return any(filters.is_ours(channel, ifindex, self.pin_dir, target) for target in programs.FILTERS)

    def attached(self) -> dict[str, list[str]]:
        """Return the pinned links by owner."""
        out: dict[str, list[str]] = {}
        directory = self.pin_dir / "links"
        for path in sorted(directory.iterdir()) if directory.is_dir() else []:
            owner, _, function = path.name.rpartition("-")
            out.setdefault(owner, []).append(function)
        return out

    def program(self, function: str) -> int:
        return self._progs[function]

    def close(self) -> None:
        """Let go of everything but what is pinned: the mesh stays in force."""
        self.maps.close()
        for fd in self._progs.values():
            os.close(fd)
        for lock in self._locks:
            os.close(lock)


def uninstall(pin_dir: Path, run_dir: Path, hung: Iterable[int] = ()) -> None:
    """Remove an agent's programs, links, maps and the node proxy's ground, which is the run directory's; raises
    AttachFailed while the proxy runs, then everything stays. `hung`: interfaces whose filters go, too, where the maps
    cannot be read, or do not name them."""
    ground.remove(run_dir, pin_dir)
    _remove_pins(pin_dir, hung)


def _remove_pins(pin_dir: Path, hung: Iterable[int] = ()) -> None:
    """Remove programs, links and maps: first the filters, so that no packet meets half a mesh.

    A socket on the short cut stays there, with the program that redirects, until it is closed: to take it out would
    lose what nobody has read. Without its connection's record nothing more is redirected to it, for nobody sees its
    program splice any more. Records come by the hooks alone, so they are deleted when those are gone.
    """
    filters.remove(hung, pin_dir)
    with contextlib.suppress(MeshError, OSError):
        opened = maps.open_all(pin_dir)
        filters.remove((endpoint.ifindex for _, endpoint in opened.endpoints.items()), pin_dir)
        opened.close()
    for name in ("links", "staging", "progs", "maps"):
        if name == "maps":
            with contextlib.suppress(OSError):
                maps.empty(pin_dir / name / "conns")
        if (pin_dir / name).exists():
            shutil.rmtree(pin_dir / name)
    with contextlib.suppress(OSError):
        pin_dir.rmdir()


def _require_privileges() -> None:
    if os.geteuid() != 0:
        raise PrivilegeMissing(
            "the agent loads BPF programs: run it as root, or with " + ", ".join(ATTACH_CAPABILITIES)
        )


def _require_bpffs(pin_dir: Path) -> None:
    """Make the pin directory; raises AttachFailed when it is not on a BPF file system."""
    if mounts.BPF in pin_dir.parents:
        mounts.ensure("bpf", mounts.BPF)
    if mounts.kind_at(pin_dir) != "bpf":
        raise AttachFailed(f"{pin_dir}: not on a BPF file system: give a directory under {mounts.BPF}")
    _make(pin_dir)


def _make(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise AttachFailed(f"{directory}: cannot make the directory: {error.strerror}: give another one") from error


def _require_layout(pin_dir: Path, stamp: Path) -> None:
    """Refuse maps of another version's records: equal sizes are not equal fields. Raises LayoutMismatch."""
    wanted = abi.fingerprint()
    if (pin_dir / "maps").is_dir() and stamp.exists() and stamp.read_text() != wanted:
        raise LayoutMismatch(
            f"the maps under {pin_dir} were made by another version of sockmesh, whose records differ: "
            "run `sockmesh uninstall --pins` and start the agent again"
        )
    stamp.write_text(wanted)
