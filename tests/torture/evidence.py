"""What the flow log says about a batch's connections: which of them took the short cut, and who read and sent then."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tests.torture.batch import CLIENT_BASE, PORTS, Batch

Json = dict[str, Any]
ENOUGH = 20  # segments from each side, hence more packets than any probation asks for
KEEP = 12_000  # connections whose close records may still come
BARRED_RX = ("splice", "lowat", "late splice", "io_uring")
BARRED_TX = ("io_uring", "zerocopy")


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


def able(plan: Json) -> bool:
    """Whether a connection is such as the short cut is for: both ends non-blocking, past any probation."""
    return all(side["engine"] != "blocking" and side["segments"] >= ENOUGH for side in plan["sides"])


def barred(plan: Json) -> bool:
    """Whether an end does something that keeps, or may keep, a connection on TCP."""
    return any(side["rx"] in BARRED_RX or side["tx"] in BARRED_TX or side["urgent"] >= 0 for side in plan["sides"])


class Evidence:
    """Counts directions of connections by what was done in them, as the flow log has them."""

    def __init__(self) -> None:
        self.expected = self.connections = self.bytes = self.short_cut_bytes = 0
        self.able: Counter[str] = Counter()
        self.fit: Counter[str] = Counter()  # able, and nothing bars it
        self.carried: Counter[str] = Counter()  # of those, where bytes took the short cut
        self.reasons: Counter[str] = Counter()  # where none did
        self.miscounted: list[str] = []
        self.repeated = (
            0  # an agent that is killed between writing a record and letting go of its event leaves it twice
        )
        self._recent: list[tuple[Batch, dict[int, Json]]] = []
        self._heard: dict[int, str] = {}  # connection -> how long it was, to the nanosecond

    def expect(self, batch: Batch, plans: dict[int, Json]) -> None:
        """Announce a batch, so that its records can be told."""
        self.expected += batch.count
        self._recent.append((batch, plans))
        while len(self._recent) > 1 and sum(each.count for each, _ in self._recent) > KEEP:
            self._recent.pop(0)

    def take(self, flows: Iterator[Json]) -> None:
        """Take up close records."""
        for flow in flows:
            ports = flow.get("l4", {}).get("TCP", {})
            to = ports.get("destination_port", 0)
            for batch, plans in self._recent:
                if batch.port <= to < batch.port + PORTS:
                    plan = plans[batch.first + ports["source_port"] - CLIENT_BASE]
                    ours = flow["extensions"]["value"]["sockmesh"]
                    # Not its time: each agent measures anew how far the clocks are apart.
                    if self._heard.get(plan["id"]) == ours["duration_ns"]:
                        self.repeated += 1
                        continue
                    self._heard[plan["id"]] = ours["duration_ns"]
                    self._count(plan, ours)

    def _count(self, plan: Json, ours: Json) -> None:
        client, server = plan["sides"]
        self.connections += 1
        for sender, reader, word, end in (
            (client, server, "sent", "destination"),
            (server, client, "received", "source"),
        ):
            carried = int(ours[f"short_cut_bytes_{word}"])
            total = int(ours[f"bytes_{word}"])
            self.bytes += total
            self.short_cut_bytes += carried
            kinds = (f"read by {reader['rx']}", f"read by {reader['engine']}", f"sent by {sender['tx']}")
            self.able.update(kinds if able(plan) else ())
            if able(plan) and not barred(plan):
                self.fit.update(kinds)
                self.carried.update(kinds if carried else ())
            if not carried:
                self.reasons[f"{kinds[0]}: {ours.get('short_cut_reason', {}).get(end, '?')}"] += 1
            planned = sender["sends"] + (sender["urgent"] >= 0)
            if total != planned and "abort" not in plan["end"] and plan["mode"] != "late":
                self.miscounted.append(f"connection {plan['id']}: {total} bytes {word} on record, {planned} in truth")

    def summary(self) -> str:
        """Return all of it in a few lines."""
        share = f"{self.short_cut_bytes / max(1, self.bytes):.0%} short-cut"
        return "\n".join(
            [
                f"{self.connections} of {self.expected} connections on record, {self.bytes} bytes, {share}",
                *([f"{self.repeated} records twice, of agents that were killed"] if self.repeated else []),
                *(
                    f"{kind}: {self.able[kind]} able, {self.fit[kind]} fit, {self.carried[kind]} carried"
                    for kind in sorted(self.able)
                ),
                *(f"no byte short-cut, {why}: {count}" for why, count in sorted(self.reasons.items())),
                f"{len(self.miscounted)} miscounted: {self.miscounted[:5]}",
            ]
        )
