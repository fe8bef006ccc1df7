"""The agent's loop: events to the flow log, edits to the maps, ageing in between. One thread owns maps and log."""

import contextlib
import dataclasses
import logging
import signal
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import watchfiles

from control import compile as compiler
from control import evaluate, identity, model, names
from control.agent import (
    admin,
    ageing,
    apply,
    enforce,
    metrics_http,
    options,
    state,
    status,
    switches,
    trial,
    workloads,
)
from control.flow import log as flow_log
from control.flow import record, recorder, sink
from control.source import directory
from loader import abi, events, mesh, selftest
from loader.errors import MapFull, MeshError

LOG = logging.getLogger("sockmesh.agent")
_TICK_S = 0.02
_TYPE = next(at for name, _, at in abi.FlowEvent.FIELDS if name == "type")
_AGEING_S = 5.0
_LOOK_S = 1.0  # how often workloads that are not there are looked for
_RETRY_S, _RETRY_MAX_S = 1.0, 30.0  # when a configuration with problems is tried again though nobody changed it


class Agent:
    """One node's agent. `start` puts everything in force, `run` goes on until told to stop; stopping leaves it all."""

    def __init__(self, opts: options.Options) -> None:
        self.opts = opts
        self.node = opts.node or socket.gethostname()
        self.mesh = mesh.Mesh.load(opts.pin_dir, opts.run_dir)
        self.events = events.EventReader(self.mesh.maps.events_fd)
        self.names = state.load_names(opts.run_dir)
        self.recorder = recorder.Recorder(self.names)
        self.flows = flow_log.FlowLog(
            [sink.make(t, opts.flow_log_max_bytes, opts.flow_log_files) for t in opts.flow_log], self.node
        )
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
        self.resets = 0
        self._long_lived = ageing.LongLived(opts.flow_interval)
        self._lost = self.mesh.maps.counter(abi.Metric.EVENTS_LOST)
        self._changed = threading.Event()
        self._reconciled = threading.Condition()
        self._rounds = 0  # reconciliations finished
        self._survey = workloads.Survey({}, {}, [])  # the last one
        self._retry_at = self._look_at = 0.0
        self._retry_after = _RETRY_S
        self._stop = threading.Event()

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
        self.mesh.maps.config.put_at(
            0,
            abi.Config(
                generation=old.generation or 1,
                acceleration=old.acceleration if adopted else int(self.opts.acceleration),
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
        try:
            for _ in range(2):
                survey = self._survey = self._look(loaded.snapshot)
                changed, failed, refused = self._apply(loaded.snapshot, survey, force)
                applied |= changed
                if not refused:  # a cgroup that takes no hooks: what hangs on that must be told to the packet hook
                    break
            problems += [*survey.problems, *failed]
        except (MapFull, ValueError) as error:
            problems += [*survey.problems, model.Problem(str(self.opts.config_dir), "", str(error))]
        self._report(tuple(problems))
        if applied:
            self._enforce()

    def _look(self, snapshot: model.Snapshot) -> workloads.Survey:
        return self.workloads.survey(w for w in snapshot.workloads if w.is_local(self.node))

    def _apply(
        self, snapshot: model.Snapshot, survey: workloads.Survey, force: bool
    ) -> tuple[bool, list[model.Problem], bool]:
        """Bring maps and hooks to a snapshot; return whether anything changed, what failed, and as `attach` does."""
        node = compiler.NodeInfo(self.node, self.opts.node_ips, self.opts.cluster_cidrs)
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
        self.recorder.update(self.names)
        state.save(self.opts.run_dir, self.allocation, self.names)
        failed = [model.Problem("", f"Workload {known.endpoint(id)}", str(error)) for id, error in failures]
        return changed or force, failed, refused

    def reconcile_now(self, timeout: float = 30.0) -> dict[str, Any]:
        """Have the directory read again and wait until that is done; return what is wrong with it."""
        with self._reconciled:
            # One that runs now may have read the directory before the caller's edit, so two must end.
            goal = self._rounds + 2
            self._changed.set()
            while self._rounds < goal and not self._stop.is_set() and (timeout := timeout - 0.05) > 0:
                self._changed.set()
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
                LOG.info("mended: %s", problem)
        self.problems = problems

    def _enforce(self) -> None:
        """Reset open connections that the policy now in force denies."""
        if self.view is None:
            return
        condemned = enforce.doomed(self.mesh.maps, self.view)
        if not condemned:
            return
        self.resets += enforce.reset(condemned, self.names)
        self._write(enforce.reset_events(condemned))

    # --- events ----------------------------------------------------------------------------------------------------

    def _write(self, found: Iterable[abi.FlowEvent]) -> None:
        for event in found:
            if not (selftest.is_reserved(event.src_endpoint) or selftest.is_reserved(event.dst_endpoint)):
                self.flows.write(self.recorder.line(event))

    def drain(self) -> int:
        """Move waiting events to the flow log; return how many."""
        found = [raw for raw in self.events.read() if not trial.is_ours(raw)]
        self.flows.write(map(self.recorder.raw_line, found))
        for raw in found:
            if raw[_TYPE] == abi.EventType.STUCK:
                LOG.warning("a program read with a call that cannot see redirected bytes; its connection is reset")
                self.resets += enforce.reset(enforce.stuck(self.mesh.maps), self.names)
        lost = self.mesh.maps.counter(abi.Metric.EVENTS_LOST)
        if lost != self._lost:
            self.flows.write(self.recorder.lost(lost - self._lost, time.monotonic_ns()))
            self._lost = lost
        self.flows.flush()
        return len(found)

    def age(self) -> None:
        """Expire what is dead, record what lives long."""
        now = time.monotonic_ns()
        self._write(ageing.expire(self.mesh.maps, self.mesh.maps.config.get_at(0), now))
        self._write(ageing.abandoned(self.mesh.maps))
        self._write(self._long_lived.records(self.mesh.maps, self.names, now))
        self.recorder.set_clock(record.ClockOffset.measure())
        self.flows.flush()

    # --- life ------------------------------------------------------------------------------------------------------

    def request_reconcile(self) -> None:
        self._changed.set()

    def stop(self) -> None:
        self._stop.set()

    def run(self) -> None:
        """Serve until `stop`."""
        watcher = threading.Thread(target=self._watch, name="watch", daemon=True)
        watcher.start()
        self.resets += enforce.reset(enforce.stuck(self.mesh.maps), self.names)
        next_age = time.monotonic()
        while not self._stop.is_set():
            if not self.drain():
                self._stop.wait(_TICK_S)
            self._take_trial()
            if self._is_due(time.monotonic()):
                self._guard(self.reconcile)
                with self._reconciled:
                    self._rounds += 1
                    self._reconciled.notify_all()
            now = time.monotonic()
            if now >= next_age:
                next_age = now + min(_AGEING_S, self.opts.flow_interval)
                self._guard(self.age)

    def _is_due(self, now: float) -> bool:
        """Tell whether to reconcile: the directory changed, a missing workload came, or problems have waited enough."""
        if self._changed.is_set():
            self._changed.clear()
            self._retry_after = _RETRY_S
        elif self.problems and now >= self._retry_at:
            self._retry_after = min(_RETRY_MAX_S, self._retry_after * 2)
        elif self._survey.problems and self.snapshot and now >= self._look_at:
            self._look_at = now + _LOOK_S
            if self._look(self.snapshot) == self._survey:
                return False
            self._retry_after = _RETRY_S
        else:
            return False
        self._retry_at = now + self._retry_after
        self._look_at = now + _LOOK_S
        return True

    def close(self) -> None:
        """End the flow log and let go of the maps; what is pinned stays in force."""
        self.drain()
        self.flows.close()
        self.events.close()
        self.mesh.close()

    def _guard(self, step: Any) -> None:
        """Run one step; a failure is logged and tried again: a dead agent would protect nobody better."""
        try:
            step()
        except (MeshError, OSError) as error:
            LOG.error("%s", error)

    def _watch(self) -> None:
        for _ in watchfiles.watch(
            self.opts.config_dir, stop_event=self._stop, debounce=100, step=20, rust_timeout=500, yield_on_timeout=False
        ):
            self._changed.set()


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


def serve(opts: options.Options) -> None:
    """Run an agent with its admin socket and /metrics until SIGTERM or SIGINT; SIGHUP reads the directory again."""
    opts.check()
    if opts.metrics:
        metrics_http.parse(opts.metrics)
    node = Agent(opts)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: node.stop())
    signal.signal(signal.SIGHUP, lambda *_: node.request_reconcile())
    node.start()
    with contextlib.ExitStack() as stack:
        stack.callback(node.close)  # last, when nobody asks any more
        handlers = {
            "status": lambda _: status.status(node),
            "set": node.set_switch,
            "reconcile": lambda _: node.reconcile_now(),
        }
        stack.callback(admin.AdminServer(opts.socket, handlers, node.flows).close)
        if opts.metrics:
            stack.callback(metrics_http.MetricsServer(opts.metrics, lambda: status.snapshot(node)).close)
        LOG.info("node %s: %d workloads under policy", node.node, len(node.have["endpoints"]))
        node.run()
