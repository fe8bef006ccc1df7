"""The agent's loop: events to the flow log, edits to the reconciler, ageing between. One thread owns maps and log."""

import dataclasses
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from control import proxy_feed
from control.agent import (
    bell,
    ledger,
    mtls,
    namebook,
    options,
    patience,
    proxies,
    reconcile,
    signers,
    state,
    switches,
    trial,
    unfulfilled,
    watch,
)
from control.flow import log as flow_log
from control.flow import sink
from control.tracing import sender
from loader import abi, mesh, mounts, selftest
from loader.errors import MeshError
from loader.interception import ground, hooks

LOG = logging.getLogger("sockmesh.agent")
_TICK_S = 0.05  # what came meanwhile is done in one go, which is cheaper than piece by piece
_FULL_BATCH = 4096  # events of one look: fewer wait for the next, because each look has a price of its own
_AGEING_S = 5.0


class Agent:
    """One node's agent. `start` puts everything in force, `run` goes on until told to stop; stopping leaves it all."""

    def __init__(self, opts: options.Options, is_ended: Callable[[], bool] = lambda: False) -> None:
        self.opts = opts
        self.node = opts.node or socket.gethostname()
        self.mesh = mesh.Mesh.load(opts.pin_dir, opts.run_dir, is_ended, opts.program_cache)
        try:
            self._adopt()
        except BaseException:
            self.mesh.abandon()
            raise

    def _adopt(self) -> None:
        """Take over what a predecessor left."""
        opts = self.opts
        known = state.load_names(opts.run_dir)
        self.flows = flow_log.FlowLog(
            [sink.make(t, opts.flow_log_max_bytes, opts.flow_log_files) for t in opts.flow_log], self.node
        )
        self.ledger = ledger.Ledger(self.mesh.maps, known, self.flows, opts.flow_interval)
        self.spans = sender.Sender(sender.endpoint(opts.otlp_endpoint), self.node) if opts.otlp_endpoint else None
        self.ledger.spans = self.spans
        selftest.sweep(self.mesh.maps)  # what a killed predecessor's left
        selftest.sweep_cgroups(mounts.cgroup2())
        self.ground: ground.Ground | None = None
        self.proxies: proxies.Proxies | None = None
        if opts.proxy:
            self.ground, self.proxies = self._stand(opts)
        self.mtls: mtls.Mtls | None = None
        if self.proxies and opts.mtls != "off":
            self.mtls = mtls.Mtls(opts, self.node, self.proxies.publish_mesh, signers.of(opts))
        elif self.proxies:
            self.proxies.publish_mesh(proxy_feed.Mesh())
        self.names = namebook.NameBook(opts.run_dir, namebook.InUse(self.mesh.maps)) if opts.proxy else None
        self.reconciler = reconcile.Reconciler(
            opts, self.node, self.mesh, self.ledger, known, self.proxies, self.names, self.mtls
        )
        self.unfulfilled = unfulfilled.Unfulfilled(opts.proxy)
        self.started = time.time()
        self.accel_off = ""  # why the short cut is off on this node
        self.self_test: dict[str, str] = {}  # case -> "ok" or what went wrong; empty while it is not done
        self.trial = trial.Trial(opts.pin_dir, opts.run_dir)
        self._bell = bell.Bell(self.mesh.maps.events_fd)
        if self.proxies:
            self.proxies.wake = self._bell.ring
        self._patience = patience.Patience(self._bell.ring)
        self._reconciled = threading.Condition()
        self._rounds = 0  # reconciliations finished
        self._asked = self._ending = False
        self._stop = threading.Event()  # the loop has ended
        self._failed: dict[str, str] = {}  # step -> what was logged of its failure, until it succeeds

    def _stand(self, opts: options.Options) -> tuple[ground.Ground, proxies.Proxies]:
        """Make the place where the node proxy stands, and wait for it."""
        made = ground.prepare(opts.run_dir)
        hooks.attach(self.mesh, made)
        doors = str(opts.pin_dir / "maps" / "doors")
        there = proxy_feed.Ground(str(made.netns), made.cgroup, doors)
        headers = tuple(name.lower() for name in opts.record_headers)
        traces = opts.trace_ratio if opts.otlp_endpoint else None
        return made, proxies.Proxies(opts.run_dir, there, headers, traces)

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
        turns_strict = adopted and self.opts.mtls_mode == abi.Mtls.STRICT != old.mtls
        self.mesh.maps.config.put_at(
            0,
            abi.Config(
                # Another than the predecessor's, which may have died between the policy and its generation.
                generation=old.generation % 0xFFFFFFFF + 1,
                acceleration=old.acceleration if adopted else int(self.opts.acceleration),
                direct_delivery=old.direct_delivery if adopted else int(self.opts.direct_delivery),
                self_test=int(not self.accel_off),
                probation_packets=self.opts.probation_packets,
                udp_timeout_s=options.UDP_TIMEOUT_S,
                tcp_timeout_s=options.TCP_TIMEOUT_S,
                tcp_close_timeout_s=options.TCP_CLOSE_TIMEOUT_S,
                icmp_timeout_s=options.ICMP_TIMEOUT_S,
                mtls=old.mtls if turns_strict else int(self.opts.mtls_mode),
                **(self.ground.fields() if self.ground else {}),
            ),
        )
        if self.mtls:
            self.mtls.start()
        self.reconciler.reconcile(force=True)
        if self.spans:
            self.spans.start()
        if self.proxies:
            self.proxies.start()
        if self.proxies and turns_strict:
            # The proxy's own resets are packets of what it ends, which the kernel refuses from then on.
            self.proxies.wait_for_one()
            self.reconciler.demand_mtls()
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
            with self.reconciler.config_lock:
                passed = dataclasses.replace(self.mesh.maps.config.get_at(0), self_test=1)
                self.mesh.maps.config.put_at(0, passed)
            LOG.info("the short cut passed its self-test")
        self.self_test, self.accel_off = cases, wrong

    def reconcile_now(self, timeout: float = 30.0) -> dict[str, Any]:
        """Have the directory read again and wait until that is done; return what is wrong with it."""
        with self._reconciled:
            # One that runs now may have read the directory before the caller's edit, so two must end.
            goal = self._rounds + 2
            self._patience.call()
            while self._rounds < goal and not self._stop.is_set() and (timeout := timeout - 0.05) > 0:
                self._patience.call()
                self._reconciled.wait(0.05)
        problems = [str(problem) for problem in self.reconciler.problems]
        return {"policy_revision": self.reconciler.revision, "problems": problems}

    def set_switch(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Set fields of the config record, for the admin socket; raises ConfigInvalid."""
        with self.reconciler.config_lock:
            changed = switches.with_changes(self.mesh.maps.config.get_at(0), params)
            self.mesh.maps.config.put_at(0, changed)
        return {"config": dataclasses.asdict(changed)}

    def request_reconcile(self) -> None:
        """Have the directory read again. For a signal's handler: it takes no lock, for the loop may hold any."""
        self._asked = True
        self._bell.ring()

    def stop(self) -> None:
        """Have `run` end. For a signal's handler, as `request_reconcile`."""
        self._ending = True
        self._bell.ring()

    def run(self) -> None:
        """Serve until `stop`."""
        told = (self.opts.config_dir, self._stop, self._patience.call)
        threading.Thread(target=watch.follow, args=told, name="watch", daemon=True).start()
        try:
            self._loop()
        finally:
            self._stop.set()

    def _loop(self) -> None:
        self._guard(self.ledger.reset_stuck)
        self._guard(self._look_for_slips)
        next_age = time.monotonic()
        while not self._ending:
            if (self._guard(self.ledger.drain) or 0) < _FULL_BATCH:
                self._bell.wait(_TICK_S)
            self._guard(self._take_learned)
            self._guard(self._take_requests)
            self._guard(self.ledger.reset_again)
            self._guard(self.ledger.reset_cut_off)
            self._guard(self._take_trial)
            if self._asked:
                self._asked = False
                self._patience.call()
            if self._guard(self._is_due):
                self._guard(self.reconciler.reconcile)
                self._guard(self._look_for_slips)
                with self._reconciled:
                    self._rounds += 1
                    self._reconciled.notify_all()
            now = time.monotonic()
            if now >= next_age:
                next_age = now + min(_AGEING_S, self.opts.flow_interval)
                self._guard(self.ledger.age)
                self._guard(self._forget_names)

    def _take_learned(self) -> None:
        """Put in force what names resolve to, and say so to whoever waits for it."""
        if self.proxies is None or self.names is None:
            return
        waiting = self.proxies.take_learned()
        told = []
        for each in waiting:
            try:
                told += [namebook.read(one) for one in each.told]
            except (TypeError, ValueError) as error:
                LOG.warning("what the node proxy says of a name cannot be read: %s", error)
        self.names.learn(each for each in told if each.name in self.reconciler.wanted)
        self.reconciler.learn()
        for each in waiting:
            self.proxies.in_force(each)
        self.reconciler.enforce_learned()

    def _forget_names(self) -> None:
        if self.names is not None:
            self.names.expire()
            self.reconciler.learn()

    def _take_requests(self) -> None:
        if self.spans:
            self.spans.look()
        if self.proxies:
            self.ledger.requests(self.proxies.take(ledger.REQUESTS_AT_ONCE), self.proxies.lost)
            if seen := self.proxies.take_lookups():
                self.ledger.lookups(seen)

    def _look_for_slips(self) -> None:
        self.unfulfilled.look(self.reconciler.snapshot)

    def abandon(self) -> None:
        """End before `start`: nothing that this start made stays."""
        if self.mtls:
            self.mtls.close()
        if self.proxies:
            self.proxies.close()
        self.ledger.close()
        if self.spans:
            self.spans.close()
        self.mesh.abandon()

    def close(self) -> None:
        """End the flow log and let go of the maps; what is pinned stays in force."""
        self.trial.end()
        if self.mtls:
            self.mtls.close()
        if self.proxies:
            self.proxies.close()
        self.ledger.close()
        if self.spans:
            self.spans.close()
        self.mesh.close()

    def _is_due(self) -> bool:
        problems = bool(self.reconciler.problems)
        return self._patience.is_due(time.monotonic(), problems, self.reconciler.has_changed)

    def _guard(self, step: Callable[[], Any]) -> Any:
        """Run one step; a failure is logged and tried again: a dead agent would protect nobody better."""
        name = step.__name__
        try:
            result = step()
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
            if self._failed.get(name) != words:  # once: some of these come again with each turn of the loop
                self._failed[name] = words
                if isinstance(error, (MeshError, OSError)):
                    LOG.error("%s", error)
                else:
                    LOG.exception("%s failed, which is a bug; it is tried again", name)
            return None
        self._failed.pop(name, None)
        return result
