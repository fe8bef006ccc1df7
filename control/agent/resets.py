"""Resets connections, and tries those again, for a while, whose end could not be reached."""

import logging
import time
from collections.abc import Iterable
from typing import NamedTuple

from control import names
from control.agent import enforce
from control.flow.summary import counted
from loader.errors import FeatureUnsupported

LOG = logging.getLogger("sockmesh.agent")
_PAUSE_S, _TRIES = 1.0, 10  # after that it is no matter of time


class _Left(NamedTuple):
    doomed: enforce.Doomed
    counted: bool  # its other end has been reset
    tries: int


class Resets:
    """`count` says how many connections were reset. No failure leaves here: policy holds in the packet hooks anyway."""

    def __init__(self) -> None:
        self.count = 0
        self._left: dict[tuple[bytes, int, bytes, int], _Left] = {}
        self._next = 0.0
        self._told: dict[str, str] = {}  # namespace -> why connections cannot be reset there

    def reset(self, connections: Iterable[enforce.Doomed], known: names.Names) -> None:
        """Reset connections, as far as their pods' namespaces can be entered."""
        self._try([_Left(each, False, _TRIES) for each in connections], known)

    def again(self, known: names.Names) -> None:
        """Try those again that failed, if it is time. To be called often."""
        if self._left and time.monotonic() >= self._next:
            left, self._left = [*self._left.values()], {}
            self._try(left, known)

    def forget(self) -> None:
        """Let those be that failed for policy's sake: another is in force, which may allow them."""
        self._left = {name: left for name, left in self._left.items() if left.doomed.pair is None}

    def _try(self, these: list[_Left], known: names.Names) -> None:
        if not these:
            return
        try:
            outcome = enforce.reset([each.doomed for each in these], known)
        except FeatureUnsupported as error:
            self._tell("", str(error))
            return
        self.count += sum(not these[number].counted for number in outcome.reset)
        gone = 0
        for number, doomed in outcome.failed.items():
            before = these[number]
            if before.tries > 1:
                name = (doomed.saddr, doomed.sport, doomed.daddr, doomed.dport)
                self._left[name] = _Left(doomed, before.counted or number in outcome.reset, before.tries - 1)
            else:
                gone += 1
        self._next = time.monotonic() + _PAUSE_S
        for netns, why in outcome.reasons.items():
            self._tell(netns, f"connections cannot be reset in {why}: they stall instead")
        if gone:
            LOG.warning("%s could not be reset in %d attempts", counted(gone, "connection"), _TRIES)

    def _tell(self, netns: str, words: str) -> None:
        if self._told.get(netns) != words:
            self._told[netns] = words
            LOG.error("%s", words)
