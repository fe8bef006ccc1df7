"""The agent's side of `sockmesh observe`: answers one connection of the admin socket from the flow log."""

import contextlib
import json
import select
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from control.flow import filter as flow_filter
from control.flow import log, query, record

# How long an idle follower's hang-up may go unnoticed.
_IDLE_S = 1.0


def answer(flows: log.FlowLog, params: Mapping[str, Any], idle_s: float = _IDLE_S) -> Iterator[bytes]:
    """Yield blocks of whole lines. A follower's stream goes on, with an empty block for an idle spell, until the
    log or the generator is closed. Raises FilterInvalid, before the first block, for parameters that make no sense."""
    asked = query.Query.from_params(params)
    matcher = query.Matcher(asked)
    if not asked.follow:
        return iter((_chosen(flows.recent(), asked, matcher),))
    return _following(flows, asked, matcher, idle_s)


def _chosen(lines: list[bytes], asked: query.Query, matcher: query.Matcher) -> bytes:
    if asked.last == 0:
        return b""  # a follower that begins now: nobody need read what was
    if matcher.passes_all and asked.first is None and asked.last is None:
        return b"".join(lines)
    return b"".join(record.line(found) for found in query.select(map(query.parse_line, lines), asked))


def _following(flows: log.FlowLog, asked: query.Query, matcher: query.Matcher, idle_s: float) -> Iterator[bytes]:
    recent, subscription = flows.follow()
    with subscription:
        yield _chosen(recent, asked, matcher)
        del recent  # a follower may stay for days, and the ring has long gone on
        while True:
            lines = subscription.take(idle_s)
            if not lines and subscription.closed:
                return
            if not matcher.passes_all:
                lines = [line for line in lines if matcher.wants(query.parse_line(line))]
            yield b"".join(lines)


def serve(flows: log.FlowLog, params: Mapping[str, Any], connection: socket.socket) -> None:
    """Answer one `observe` request on a blocking socket, until the answer ends or the caller has gone.

    Call it in a thread of its own: a caller that does not read holds up that thread and loses lines, nobody else.
    """
    try:
        blocks = answer(flows, params)
    except flow_filter.FilterInvalid as error:
        blocks = iter((json.dumps({"error": str(error)}).encode() + b"\n",))
    gone = select.poll()
    gone.register(connection, 0)  # POLLHUP and POLLERR need no asking
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for block in blocks:
            if block:
                connection.sendall(block)
            elif gone.poll(0):
                break
