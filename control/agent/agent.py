"""The agent's loop: events to the flow log, edits to the maps, ageing in between. One thread owns maps and log."""

import dataclasses
import logging
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any

import watchfiles

from control import compile as compiler
from control import evaluate, identity, model, names
from control.agent import apply, enforce, ledger, options, patience, state, switches, trial, workloads
from control.flow import log as flow_log
from control.flow import sink
from control.flow.summary import counted
from control.source import directory
from loader import abi, mesh, netns, selftest
from loader.errors import MapFull, MeshError

LOG = logging.getLogger("sockmesh.agent")
_TICK_S = 0.02
_FULL_BATCH = 4096  # events of one look: fewer wait for the next, because each look has a price of its own
_AGEING_S = 5.0


class Agent:
    """One node's agent. `start` puts everything in force, `run` goes on until told to stop; stopping leaves it all."""

    def __init__(self, opts: options.Options) -> None:
        self.opts = opts
        self.node = opts.node or socket.gethostname()
        self.mesh = mesh.Mesh.load(opts.pin_dir, opts.run_dir)
        try:
            self._adopt()
        except BaseException:
            self.mesh.abandon()
            raise

    def _adopt(self) -> None:
        """Take over what a predecessor left."""
        opts = self.opts
        self.names = state.load_names(opts.run_dir)
        self.flows = flow_log.FlowLog(
            [sink.make(t, opts.flow_log_max_bytes, opts.flow_log_files) for t in opts.flow_log], self.node
        )
        self.ledger = ledger.Ledger(self.mesh.maps, self.names, self.flows, opts.flow_interval)
        self.workloads = workloads.Workloads(self.mesh, self.names)
        self.snapshot: model.Snapshot | None = None
        self.problems: tuple[model.Problem, ...] = ()
        selftest.sweep(self.mesh.maps)  # what a killed predecessor's left
        self.have = apply.current(self.mesh.maps)
        self.allocation = self._numbers(state.load_allocation(opts.run_dir) or identity.Allocation())
        self.view: evaluate.View | None = None
        self.revision = self.names.revision
        self.started = time.time()
        self.accel_off = ""  # why the short cut is off on this node
        self.self_test: dict[str, str] = {}  # case -> "ok" or what went wrong; empty while it is not done
        self.trial = trial.Trial(opts.pin_dir, opts.run_dir)
        self._config_lock = threading.Lock()  # the admin socket's threads write switches, our own the generation
        self._patience = patience.Patience()
        self._reconciled = threading.Condition()
        self._rounds = 0  # reconciliations finished
        self._survey, self._surveyed = workloads.Survey({}, {}, []), model.Snapshot()  # the last one, and of what
        self.hooks_restored = 0  # interfaces whose filters somebody took away
        self._addresses: tuple[str, ...] = ()  # the node's, as they are in force
        self._asked = self._ending = False
        self._stop = threading.Event()  # the loop has ended

    def _numbers(self, before: identity.Allocation) -> identity.Allocation:
        """Go on numbering above what pinned maps hold: a predecessor may have died before it wrote its numbers down,
        and a set's number must never change its meaning.
        """
        sets = {k.set_id for k in self.have["policy"] if isinstance(k, abi.PolicyKey) and k.set_id < apply.FIRST_BRIDGE}
        endpoints = {k.id for k in self.have["endpoints"] if isinstance(k, abi.EndpointKey)}
        return dataclasses.replace(
            before,
            sets=dataclasses.replace(before.sets, next=max({before.sets.next} | {n + 1 for n in sets})),
            endpoints=dataclasses.replace(
                before.endpoints, next=max({before.endpoints.next} | {n + 1 for n in endpoints})
            ),
        )

    def start(self) -> None:
        """Put the configuration in force. The short cut waits for the self-test, unless it passed before."""
        self.accel_off = self.mesh.loaded.acceleration or ("" if self.opts.self_test else trial.SWITCHED_OFF)
        if not self.accel_off:
            self.self_test = self.trial.passed_before()
            self.accel_off = "" if self.self_test else trial.RUNNING
        else:
            LOG.warning("the short cut is off: %s", self.accel_off)
        old = self.mesh.maps.config.get_at(0)
        adopted = old.generation != 0
        for name in ("acceleration", "direct_delivery"):
            if adopted and getattr(old, name) != int(getattr(self.opts, name)):
                state_of, option = ("on" if getattr(old, name) else "off"), name.replace("_", "-")
                LOG.warning(
                    "%s stays %s, as in the pins that are adopted; --[no-]%s is for the first start: "
                    "`sockmesh bpf config set %s on|off` switches it", name, state_of, option, name,
                )  # fmt: skip
        self.mesh.maps.config.put_at(
            0,
            abi.Config(
                generation=old.generation or 1,
                acceleration=old.acceleration if adopted else int(self.opts.acceleration),
                direct_delivery=old.direct_delivery if adopted else int(self.opts.direct_delivery),
                self_test=int(not self.accel_off),
                probation_packets=self.opts.probation_packets,
                udp_timeout_s=options.UDP_TIMEOUT_S,
                tcp_timeout_s=options.TCP_TIMEOUT_S,
                tcp_close_timeout_s=options.TCP_CLOSE_TIMEOUT_S,
                icmp_timeout_s=options.ICMP_TIMEOUT_S,
            ),
        )
        self.reconcile(force=True)
        if self.accel_off == trial.RUNNING:
            self.trial.begin()

    def _take_trial(self) -> None:
        """Let the self-test's result, when it is there, decide on the short cut."""
        cases = self.trial.take()
        if not cases:
            return
        wrong = trial.failures(cases)
        if wrong:
            LOG.warning("the short cut stays off: %s", wrong)
        else:
            with self._config_lock:
                passed = dataclasses.replace(self.mesh.maps.config.get_at(0), self_test=1)
                self.mesh.maps.config.put_at(0, passed)
            LOG.info("the short cut passed its self-test")
        self.self_test, self.accel_off = cases, wrong

    # --- configuration ---------------------------------------------------------------------------------------------

    def reconcile(self, force: bool = False) -> None:
        """Read the directory and bring maps and hooks to it. A MeshError is reported and changes nothing."""
        loaded = directory.load(self.opts.config_dir, self.snapshot)
        problems = list(loaded.problems)
        applied = False
        failed: list[model.Problem] = []
        try:
            for _ in range(2):
                self._survey, self._surveyed = self._look(loaded.snapshot), loaded.snapshot
                changed, failed, refused = self._apply(loaded.snapshot, self._survey, force)
                applied |= changed
                if not refused:  # a cgroup that takes no hooks: what hangs on that must be told to the packet hook
                    break
        except (MeshError, ValueError, OSError) as error:
            failed = [model.Problem(str(self.opts.config_dir), "", str(error))]
        problems += [*self._survey.problems, *failed]
        self._report(tuple(problems))
        if applied:
            resets = self._enforce()
            LOG.info(
                "revision %d in force: %s, %s%s", self.revision, counted(len(self.have["endpoints"]), "workload"),
                counted(len(loaded.snapshot.policies), "policy", "policies"),
                f"; {counted(resets, 'open connection')} reset" if resets else "",
            )  # fmt: skip

    def _own_addresses(self) -> tuple[str, ...]:
        return self.opts.node_ips or netns.addresses()

    def _look(self, snapshot: model.Snapshot) -> workloads.Survey:
        return self.workloads.survey(w for w in snapshot.workloads if w.is_local(self.node))

    def _apply(
        self, snapshot: model.Snapshot, survey: workloads.Survey, force: bool
    ) -> tuple[bool, list[model.Problem], bool]:
        """Bring maps and hooks to a snapshot; return whether anything changed, what failed, and as `attach` does."""
        self._addresses = self._own_addresses()
        node = compiler.NodeInfo(self.node, self._addresses, self.opts.cluster_cidrs)
        found = [survey.workloads.get((w.namespace, w.name), w) for w in snapshot.workloads]
        really = dataclasses.replace(snapshot, workloads=tuple(found))
        want, known, allocation = compiler.compile_state(really, self.allocation, survey.facts, node)
        apply.check_room(self.have, want)
        before = self.have["endpoints"]
        try:
            changed = apply.apply(self.mesh.maps, self.have, want)
        except (MapFull, OSError):
            self.have = apply.current(self.mesh.maps)  # half of it may be done
            raise
        self.have = {name: dict(want[name]) for name in compiler.MAP_NAMES}
        apply.forgive(self.mesh.maps, before, want)
        self.snapshot, self.allocation = snapshot, allocation
        self.view = evaluate.View(want)
        if changed or force:
            self.revision += 1
            with self._config_lock:
                apply.bump(self.mesh.maps)
        interfaces = {k.id: v.ifindex for k, v in before.items()}  # type: ignore[attr-defined]
        failures, refused = self.workloads.attach(_places(want, known), interfaces, force)
        self.names = dataclasses.replace(known, node=self.node, revision=self.revision)
        self.ledger.rename(self.names)
        state.save(self.opts.run_dir, self.allocation, self.names)
        failed = [model.Problem("", f"Workload {known.endpoint(id)}", str(error)) for id, error in failures]
        return changed or force, failed, refused

    def reconcile_now(self, timeout: float = 30.0) -> dict[str, Any]:
        """Have the directory read again and wait until that is done; return what is wrong with it."""
        with self._reconciled:
            # One that runs now may have read the directory before the caller's edit, so two must end.
            goal = self._rounds + 2
            self._patience.call()
            while self._rounds < goal and not self._stop.is_set() and (timeout := timeout - 0.05) > 0:
                self._patience.call()
                self._reconciled.wait(0.05)
        return {"policy_revision": self.revision, "problems": [str(problem) for problem in self.problems]}

    def set_switch(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Set fields of the config record, for the admin socket; raises ConfigInvalid."""
        with self._config_lock:
            changed = switches.with_changes(self.mesh.maps.config.get_at(0), params)
            self.mesh.maps.config.put_at(0, changed)
        return {"config": dataclasses.asdict(changed)}

    def _report(self, problems: tuple[model.Problem, ...]) -> None:
        for problem in problems:
            if problem not in self.problems:
                LOG.warning("%s", problem)
        for problem in self.problems:
            if problem not in problems:
                still = any((p.file, p.path) == (problem.file, problem.path) for p in problems)
                LOG.info("%s: %s", "no longer, but another" if still else "mended", problem)
        self.problems = problems

    def _enforce(self) -> int:
        """Reset open connections that the policy now in force denies; return how many."""
        before = self.ledger.resets
        if self.view is not None and (condemned := enforce.doomed(self.mesh.maps, self.view)):
            self.ledger.reset(condemned)
        return self.ledger.resets - before

    # --- life ------------------------------------------------------------------------------------------------------

    def request_reconcile(self) -> None:
        """Have the directory read again. For a signal's handler: it takes no lock, for the loop may hold any."""
        self._asked = True

    def stop(self) -> None:
        """Have `run` end. For a signal's handler, as `request_reconcile`."""
        self._ending = True

    def run(self) -> None:
        """Serve until `stop`."""
        watcher = threading.Thread(target=self._watch, name="watch", daemon=True)
        watcher.start()
        try:
            self._loop()
        finally:
            self._stop.set()

    def _loop(self) -> None:
        self.ledger.reset_stuck()
        next_age = time.monotonic()
        while not self._ending:
            if self.ledger.drain() < _FULL_BATCH:
                time.sleep(_TICK_S)
            self._take_trial()
            if self._asked:
                self._asked = False
                self._patience.call()
            if self._patience.is_due(time.monotonic(), bool(self.problems), self._has_changed):
                self._guard(self.reconcile)
                with self._reconciled:
                    self._rounds += 1
                    self._reconciled.notify_all()
            now = time.monotonic()
            if now >= next_age:
                next_age = now + min(_AGEING_S, self.opts.flow_interval)
                self._guard(self.ledger.age)

    def _has_changed(self) -> bool:
        """Tell whether a workload that was missing is here now, or one was lost or made anew, or its hooks were."""
        if lost := self.workloads.unhook():
            self.hooks_restored += len(lost)
            LOG.warning("packet filters were taken off %s by somebody else: they are put back", ", ".join(lost))
            return True
        if self._own_addresses() != self._addresses:
            return True
        if not self._survey.problems and self.workloads.all_there():
            return False
        return self._look(self._surveyed) != self._survey

    def abandon(self) -> None:
        """End before `start`: nothing that this start made stays."""
        self.ledger.close()
        self.mesh.abandon()

    def close(self) -> None:
        """End the flow log and let go of the maps; what is pinned stays in force."""
        self.ledger.close()
        self.mesh.close()

    def _guard(self, step: Any) -> None:
        """Run one step; a failure is logged and tried again: a dead agent would protect nobody better."""
        try:
            step()
        except (MeshError, OSError) as error:
            LOG.error("%s", error)

    def _watch(self) -> None:
        # Once more when the watch is surely on: what was edited since the first reading would go unseen.
        while not self._stop.is_set():
            first = True
            try:
                for changes in watchfiles.watch(
                    self.opts.config_dir, stop_event=self._stop, debounce=100, step=20, rust_timeout=500,
                    yield_on_timeout=True,
                ):  # fmt: skip
                    if changes or first:
                        self._patience.call()
                    first = False
            except Exception as error:  # its Rust half raises what it likes: for a file name that is no text, say
                LOG.warning("%s: cannot be watched (%s); it is read again each second", self.opts.config_dir, error)
                self._patience.call()
                self._stop.wait(1.0)


def _places(want: compiler.Desired, known: names.Names) -> dict[int, workloads.Where]:
    """Return where the hooks of each endpoint hang."""
    out: dict[int, workloads.Where] = {}
    for key, value in want["endpoints"].items():
        assert isinstance(key, abi.EndpointKey) and isinstance(value, abi.Endpoint)
        name = known.endpoint(key.id)
        if name:
            has_cgroup = value.flags & abi.EndpointFlag.HAS_CGROUP
            out[key.id] = (name.interface, value.ifindex, name.cgroup if has_cgroup else "")
    return out
