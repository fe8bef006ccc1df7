"""Keeps the self-test out of the datapath's figures, which tell of the node's pods.

Taken back is only what moves for sockets on the short cut: nobody else's is, while it is not yet known to be safe. But
connections of a predecessor may be on it still, and then the figures stay as they are: too much, but nothing lost.
"""

from collections.abc import Mapping

from loader import abi
from loader.maps import Maps
from loader.selftest import reserved

Figures = Mapping[abi.Metric, list[abi.Counter]]  # of each CPU

SHORT_CUT = (
    abi.Metric.REDIRECT_MESSAGES, abi.Metric.REDIRECT_BYTES, abi.Metric.REDIRECT_FAILED,
    abi.Metric.TCP_MESSAGES, abi.Metric.TCP_BYTES,
    abi.Metric.PASS_NOT_DRAINED, abi.Metric.PASS_QUEUE_FULL, abi.Metric.PASS_MARKED, abi.Metric.PASS_DENIED,
    abi.Metric.PASS_GONE, abi.Metric.HELD_PACKETS, abi.Metric.STUCK_READERS,
    abi.Metric.ENROLLED_SOCKETS, abi.Metric.ENROL_FAILED, abi.Metric.WITHDRAWN_SOCKETS,
)  # fmt: skip


def read(maps: Maps) -> Figures:
    """Return what `put_back` needs; nothing while somebody else's sockets are, or may get, on the short cut."""
    config = maps.config.get_at(0)
    if (config.acceleration and config.self_test) or any(_is_foreign(conn) for _, conn in maps.conns.items()):
        return {}
    return {metric: maps.counters.cpus_at(int(metric)) for metric in SHORT_CUT}


def _is_foreign(conn: abi.Conn) -> bool:
    return any(conn.enrolled) and not any(map(reserved.is_reserved, conn.endpoint))


def put_back(maps: Maps, before: Figures) -> None:
    """Make the counters what they were; call it when the self-test's sockets are gone."""
    for metric, values in before.items():
        maps.counters.put_cpus_at(int(metric), values)
