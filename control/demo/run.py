"""Runs the demo from an empty machine to an empty machine, also when it is interrupted."""

import contextlib
import dataclasses
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from control.agent import state
from control.cli.show import jsonable, print_json
from control.demo import hosts, measure, stage, steps
from control.demo.remains import Made
from control.demo.site import Site
from loader.errors import MeshError

if TYPE_CHECKING:
    from tests.hosts import Mesh

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ROUNDS = 2
_FAILURES = (AssertionError, OSError, MeshError, measure.NoFigures)


class DemoFailed(MeshError):
    """Ours: a step of the demo did not go as it must; the message says which."""


class _Interrupted(BaseException):
    """By the signal that is in the figures."""


@dataclasses.dataclass
class Figures:
    """Everything that the demo found out; `-o json` prints it."""

    run_id: str = ""
    start_seconds: float = 0.0
    acceleration: dict[str, Any] = dataclasses.field(default_factory=dict)
    calls: tuple[steps.Call, ...] = ()
    comparisons: tuple[measure.Comparison, ...] = ()
    cuts: tuple[steps.Cut, ...] = ()
    records: tuple[dict[str, Any], ...] = ()
    sock: tuple[Any, ...] = ()
    policy: tuple[Any, ...] = ()
    agent_memory_bytes: int = 0
    left_behind: tuple[str, ...] = ()
    seconds: float = 0.0
    interrupted: bool = False
    by_signal: int = 0  # that interrupted it
    unheard: bool = False  # whoever read the show has gone (`sockmesh demo | head`): nothing that `-o json` could say

    def unexpected(self) -> tuple[str, ...]:
        """Return what was not as it must be."""
        wrong = [f"{c.who}: {c.what}: {c.said}" for c in self.calls if not c.as_expected]
        wrong += [f"{c.what}: {c.said}" for c in self.cuts if not c.as_expected]
        return (*wrong, *(f"left behind: {name}" for name in self.left_behind))

    def to_json(self) -> dict[str, Any]:
        """Return all figures, the ratios among them."""
        out: dict[str, Any] = jsonable(self)
        del out["unheard"], out["by_signal"]
        for comparison, found in zip(out["comparisons"], self.comparisons, strict=True):
            comparison["ratio"] = round(found.ratio, 3)
        return out | {"unexpected": list(self.unexpected())}


def run(output: str, seconds: float) -> None:
    """Show the demo, or print its figures; the process exits with 1 when something was not as it must be."""
    hosts.require()
    figures, began = Figures(), time.monotonic()
    shown: stage.Stage = stage.Silent() if output == "json" else stage.Terminal()
    made = Made()
    with _interruptible(figures) as calm:
        failure = _guarded(figures, lambda: _play(figures, made, shown, seconds, calm))
        calm()
        made.restore_mounts()
        figures.left_behind = made.left()
    if failure:
        raise DemoFailed(failure)
    figures.seconds = round(time.monotonic() - began, 1)
    if output == "json":
        print_json(figures.to_json())
    elif figures.unheard:
        sys.exit(128 + signal.SIGPIPE)
    else:
        _epilogue(figures, shown)
    sys.exit(128 + figures.by_signal if figures.interrupted else 1 if figures.unexpected() else 0)


def _epilogue(figures: Figures, shown: stage.Stage) -> None:
    if figures.interrupted:
        shown.say("interrupted")
    for line in figures.unexpected():
        shown.say(f"NOT AS EXPECTED: {line}")
    if not figures.left_behind:
        shown.say("")
        shown.say(f"Gone again: namespaces, cgroups, pinned maps, programs. {figures.seconds:.0f} s in all.")


@contextlib.contextmanager
def _interruptible(figures: Figures) -> Iterator[Callable[[], None]]:
    """Note the first signal, raise _Interrupted and ignore the others; call the given function to ignore all."""

    def calm() -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def stop(number: int, _: object) -> None:
        if os.getpid() != owner:
            os._exit(128 + number)  # a child that pyroute2 forked: it must not walk up and clean up what is ours
        calm()
        figures.interrupted, figures.by_signal = True, number
        raise _Interrupted  # lost if Python was in a finalizer just then; whoever goes on asks the figures

    owner = os.getpid()
    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield calm
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _guarded(figures: Figures, step: Callable[[], None], log: Path | None = None) -> str:
    """Run a step; return "" or one line saying what went wrong, with the agent's last words."""
    try:
        try:
            step()
            return ""
        except DemoFailed as error:
            return str(error)
        except _FAILURES as error:
            if figures.interrupted:
                return ""
            if isinstance(error, BrokenPipeError) and _reader_is_gone():
                figures.unheard = True
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python still holds
                return ""
            # Ctrl-C reaches the agent and the programs too, perhaps before us: then that is what went wrong.
            time.sleep(0.5)
            words = log.read_text().splitlines()[-1:] if log and log.exists() else []
            text = f"the demo failed: {' '.join(str(error).split())[:400] or type(error).__name__}"
            return text + (f" (the agent's last words: {words[0]})" if words else "")
    except _Interrupted:
        return ""


