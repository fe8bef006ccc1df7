"""Selectors in force that no Workload fulfils, and rules that need the proxy where there is none. No problem, for what
is written is in force; but it may be a slip, and what rules for requests allow is refused.

A misspelt label in a live policy cuts traffic, and nothing is wrong with the file. All pods that a selector can mean
are declared in the directory, those of other nodes too: who is not there has no labels that the kernel could know.
"""

import logging

from control import model
from control.source import nobody, unserved

LOG = logging.getLogger("sockmesh.agent")


class Unfulfilled:
    """Keeps the warnings about the snapshot that was looked at last."""

    def __init__(self, has_proxy: bool = False) -> None:
        self._has_proxy = has_proxy
        self.warnings: tuple[str, ...] = ()
        self._of: model.Snapshot | None = None

    def look(self, snapshot: model.Snapshot | None) -> None:
        """Find and log what is new, if this is another snapshot: with 10,000 pods it takes a third of a second."""
        if snapshot is self._of or snapshot is None:
            return
        before, self._of = self.warnings, snapshot
        refused = () if self._has_proxy else unserved.by_proxy(snapshot, has_none=True)
        self.warnings = tuple(map(str, (*nobody.selected(snapshot), *refused)))
        for each in self.warnings:
            if each not in before:
                LOG.warning("%s", each)
