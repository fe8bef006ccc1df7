"""mTLS between nodes, the agent's part: tells the proxies who owns which address, whom to trust and what to show.

Who signs may be on a file system that does not answer, so a thread of its own asks it; policy never waits for that
longer than a second.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from control import model, proxy_feed
from control.agent import credentials, kept, owners, signers
from control.agent.options import Options
from control.certificates.spiffe import SpiffeId

LOG = logging.getLogger("sockmesh.agent")
LOOK_S = 5.0  # how often who signs is looked at: roots change there
_SHORTEST_S = 0.05
_SILENT_S = 30.0  # who has not answered for so long is told of
_WAIT_S = 1.0  # for the first certificate of a service account; without one its connections are refused


class View(NamedTuple):
    """What certificates are there, since the last look."""

    problems: tuple[str, ...] = ()
    ends: dict[str, float] = {}  # noqa: RUF012 - never written to
    renewals: dict[str, int] = {}  # noqa: RUF012 - never written to


class Mtls:
    """Works from `start` until `close`; `publish` takes what proxies are to know."""

    def __init__(
        self, opts: Options, node: str, publish: Callable[[proxy_feed.Mesh], object], signer: signers.Signer
    ) -> None:
        self._opts, self._node, self._publish, self._signer = opts, node, publish, signer
        self._credentials = credentials.Credentials(
            opts.run_dir / kept.DIRECTORY, opts.trust_domain, opts.leaf_lifetime
        )
        self._changed = threading.Condition()
        self._owners: owners.Owners | None = None  # None: nobody knows yet
        self._published: owners.Owners | None = None  # which of them proxies are told
        self._asked_at = 0.0  # since when who signs has not answered, by time.monotonic; 0: he has
        self._served: frozenset[SpiffeId] = frozenset()  # whose certificates were looked after, with success or not
        self._leaves: dict[str, bytes] = {}
        self._roots = b""
        self._told: tuple[str, ...] = ()  # problems
        self._is_closed = False
        self._looked_for: owners.Owners | None = None  # as they were at the last look
        self.view = View()

    def start(self) -> None:
        threading.Thread(target=self._run, name="certificates", daemon=True).start()

    def take_up(self, snapshot: model.Snapshot) -> bool:
        """Tell the proxies who owns which address by now; return whether that was new to them.

        A service account that is new here has its certificate then, if who signs answers within a second.
        """
        opts = self._opts
        found = owners.read(snapshot, self._node, opts.node_ips, opts.trust_domain)
        with self._changed:
            is_new = found != self._owners
            if is_new:
                self._owners = found
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._served >= found.here or self._is_closed, _WAIT_S)
            self._published = self._owners  # not before: a proxy that knows an owner has its certificate, too
            self._say()
        return is_new

    @property
    def problems(self) -> tuple[str, ...]:
        """Return what a person should look at."""
        found, asked_at = self._owners, self._asked_at
        hangs = asked_at and time.monotonic() - asked_at > _SILENT_S
        silent = ("certificates are not renewed: who signs does not answer: is a file system gone?",) if hangs else ()
        return (*(found.problems if found else ()), *silent, *self.view.problems)

    def status(self) -> dict[str, Any]:
        """Return what `sockmesh status` shows of it."""
        ends = self.view.ends
        return {
            "mode": self._opts.mtls,
            "trust_domain": self._opts.trust_domain,
            "certificates": len(ends),
            "first_ends": credentials.when(min(ends.values())) if ends else "",
        }

    def close(self) -> None:
        """End; a signature that is under way may still be written down."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        self._credentials.recall()
        while True:
            with self._changed:
                self._looked_for = self._owners
            try:
                self._turn(self._looked_for)
            except Exception:  # whatever it is, certificates at hand go on
                LOG.exception("looking after certificates failed, which is a bug; it is tried again")
            due = self._credentials.next_at()
            wait = LOOK_S if due is None else min(LOOK_S, max(_SHORTEST_S, due - time.time()))
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or self._owners is not self._looked_for, wait)
                if self._is_closed:
                    return

    def _turn(self, found: owners.Owners | None) -> None:
        held = self._credentials
        if found is not None:  # else nobody knows yet which are gone
            held.want(found.here)
        self._asked_at = time.monotonic()
        try:
            held.turn(time.time(), self._signer)
        finally:
            self._asked_at = 0.0
        now = time.time()
        with self._changed:
            self._leaves, self._roots = held.leaves(now), b"".join(root.pem for root in held.roots)
            self.view = View(held.problems(now), held.ends(), dict(held.renewals))
            # Each has been tried, but where more are due than are signed in one turn.
            self._served = frozenset(id for id in (found.here if found else ()) if held.was_tried(id))
            self._tell()
            self._say()
            self._changed.notify_all()

    def _say(self) -> None:
        if (found := self._published) is None:
            return
        opts = self._opts
        self._publish(
            proxy_feed.Mesh(
                opts.mtls, opts.trust_domain, opts.mtls_port, found.address, self._roots, self._leaves, found.of
            )
        )

    def _tell(self) -> None:
        """Log what is wrong, once."""
        problems = self.problems
        for each in problems:
            if each not in self._told:
                LOG.warning("%s", each)
        for each in self._told:
            if each not in problems:
                LOG.info("no longer: %s", each)
        self._told = problems
