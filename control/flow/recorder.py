"""The agent's way from events to lines: it keeps the names of the moment, and of what has just gone."""

from collections.abc import Iterator

from control import names
from control.flow import directory, lookups, record, request_counts, request_forms, template
from control.flow.told import Batch
from control.tracing import spans
from loader import abi


class Recorder:
    """Turns each event into exactly one line, with the names in force at that time."""

    def __init__(
        self, known: names.Names, clock: record.ClockOffset | None = None, uuids: Iterator[bytes] = record.uuids
    ) -> None:
        self.clock = clock or record.ClockOffset.measure()
        self._uuids = uuids
        self._directory = directory.Directory(known)
        self._forms = template.Forms(self.flow)
        self._requests = request_forms.Forms(self._directory)
        self.counts = request_counts.Counts()

    def update(self, known: names.Names) -> None:
        """Use other names from now on. What they no longer hold keeps its name for the closes that are still due."""
        if known is not self._directory.names:
            self._directory = directory.Directory(known, self._directory)
            self._forms = template.Forms(self.flow)
            self._requests = request_forms.Forms(self._directory)

    def set_clock(self, clock: record.ClockOffset) -> None:
        """Use another offset to wall time: call it now and then, because the wall clock can be set."""
        self.clock = clock

    def flow(self, event: abi.FlowEvent) -> record.Json:
        return record.flow_in(self._directory, event, self.clock, next(self._uuids).decode())

    def line(self, event: abi.FlowEvent) -> bytes:
        return record.line(self.flow(event))

    def lines(self, slots: bytes) -> list[bytes]:
        """Return the lines of a batch of events as the ring buffer holds them: what `line` returns, sooner."""
        return self._forms.lines(slots, self.clock.ns, self._uuids)

    def requests(self, batch: Batch) -> list[bytes]:
        """Return the lines of requests that the node proxy has seen, and count them."""
        self.counts.add(batch, self._directory)
        return self._requests.lines(batch, self.clock.ns, self._uuids)

    def spans(self, batch: Batch) -> list[spans.Span]:
        """Return the spans of requests that are traced."""
        return spans.of(batch, self._directory, self.clock.ns)

    def lookup(self, seen: lookups.Seen) -> bytes:
        """Return the line of a DNS query that the node proxy has seen."""
        return record.line(lookups.flow(seen, self._directory, self.clock, next(self._uuids).decode()))

    def lost(self, count: int, monotonic_ns: int, source: str = record.KERNEL_RING) -> bytes:
        """Return the line that says how many events the kernel could not hand over."""
        return record.line(record.lost(count, source, self._directory.node, monotonic_ns + self.clock.ns))
