"""The certificates of this node's service accounts: signed, renewed at half of their life, and kept over a restart.

A renewal that fails changes nothing of the certificate at hand, which is in use until it ends. Time is passed in; only
the signer and the directory are files. Used by one thread.
"""

import datetime
import functools
import logging
import random
from collections.abc import Callable, Collection
from pathlib import Path

from control.agent import kept
from control.agent.signers import Signer
from control.certificates import authority, files, keys, leaf, renewal, verify
from control.certificates.authority import Authority
from control.certificates.certificate import Certificate, shown
from control.certificates.leaf import Credential
from control.certificates.renewal import Renewal
from control.certificates.spiffe import SpiffeId
from control.flow.summary import counted
from loader.errors import MeshError

LOG = logging.getLogger("sockmesh.agent")
_MOST_TOLD = 5  # service accounts in one sentence


def when(at: float) -> str:
    """Return a moment for people and programs: 2026-01-31T12:00:00Z."""
    return datetime.datetime.fromtimestamp(int(at), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Credentials:
    """`roots` are trusted now; `renewals` counts those that succeeded and those that failed."""

    def __init__(
        self,
        directory: Path,
        trust_domain: str,
        lifetime: float,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._directory, self._trust_domain, self._lifetime, self._random = directory, trust_domain, lifetime, chance
        self.roots: tuple[Certificate, ...] = ()
        self.renewals = {"ok": 0, "failed": 0}
        self._held: dict[SpiffeId, kept.Leaf] = {}
        self._plans: dict[SpiffeId, Renewal] = {}
        self._failed: dict[SpiffeId, str] = {}  # why the last attempt did
        self._silent = ""  # why who signs cannot be asked
        self._untrusted: set[SpiffeId] = set()  # whose certificate the roots of now do not reach
        self._unkept: dict[Path, tuple[Callable[[], None], str]] = {}  # what could not be written down, and why
        self._noted = kept.Plan()

    def recall(self) -> None:
        """Take up what a predecessor kept."""
        self._keep(self._directory, functools.partial(kept.prepare, self._directory))
        found = kept.read(self._directory)
        for error in found.broken:
            LOG.warning("%s: it is not used, and made anew", error)
        for id, each in found.leaves.items():
            if id.trust_domain == self._trust_domain:
                self._take(id, each)
            else:
                self._forget(id)
        self._trust(found.roots)

    def want(self, ids: Collection[SpiffeId]) -> None:
        """Hold certificates for these service accounts from the next turn on, and for no others."""
        for id in self._plans.keys() - ids:
            self._forget(id)
        for id in ids:
            self._plans.setdefault(id, Renewal.missing(0))

    def turn(self, now: float, signer: Signer) -> None:
        """Look at who signs, and have it sign what is due."""
        for path, (write, _) in list(self._unkept.items()):
            self._keep(path, write)
        signs = self._ask(now, signer)
        for id, plan in self._plans.items():
            is_good = self._has_valid(id, now) and id not in self._untrusted
            if not (plan.failures or plan.is_due(now) or is_good):
                self._plans[id] = Renewal.missing(now)
        for id in renewal.due(self._plans, now):
            self._renew(id, now, signs)
        self._note()

    def was_tried(self, id: SpiffeId) -> bool:
        """Tell whether it has a certificate, or could not get one."""
        return id in self._held or id in self._failed

    def next_at(self) -> float | None:
        """Return when the next one is due."""
        return renewal.next_at(self._plans)

    def leaves(self, now: float) -> dict[str, bytes]:
        """Return key and chain (PEM) of all that are valid, by SPIFFE id."""
        return {str(id): each.credential.pem for id, each in sorted(self._held.items()) if self._has_valid(id, now)}

    def ends(self) -> dict[str, float]:
        """Return when each certificate ends."""
        return {str(id): each.credential.not_after for id, each in sorted(self._held.items())}

    def problems(self, now: float) -> tuple[str, ...]:
        """Return what a person should look at, in sentences that stay the same while it does."""
        out = []
        if self._silent:
            first = min((each.credential.not_after for each in self._held.values()), default=None)
            means = f"; those at hand are in use until they end, the first at {when(first)}" if first else ""
            out.append(f"certificates are not renewed: {self._silent}{means}")
        out += [
            f"{id}: its certificate is not renewed: {why}"
            for id, why in sorted(self._failed.items())
            if why != self._silent
        ][:_MOST_TOLD]
        if lacking := [str(id) for id in sorted(self._plans) if not self._has_valid(id, now)]:
            more = f" and {len(lacking) - _MOST_TOLD} more" if len(lacking) > _MOST_TOLD else ""
            out.append(
                f"no valid certificate: {', '.join(lacking[:_MOST_TOLD])}{more}: connections between these pods and "
                "other nodes are refused"
            )
        out += [
            f"{why}: the next start cannot go on with the certificates of this one"
            for _, why in list(self._unkept.values())[:1]
        ]
        return tuple(out)

    # --- who signs ----------------------------------------------------------------------------------------------------

    def _ask(self, now: float, signer: Signer) -> Authority | None:
        try:
            roots = signer.roots(now, bool(self.roots))
            if roots != self.roots:
                LOG.info("trusting %s: %s", counted(len(roots), "root"), ", ".join(shown(r.subject) for r in roots))
                self._trust(roots)
                self._write(kept.ROOTS, b"".join(root.pem for root in roots))
            signs = signer.authority(now)
        except MeshError as error:
            self._silent = str(error)
            return None
        if self._silent:  # what failed meanwhile need not wait
            self._silent = ""
            for id in self._failed:
                self._plans[id] = Renewal.missing(now)
        return signs

    def _renew(self, id: SpiffeId, now: float, signs: Authority | None) -> None:
        try:
            if signs is None:
                raise MeshError(self._silent)
            key = keys.new()
            credential = leaf.read(keys.to_pem(key) + signs.sign(leaf.request(key), id, now, self._lifetime))
        except (MeshError, authority.BadRequest, leaf.BadCredential) as error:
            held = self._held.get(id)
            plan = self._plans[id]
            if held is not None:  # the nearer its end, the closer the attempts
                failures = plan.failures
                plan = Renewal(held.credential.not_before, held.credential.not_after, plan.due_at, failures)
            self._plans[id] = plan.failed(now, self._random())
            self._failed[id] = str(error)
            self.renewals["failed"] += 1
            return
        path = kept.path_of(self._directory, id)
        self._keep(path, functools.partial(credential.save, path))
        self._take(id, kept.Leaf(credential, now))
        self._untrusted.discard(id)
        self._failed.pop(id, None)
        self.renewals["ok"] += 1
        LOG.info("%s: a certificate until %s", id, when(credential.not_after))

    # --- what is held -------------------------------------------------------------------------------------------------

    def _take(self, id: SpiffeId, each: kept.Leaf) -> None:
        found = each.credential
        began = min(max(each.renewed_at, found.not_before), found.not_after)  # it is backdated
        self._held[id], self._plans[id] = each, Renewal.of(began, found.not_after, self._random())

    def _forget(self, id: SpiffeId) -> None:
        for each in (self._plans, self._held, self._failed):
            each.pop(id, None)
        path = kept.path_of(self._directory, id)
        self._keep(path, functools.partial(kept.forget, path))

    def _has_valid(self, id: SpiffeId, now: float) -> bool:
        held = self._held.get(id)
        return held is not None and held.credential.not_before <= now < held.credential.not_after

    def _trust(self, roots: tuple[Certificate, ...]) -> None:
        self.roots = roots
        self._untrusted = {id for id, each in self._held.items() if not self._reaches_root(id, each.credential)}

    def _reaches_root(self, id: SpiffeId, credential: Credential) -> bool:
        try:
            chain = [each.der for each in credential.chain]
            return verify.peer(chain, self.roots, self._trust_domain, credential.not_after) == id
        except verify.Untrusted:
            return False

    def _write(self, name: str, content: bytes) -> None:
        path = self._directory / name
        self._keep(path, functools.partial(files.replace, path, content))

    def _keep(self, path: Path, write: Callable[[], None]) -> None:
        """Write, and go on without: what fails is tried again with each turn."""
        try:
            write()
        except files.BadFile as error:
            self._unkept[path] = write, str(error)
        else:
            self._unkept.pop(path, None)

    def _note(self) -> None:
        """Write down what is planned, for `sockmesh cert`."""
        leaves = {
            str(id): kept.Planned(plan.due_at, self._failed.get(id, "")) for id, plan in sorted(self._plans.items())
        }
        plan = kept.Plan(self._trust_domain, self._silent, leaves)
        if plan != self._noted:
            self._noted = plan
            self._write(kept.PLAN, plan.to_json().encode())
