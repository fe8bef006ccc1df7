"""What becomes of DNS queries, told to the agent: in batches, and no more at a time than it can be behind with."""

import asyncio
from collections.abc import Callable
from typing import Any

from control.flow.lookups import Seen
from l7proxy.dns.exchange import Lookup
from l7proxy.edge.facts import Facts
from loader import abi

_FLUSH_S, _BATCH = 0.05, 512
_MOST = 65536


class Lookups:
    """`write`: takes a batch."""

    def __init__(self, write: Callable[[list[Seen]], Any]) -> None:
        self._write = write
        self._waiting: list[Seen] = []
        self.lost = 0

    def tell(self, lookup: Lookup, found: Facts, proto: abi.Proto) -> None:
        if len(self._waiting) >= _MOST:
            self.lost += 1
            return
        if not self._waiting:
            asyncio.get_running_loop().call_later(_FLUSH_S, self._flush)
        self._waiting.append(seen(lookup, found, proto))

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), _BATCH):
            self._write(waiting[start : start + _BATCH])


def seen(lookup: Lookup, found: Facts, proto: abi.Proto) -> Seen:
    """Return one as the agent is told of it."""
    source, target = found.kernel.side[abi.Direction.EGRESS], found.kernel.side[abi.Direction.INGRESS]
    refuser = abi.Direction.INGRESS if target.verdict == abi.Verdict.PROXY else abi.Direction.EGRESS
    return Seen(
        lookup.began_ns, lookup.ended_ns, found.client, found.client_port, found.server, found.server_port, int(proto),
        source.endpoint, found.kernel.source, target.endpoint, found.kernel.target, source.rule_id, target.rule_id,
        int(refuser), lookup.allowed, lookup.name, lookup.type, int(lookup.rcode), list(lookup.addresses), lookup.ttl,
        list(lookup.cnames), lookup.why,
    )  # fmt: skip
