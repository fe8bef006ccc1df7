"""The self-test beside the agent's work: in a thread, with maps of its own; what it found is remembered per kernel."""

import contextlib
import json
import logging
import threading
from pathlib import Path

from control.agent import state
from loader import abi, mesh, selftest
from loader.errors import MeshError

LOG = logging.getLogger("sockmesh.selftest")
RUNNING = "the self-test is running"
SWITCHED_OFF = "--no-self-test: nobody tested it on this kernel"
_ENDPOINTS = [at for name, _, at in abi.FlowEvent.FIELDS if name in ("src_endpoint", "dst_endpoint")]
_FIRST = selftest.FIRST_ENDPOINT.to_bytes(4, "little")[1:]


class Trial:
    """Tries the short cut of a loaded mesh, once for these programs on this kernel."""

    def __init__(self, pin_dir: Path, run_dir: Path) -> None:
        self._pin_dir = pin_dir
        self._file = run_dir / "selftest.json"
        self._hash = mesh.source_hash()
        self._result: dict[str, str] = {}
        self._done = threading.Event()

    def passed_before(self) -> dict[str, str]:
        """Return the cases that all passed for this kernel and these programs at an earlier start, else nothing."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            kept = json.loads(self._file.read_text())
            if kept["hash"] == self._hash and kept["cases"] == dict.fromkeys(selftest.NAMES, selftest.OK):
                return dict(kept["cases"])
        return {}

    def begin(self) -> None:
        threading.Thread(target=self._run, name="selftest", daemon=True).start()

    def _run(self) -> None:
        try:
            # Maps of its own: the agent may end, and close its own, while this runs.
            looked = mesh.Mesh.inspect(self._pin_dir)
            try:
                self._result = selftest.run(looked)
            finally:
                looked.close()
            if not failures(self._result):
                state.write(self._file, json.dumps({"hash": self._hash, "cases": self._result}))
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


def is_ours(raw: bytes) -> bool:
    """Tell whether a raw event is of the self-test's own pods, which are nobody's business."""
    source, destination = _ENDPOINTS
    return raw[source + 1 : source + 4] == _FIRST or raw[destination + 1 : destination + 4] == _FIRST
