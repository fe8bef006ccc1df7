"""Brings what is in force to what the configuration says: directory to maps and hooks, and resets what is denied now.

Called by the agent's one thread; only the config record has other writers, the admin socket's, hence its lock.
"""

import dataclasses
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping

from control import compile as compiler
from control import evaluate, identity, model, names, places
from control.agent import (
    adopted,
    ageing,
    apply,
    closed,
    enforce,
    fresh,
    held,
    hooks,
    lastgood,
    ledger,
    mtls,
    namebook,
    numbering,
    options,
    proxies,
    state,
    workloads,
)
from control.flow.summary import counted
from control.policy import dnsnames, peers
from control.policy_set import L7
from control.source import content, directory, document
from loader import abi, mesh, netns
from loader.errors import MapFull, MeshError
from loader.record import Record

LOG = logging.getLogger("sockmesh.agent")
_ENFORCE_S = 0.5
_NOT_OURS = "; the workload is NOT under the policy of this agent"


class Reconciler:
    """What is in force here, and what is wrong with the configuration. `config_lock` guards the config record."""

    def __init__(
        self,
        opts: options.Options,
        node: str,
        loaded: mesh.Mesh,
        book: ledger.Ledger,
        known: names.Names,
        proxies: proxies.Proxies | None = None,
        book_of_names: namebook.NameBook | None = None,
        between_nodes: mtls.Mtls | None = None,
    ) -> None:
        self._mtls = between_nodes
        self._names, self._names_in_force = book_of_names, 0  # and which version of it
        self.wanted = dnsnames.Wanted(())  # the DNS names that rules in force mean
        self._enforce_at = math.inf  # when open connections must hear of what was learned
        self._proxies = proxies
        self._opts, self._node, self._mesh, self._ledger = opts, node, loaded, book
        self.config_lock = threading.Lock()
        self._last_good = lastgood.LastGood(opts.run_dir)
        self.snapshot = self._last_good.recall()  # what is in force, or was when the agent before this one ended
        self._digests = content.Digests()
        self.problems: tuple[model.Problem, ...] = ()
        self.revision = known.revision
        self.hooks_restored = 0  # interfaces, cgroups and machine-wide hooks: where somebody took something away
        self._held = held.Held(loaded.maps, self.config_lock)
        # Until a pod is enrolled by what the directory holds, nothing is in force that a mistake could leave as it is.
        self._is_first = self._has_nothing_in_force
        self._workloads = workloads.Workloads(loaded, known, opts.proxy)
        self._hooks = hooks.Hooks(loaded, known)
        self._known = known  # the predecessor's
        self._adopted: adopted.Adopted | None = None  # what it left, while that is all that is known
        self._allocation = self._numbers(state.load_allocation(opts.run_dir))
        self._unused: model.Snapshot | None = None  # what was read while it could not be put in force
        self._view: evaluate.View | None = None
        self._want: compiler.Desired | None = None  # what it is a view of
        self._survey, self._surveyed = workloads.Survey({}, {}, []), model.Snapshot()  # the last one, and of what
        self._addresses: tuple[str, ...] = ()  # the node's, as they are in force
        self._l7: Mapping[int, Mapping[abi.PolicyKey, L7]] = {}
        self._unenforced = False  # what is in force changed, and open connections have not heard of it
        self._bare = 0  # workloads whose filters could not be attached at the last look, or had no place

    def _numbers(self, before: identity.Allocation | None) -> identity.Allocation:
        """Return the numbers to go on from. All that a connection remembers is in `before`, if there is one: what
        was given out last was written down, or there is none (`state.save`)."""
        if before is None:
            return numbering.above(identity.Allocation(), self.have, numbering.remembered(self._mesh.maps))
        return numbering.above(before, self.have)

    def reconcile(self, force: bool = False) -> None:
        """Read the directory and bring maps and hooks to it. A MeshError is reported and changes nothing."""
        with document.uncollected():  # of ten thousand files it looks at all that there is, again and again
            self._reconcile(force)

    def _reconcile(self, force: bool) -> None:
        before = self.snapshot
        known = before if before is not None else self._unused
        loaded = directory.load(self._opts.config_dir, known, self._is_first, self._digests, self._opts.proxy)
        if before is None and not self._can_begin(loaded):
            self._wait(loaded)
            return
        self._adopted = None
        snapshot = self._with_names(loaded.snapshot)
        failed, done = self._settle(snapshot, lambda survey: self._apply_or_close(snapshot, survey, force))
        if done:
            self._is_first &= self._has_nothing_in_force or not loaded.is_read
        self._report((*loaded.problems, *self._survey.problems, *failed))
        if self._unenforced and done:
            resets = self._enforce()
            self._unenforced = False
            LOG.info(
                "revision %d in force: %s, %s%s", self.revision, counted(self.under_policy, "workload"),
                _policies(self.snapshot),
                f"; {counted(resets, 'open connection')} reset" if resets else "",
            )  # fmt: skip
        elif done and before and self.snapshot and _has_edits(before, self.snapshot):
            LOG.info(
                "taken in: nothing to change in the kernel, so revision %d stays: %s, %s", self.revision,
                counted(self.under_policy, "workload"),
                _policies(self.snapshot),
            )  # fmt: skip

    def _with_names(self, snapshot: model.Snapshot) -> model.Snapshot:
        return dataclasses.replace(snapshot, learned=self._names.addresses()) if self._names else snapshot

    def learn(self) -> None:
        """Put in force what names resolve to by now; nothing else is looked at again. Raises MeshError, OSError."""
        if self._names is None or self.snapshot is None or self._names_in_force == self._names.version:
            return
        before, snapshot = self.snapshot.learned, self._with_names(self.snapshot)
        self._names_in_force = self._names.version  # once: what fails is tried again with what comes next
        if self._want is not None:
            cluster = tuple(map(peers.parse_prefix, self._opts.cluster_cidrs))
            added = fresh.entries(before, snapshot, self._allocation, self.have["ipcache"], cluster)
            if added is not None:
                self._add(snapshot, added)
                return
        is_surveyed = self._surveyed.workloads == snapshot.workloads
        was, self._unenforced = self._unenforced, False
        try:
            with document.uncollected():
                self._apply(snapshot, self._survey if is_surveyed else self._look(snapshot), False)
        finally:
            if self._unenforced:
                self._enforce_at = min(self._enforce_at, time.monotonic() + _ENFORCE_S)
            self._unenforced = was

    def _add(self, snapshot: model.Snapshot, added: Mapping[Record, Record]) -> None:
        """Put addresses in force that have an identity which policy knows, and nothing else."""
        if added:
            assert self._want is not None
            self._held.add("ipcache", added)
            self._want = dataclasses.replace(self._want, maps={**self._want.maps, "ipcache": self.have["ipcache"]})
            self._view = evaluate.View(self._want, has_proxy=self._proxies is not None)
            self._enforce_at = min(self._enforce_at, time.monotonic() + _ENFORCE_S)
        self.snapshot = snapshot

    def enforce_learned(self) -> None:
        """Reset open connections that what was learned denies, a while after it was: a walk over them all is dear."""
        if time.monotonic() >= self._enforce_at:
            self._enforce_at = math.inf
            if resets := self._enforce():
                LOG.info("%s reset, for what DNS names resolve to", counted(resets, "open connection"))

    def demand_mtls(self) -> None:
        """Have the kernel go by the mode of mTLS that was asked for, and reset what is open in plaintext by then."""
        with self.config_lock:
            config = self._mesh.maps.config
            config.put_at(0, dataclasses.replace(config.get_at(0), mtls=int(self._opts.mtls_mode)))
            apply.bump(self._mesh.maps)
        self._enforce()

    def _settle(
        self, snapshot: model.Snapshot, put: Callable[[workloads.Survey], tuple[list[model.Problem], bool]]
    ) -> tuple[list[model.Problem], bool]:
        """Look at the workloads and put in force what follows; return what failed, and whether it is done."""
        failed: list[model.Problem] = []
        try:
            for _ in range(2):
                self._survey, self._surveyed = self._look(snapshot), snapshot
                failed, refused = put(self._survey)
                if not refused:  # a cgroup that takes no hooks: what hangs on that must be told to the packet hook
                    break
        except MapFull as error:
            effect = directory.ALL_STAYS if self.have["endpoints"] else directory.NO_ROOM
            return [model.Problem(str(self._opts.config_dir), "", str(error), effect=effect)], False
        except (MeshError, ValueError, OSError) as error:
            return [model.Problem(str(self._opts.config_dir), "", str(error))], False
        return failed, True

    @property
    def _has_nothing_in_force(self) -> bool:
        """Whether the kernel has nothing that could stay: no pod is enrolled, or all are closed for want of room."""
        return not self.have["endpoints"] or self.is_closed

    @property
    def is_closed(self) -> bool:
        """Whether the configuration does not fit, never did, and every pod is closed in its place."""
        return closed.is_all(self.snapshot)

    def _apply_or_close(
        self, snapshot: model.Snapshot, survey: workloads.Survey, force: bool
    ) -> tuple[list[model.Problem], bool]:
        """Do as `_apply`; what does not fit where nothing is in force closes every pod, for else all would be open."""
        can_stay = not self._has_nothing_in_force
        try:
            return self._apply(snapshot, survey, force)
        except MapFull as error:
            if can_stay:
                raise
            failed, refused = self._apply(closed.instead_of(snapshot, self._node), survey, force)
            full = model.Problem(str(self._opts.config_dir), "", str(error), effect=closed.EFFECT)
            return [full, *failed], refused

    def _can_begin(self, loaded: model.LoadResult) -> bool:
        """Tell whether to go by what was read though nothing is known of what was in force before: where the kernel
        has something in force, only by what is whole.
        """
        if not self.have["endpoints"]:
            return loaded.is_read
        return loaded.is_whole and bool(loaded.snapshot.files)

    def _wait(self, loaded: model.LoadResult) -> None:
        """Leave all as it is: the kernel goes on with what nobody can read any more, for the record of it is lost.

        Pods are looked after all the same: one whose interface is made again gets its hooks there, and hooks that
        somebody took away are put back.
        """
        problems = loaded.problems
        if loaded.is_whole:
            problems = (model.Problem(str(self._opts.config_dir), "", directory.NO_FILES, effect=directory.ADOPTED),)
        elif self.have["endpoints"]:
            problems = tuple(dataclasses.replace(p, effect=p.effect and directory.ADOPTED) for p in problems)
            problems += tuple(dataclasses.replace(p, effect=directory.ADOPTED) for p in loaded.advice)
        if self._adopted is None:
            self._adopted = adopted.Adopted(self._mesh, self.have, self._known)
        failed, _ = self._settle(self._adopted.snapshot, self._follow)
        self._report((*problems, *self._survey.problems, *failed))
        # What does not change needs no second look.
        self._addresses = self._own_addresses()
        self._unused = loaded.snapshot if loaded.is_read else self._unused

    def _follow(self, survey: workloads.Survey) -> tuple[list[model.Problem], bool]:
        """Bring what was adopted to where its pods are now; return what failed, and as `_attached`."""
        assert self._adopted
        self._held.make_sure()
        want = self._adopted.moved(self.have, survey)
        places = self._adopted.places(want.maps, survey)
        if want.maps != self.have:
            _, hung = self._held.put(want, lambda: self._hooks.put_back(places))
            LOG.info("what was adopted is brought to where its pods are now")
            outcome = hung.result()
        else:
            outcome = self._hooks.put_back(places)
        if lost := self._adopted.lost(want.maps):  # they stay in force, but what they had open is over
            ageing.close_ends(self._mesh.maps, lost.keys(), lost.keys())
            self._ledger.went(lost)
        failed, refused = self._attached(outcome, self._known)
        return [*self._adopted.problems(), *failed], refused

    def _own_addresses(self) -> tuple[str, ...]:
        return self._opts.node_ips or netns.addresses()

    def _look(self, snapshot: model.Snapshot) -> workloads.Survey:
        return self._workloads.survey(w for w in snapshot.workloads if w.is_local(self._node))

    def _apply(
        self, snapshot: model.Snapshot, survey: workloads.Survey, force: bool
    ) -> tuple[list[model.Problem], bool]:
        """Bring maps and hooks to a snapshot; return what failed, and as `_attached`."""
        self._held.make_sure()
        self._addresses = self._own_addresses()
        node = compiler.NodeInfo(self._node, self._addresses, self._opts.cluster_cidrs, self._proxies is not None)
        found = [survey.workloads.get((w.namespace, w.name), w) for w in snapshot.workloads]
        really = dataclasses.replace(snapshot, workloads=tuple(found))
        numbers = numbering.in_place(self._allocation, self.have, survey.facts)
        want, known, allocation = compiler.compile_state(really, numbers, survey.facts, node)
        apply.check_room(want, known)
        interfaces = {k.id: v.ifindex for k, v in self.have["endpoints"].items()}  # type: ignore[attr-defined]
        places = adopted.places(want, known)
        # Before it is in force: one that is killed in between must not leave a record that takes it back.
        unkept = self._write_down(lambda: self._keep(snapshot))
        version = self._names.version if self._names else 0
        meant = _names_meant(snapshot.policies)
        is_new = self._mtls.take_up(snapshot) if self._mtls else False
        if self._proxies:  # a set's content never changes under its number
            self._proxies.publish({**self._l7, **want.l7}, meant, again=is_new)  # waits for what is new, too
        try:
            changed, hung = self._held.put(want, lambda: self._hooks.attach(places, interfaces, force))
        except (MapFull, OSError):
            if (old := self.snapshot) is not None:
                self._write_down(lambda: self._keep(old))
            # What the next edit brings must not get a number that something of this one has.
            self._allocation = numbering.above(self._allocation, self.have)
            raise
        self._l7 = want.l7
        if self._proxies:
            self._proxies.publish(want.l7, meant, again=changed)
        self._names_in_force, self.wanted = version, dnsnames.Wanted(meant)
        self._unenforced |= changed or force
        self.snapshot, self._allocation = snapshot, allocation
        self._want = want
        self._view = evaluate.View(want, has_proxy=self._proxies is not None)
        if changed or force:
            self.revision += 1
        if force:
            self._held.forget()
        outcome = hung.result()
        now = dataclasses.replace(known, node=self._node, revision=self.revision)
        self._ledger.went(self._held.gone)
        self._held.gone = {}
        self._ledger.rename(now)
        failed, refused = self._attached(outcome, known)
        unkept = self._write_down(lambda: state.save(self._opts.run_dir, self._allocation, now)) or unkept
        failed += [unkept] if unkept else []
        return failed, refused

    def _keep(self, snapshot: model.Snapshot) -> None:
        """Write down what the configuration gave: what names resolve to changes more often, and has its own file."""
        self._last_good.keep(dataclasses.replace(snapshot, learned={}))

    @property
    def have(self) -> dict[str, dict[Record, Record]]:
        """What the maps hold."""
        return self._held.content

    @property
    def under_policy(self) -> int:
        """How many workloads have hooks of ours: an interface that another agent has, say, takes none."""
        return len(self.have["endpoints"]) - self._bare

    def _attached(self, outcome: hooks.Outcome, known: names.Names) -> tuple[list[model.Problem], bool]:
        """Return a problem for each endpoint whose hooks failed, and whether a cgroup refused, so that its workload
        must be looked at again."""
        self._workloads.refuse(outcome.refused)
        self._bare = len(self.have["endpoints"]) - outcome.hung
        failed = [
            model.Problem("", f"Workload {known.endpoint(id) or id}", f"{error}{_NOT_OURS}")
            for id, error in outcome.failed
        ]
        return failed, bool(outcome.refused)

    def _write_down(self, write: Callable[[], None]) -> model.Problem | None:
        """Write what the next start needs; return what is wrong. It is in force all the same, and open connections
        must hear of it.
        """
        try:
            write()
        except OSError as error:
            message = f"what is in force cannot be written down for the next start: {error.strerror}"
            return model.Problem(str(self._opts.run_dir), "", message)
        return None

    def _report(self, problems: tuple[model.Problem, ...]) -> None:
        for problem in problems:
            if problem not in self.problems:
                LOG.warning("%s", problem)
        for problem in self.problems:
            if problem not in problems:
                still = any((p.file, p.path) == (problem.file, problem.path) for p in problems)
                LOG.info(
                    "%s: %s",
                    "no longer, but another" if still else "no longer",
                    dataclasses.replace(problem, effect=""),
                )
        self.problems = problems

    def _enforce(self) -> int:
        """Reset open connections that the policy now in force denies; return how many."""
        before = self._ledger.resets
        if self._view is not None and (condemned := enforce.doomed(self._mesh.maps, self._view, self._opts.mtls_mode)):
            self._ledger.reset(condemned)
        return self._ledger.resets - before

    def has_changed(self) -> bool:
        """Tell whether a workload that was missing is here now, or one was lost or made anew, or its hooks were."""
        shared, lost = self._hooks.put_back_shared(), self._hooks.unhook()
        self.hooks_restored += len(shared) + len(lost)
        if shared:
            LOG.warning(
                "hooks of the whole machine were taken off by somebody else: %s: they are back", ", ".join(shared)
            )
        if lost:
            LOG.warning("hooks were taken off %s by somebody else: they are put back", ", ".join(lost))
            return True
        if self._unenforced or self._own_addresses() != self._addresses:
            return True
        if self._adopted and (
            self._adopted.has_renamed() or any(problem not in self.problems for problem in self._adopted.problems())
        ):
            return True
        if not self._survey.problems and self._workloads.all_there():
            return False
        return self._look(self._surveyed) != self._survey


def _policies(snapshot: model.Snapshot | None) -> str:
    if snapshot is None or closed.is_all(snapshot):
        return "all of them closed: the policy does not fit"
    return counted(len(snapshot.policies), "policy", "policies")


def _has_edits(before: model.Snapshot, now: model.Snapshot) -> bool:
    """Tell whether a file was taken in that is new, or was another, or whether one is gone; a broken one was not."""
    was = {file: each.digest for file, each in before.files.items()}
    taken = (each.digest != was.get(file) for file, each in now.files.items() if each.good and each.digest)
    return any(taken) or not was.keys() <= now.files.keys()


def _names_meant(policies: tuple[model.Policy, ...]) -> tuple[model.NamePeer, ...]:
    """Return the DNS names that rules mean by their peers, each once."""
    return tuple(dict.fromkeys(peer for peer in places.peers_in(policies) if isinstance(peer, model.NamePeer)))
