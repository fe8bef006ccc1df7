"""The self-test beside the agent's work: in a thread, with maps of its own; what it found is remembered per kernel."""

import contextlib
import json
import logging
import threading
from pathlib import Path

from control.agent import state
from loader import abi, events, mesh, selftest
from loader.errors import MeshError

LOG = logging.getLogger("sockmesh.selftest")
_END_S = 10.0  # a sweep of full maps takes seconds; what is left then is the next start's to remove
RUNNING = "the self-test is running"
SWITCHED_OFF = "--no-self-test: nobody tested it on this kernel"
_ENDPOINTS = [events.HEADER + at for name, _, at in abi.FlowEvent.FIELDS if name in ("src_endpoint", "dst_endpoint")]
_HIGH_AT, _HIGH = 3, selftest.FIRST_ENDPOINT >> 24  # where and what the highest byte of their numbers is


class Trial:
    """Tries the short cut of a loaded mesh, once for these programs on this kernel."""

    def __init__(self, pin_dir: Path, run_dir: Path) -> None:
        self._pin_dir = pin_dir
        self._file = run_dir / "selftest.json"
        self._hash = mesh.source_hash()
        self._result: dict[str, str] = {}
        self._done = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="selftest", daemon=True)

    def passed_before(self) -> dict[str, str]:
        """Return the cases that all passed for this kernel and these programs at an earlier start, else nothing."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            kept = json.loads(self._file.read_text())
            if kept["hash"] == self._hash and kept["cases"] == dict.fromkeys(selftest.NAMES, selftest.OK):
                return dict(kept["cases"])
        return {}

    def begin(self) -> None:
        """Try it, beside all else."""
        self._thread.start()

    def end(self) -> None:
        """Cut it short if it runs; return when all that it made is gone again."""
        self._ended.set()
        if self._thread.ident:  # begun
            self._thread.join(_END_S)

    def _run(self) -> None:
        try:
            # Maps of its own: the agent may end, and close its own, while this runs.
            looked = mesh.Mesh.inspect(self._pin_dir)
            try:
                self._result = selftest.run(looked, ended=self._ended)
            finally:
                looked.close()
            if not failures(self._result):
                state.write(self._file, json.dumps({"hash": self._hash, "cases": self._result}).encode())
        except (MeshError, OSError) as error:
            LOG.error("self-test: %s", error)
            self._result = self._result or dict.fromkeys(selftest.NAMES, f"not done: {error}")
        finally:
            self._done.set()

    def take(self) -> dict[str, str]:
        """Return what each case said, once, when all is done; nothing before and after."""
        if not self._done.is_set():
            return {}
        self._done.clear()
        return self._result


def failures(cases: dict[str, str]) -> str:
    """Return what went wrong in words, "" when every case passed."""
    wrong = [f"{case}: {result}" for case, result in cases.items() if result != selftest.OK]
    return f"the self-test found this kernel unsafe for it: {'; '.join(wrong)}" if wrong else ""


def is_ours(event: abi.FlowEvent) -> bool:
    """Tell whether an event is of the self-test's own pods, which are nobody's business."""
    return selftest.is_reserved(event.src_endpoint) or selftest.is_reserved(event.dst_endpoint)


def without_ours(slots: bytes) -> bytes:
    """Return a batch of events, as EventReader reads it, without those of the self-test's own pods."""
    # Nearly always there is none, and one byte of each number, of the whole batch at once, is enough to see that.
    if not any(_HIGH in slots[at + _HIGH_AT :: events.SLOT] for at in _ENDPOINTS):
        return slots
    each = (slots[at : at + events.SLOT] for at in range(0, len(slots), events.SLOT))
    return b"".join(slot for slot in each if not is_ours(abi.FlowEvent.unpack(slot[events.HEADER :])))
