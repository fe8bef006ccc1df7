"""What the flow log says about a batch's connections: which of them took the short cut, and who read and sent then."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from tests.torture.batch import CLIENT_BASE, PORTS, Batch

Json = dict[str, Any]


class CloseRecords:
    """Reads close records as they are written, across rotations, and keeps none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._inode = 0

    def new(self) -> Iterator[Json]:
        """Yield the flows of connections that closed since the last call."""
        while True:
            if self._file is None:
                if not self._path.exists():
                    return
                self._file = self._path.open("rb")
                self._inode = self._path.stat().st_ino
            for line in self._lines(self._file):
                if b'"close"' in line:
                    yield json.loads(line)["flow"]
            if self._path.stat().st_ino == self._inode:
                return
            yield from (json.loads(line)["flow"] for line in self._lines(self._file) if b'"close"' in line)
            self._file.close()
            self._file = None

    @staticmethod
    def _lines(file: BinaryIO) -> Iterator[bytes]:
        while line := file.readline():
            if not line.endswith(b"\n"):
                file.seek(-len(line), 1)
                return
            yield line


class Evidence:
    """Counts connections by what they did; `carried` those whose bytes really took the short cut."""

    def __init__(self) -> None:
        self.carried: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()  # of directions that carried nothing
        self.miscounted: list[str] = []
        self.bytes = self.short_cut_bytes = self.connections = 0

    def add(self, batch: Batch, plans: Mapping[int, Json], flows: Iterator[Json]) -> None:
        """Take up the close records of a batch."""
        for flow in flows:
            ports = flow.get("l4", {}).get("TCP", {})
            if not batch.port <= ports.get("destination_port", 0) < batch.port + PORTS:
                continue
            plan = plans.get(batch.first + ports["source_port"] - CLIENT_BASE)
            if plan is not None:
                self._count(plan, flow["extensions"]["value"]["sockmesh"])

    def _count(self, plan: Json, ours: Json) -> None:
        client, server = plan["sides"]
        self.connections += 1
        self.bytes += client["sends"] + server["sends"]
        reasons = ours.get("short_cut_reason", {})
        for sender, reader, word, end in (
            (client, server, "sent", "destination"),
            (server, client, "received", "source"),
        ):
            carried = int(ours[f"short_cut_bytes_{word}"])
            self.short_cut_bytes += carried
            kinds = {f"read by {reader['rx']}", f"read by {reader['engine']}", f"sent by {sender['tx']}"}
            if carried:
                self.carried.update(kinds)
            else:
                self.reasons[f"read by {reader['rx']}: {reasons.get(end, '?')}"] += 1
            total = int(ours[f"bytes_{word}"])
            planned = sender["sends"] + (sender["urgent"] >= 0)
            if total != planned and "abort" not in plan["end"]:
                self.miscounted.append(f"connection {plan['id']}: {total} bytes {word} on record, not {planned}")

    def summary(self) -> str:
        share = self.short_cut_bytes / max(1, self.bytes)
        return (
            f"{self.connections} connections on record, {self.bytes} bytes, {share:.0%} by short cut\n"
            f"carried: {dict(sorted(self.carried.items()))}\nnot: {dict(sorted(self.reasons.items()))}\n"
            f"miscounted: {len(self.miscounted)} {self.miscounted[:5]}"
        )
