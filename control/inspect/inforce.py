"""What is in force of the maps whose records have two editions (control/editions.py).

An agent that died in an edit leaves both, or the next one. Whoever shows such records reads them here.
"""

import dataclasses
from collections.abc import Iterator

from control import editions
from loader import abi, numbers
from loader.maps import Maps

HALF = "an edit is half done: both policies must allow; start the agent"  # of an endpoint
WORDS = {
    abi.EditionState.BOTH: "an edit is half done: what it changes must be allowed as it was and as it will be",
    abi.EditionState.NEXT: "an edit is in force, and what was before it is yet to be cleared away",
}


@dataclasses.dataclass(frozen=True)
class Endpoints:
    """Endpoints by id as they are in force; where both editions count, the old one, and beside it the next."""

    held: dict[int, abi.Endpoint]
    coming: dict[int, abi.Endpoint] = dataclasses.field(default_factory=dict)

    @property
    def each(self) -> list[tuple[int, abi.Endpoint]]:
        """Return every record that counts: two of an endpoint of which both editions do."""
        return [*self.held.items(), *self.coming.items()]


def of_pods(found: Endpoints) -> Endpoints:
    """Leave out the pods that a self-test has there meanwhile."""
    held, coming = (
        {id: record for id, record in records.items() if not numbers.is_reserved(id)}
        for records in (found.held, found.coming)
    )
    return Endpoints(held, coming)


def state(opened: Maps) -> abi.EditionState:
    """Return which edition counts; a number of another version is to the kernel as none."""
    number = opened.edition.get_at(0).state
    return abi.EditionState(number) if number in list(abi.EditionState) else abi.EditionState.NOW


def endpoints(opened: Maps) -> Endpoints:
    """Return the endpoints, those of a self-test among them."""
    counts = state(opened)
    out = Endpoints({})
    for key, record in opened.endpoints.items():
        is_half = counts == abi.EditionState.BOTH and (record.next_set_id or record.next_identity)
        if is_half:
            out.coming[key.id] = _endpoint(abi.EditionState.NEXT, record)
        # Of both, the old one as it counts: `settled` would close some, which only a start does.
        out.held[key.id] = _endpoint(abi.EditionState.NOW if is_half else counts, record)
    return out


def _endpoint(counts: abi.EditionState, record: abi.Endpoint) -> abi.Endpoint:
    settled = editions.settled(counts, record)
    assert isinstance(settled, abi.Endpoint)
    return settled


def ipcache(opened: Maps) -> Iterator[tuple[abi.IpcacheKey, abi.IpcacheValue]]:
    """Yield the prefixes; where both editions count, as they are in the old one."""
    counts = state(opened)
    for key, record in opened.ipcache.items():
        settled = editions.settled(counts, record)
        assert isinstance(settled, abi.IpcacheValue)
        yield key, settled