def _reader_is_gone() -> bool:
    """Tell whether it is our own output that broke, and not a connection of the demo's."""
    look = select.poll()
    look.register(sys.stdout, 0)  # POLLERR needs no asking
    return bool(look.poll(0))


def _play(figures: Figures, made: Made, shown: stage.Stage, seconds: float, calm: Callable[[], None]) -> None:
    """Make the place, walk through the steps, and take it down again, whatever happens."""
    make_node, make_mesh = hosts.library()
    began = time.monotonic()
    shown.title("A node with four pods, a policy, and the agent")
    with make_node("demo") as node:
        made.run_id = figures.run_id = node.run_record.id
        made.pin_dir, made.directory = node.pins, node.directory
        made.cgroups = (Path(node.pod_cgroup), Path(node.cgroup))
        site = Site(node)
        for pod in site.pods():
            shown.say(f"pod {pod.namespace}/{pod.name:<7} {pod.ip:<12} {pod.ip6}")
        shown.say("policy: client may call web on port 80; client and web may call db on port 6379; guest may nothing")
        shown.say("the agent compiles its programs and tests the short cut on this kernel first ...")
        with make_mesh(node, policies=site.policies(), self_test=True) as mesh:
            made.note_pins()
            figures.start_seconds = round(time.monotonic() - began, 1)

            def show() -> None:
                site.serve()
                _show(figures, site, mesh, shown, seconds)

            # Caught here already, so that all goes down in order and without the whole of the agent's log.
            failure = _guarded(figures, show, mesh.log)
            calm()  # nothing may interrupt the way down
            made.note_pins()
    if failure:
        raise DemoFailed(failure)


def _show(figures: Figures, site: Site, mesh: "Mesh", shown: stage.Stage, seconds: float) -> None:
    from control.cli.gather import gather
    from control.cli.place import Place

    def step(title: str) -> None:
        if figures.interrupted:
            raise _Interrupted
        shown.title(title)

    health = gather(Place(site.node.pins, mesh.run_dir))
    figures.acceleration = jsonable(health.acceleration)
    memory = (health.agent or {}).get("resident_memory_bytes", 0)
    figures.agent_memory_bytes = memory
    shown.say(f"up after {figures.start_seconds:.1f} s, {memory / 1e6:.0f} MB of memory; short cut: "
              + ("on" if health.acceleration.on else f"OFF: {health.acceleration.why}"))  # fmt: skip
    names = state.load_names(mesh.run_dir)

    step("Allowed and refused calls")
    figures.calls = steps.calls(site)
    shown.calls(figures.calls)

    step("The same calls over TCP and over the short cut")
    shown.say(f"medians of {_ROUNDS} interleaved runs each; `sockmesh bpf config set acceleration on|off` in between")
    for work in steps.works(site, seconds):
        figures.comparisons += (steps.compare(mesh, work, _ROUNDS),)
    shown.comparisons(figures.comparisons)

    step("A policy change cuts open connections")
    shown.say("web's policy is edited so that client may not call it any more:")
    figures.cuts = steps.cut(site, mesh, health.acceleration.on)
    shown.cuts(figures.cuts)
    shown.say("then the policy is put back as it was: client may call web again, as it does below")

    step("Every connection and every refusal is on record")
    shown.say(f"{len(mesh.flows()):,} flow records so far; one of each kind (`sockmesh observe --print-policy-names`):")
    figures.records = steps.records(mesh)
    shown.records(figures.records)

    step("What the kernel holds, with names beside numbers")
    figures.sock = steps.busy_socks(site, mesh, names)
    figures.policy = steps.policy_rows(mesh, state.load_names(mesh.run_dir), "web")
    shown.maps(figures.sock, figures.policy)
