"""What a worker tells the agent of its clients' requests: as they end, into one batch, as bytes when it is due.

Each request passes here, so what is the same for a connection, or for a head that comes again, is made once.
"""

from collections.abc import Callable

from control.flow import redact
from control.flow.told import (
    BATCH,
    MOST_HEADERS,
    MOST_METHOD,
    MOST_TEXT,
    MOST_URL,
    MOST_VALUE,
    NO_GRPC_STATUS,
    Gathered,
    Headers,
)
from l7proxy.edge.facts import Facts
from l7proxy.exchange import Asked, Exchange, Fields
from loader import abi

_PROXY = int(abi.Verdict.PROXY)
_DIGITS, _NO_TRACE = b"0123456789abcdef", b"0" * 32


class Notes:
    """All that a worker has to tell. `due` is called when there is something, `full` when there is a batch.

    `headers`: lower-case names of those that go on record.
    """

    def __init__(self, due: Callable[[], None], full: Callable[[], None]) -> None:
        self._due, self._full = due, full
        self.headers: frozenset[bytes] = frozenset()
        self.batch = Gathered()

    def take(self) -> Gathered:
        out, self.batch = self.batch, Gathered()
        return out

    def add(self, ends: tuple[object, ...], rest: tuple[object, ...], *seen: object) -> None:
        count = self.batch.add(ends, rest, *seen)
        if count == 1:
            self._due()
        elif count >= BATCH:
            self._full()


class Witness:
    """Tells of one connection's requests. `refuser`: says which end refuses one, where both are asked."""

    __slots__ = ("_asked", "_both", "_ends", "_notes", "_port", "_refuser", "_said", "_way")

    def __init__(self, notes: Notes, found: Facts, refuser: Callable[[Asked], int]) -> None:
        kernel = found.kernel
        source, target = kernel.side[abi.Direction.EGRESS], kernel.side[abi.Direction.INGRESS]
        self._notes, self._refuser = notes, refuser
        self._port = found.client_port
        self._both = len(found.sides or ()) > 1
        self._way = int(abi.Direction.INGRESS if target.verdict == _PROXY else abi.Direction.EGRESS)
        self._ends = (
            found.client, found.server, found.server_port, source.endpoint, kernel.source, target.endpoint,
            kernel.target, source.rule_id, target.rule_id,
        )  # fmt: skip
        self._asked: Asked | None = None
        self._said: tuple[str, str, str, Headers | None] = ("", "", "", None)

    def over(self, exchange: Exchange) -> None:
        """Tell of a request that is over."""
        protocol, asked, status, allowed, began, ended, why, grpc_status, told, span = exchange
        if asked is not self._asked:  # heads that are the same bytes are the same object
            self._asked, self._said = asked, self._say(asked)
        method, url, trace_id, headers = self._said
        way = self._way
        if not allowed and self._both and asked is not None:
            way = self._refuser(asked)
        names = b",".join(told).decode("latin-1")[:MOST_TEXT] if told else ""
        rest = (
            way, allowed, protocol, method, status, NO_GRPC_STATUS if grpc_status is None else grpc_status,
            why[:MOST_TEXT], names,
        )  # fmt: skip
        if span is not None:
            trace_id = span.trace.decode()
            self._notes.batch.trace((span.trace + span.id + span.parent).decode())
        self._notes.add(self._ends, rest, ended, ended - began, self._port, url, trace_id, headers)

    def _say(self, asked: Asked | None) -> tuple[str, str, str, Headers | None]:
        if asked is None:
            return "", "", "", None
        fields, wanted = asked.fields, self._notes.headers
        headers = recorded(fields, wanted) if wanted else None
        url = f"http://{asked.host}{asked.path}"
        return asked.method[:MOST_METHOD], url[:MOST_URL], trace_id(fields), headers


def trace_id(fields: Fields) -> str:
    """Return the trace that a request says it is part of, "" for none.

    >>> trace_id(((b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),))
    '4bf92f3577b34da6a3ce929d0e0e4736'
    """
    for name, value in fields:
        if name == b"traceparent":
            # W3C Trace Context, 3.2: version, trace id, parent id, flags; a later version may go on with another dash.
            if len(value) < 55 or value[55:56] not in (b"", b"-") or value[:55].translate(None, _DIGITS) != b"---":
                return ""
            is_one = value[2] == value[35] == value[52] == ord("-") and value[:2] != b"ff"
            return value[3:35].decode() if is_one and value[3:35] != _NO_TRACE else ""
    return ""


def recorded(fields: Fields, wanted: frozenset[bytes]) -> Headers | None:
    """Return those that go on record, secrets redacted and long values cut; None if there is none."""
    found = []
    for field, value in fields:
        if field in wanted:
            name = field.decode("latin-1")[:MOST_VALUE]
            found.append([name, redact.REDACTED if redact.is_secret(name) else value.decode("latin-1")[:MOST_VALUE]])
    return found[:MOST_HEADERS] or None
